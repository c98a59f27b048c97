"""Points of the unit sphere whose distribution is known, as an embedder's rows are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


def unit(n: int, width: int = 16, *, seed: int = 0, shift: float = 0.0) -> Rows:
    """(n, width) points spread evenly, or towards the first axis."""
    points = np.random.default_rng(seed).normal(size=(n, width))
    points[:, 0] += shift
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
