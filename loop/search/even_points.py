"""Even points: values of a generator's parameters that fill their space evenly.

What a careful person would render by hand, to be compared with what the search finds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from gapclose.loop.search.space import Params, Space

__all__ = ["even_points"]


def even_points(space: Space, n: int, *, seed: int) -> list[Params]:
    """Return a Latin hypercube over the parameters of a space.

    McKay, Beckman and Conover 1979, "A Comparison of Three Methods for Selecting Values of Input
    Variables": each of n equal parts of a range, in its logarithm where that is searched, holds
    one value; each choice comes as often as any other, but for one.

    Args:
        space: Of a class; settings that are no parameters of the generator's own stay out.
        n: How many.
        seed: Of their order.

    Returns:
        n times the parameters by their names in the search; none where the space has none.
    """
    rng = np.random.default_rng(seed)
    points: list[Params] = [{} for _ in range(n)]
    for name, distribution in space.parameters.items():
        places = (rng.permutation(n) + rng.random(n)) / n
        for point, place in zip(points, places.tolist(), strict=True):
            point[name] = _at(distribution, place)
    return points


def _at(distribution: BaseDistribution, place: float) -> Any:
    """Return the value at a place in [0, 1)."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(place * len(distribution.choices))]
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    whole = isinstance(distribution, IntDistribution)
    high += whole  # each whole number has a part of its own
    if distribution.log:  # type: ignore[attr-defined]
        value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
    else:
        value = low + place * (high - low)
    return min(max(int(value) if whole else value, low), high - whole)
