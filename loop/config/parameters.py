"""Parameters: what the search may make of a generator's own knobs, as a person writes it.

`light: [0, 90]` is a range, `{low: 1, high: 5, int: true}` one of whole numbers, `[steel, brass]`
choices, and `samples: 16` is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from gapclose.analysis.unseen import UNSEEN
from gapclose.generators.distributions import (
    Categorical,
    Distribution,
    TruncatedNormal,
    check_width,
    distribution_of,
)
from gapclose.generators.parameters import MOST, check_name
from gapclose.generators.parameters import Parameter as ParameterValue
from gapclose.generators.values import Value, checked_value
from gapclose.loop.config.hints import shown
from gapclose.loop.config.values import Section

__all__ = [
    "CHOICES_TAG",
    "PREFIX",
    "RANGE_TAG",
    "FixedParameters",
    "Parameter",
    "ParameterChoices",
    "ParameterRange",
    "SearchedParameters",
    "checked_names",
]

PREFIX: Final = "parameters."
"""What the search's name of a parameter begins with."""

# No keys of a config: a location of pydantic's holds them.
RANGE_TAG: Final = "a range of a parameter"
CHOICES_TAG: Final = "choices of a parameter"

_FORMS: Final = "a value, a list of choices, two numbers for a range, or {low:, high:, log:, int:}"


class ParameterRange(Section):
    """A range of numbers, both ends included.

    Attributes:
        log: Whether it is searched by its logarithm.
        whole: Whether only whole numbers may be chosen; `int` in YAML.
    """

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    log: bool = False
    whole: bool = Field(default=False, alias="int")

    @model_validator(mode="after")
    def _is_a_range(self) -> ParameterRange:
        if not self.low < self.high:
            raise ValueError(f"got {self.low:g} to {self.high:g}; the lower number comes first")
        if not math.isfinite(self.high - self.low):
            raise ValueError(f"got {self.low:g} to {self.high:g}, which is too wide")
        if not self.log or self.low > 0:
            check_width(self.low, self.high, log=self.log)
        if self.log and self.low <= 0:
            raise ValueError(f"got low {self.low:g}, but log: true needs numbers above 0")
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(
                f"got {self.low:g} to {self.high:g}, but int: true needs whole numbers"
            )
        for end in (self.low, self.high):
            checked_value(int(end) if self.whole else end, name="an end")
        return self

    @property
    def kind(self) -> str:
        """What its values are."""
        return kind_of(self.low)

    @property
    def is_fixed(self) -> bool:
        """Whether there is one value; never of a range."""
        return False

    @property
    def example(self) -> Value:
        """A value."""
        return int(self.low) if self.whole else self.low

    @property
    def even(self) -> Distribution:
        """All that may be chosen, evenly."""
        return TruncatedNormal(low=self.low, high=self.high, log=self.log, whole=self.whole)

    def misfit(self, value: ParameterValue) -> str | None:
        """Say what a value should be, if it is not even of the kind."""
        if isinstance(value, Distribution):
            value = value.at(0.5)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"expected a number, for {self.low:g} to {self.high:g} are searched"
        if self.whole and not float(value).is_integer():
            return f"expected a whole number, for {self.low:g} to {self.high:g} are searched"
        return None

    @model_serializer
    def _as_written(self) -> list[float] | dict[str, Any]:
        if not (self.log or self.whole):
            return [self.low, self.high]
        said: dict[str, Any] = {"low": self.low, "high": self.high}
        if self.whole:
            said = {"low": int(self.low), "high": int(self.high), "int": True}
        return said | ({"log": True} if self.log else {})


