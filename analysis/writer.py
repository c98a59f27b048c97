"""Writers: models of transformers whose answer is text, loaded, asked and decoded.

captioner.py and language_model.py call it; what is asked and how the answer is read is theirs. It
reads no pickled weights, and never runs the code of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from gapclose.analysis.errors import CaptionerError, EmbedderError, ProposerError

KIND: Final = "transformers:"
"""What the name of a writer begins with."""

GREEDY: Final = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1}
"""How it writes: the likeliest token each time, whatever its own settings prefer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A model that writes, with its weights on a device.

    Attributes:
        model: It has `generate`.
        tokenizer: What turns tokens into words.
        device: Where the model lies.
    """

    model: Any
    tokenizer: Any
    device: Any

    def write(self, inputs: Any, *, tokens: int) -> list[str]:
        """Continue inputs, a `BatchFeature`, by at most so many tokens.

        Returns:
            What is new of each, without special tokens.
        """
        import torch

        inputs = inputs.to(self.device, dtype=self.model.dtype)
        with torch.inference_mode():
            written = self.model.generate(**inputs, **GREEDY, max_new_tokens=tokens)
        prompt = inputs.get("input_ids")
        # Decoders repeat the prompt before what is new; models with an encoder do not.
        if prompt is not None and torch.equal(written[:, : prompt.shape[1]], prompt):
            written = written[:, prompt.shape[1] :]
        texts: list[str] = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return texts


def load_writer(
    kind: Any, source: str, arguments: Mapping[str, Any], *, tokenizer: Any, device: Any
) -> Writer:
    """Load a model, in half precision on CUDA.

    Args:
        kind: `AutoModelForImageTextToText` or `AutoModelForCausalLM`.
        source: As `pretrained.loading` gives it, like the arguments.
        arguments: Of `from_pretrained`.
        tokenizer: The model's.
        device: A `torch.device`.

    Raises:
        EmbedderError: Its weights lack tensors.
        pretrained.LOADING_FAULTS: It cannot be loaded.
    """
    import torch

    from gapclose.analysis.inference import at_rest
    from gapclose.analysis.pretrained import lacking_tensors

    dtype = torch.float32  # the default follows the file, and CPUs are slow in half
    if device.type == "cuda":
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    model, info = kind.from_pretrained(
        source, use_safetensors=True, output_loading_info=True, dtype=dtype, **arguments
    )
    if lacking := lacking_tensors(info):
        raise EmbedderError(
            f"its weights lack {len(lacking)} tensors ({lacking[0]} ...); download the model again"
        )
    for part in model.modules():  # a decoder inside has settings of its own
        if (settings := getattr(part, "generation_config", None)) is not None:
            settings.max_length = None  # transformers warns of two lengths in every batch
    return Writer(model=at_rest(model, device), tokenizer=tokenizer, device=device)


def padded(tokenizer: Any) -> Any:
    """Have a tokenizer pad so that the new tokens follow the prompt's last."""
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def chat(process: Any, text: str, *, n_images: int = 0) -> str:
    """Put a question into the words of a model's chat template, its images first.

    Args:
        process: A tokenizer, or a processor of images and words, with a chat template.
        text: The question.
        n_images: That it is about; a tokenizer takes none.
    """
    images = [{"type": "image"}] * n_images
    content = [*images, {"type": "text", "text": text}] if _sees(process) else text
    # Thinking aloud takes all tokens before the answer. Processors warn of what no template reads.
    is_thinker = "enable_thinking" in str(process.chat_template)
    written: str = process.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=False,
        **({"enable_thinking": False} if is_thinker else {}),
    )
    return written


def encode(process: Any, prompts: Sequence[str], *, images: Sequence[Any] | None = None) -> Any:
    """Turn prompts, each with its images, into what a model reads: a `BatchFeature` of tensors.

    The token that begins a text is not put before a prompt that has it: a second one misleads.
    Chat templates of models of text alone have written all special tokens.
    """
    from transformers import BatchFeature

    options: dict[str, Any] = {}
    if not _sees(process):
        options = {"add_special_tokens": False, "return_token_type_ids": False}
    elif _begins(prompts[0], process.tokenizer.bos_token):
        options = {"add_special_tokens": False}
    if images is not None:
        options["images"] = images
    read = process(text=list(prompts), padding=True, return_tensors="pt", **options)
    return BatchFeature(dict(read))


def _begins(prompt: str, begin: str | None) -> bool:
    return begin is not None and prompt.startswith(begin)


def _sees(process: Any) -> bool:
    """Tell a processor of images and words from a tokenizer."""
    return hasattr(process, "tokenizer")


def target_of(name: str, *, what: str) -> str:
    """Return the local folder or the hub id that stands behind `transformers:`.

    Raises:
        EmbedderError: There is none; `what` names the models that are asked for.
    """
    target = name.removeprefix(KIND)
    if target == name or not target:
        raise EmbedderError(f"unknown; write {KIND}ID-or-PATH, of {what}", name=name)
    return target


@contextmanager
def refused_as(fault: type[CaptionerError] | type[ProposerError], name: str) -> Iterator[None]:
    """Raise what is wrong with a model's files, weights or device as the error of its user.

    weights.py and inference.py speak of embedders, transformers of whatever it met.
    """
    from gapclose.analysis.pretrained import LOADING_FAULTS, why_not

    try:
        yield
    except fault:
        raise
    except EmbedderError as error:
        raise fault(error.problem, name=name) from error
    except LOADING_FAULTS as error:
        raise fault(f"cannot be loaded: {why_not(error)}", name=name) from error
