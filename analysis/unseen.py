"""Unseen characters: control characters, those that turn a line around, and halves of others.

Texts of data files reach consoles, pages and prompts. Joiners and soft hyphens, which Hindi, Farsi
and emoji are written with, are no such characters.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["UNSEEN", "one_line", "replaced"]

_TURNING: Final = "\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff"

UNSEEN: Final = re.compile(f"[\\x00-\\x08\\x0e-\\x1f\\x7f-\\x9f{_TURNING}]")
"""One of them; white space is none."""

_ODD: Final = re.compile(f"{UNSEEN.pattern}|[\\x0b-\\x0d]")
_BREAKS: Final = re.compile(f"[\\x00-\\x1f\\x7f-\\x9f{_TURNING}]+")


def one_line(text: str) -> str:
    """Put a text on one line, a space for what cannot be seen and for line breaks."""
    return _BREAKS.sub(" ", text)


def replaced(text: str) -> str:
    """Put U+FFFD in place of what cannot be seen, and of carriage returns; line feeds stay."""
    return _ODD.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
