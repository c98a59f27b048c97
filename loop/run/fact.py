"""Fact: the frozen model that every event and notice is made of, and text that JSON can hold.

`events` and `notices` build on it; a reader ignores the fields that a newer version has added.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

__all__ = ["Fact", "Text", "as_utf8"]


class Fact(BaseModel):
    """What a run records or says: frozen, and one line of JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


def as_utf8(text: str) -> str:
    """Return text that UTF-8 can encode; a lone surrogate becomes its six-character escape.

    The name of a file may hold bytes that are no UTF-8, and a library's message half of a
    surrogate pair.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _validated(value: object) -> object:
    return as_utf8(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_validated)]
"""Text that comes from outside: a message, a path, a class's name."""
