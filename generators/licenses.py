"""Licences of generators: whether their images may train other models.

The data card, `init` and `doctor` say it. It reads names alone, as model cards have them, and is
no lawyer: where it knows nothing it says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["MODELS", "Terms", "terms_of"]

Training = Literal["free", "limited", "barred"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a licence says of images as training data.

    Attributes:
        pattern: What its name matches, whole.
        training: "free" of limits, "limited", or "barred" for some models or purposes.
        said: In words that end a sentence.
    """

    pattern: str
    training: Training
    said: str


# Read in the licences' own texts: Apache 2.0 and MIT; CreativeML OpenRAIL-M and OpenRAIL++,
# paragraphs 5 and 6; FLUX.1 [dev] Non-Commercial License, "Outputs"; Stability AI Community
# License. The first that matches counts.
_TERMS: Final = (
    Terms(
        pattern=r"apache-2\.0|mit|bsd(-\d-clause)?|isc|cc0-1\.0|unlicense|mpl-2\.0",
        training="free",
        said="it puts no limit on what its images may train",
    ),
    Terms(
        pattern=r"(creativeml-|bigscience-)?openrail(-m|\+\+|\+\+-m)?",
        training="limited",
        said="its images may train models, but for the uses that it forbids",
    ),
    Terms(
        pattern=r"flux[-.\w]*dev[-.\w]*",
        training="barred",
        said="its images may not train a model that competes with it, and the model itself is "
        "for non-commercial use",
    ),
    Terms(
        pattern=r"stabilityai-(ai-)?community|stabilityai[-.\w]*community[-.\w]*",
        training="limited",
        said="it is free below a yearly revenue alone; read what it says of training",
    ),
    Terms(
        pattern=r"cc-by-nc[-.\w]*|[-.\w]*(non-?commercial|research-only)[-.\w]*|deepfloyd-if[-\w]*",
        training="barred",
        said="it is for non-commercial use only, which may bind models that its images train",
    ),
)

MODELS: Final = (
    ("FLUX.1-schnell, FLUX.2-klein-4B, Z-Image and Qwen-Image", "apache-2.0"),
    ("Stable Diffusion 1.5 and XL", "openrail"),
    ("FLUX.1-dev", "flux-1-dev-non-commercial-license"),
)
"""Models that many have, and the name of their licence."""


def terms_of(license: str | None) -> Terms | None:
    """Return what a licence says; None where its name says nothing that is known here."""
    name = (license or "").strip().lower().replace(" ", "-").replace("_", "-")
    return next((its for its in _TERMS if re.fullmatch(its.pattern, name)), None)
