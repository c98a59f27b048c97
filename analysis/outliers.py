"""Outliers: real images that lie far from all others of their class.

The report names them: a wrong label, a drawing, a photo of something else. A generator is held
against them as against the rest, so a person should know of them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.kernel import rows

__all__ = ["far_out"]

NEIGHBORS: Final = 5
_FENCE: Final = 3.0  # interquartile ranges: Tukey's outer fence
_FEWEST: Final = 20


def far_out(embeddings: ArrayLike) -> list[tuple[int, float]]:
    """The images of one class that are far out of it.

    An image's distance is that to its fifth nearest other; far out is what lies beyond the third
    quartile by more than three interquartile ranges (Tukey 1977, "Exploratory Data Analysis", 2C).

    Args:
        embeddings: (n, d) of one class's real images.

    Returns:
        (row, distance in medians), the farthest first; none of fewer than 20 images.
    """
    points = rows(embeddings).astype(np.float64)
    if len(points) < _FEWEST:
        return []
    norms = np.square(points).sum(axis=1)
    squared = norms[:, None] + norms[None, :] - 2.0 * points @ points.T
    np.fill_diagonal(squared, np.inf)
    near: NDArray[np.float64] = np.partition(squared, NEIGHBORS - 1, axis=1)[:, NEIGHBORS - 1]
    distances = np.sqrt(np.maximum(near, 0.0))
    low, middle, high = np.quantile(distances, (0.25, 0.5, 0.75))
    found = np.flatnonzero(distances > high + _FENCE * (high - low))
    told = [(int(i), float(distances[i] / middle)) for i in found if middle > 0]
    return sorted(told, key=lambda pair: -pair[1])