class ParameterChoices(Section):
    """Values to choose from; one is fixed."""

    choices: tuple[Value, ...] = Field(min_length=1, max_length=1000)

    @field_validator("choices")
    @classmethod
    def _told_apart(cls, choices: tuple[Value, ...]) -> tuple[Value, ...]:
        for value in choices:
            check_value(value)
            if (
                choices.count(value) > 1
            ):  # 1 and true are equal: what compares cannot tell them apart
                raise ValueError(f"got {shown(value)} twice; name each once")
        if len(kinds := {kind_of(value) for value in choices}) > 1:
            raise ValueError(f"mixes {' and '.join(sorted(kinds))}; its choices are of one kind")
        return choices

    @property
    def kind(self) -> str:
        """What its values are."""
        return kind_of(self.choices[0])

    @property
    def is_fixed(self) -> bool:
        """Whether there is one value."""
        return len(self.choices) == 1

    @property
    def example(self) -> Value:
        """A value."""
        return self.choices[0]

    @property
    def even(self) -> Distribution:
        """All that may be chosen, evenly."""
        return Categorical(choices=self.choices)

    def misfit(self, value: ParameterValue) -> str | None:
        """Say what a value should be, if it is not even of the kind; it may be no choice."""
        if isinstance(value, Distribution):
            value = value.at(0.5)
        return None if kind_of(value) == self.kind else f"expected one of {self.kind}"

    @model_serializer
    def _as_written(self) -> Any:
        if len(self.choices) == 1:
            return self.choices[0]
        return {"choices": [*self.choices]} if _is_range(self.choices) else [*self.choices]


def kind_of(value: Value) -> str:
    """Name what a value is: data sets and dashboards hold one kind under a name."""
    if isinstance(value, bool):
        return "true and false"
    return "words" if isinstance(value, str) else "numbers"


def check_value(value: Value) -> Value:
    """Refuse a value that no program is given.

    Raises:
        ValueError: As `checked_value`, or if a word holds what cannot be seen.
    """
    checked_value(value, name="it")
    if isinstance(value, str) and (odd := UNSEEN.search(value)):
        raise ValueError(
            f"holds a character that cannot be seen (U+{ord(odd[0]):04X}); take it out"
        )
    return value


def _is_range(values: Any) -> bool:
    return len(values) == 2 and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def _normal(value: object) -> object:
    """Bring what was written into one of the two forms."""
    if isinstance(value, ParameterRange | ParameterChoices):
        return value
    if isinstance(value, Mapping):
        return {key: tuple(its) if isinstance(its, list) else its for key, its in value.items()}
    if isinstance(value, list | tuple):
        if _is_range(value):
            return {"low": value[0], "high": value[1]}
        for its in value:
            checked_value(its, name="a choice")
        return {"choices": tuple(value)}
    if value is None:
        raise ValueError(f"got nothing, expected {_FORMS}")
    return {"choices": (value,)}


def _form(value: object) -> str:
    chosen = isinstance(value, ParameterChoices)
    if isinstance(value, Mapping):
        chosen = "choices" in value
    return CHOICES_TAG if chosen else RANGE_TAG


def _given(value: object) -> object:
    """Read a value, or a distribution in one of the forms that a space has."""
    if isinstance(value, Distribution):
        return value
    if isinstance(value, Mapping):
        found = distribution_of(value)
    elif isinstance(value, list | tuple):
        if len(value) < 2:
            raise ValueError(f"got {shown(value)}, expected {_FORMS}")
        form = {"low": value[0], "high": value[1]} if _is_range(value) else {"choices": value}
        found = distribution_of(form)
    else:
        return check_value(checked_value(value, name="it"))
    for choice, _ in found.values() if isinstance(found, Categorical) else ():
        check_value(choice)
    return found


def _written(value: object) -> object:
    return value.to_json() if isinstance(value, Distribution) else value


def checked_names(value: object) -> object:
    """Refuse names that no parameter has, and too many of them; null is none.

    Raises:
        ValueError: One line.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        if len(value) > MOST:
            raise ValueError(f"got {len(value)} parameters, expected at most {MOST}")
        for name in value:
            check_name(name)
    return value


Parameter = Annotated[
    Annotated[ParameterRange, Tag(RANGE_TAG)] | Annotated[ParameterChoices, Tag(CHOICES_TAG)],
    Discriminator(_form),
    BeforeValidator(_normal),
]

SearchedParameters = Annotated[dict[str, Parameter], BeforeValidator(checked_names)]
"""Name -> what may be chosen."""

FixedParameters = Annotated[
    dict[str, Annotated[Any, BeforeValidator(_given), PlainSerializer(_written)]],
    BeforeValidator(checked_names),
]
"""Name -> one value for all images, or a distribution over them."""
