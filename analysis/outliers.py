"""Outliers: real images that lie far from all others of their class.

The report names them: a wrong label, a drawing, a photo of something else. A generator is held
against them as against the rest, so a person should know of them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors

from gapclose.analysis.kernel import rows

__all__ = ["find_outliers"]

NEIGHBORS: Final = 5
_FENCE: Final = 3.0  # interquartile ranges: Tukey's outer fence
_FEWEST: Final = 20


def find_outliers(embeddings: ArrayLike) -> list[tuple[int, float]]:
    """Find the images of one class that are far out of it.

    An image's distance is that to its fifth nearest other; far out is what lies beyond the third
    quartile by more than three interquartile ranges (Tukey 1977, "Exploratory Data Analysis", 2C).

    Args:
        embeddings: (n, d) of one class's real images.

    Returns:
        (row, distance in medians), the farthest first; none of fewer than 20 images.
    """
    points = rows(embeddings)
    if len(points) < _FEWEST:
        return []
    # Asked without points, it leaves each out of its own neighbours.
    near, _ = NearestNeighbors(n_neighbors=NEIGHBORS).fit(points).kneighbors()
    distances = near[:, -1]
    low, middle, high = np.quantile(distances, (0.25, 0.5, 0.75))
    found = np.flatnonzero(distances > high + _FENCE * (high - low))
    told = [(int(i), float(distances[i] / middle)) for i in found if middle > 0]
    return sorted(told, key=lambda pair: -pair[1])
