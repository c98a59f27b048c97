"""Families: which encoders learnt in one way, under what licence, and what each is good for.

`init` and `doctor` recommend from its table, and a run warns where its embedder and a judge are of
one family: what fools the one is likely to fool the other. It knows names alone, loads nothing,
and refuses nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, Literal

from gapclose.analysis.embedding import SHIPPED, is_code

__all__ = ["FAMILIES", "LINES", "ROLES", "Line", "Role", "line_of", "recommended", "same_family"]

Family = Literal["image-text", "self-distilled"]
Role = Literal["tune", "judge"]
ROLES: Final[tuple[Role, ...]] = ("tune", "judge")

FAMILIES: Final[dict[Family, str]] = {
    "image-text": "trained to match images with texts",
    "self-distilled": "trained on images alone, by self-distillation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of encoders.

    Attributes:
        name: What people call it.
        pattern: What the id of one of them matches.
        family: How it learnt: one family shares its blind spots.
        licence: Of its weights; None where that depends on the weights.
        example: An embedder of it that we recommend, as `make_embedder` takes it.
        role: What we recommend it for.
    """

    name: str
    pattern: str
    family: Family
    licence: str | None
    example: str | None = None
    role: Role | None = None


# The first that matches counts. Licences are those of the model cards of SigLIP 2 (arXiv
# 2502.14786), PE-Core (2504.13181), DINOv2 (2304.07193) and DINOv3 (2508.10104).
LINES: Final = (
    Line(
        name="SigLIP 2",
        pattern=r"siglip-?2",
        family="image-text",
        licence="Apache 2.0",
        example="open_clip:ViT-B-16-SigLIP2/webli",
        role="tune",
    ),
    Line(name="SigLIP", pattern=r"siglip", family="image-text", licence="Apache 2.0"),
    Line(
        name="PE-Core",
        pattern=r"\bpe[-_]core",
        family="image-text",
        licence="Apache 2.0",
        example="open_clip:PE-Core-B-16/meta",
        role="tune",
    ),
    Line(
        name="DINOv3",
        pattern=r"dino-?v3",
        family="self-distilled",
        licence="DINOv3 License, which restricts uses; access is gated",
    ),
    Line(
        name="DINOv2",
        pattern=r"dino-?v2",
        family="self-distilled",
        licence="Apache 2.0",
        example="transformers:facebook/dinov2-large",
        role="judge",
    ),
    Line(name="DINO", pattern=r"\bdino\b", family="self-distilled", licence="Apache 2.0"),
    Line(name="CLIP", pattern=r"clip", family="image-text", licence=None),
)


def line_of(name: str) -> Line | None:
    """Return the line that an embedder is of, by its name; None where the name does not say.

    Of what lies in a file or folder its own name is read, not the path to it.

    Args:
        name: As `make_embedder` takes it.
    """
    if is_code(name):
        return None
    kind, _, target = SHIPPED.get(name, name).partition(":")
    local = target.startswith(("local-dir:", "/", ".", "~")) or kind == "onnx"
    model = PurePath(target.removeprefix("local-dir:")).name if local else target
    for line in LINES:
        if re.search(line.pattern, model, re.IGNORECASE):
            return line
    # Whatever else open_clip loads was trained as CLIP was.
    return LINES[-1] if kind == "open_clip" else None


def same_family(one: str, other: str) -> Family | None:
    """Return the family that two embedders share; None where they do not, or nobody knows."""
    lines = line_of(one), line_of(other)
    if lines[0] is None or lines[1] is None or lines[0].family != lines[1].family:
        return None
    return lines[0].family


def recommended(role: Role) -> list[Line]:
    """Return the lines to take for a role, the first choice first."""
    return [line for line in LINES if line.role == role]
