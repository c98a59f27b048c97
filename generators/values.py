"""Values: what one parameter of a generator may be, of the types that JSON has."""

from __future__ import annotations

import math
from typing import Any, Final

Value = bool | int | float | str
"""What a parameter may be: whatever JSON has as one value, but null."""

_LONGEST: Final = 1000  # characters of a word
_LARGEST: Final = 2**53  # whole numbers beyond are not told apart by programs that read JSON


def checked_value(value: Any, *, name: str) -> Value:
    """Return a value as one of the four types.

    Raises:
        ValueError: If it is no boolean, text of up to 1,000 characters, finite number, or whole
            number up to 2^53.
    """
    if isinstance(value, bool | str):
        if isinstance(value, str) and len(value) > _LONGEST:
            raise ValueError(f"{name} has {len(value)} characters; {_LONGEST} are the most")
        return value
    if isinstance(value, int) and abs(value) <= _LARGEST:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value + 0.0  # -0.0 becomes 0.0: one value, one fingerprint
    shown = "null" if value is None else f"{value!r}"[:60]
    raise ValueError(f"{name} must be a finite number, a word, true or false, not {shown}")
