"""Class probe: how well a few features tell the classes of a set, and by whose rule.

`shortcuts` asks it of both sides and of many relabellings at once, so everything here has a
leading axis of arrangements. The rule is a linear discriminant of the features and their squares;
it decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Layout", "Rules", "in_own_units"]

_FOLDS: Final = 5
_RIDGE: Final = 0.01  # of a feature's variance: keeps classes that never vary from dividing by 0
_FAR: Final = 3.0  # deviations at which features are clipped

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the n images of a side stand: sorted by fold, and by class within each fold.

    Attributes:
        cls: (n,) number of each image's class.
        counts: (folds, classes) images.
        weights: (n,) that sum to 1, alike for all classes.
    """

    cls: NDArray[np.intp]
    counts: NDArray[np.intp]
    weights: Points

    @classmethod
    def of(cls, sizes: Sequence[int]) -> Self:
        """Lay out so many images of each class, at least as many as there are folds."""
        n = np.asarray(sizes)
        counts = np.stack([(n + _FOLDS - 1 - fold) // _FOLDS for fold in range(_FOLDS)])
        numbers = np.repeat(np.tile(np.arange(len(n)), _FOLDS), counts.ravel())
        return cls(cls=numbers, counts=counts, weights=1.0 / (len(n) * n[numbers]))

    def arranged(self, classes: Sequence[Points]) -> Points:
        """Put each class's rows (its size, d) where they stand: (n, d)."""
        out = np.empty((len(self.cls), classes[0].shape[1]))
        for number, rows in enumerate(classes):
            out[self.cls == number] = rows
        return out

    def folds(self) -> list[slice]:
        """Return where each fold stands."""
        ends = self.counts.sum(axis=1).cumsum()
        return [slice(end - n, end) for end, n in zip(ends, self.counts.sum(axis=1), strict=True)]


def in_own_units(points: Points, layout: Layout) -> Points:
    """Give each arrangement's features mean 0 and variance 1 over its classes, and add squares.

    What all classes of a side share, a camera's shift or scale, is gone then, so that a rule
    learnt from one side can be tried on the other.

    Args:
        points: (arrangements, n, d).
        layout: Of the n.

    Returns:
        (arrangements, n, 2 d).
    """
    weights = layout.weights[:, None]
    centred = points - (points * weights).sum(axis=1, keepdims=True)
    spread = np.sqrt((centred**2 * weights).sum(axis=1, keepdims=True))
    scaled = np.clip(centred / np.where(spread > 1e-9, spread, np.inf), -_FAR, _FAR)
    return np.concatenate([scaled, scaled**2 - 1.0], axis=2)


class Rules:
    """What one side teaches about the classes: for each fold, the rule of the other folds."""

    def __init__(self, points: Points, layout: Layout) -> None:
        """Fit linear discriminants, all classes equally likely.

        Args:
            points: (arrangements, n, d), in their own units.
            layout: Of the n.
        """
        arrangements, _, width = points.shape
        self._layout = layout
        starts = layout.counts.ravel().cumsum() - layout.counts.ravel()
        sums = np.add.reduceat(points, starts, axis=1)
        sums = sums.reshape(arrangements, *layout.counts.shape, width)
        grams = [np.swapaxes(p, 1, 2) @ p for p in (points[:, f] for f in layout.folds())]
        total, all_sums = np.sum(grams, axis=0), sums.sum(axis=1)
        self._rules = []
        for fold, gram in enumerate(grams):
            n = (layout.counts.sum(axis=0) - layout.counts[fold])[:, None]
            means = (all_sums - sums[:, fold]) / n
            within = total - gram - np.swapaxes(means * n, 1, 2) @ means
            within = within / n.sum() + _RIDGE * np.eye(width)
            slopes = np.linalg.solve(within, np.swapaxes(means, 1, 2))
            self._rules.append((slopes, -0.5 * np.einsum("akd,adk->ak", means, slopes)))

    def share_right(self, points: Points) -> Points:
        """Return the share of images whose class the rules tell, averaged over classes.

        Args:
            points: (arrangements, n, d): of the side that was learnt from, where no fold is told
                by itself, or of the other in the same layout, where the rules have seen as many.

        Returns:
            (arrangements,). A constant tells 1 / classes.
        """
        right = np.zeros(len(points))
        for fold, (slopes, offsets) in zip(self._layout.folds(), self._rules, strict=True):
            told = (points[:, fold] @ slopes + offsets[:, None]).argmax(axis=2)
            right += (told == self._layout.cls[fold]) @ self._layout.weights[fold]
        return right
