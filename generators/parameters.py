"""Parameters: a generator's own knobs by name, a renderer's light or a GAN's truncation.

A draw holds them, a search space chooses them, and the generator alone knows what they mean.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Value = bool | int | float | str
"""What a parameter may be: whatever JSON has as one value, but null."""

MOST: Final = 64
"""Characters of a name, and parameters of a draw."""

_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_LONGEST: Final = 1000  # characters of a word
_LARGEST: Final = 2**53  # whole numbers beyond are not told apart by programs that read JSON


class Parameters(Mapping[str, Value]):
    """Values by name, in the order of their names; immutable, and equal only as their JSON is.

    1, 1.0 and true are three values: a program may tell them apart, so fingerprints do.

    Raises:
        ValueError: If a name or a value is none that JSON and every program can hold.
    """

    __slots__ = ("_text", "_values")

    def __init__(self, values: Mapping[str, Value] | None = None) -> None:
        """Check and copy."""
        given = dict(values or {})
        if len(given) > MOST:
            raise ValueError(f"parameters: got {len(given)}, expected at most {MOST}")
        for name in given:
            check_name(name)
        self._values = {name: checked_value(given[name], name=name) for name in sorted(given)}
        self._text = json.dumps(self._values, allow_nan=False)

    def __getitem__(self, name: str) -> Value:
        """Return a value."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._values)

    def __len__(self) -> int:
        """Count them."""
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        """Compare with parameters, or with a mapping of which some could be made."""
        if not isinstance(other, Parameters):
            if not isinstance(other, Mapping):
                return NotImplemented
            try:
                other = Parameters(other)
            except ValueError:
                return False
        return self._text == other._text

    def __hash__(self) -> int:
        """Hash what `==` compares."""
        return hash(self._text)

    def __repr__(self) -> str:
        """Show the values."""
        return f"Parameters({self._values!r})"

    def to_json(self) -> dict[str, Value]:
        """Return a plain dict."""
        return dict(self._values)


def check_name(name: object) -> None:
    """Refuse a name that is none.

    Raises:
        ValueError: If it is no letter or underscore with letters, digits and "_" after it, at most
            64 in all.
    """
    if not isinstance(name, str) or len(name) > MOST or not _NAME.fullmatch(name):
        raise ValueError(
            f"{str(name)[:MOST]!r} is no name of a parameter; take letters, digits and _, "
            f"a letter first, {MOST} at most"
        )


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
    raise ValueError(f"{name} must be a finite number, a word, true or false, not {value!r}")
