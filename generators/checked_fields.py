"""Fields of frozen values: what draws and cameras hold is checked, and written one way only."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any


def put(value: object, name: str, content: object) -> None:
    """Set a field of a frozen value, while it is made."""
    object.__setattr__(value, name, content)


def real_number(value: object, name: str, *, low: float, high: float = math.inf) -> float:
    """Return a field as a finite float in [low, high].

    Raises:
        ValueError: If it is none.
    """
    content = getattr(value, name)
    if isinstance(content, bool) or not isinstance(content, Real):
        raise ValueError(f"{name} must be a number, not {content!r}")
    number = float(content)
    if not math.isfinite(number) or not low <= number <= high:
        bounds = f"finite and at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{name} must be {bounds}, not {content!r}")
    return number + 0.0  # adding zero turns -0.0 into 0.0: one value, one fingerprint


def whole_number(value: object, name: str, *, low: int, high: int | None = None) -> int:
    """Return a field as an integer in [low, high].

    Raises:
        ValueError: If it is none.
    """
    content = getattr(value, name)
    if isinstance(content, bool) or not isinstance(content, Integral):
        raise ValueError(f"{name} must be a whole number, not {content!r}")
    whole = int(content)
    if whole < low or (high is not None and whole > high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}"
        raise ValueError(f"{name} must be {bounds}, not {content!r}")
    return whole


def image_size(size: object) -> int | tuple[int, int] | None:
    """Return a size in pixels: a side of a square, (width, height) otherwise, None for none.

    Raises:
        ValueError: If it is nothing of that.
    """
    if size is None:
        return None
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    whole = [int(s) for s in sides if isinstance(s, Integral) and not isinstance(s, bool)]
    if len(whole) != 2 or len(sides) != 2 or min(whole) < 1:
        raise ValueError(f"size must be a side or (width, height) in pixels, not {size!r}")
    width, height = whole
    return width if width == height else (width, height)


def known_fields(
    kind: type[Any], data: Mapping[str, Any], *, required: str | None = None
) -> dict[str, Any]:
    """Return what a dataclass is made of.

    Raises:
        ValueError: If a key is no field of it, or the required one is missing.
    """
    names = {field.name for field in fields(kind)}
    if unknown := sorted(set(data) - names):
        raise ValueError(f"{kind.__name__.lower()}: unknown key {unknown[0]!r}")
    if required is not None and required not in data:
        raise ValueError(f"{kind.__name__.lower()}: key {required!r} is missing")
    return dict(data)


def digest_of(plain: Mapping[str, Any]) -> str:
    """Hash plain values by sha256: 64 hex digits."""
    # json writes floats with repr, the shortest text that reads back as the same float.
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
