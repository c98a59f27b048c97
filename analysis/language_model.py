"""Language models as proposers: the diagnosis as a question, the answer as prompts.

proposer.py makes them from `transformers:ID-or-PATH`. Checking a name loads no model; pickled
weights and the code of a checkpoint are refused. What becomes of the prompts is the caller's.
"""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from PIL import Image

from gapclose.analysis import weights, writer
from gapclose.analysis.errors import ProposerError
from gapclose.analysis.proposer import Diagnosis, sheet
from gapclose.analysis.writer import Writer

__all__ = ["INSTRUCTION", "SIGHT", "LanguageModel", "check_language_model", "read_prompts"]

log = logging.getLogger(__name__)

SIGHT: Final = "The first picture shows real photos, the second synthetic images."
INSTRUCTION: Final = (
    "Write up to 8 prompts for a text-to-image model that would bring images like the real photos "
    "that are missing among the synthetic images. Write one prompt a line, each a whole prompt of "
    "at most 30 words that names the {noun}: no numbering, no headings, no remarks."
)
_WHAT: Final = "a model that chats"
_NEW_TOKENS: Final = 400
_MOST: Final = 8  # prompts of an answer
_LONGEST: Final = 300  # characters of a prompt: more than the 77 tokens that CLIP reads of one

_THOUGHTS: Final = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.I)
_OPEN_THOUGHT: Final = re.compile(r"<think(?:ing)?>\s*\Z", re.I)
# Fences, and headings, of which "### Prompt 1: a frog" alone holds a prompt.
_NO_PROMPT: Final = re.compile(r"```|#+\s(?!\W*(?:prompt\s*)?\d+\s*[.):-]+\W*\w)", re.I)
_MARKS: Final = re.compile(
    r"(?:[-\u2013\u2014+*\u2022\u00b7>#]+\s+"  # bullets
    r"|[(\[]?#?\d{1,2}[.):\]](?!\d)\s*"  # numbers, but not those of "1.5 m" and "12:30"
    r"|prompts?\s*#?\d*\s*:\s*|prompt\s*#?\d+\s*[.)-]\s+"
    r"|\*\*[^*]+(?:\*\*\s*:|:\s*\*\*)\s*(?=\S))+",  # a title, "**Brown frog:** a photo of"
    re.I,
)
_MARKDOWN: Final = re.compile(r"\*\*|__|`")
_HEADING: Final = re.compile(r"prompts?(?:\s*\d+)?|.*:", re.I)
_QUOTES: Final = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}


def check_language_model(name: str) -> None:
    """Refuse, before anything is loaded, a name that cannot become a language model.

    Raises:
        ProposerError: In one line: missing folder or file, pickled weights, or a hub model that is
            neither cached nor reachable.
    """
    with writer.refused_as(ProposerError, name):
        target = writer.target_of(name, what=_WHAT)
        weights.transformers_sources(name, target, read_by="tokenizer")


