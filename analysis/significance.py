"""Significance: the level of every test, and what p-values of many tests are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "benjamini_hochberg", "holm", "share_variance"]

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

    Raises:
        ValueError: a p-value outside [0, 1].
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


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
