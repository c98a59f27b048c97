"""Optuna's distributions: what a config's values are as such, and where parameters lie in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from gapclose.generators.distributions import Categorical, Distribution

__all__ = [
    "Distributions",
    "choices",
    "coordinates",
    "floats",
    "guidance",
    "ints",
    "nearest",
    "of_even",
    "only",
]

_APART: Final = 0.7  # two indicators that differ are then 1 apart

Distributions = Mapping[str, BaseDistribution]
"""What may be chosen for each parameter."""


def choices(values: Sequence[Any]) -> BaseDistribution | None:
    """Return a choice of values; None of none."""
    return CategoricalDistribution(tuple(values)) if values else None


def floats(values: Sequence[float]) -> BaseDistribution | None:
    """Take two numbers for a range, one or three and more for choices."""
    return FloatDistribution(values[0], values[1]) if len(values) == 2 else choices(values)


def guidance(values: Sequence[float]) -> BaseDistribution | None:
    """Search a range of guidance by its logarithm: from 1 to 4 is where training data lies.

    About 2 is best for it (Fan et al. 2024; arXiv 2502.15588), and guidance 10 is hardly 9.
    """
    if len(values) == 2 and values[0] >= 1.0:
        return FloatDistribution(values[0], values[1], log=True)
    return floats(values)


def ints(values: Sequence[int]) -> BaseDistribution | None:
    """Take two whole numbers for a range, one or three and more for choices."""
    return IntDistribution(values[0], values[1]) if len(values) == 2 else choices(values)


def only(distribution: BaseDistribution) -> Any:
    """Return the value of a distribution that has one."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    return distribution.low  # type: ignore[attr-defined]


def of_even(even: Distribution) -> BaseDistribution:
    """Return what Optuna calls an even distribution of a parameter."""
    if isinstance(even, Categorical):
        return CategoricalDistribution(even.choices)
    if even.whole:
        return IntDistribution(int(even.low), int(even.high), log=even.log)
    return FloatDistribution(even.low, even.high, log=even.log)


def coordinates(distributions: Distributions, params: Mapping[str, Any]) -> list[float]:
    """Return where parameters lie: every range is [0, 1], every two choices are 1 apart."""
    found: list[float] = []
    for name, distribution in distributions.items():
        value = params[name]
        if isinstance(distribution, CategoricalDistribution):
            found += [_APART * (value == choice) for choice in distribution.choices]
            continue
        low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
        if distribution.log:  # type: ignore[attr-defined]
            value, low, high = math.log(value), math.log(low), math.log(high)
        found.append((value - low) / (high - low))
    return found


def nearest(distribution: BaseDistribution, value: Any) -> Any:
    """Return the value if it may be chosen, else what is nearest; of words the first choice."""
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        if value in choices:
            return value
        numbers = [choice for choice in choices if isinstance(choice, int | float)]
        if not isinstance(value, int | float) or len(numbers) < len(choices):
            return choices[0]
        return min(numbers, key=lambda number: abs(number - value))
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    # None is no JPEG at all, which the best quality is nearest to.
    return high if value is None else type(low)(min(max(value, low), high))
