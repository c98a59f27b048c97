"""Significance: the level of every test, and what p-values of many tests are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "benjamini_hochberg", "holm", "panel", "share_variance"]

LEVEL: Final = 0.05


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Compute false discovery rate q-values in the order given, by the step-up rule.

    Raises:
        ValueError: a p-value outside [0, 1].
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (len(p) / np.arange(1, len(p) + 1))
    q = np.empty_like(p)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return [float(value) for value in q]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values in the order given, by the step-down rule: one below a level is enough.

    The chance of any false one at or below a level is at most that level, however the tests
    depend on each other (Holm, Scandinavian Journal of Statistics 6:65, 1979).

    Raises:
        ValueError: a p-value outside [0, 1].
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


def panel(p_values: Sequence[Mapping[str, float]]) -> list[dict[str, tuple[float, float]]]:
    """Adjust the p-values of a panel of judges, over the judges of a class and over classes.

    Within each class those of its judges are adjusted by `holm` (Holm 1979): that any of m judges
    objects to images without a gap is then as likely as it is of one. What is adjusted becomes
    q-values by `benjamini_hochberg` over the classes, for each judge apart. A judge objects to a
    class where its q-value is at most `LEVEL`, and one that objects is enough. Of one judge these
    are `benjamini_hochberg` over the classes, of one class `holm` over its judges.

    Args:
        p_values: Of each class, by judge; a judge may be missing in some.

    Returns:
        Of each class, by judge: (adjusted over the judges, q-value); p <= adjusted <= q <= 1.

    Raises:
        ValueError: a p-value outside [0, 1].
    """
    adjusted = [dict(zip(row, holm(list(row.values())), strict=True)) for row in p_values]
    names = dict.fromkeys(name for row in adjusted for name in row)
    q_values = {
        name: iter(benjamini_hochberg([row[name] for row in adjusted if name in row]))
        for name in names
    }
    return [
        {name: (value, next(q_values[name])) for name, value in row.items()} for row in adjusted
    ]


def _checked(p_values: Sequence[float]) -> NDArray[np.float64]:
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values must lie in [0, 1]")
    return p


def share_variance(hits: int, n: int) -> float:
    """Estimate a share's variance with a hit and a miss more (Agresti and Caffo 2000).

    It is above 0 at shares of 0 and 1 too, where the plain estimate is not.
    """
    share = (hits + 1) / (n + 2)
    return share * (1 - share) / (n + 2)
