"""Hints: how a line about a mistake shows what was written, and what was probably meant."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable

__all__ = ["nearest", "shown"]


def nearest(word: str, valid: Iterable[str]) -> str:
    """Say which valid word was probably meant.

    Returns:
        `did you mean guidance_scale?`, or `valid: a, b, c` when none is near.
    """
    names = sorted({str(name) for name in valid})
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"valid: {', '.join(names)}" if names else "nothing is valid here"


def shown(value: object) -> str:
    """Show a value as the person wrote it, short enough for one line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