class LanguageModel:
    """A model of transformers that chats: one that sees, or one of words alone.

    Weights are loaded at the first question. On an accelerator they are let go of after each
    answer, and read anew for the next: the generator draws there all night and needs the memory,
    and a class asks three times at most. Their references are dropped and torch's unused blocks
    are given back to the driver, rather than parked in the machine's memory, where a pipeline may
    be offloaded; the files stay in the system's own cache. On the CPU they stay.

    Attributes:
        id: The name it was made from.
    """

    def __init__(self, name: str, *, device: str = "auto") -> None:
        """Load what a model is asked by, its tokenizer or processor; not yet its weights.

        Args:
            name: `transformers:` and a local folder, or a hub id with an optional `@revision`.
            device: auto, cpu, cuda ...

        Raises:
            ProposerError: In one line: `check_language_model` refuses it, it is no model that
                chats, or this machine has no such device.
        """
        from gapclose.analysis.inference import pick_device
        from gapclose.analysis.pretrained import loading

        check_language_model(name)
        self.id = name
        self._writer: Writer | None = None
        with writer.refused_as(ProposerError, name):
            self._device = pick_device(device)
            with loading(writer.target_of(name, what=_WHAT)) as (source, arguments):
                self._kind, self._process = self._load(source, arguments)
        writer.padded(self._tokenizer)

    def propose(self, diagnosis: Diagnosis) -> list[str]:
        """Ask for prompts that would close a class's gap.

        Returns:
            At most 8, as `read_prompts` gives them.

        Raises:
            ProposerError: Its weights cannot be loaded, or memory is out.
        """
        import torch

        pictures = []
        if self._process is not self._tokenizer and diagnosis.real and diagnosis.synthetic:
            sides = (diagnosis.real, diagnosis.synthetic)
            pictures = [Image.fromarray(sheet(side)) for side in sides]
        told = [diagnosis.text, *([SIGHT] if pictures else [])]
        question = "\n".join([*told, INSTRUCTION.format(noun=diagnosis.noun)])
        chat = writer.chat(self._process, question, n_images=len(pictures))
        answer = problem = ""  # raised only where no traceback holds on to the tensors
        try:
            answer = self._answer(chat, pictures)
        except torch.OutOfMemoryError:
            problem = f"memory is out on {self._device}; choose a smaller one, or another device"
        except ProposerError as error:
            problem = error.problem
        finally:
            if self._device.type != "cpu":
                self._let_go()
        if problem:
            raise ProposerError(problem, name=self.id)
        # A template may have begun the thoughts itself.
        begun = _OPEN_THOUGHT.search(chat)
        return read_prompts((begun[0] if begun else "") + answer, noun=diagnosis.noun)

    @property
    def _tokenizer(self) -> Any:
        return getattr(self._process, "tokenizer", self._process)

    def _load(self, source: str, arguments: Mapping[str, Any]) -> tuple[Any, Any]:
        """Load how words and images become inputs, and tell which models it belongs to."""
        import transformers

        config = transformers.AutoConfig.from_pretrained(source, **arguments)
        if type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            kind: Any = transformers.AutoModelForImageTextToText
            process = transformers.AutoProcessor.from_pretrained(source, **arguments)
        elif type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
            kind = transformers.AutoModelForCausalLM
            process = transformers.AutoTokenizer.from_pretrained(source, **arguments)
        else:
            raise ProposerError(
                f"is no language model but {config.model_type}; give one that chats, such as "
                "transformers:HuggingFaceTB/SmolVLM-Instruct",
                name=self.id,
            )
        if getattr(process, "chat_template", None) is None:
            raise ProposerError(
                "it has no chat template, so nothing tells how it is asked; give a model that "
                "chats, or add its chat_template.jinja",
                name=self.id,
            )
        return kind, process

    def _answer(self, chat: str, pictures: Sequence[Any]) -> str:
        model = self._loaded()
        images = [list(pictures)] if pictures else None
        (answer,) = model.write(
            writer.encode(self._process, [chat], images=images), tokens=_NEW_TOKENS
        )
        return answer

    def _loaded(self) -> Writer:
        from gapclose.analysis.pretrained import loading

        if self._writer is None:
            log.info("loading the language model %s", self.id)
            target = writer.target_of(self.id, what=_WHAT)
            with (
                writer.refused_as(ProposerError, self.id),
                loading(target) as (source, arguments),
            ):
                self._writer = writer.load_writer(
                    self._kind, source, arguments, tokenizer=self._tokenizer, device=self._device
                )
        return self._writer

    def _let_go(self) -> None:
        """Drop the weights, and give their memory back not only to torch but to the driver."""
        import torch

        self._writer = None
        gc.collect()  # modules that refer to each other wait for it
        torch.cuda.empty_cache()  # does nothing where there is no CUDA
        if self._device.type == "mps":
            torch.mps.empty_cache()


def read_prompts(answer: str, *, noun: str) -> list[str]:
    """Read the prompts out of what a chat model says, one a line.

    Thoughts, headings, fences and sentences that end in a colon are dropped; bullets, numbers,
    titles, quotes and markdown are taken off. What is too long ends after a word.

    Returns:
        At most 8, each of at most 300 characters and once. Those that do not name the noun come
        last: mostly they are remarks ("I hope these help!"), which a full answer then pushes out,
        but a frog may be called a toad, and what brings nothing costs one trial.
    """
    prompts: dict[str, str] = {}
    for line in _THOUGHTS.sub("", answer).splitlines():
        prompt = _prompt(line.strip())
        if prompt:
            prompts.setdefault(prompt.casefold().rstrip("."), prompt)
    named = re.compile(rf"\b{re.escape(noun)}", re.I)
    return sorted(prompts.values(), key=lambda prompt: named.search(prompt) is None)[:_MOST]


def _prompt(line: str) -> str:
    """Read the prompt of a line; empty if there is none."""
    if _NO_PROMPT.match(line):
        return ""
    for _ in range(2):  # marks may stand around markdown, and in it: "**1. a frog**"
        if marks := _MARKS.match(line):
            line = line[marks.end() :]
        line = _MARKDOWN.sub("", line)
    line = " ".join(_unquoted(line.strip(" \t,*_[]")).split())
    if _HEADING.fullmatch(line) or not any(character.isalpha() for character in line):
        return ""
    if len(line) > _LONGEST:
        line = line[: _LONGEST + 1].rpartition(" ")[0] or line[:_LONGEST]
    return line


def _unquoted(line: str) -> str:
    """Take quotes off that stand around all of a line; a stop may follow them."""
    end = _QUOTES.get(line[:1])
    body = line.rstrip(".,;")
    if end is None or len(body) < 2 or body[-1] != end:
        return line
    within = body[1:-1]
    # "frog" and "toad" are two; an apostrophe is no quote.
    return line if end != "'" and end in within else within
