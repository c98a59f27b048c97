"""Shortcuts in words: what of a run's images a classifier may learn instead of their classes.

The console and the report's head have these sentences, and an export that holds such images warns
by them. They are of all classes together and touch no class's verdict. It reads gap.json alone;
one of an older version has no shortcuts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gapclose.loop.report.text import was_tuned

__all__ = ["shortcut_warnings"]

Row = Mapping[str, Any]

_SEE: Final = "`gapclose validate` says what it costs on real photos"
_ONE_CAMERA: Final = f"Let a run choose one camera for all classes (space.camera); {_SEE}."
_HAS_CAMERA: Final = (
    "The run's camera is the same for all classes, so this comes of their prompts and settings, "
    f"or of a class that keeps its baseline's camera; {_SEE}."
)
_FILES: Final = (
    "Put the images of all classes through one camera (size, compression, noise, colour) before "
    f"anything is trained on them; {_SEE}."
)


def shortcut_warnings(gap: Row) -> list[str]:
    """Write a sentence for each objection, and after the last of them what to do.

    Args:
        gap: The parsed gap.json.
    """
    found = _objections(gap.get("shortcuts"))
    before = _objections(gap.get("shortcuts_before"))
    said = [
        f"{objection[:1].upper()}{objection[1:]}"
        f"{'; so it did before tuning' if feature in before else ''}."
        for feature, objection in found.items()
    ]
    return [*said[:-1], f"{said[-1]} {_remedy(gap)}"] if said else []


def _objections(probes: Any) -> dict[str, str]:
    return {row["feature"]: row["objection"] for row in probes or () if row.get("objection")}


def _remedy(gap: Row) -> str:
    if was_tuned(gap["classes"]):
        return _HAS_CAMERA if gap.get("camera") else _ONE_CAMERA
    return _FILES if gap.get("equalized") else _ONE_CAMERA
