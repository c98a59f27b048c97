"""Parameters: a generator's own knobs by name, a renderer's light or a GAN's truncation.

A draw holds them, a search space chooses them, and the generator alone knows what they mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gapclose.generators.distributions import Distribution, distribution_of, quantile_of
from gapclose.generators.values import Value, checked_value

Parameter = Value | Distribution
"""One value for all images of a draw, or one for each of them."""

MOST: Final = 64
"""Characters of a name, and parameters of a draw."""

_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class Parameters(Mapping[str, Parameter]):
    """What a draw says of each parameter; immutable, and equal only as its JSON is.

    They are in the order of their names.

    1, 1.0 and true are three values: a program may tell them apart, so fingerprints do.

    Raises:
        ValueError: If a name or a value is none that JSON and every program can hold.
    """

    __slots__ = ("_text", "_values")

    def __init__(self, values: Mapping[str, Parameter | Mapping[str, Any]] | None = None) -> None:
        """Check and copy; a mapping is read as `distribution_of` reads it."""
        given = dict(values or {})
        if len(given) > MOST:
            raise ValueError(f"parameters: got {len(given)}, expected at most {MOST}")
        for name in given:
            check_name(name)
        self._values = {name: _checked(given[name], name=name) for name in sorted(given)}
        self._text = json.dumps(self.to_json(), allow_nan=False)

    def __getitem__(self, name: str) -> Parameter:
        """Return a value, or a distribution."""
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

    @property
    def varies(self) -> bool:
        """Whether images of one draw have different values."""
        return any(not isinstance(its, Value) for its in self._values.values())

    def of_seed(self, seed: int) -> Parameters:
        """Return the values of one image, by its seed alone: whatever its draw says of others."""
        if not self.varies:
            return self
        return Parameters(
            {
                name: its if isinstance(its, Value) else its.at(quantile_of(name, seed))
                for name, its in self._values.items()
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values, ready for `json.dumps`."""
        return {
            name: its if isinstance(its, Value) else its.to_json()
            for name, its in self._values.items()
        }


def _checked(value: object, *, name: str) -> Parameter:
    if isinstance(value, Distribution):
        return value
    if isinstance(value, Mapping):
        try:
            return distribution_of(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return checked_value(value, name=name)


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
