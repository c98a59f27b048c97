"""Captioners by name: what one is, and image-to-text models through transformers.

captions.py calls it. Checking a name or asking what its captions depend on loads no model; pickled
weights and code from a hub are refused. It reads no files of photos and keeps no captions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis import weights, writer
from gapclose.analysis.errors import CaptionerError
from gapclose.analysis.writer import GREEDY, KIND, Writer

__all__ = [
    "BATCH",
    "INSTRUCTION",
    "Captioner",
    "TransformersCaptioner",
    "captioner_identity",
    "check_captioner",
    "make_captioner",
]

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]

INSTRUCTION: Final = (
    "Describe this photo in one long sentence: the subject, its colours, pose, place, light and "
    "style."
)
BATCH: Final = 8  # images at once
_WHAT: Final = "an image-to-text model"
_NEW_TOKENS: Final = 96
_VERSION: Final = 2  # raised when the same model would be asked in another way
# Models that are no chat, by config.json's model_type, and how each is asked for a caption: not at
# all, by the task that its processor knows, or by the words that it was trained with (PaliGemma's
# "describe" is its longest one: ai.google.dev/gemma/docs/paligemma/prompt-system-instructions).
_PROMPTS: Final[Mapping[str, str | None]] = {
    "blip": None,
    "blip-2": None,
    "git": None,
    "vision-encoder-decoder": None,
    "florence2": "<MORE_DETAILED_CAPTION>",
    "instructblip": INSTRUCTION,
    "paligemma": "<image>describe en",
}


class Captioner(Protocol):
    """What says in words what an image shows."""

    def identity(self) -> str:
        """Name what the captions depend on; the cache is keyed by it."""
        ...

    def caption(self, images: Sequence[Pixels]) -> list[str]:
        """Caption any number of (h, w, 3) images, also of different sizes.

        Returns:
            A caption each, white space collapsed; empty where there is none. It does not depend on
            the other images.
        """
        ...


def make_captioner(name: str, *, device: str = "auto") -> Captioner:
    """Load a captioner.

    Args:
        name: `transformers:ID-or-PATH`, of an image-to-text model.
        device: auto (CUDA if there is one), cpu, cuda, cuda:1, mps.

    Raises:
        CaptionerError: If `check_captioner` refuses the name, this machine has no such device, or
            the model cannot be loaded or captions nothing.
    """
    check_captioner(name)
    log.info("loading the captioner %s", name)
    return TransformersCaptioner(name, device=device)


def check_captioner(name: str) -> None:
    """Refuse, before anything is loaded, a name that cannot become a captioner.

    Raises:
        CaptionerError: In one line: unknown name, missing folder or file, pickled weights, or a
            hub model that is neither cached nor reachable.
    """
    _sources(name)


def captioner_identity(name: str) -> str:
    """Name what a captioner's captions depend on, without loading it.

    sha256 of the weights, the configuration, the tokenizer and the chat template (of a hub model:
    its commit), the instruction and the generation settings; not the path they lie at. Neither the
    device nor the version of transformers: another may word a caption differently, and the old one
    still says what the photo shows.

    Raises:
        CaptionerError: As `check_captioner`.
    """
    asked = f"{_VERSION}:{INSTRUCTION}:{GREEDY}:{_NEW_TOKENS}"
    return f"{KIND}{asked}:{weights.fingerprint(_sources(name))}"


def _sources(name: str) -> tuple[weights.Source, ...]:
    with writer.refused_as(CaptionerError, name):
        return weights.writer_sources(name, writer.target_of(name, what=_WHAT))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """How images become what a model reads.

    Attributes:
        process: An image processor; with a prompt, a processor of images and words.
        tokenizer: What turns tokens into words.
        prompt: What stands before a caption; None where the model reads images alone.
        is_chat: Whether a chat template wrote the prompt.
    """

    process: Any
    tokenizer: Any
    prompt: str | None = None
    is_chat: bool = False

    def of(self, images: Sequence[Pixels]) -> Any:
        """Prepare (h, w, 3) images: a `BatchFeature` of tensors."""
        pictures = [Image.fromarray(image) for image in images]
        if self.prompt is None:
            return self.process(images=pictures, return_tensors="pt")
        # A list of their own tells whose image it is where a prompt may have several.
        shown = [[picture] for picture in pictures] if self.is_chat else pictures
        inputs = writer.encode(self.process, [self.prompt] * len(pictures), images=shown)
        inputs.pop("labels", None)  # PaliGemma's, for training
        return inputs


class TransformersCaptioner:
    """An image-to-text model of transformers: a classic one, or one that chats.

    Models that chat get `INSTRUCTION` through the chat template of their processor, the others
    what they were trained with. Decoding is greedy, 96 new tokens at most.

    Attributes:
        id: The name it was made from.
    """

    def __init__(self, name: str, *, device: str = "auto") -> None:
        """Load a model and its processor, and caption a grey image to see that they fit.

        Args:
            name: `transformers:` and a local folder, or a hub id with an optional `@revision`.
            device: auto, cpu, cuda ...

        Raises:
            CaptionerError: If it is no image-to-text model, its weights do not fit, or nothing
                tells how it is asked.
        """
        from gapclose.analysis.inference import pick_device
        from gapclose.analysis.pretrained import loading

        self.id = name
        self._at_once = BATCH
        with writer.refused_as(CaptionerError, name):
            at = pick_device(device)
            with loading(writer.target_of(name, what=_WHAT)) as (source, arguments):
                self._inputs, self._writer = self._load(source, arguments, at)
        try:
            self._write([np.full((64, 64, 3), 127, dtype=np.uint8)], tokens=1)
        except Exception as error:  # a processor may raise anything
            why = " ".join(str(error).split())[:200]
            raise CaptionerError(
                f"cannot caption an image: {type(error).__name__}: {why}", name=name
            ) from error

    def identity(self) -> str:
        """Name what the captions depend on, as `captioner_identity` does."""
        return captioner_identity(self.id)

    def caption(self, images: Sequence[Pixels]) -> list[str]:
        """Caption (h, w, 3) images of any sizes, a few at a time; fewer where memory is out.

        Raises:
            CaptionerError: If memory is out at one image at a time.
        """
        texts: list[str] = []
        while len(texts) < len(images):
            batch = images[len(texts) : len(texts) + self._at_once]
            made = self._try_batch(batch)
            if made is None:
                self._at_once = len(batch) // 2
                log.warning("memory is out at %d images; now %d", len(batch), self._at_once)
            else:
                texts += made
        return texts

    def _load(
        self, source: str, arguments: Mapping[str, Any], device: Any
    ) -> tuple[_Inputs, Writer]:
        """Load how images become inputs, and the model."""
        import transformers

        config = transformers.AutoConfig.from_pretrained(source, **arguments)
        if type(config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            raise CaptionerError(
                f"is no image-to-text model but {config.model_type}; give one that is, such as "
                "transformers:microsoft/git-base-coco",
                name=self.id,
            )
        if config.model_type in _PROMPTS and _PROMPTS[config.model_type] is None:
            # Not AutoProcessor: it knows none for an encoder and a decoder put together.
            inputs = _Inputs(
                process=transformers.AutoImageProcessor.from_pretrained(source, **arguments),
                tokenizer=transformers.AutoTokenizer.from_pretrained(source, **arguments),
            )
        else:
            processor = transformers.AutoProcessor.from_pretrained(source, **arguments)
            inputs = self._asked(processor, _PROMPTS.get(config.model_type))
        return inputs, writer.load_writer(
            transformers.AutoModelForImageTextToText,
            source,
            arguments,
            tokenizer=inputs.tokenizer,
            device=device,
        )

    def _asked(self, processor: Any, prompt: str | None) -> _Inputs:
        """Put the prompt of every image together: the model's own, or a chat."""
        tokenizer = writer.padded(processor.tokenizer)
        if prompt is not None:
            return _Inputs(process=processor, tokenizer=tokenizer, prompt=prompt)
        if getattr(processor, "chat_template", None) is None:
            raise CaptionerError(
                "its processor has no chat template, so nothing tells how it is asked; give a "
                "captioning model, or add its chat_template.jinja",
                name=self.id,
            )
        chat = writer.chat(processor, INSTRUCTION, n_images=1)
        return _Inputs(process=processor, tokenizer=tokenizer, prompt=chat, is_chat=True)

    def _try_batch(self, images: Sequence[Pixels]) -> list[str] | None:
        """Caption one batch; None if memory was out and a smaller one is to be tried."""
        import torch

        try:
            return self._write(images, tokens=_NEW_TOKENS)
        except torch.OutOfMemoryError:
            if len(images) == 1:
                raise CaptionerError(
                    "memory is out at one image a time; choose a smaller one, or another device",
                    name=self.id,
                ) from None
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            # A processor may refuse a picture, such as one a pixel high: not those beside it.
            if len(images) == 1:
                log.warning("a photo gets no caption: %s", " ".join(str(error).split())[:200])
                return [""]
            return [text for image in images for text in self.caption([image])]
        # Only here, where the traceback no longer holds the tensors of the failed batch.
        torch.cuda.empty_cache()
        return None

    def _write(self, images: Sequence[Pixels], *, tokens: int) -> list[str]:
        texts = self._writer.write(self._inputs.of(images), tokens=tokens)
        return [" ".join(text.split()) for text in texts]
