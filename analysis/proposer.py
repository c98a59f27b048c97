"""Proposers: what turns a class's diagnosis into prompts that might close its gap.

A run asks one between its trials (`space.proposer`), and tries what it says before anything else.
A proposer is a function; the rule that ships reads the attribute table, a language model is given
the same in words and pictures. None of them generates, embeds or scores.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis.attributes import AttributeGap, prompt_for
from gapclose.analysis.errors import ProposerError, said
from gapclose.analysis.own_code import import_own
from gapclose.analysis.significance import LEVEL
from gapclose.analysis.writer import KIND

__all__ = [
    "ATTRIBUTES",
    "Diagnosis",
    "Proposer",
    "check_proposer",
    "make_proposer",
    "propose_by_attributes",
    "sheet",
]

Pixels = NDArray[np.uint8]

ATTRIBUTES: Final = "attributes"
"""The proposer that asks for the words that real photos show more often."""

PROMPTS: Final = 6  # that the rule proposes at a time
_NAMED: Final = 8  # attributes and prompts that a diagnosis names
_TILE: Final = 128  # pixels of an image on a sheet
_COLUMNS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What a class's synthetic images lack, as far as it is known while they are searched for.

    Attributes:
        cls: The class.
        noun: What it is called.
        gap: Squared MMD of the mixture to the real images, over its floor.
        attributes: Words whose shares differ between the sides; none without a text encoder.
        prompts: What was tried, with the weight of each in the mixture, the heaviest first.
        real: Some real photos, each (h, w, 3): those that the mixture is furthest from.
        synthetic: Some images of the mixture: those that are furthest from the real ones.
    """

    cls: str
    noun: str
    gap: float
    attributes: tuple[AttributeGap, ...]
    prompts: tuple[tuple[str, float], ...]
    real: tuple[Pixels, ...]
    synthetic: tuple[Pixels, ...]

    @property
    def text(self) -> str:
        """The diagnosis in words."""
        lines = [
            f"Synthetic images of the class {self.noun} differ from real photos of it: their "
            f"distance is {self.gap:.1f} times what chance makes of two sets of photos."
        ]
        lines += [
            f'"{prompt_for(gap.group, gap.word, self.noun)}" fits {gap.real:.0%} of the real '
            f"photos and {gap.synthetic:.0%} of the synthetic images."
            for gap in self.attributes[:_NAMED]
        ]
        lines += [
            f"{_named(prompt)} {weight:.0%} of the synthetic images."
            for prompt, weight in self.prompts[:_NAMED]
        ]
        return "\n".join(lines)


def check_proposer(name: str) -> None:
    """Refuse, before anything is loaded, a name that cannot become a proposer.

    Raises:
        ProposerError: In one line: no such module, file or model.
    """
    if name == ATTRIBUTES:
        return
    if name.startswith(KIND):
        from gapclose.analysis.language_model import check_language_model

        check_language_model(name)
        return
    module = name.rpartition(":")[0]
    if module.endswith(".py"):
        if not Path(module).is_file():
            raise ProposerError(f"there is no file {module}", name=name)
    elif not _is_importable(module):
        raise ProposerError(
            f"no module {module}, neither installed nor in the folder of the config file; put it "
            "there, set code_folder, or write ./file.py:Function",
            name=name,
        )


def make_proposer(name: str, *, device: str = "auto") -> Proposer:
    """Load a proposer.

    Args:
        name: "attributes", "transformers:ID-or-PATH", "pkg.mod:Function" or "file.py:Function".
        device: Of a language model: auto, cpu, cuda, cuda:1, mps.

    Raises:
        ProposerError: In one line: it cannot be loaded.
    """
    check_proposer(name)
    if name == ATTRIBUTES:
        return propose_by_attributes
    if name.startswith(KIND):
        from gapclose.analysis.language_model import LanguageModel

        return LanguageModel(name, device=device).propose
    module, _, attribute = name.rpartition(":")
    try:
        proposer = getattr(import_own(module), attribute, None)
    except (Exception, SystemExit) as error:  # code of one's own may raise anything
        raise ProposerError(f"cannot be loaded: {said(error)}", name=name) from error
    if not callable(proposer):
        raise ProposerError(f"module {module} has no function {attribute}", name=name)
    return cast(Proposer, proposer)


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
    except (Exception, SystemExit) as error:  # a package of one's own may raise anything
        raise ProposerError(f"cannot be loaded: {said(error)}", name=module) from error


def _named(prompt: str) -> str:
    """Word a prompt; of captions the photos are named, not what stands for them."""
    if prompt.startswith("{captions of "):
        return f"Captions of {prompt.removeprefix('{captions of ').rstrip('}')} make"
    return f'The prompt "{prompt}" makes'


class Proposer(Protocol):
    """What proposes prompts: any function of a diagnosis."""

    def __call__(self, diagnosis: Diagnosis) -> Sequence[str]:
        """Return prompts to try, the most promising first; none if it has no idea."""


def propose_by_attributes(diagnosis: Diagnosis) -> list[str]:
    """Ask for the words that real photos show more often than synthetic images do.

    Of those whose shares differ by more than chance (q <= 0.05), the largest differences first.
    """
    missing = [
        gap
        for gap in diagnosis.attributes
        if gap.q_value <= LEVEL and gap.real_corrected > gap.synthetic_corrected
    ]
    missing.sort(key=lambda gap: gap.synthetic_corrected - gap.real_corrected)
    tried = {prompt for prompt, _ in diagnosis.prompts}
    worded = dict.fromkeys(prompt_for(gap.group, gap.word, diagnosis.noun) for gap in missing)
    return [prompt for prompt in worded if prompt not in tried][:PROMPTS]


def sheet(images: Sequence[Pixels]) -> Pixels:
    """Lay images out side by side, four in a row, each in a square of 128 pixels.

    Returns:
        (128 rows, 512, 3), black where there is no image.

    Raises:
        ValueError: There is none.
    """
    if not images:
        raise ValueError("no images to lay out")
    n_rows = -(-len(images) // _COLUMNS)
    page = Image.new("RGB", (_COLUMNS * _TILE, n_rows * _TILE))
    for number, pixels in enumerate(images):
        image = Image.fromarray(pixels)
        scale = _TILE / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        row, column = divmod(number, _COLUMNS)
        page.paste(image.resize(size, Image.Resampling.LANCZOS), (column * _TILE, row * _TILE))
    return np.asarray(page)
