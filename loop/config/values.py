"""Values: the kinds of value that a config's keys take, and how each is read.

A list is choices, or a range where it holds two numbers; one value stands for a list of one.
"""

from __future__ import annotations

import math
import re
import string
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)

from gapclose.analysis.unseen import UNSEEN
from gapclose.loop.config.hints import shown

__all__ = [
    "Count",
    "Counts",
    "Device",
    "Numbers",
    "Pixels",
    "Seconds",
    "Section",
    "Size",
    "Text",
    "Words",
    "as_range",
    "config_folder",
    "parse_seconds",
    "template_slots",
]

_UNIT_SECONDS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[dhms])+")

_MOST_PIXELS: Final = 8192  # of a side: an image is held whole
_MOST: Final = 2**31 - 1  # what every library takes for an integer

Number = TypeVar("Number", int, float)


class Section(BaseModel):
    """A part of a config: strict, immutable, and without unknown keys."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


def parse_seconds(value: object) -> float:
    """Read a time span: `8h`, `5m`, `90s`, `1h30m`, or a plain number of seconds.

    Returns:
        Seconds, above 0.

    Raises:
        ValueError: If it is none of these.
    """
    remedy = 'expected a time such as 8h, 5m, 90s, 1h30m, or seconds ("null" is no limit)'
    seconds = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            seconds = float(value)
    elif isinstance(value, str):
        text = value.replace(" ", "").lower()
        if _DURATION.fullmatch(text):
            seconds = sum(
                float(part[:-1]) * _UNIT_SECONDS[part[-1]]
                for part in re.findall(r"[0-9.]+[dhms]", text)
            )
        elif text.isascii() and text.isdigit():
            seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"got {shown(value)}, {remedy}")
    return seconds


def template_slots(template: str) -> tuple[str, ...]:
    """Name the slots of a prompt template, in order of first appearance.

    `{class}` is one of them. Doubled braces stand for themselves, as in `str.format`.

    Raises:
        ValueError: If a brace is left open or a slot is not a plain name.
    """
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{shown(template)} is no template: {error}") from None
    slots: dict[str, None] = {}
    for _, name, spec, conversion in parsed:
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            written = (
                name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            )
            raise ValueError(f"{shown(template)}: {{{written}}} is no slot; use a plain {{name}}")
        slots[name] = None
    return tuple(slots)


def as_range(values: tuple[Number, ...]) -> tuple[Number, ...]:
    """Check that two numbers are a range.

    Raises:
        ValueError: The lower one does not come first.
    """
    if len(values) == 2 and not values[0] < values[1]:
        low, high = values
        raise ValueError(f"got [{low}, {high}], expected a range: the lower number first")
    return values


def config_folder(info: ValidationInfo) -> Path | None:
    """Return the folder of the config that is being checked, if it lies in a file."""
    folder: Path | None = (info.context or {}).get("folder")
    return folder


def _as_tuple(value: object) -> object:
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        return tuple(value)
    return (value,)


def _as_seconds(value: object) -> object:
    return None if value is None else parse_seconds(value)


def _check_text(text: str) -> str:
    if odd := UNSEEN.search(text):
        raise ValueError(
            f"holds a character that cannot be seen (U+{ord(odd[0]):04X}); take it out"
        )
    return text


def _check_size(size: int | tuple[int, int]) -> int | tuple[int, int]:
    sides = size if isinstance(size, tuple) else (size,)
    if any(not 1 <= side <= _MOST_PIXELS for side in sides):
        raise ValueError(f"got {shown(size)}, expected 1 to {_MOST_PIXELS} pixels a side")
    return size


def _check_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", device):
        raise ValueError(f"got {shown(device)}, expected auto, cpu, cuda, cuda:1, mps or xpu")
    return device


Text = Annotated[str, AfterValidator(_check_text)]
Words = Annotated[tuple[Text, ...], BeforeValidator(_as_tuple)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_as_tuple)]
Count = Annotated[int, Field(ge=1, le=_MOST)]
Counts = Annotated[tuple[Annotated[int, Field(le=_MOST)], ...], BeforeValidator(_as_tuple)]
Seconds = Annotated[float | None, BeforeValidator(_as_seconds)]
Device = Annotated[str, AfterValidator(_check_device)]
Pixels = Annotated[int, Field(ge=1, le=_MOST_PIXELS)]
Size = Annotated[
    int | Annotated[tuple[int, int], BeforeValidator(_as_tuple)], AfterValidator(_check_size)
]
