"""Witness: which images of a side are most unlike the other side.

Reports and the App show them, with or without words. It ranks images of one class; whether there
is a gap at all it does not say.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.kernel import Kernel, pair

__all__ = ["witness"]

_MOST: Final = 2_000  # images of a side that the others are held against


def witness(
    *, real: ArrayLike, synthetic: ArrayLike, kernel: Kernel
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Evaluate the kernel's witness function at every image (JMLR 13:723, section 2.3).

    An image's value is its mean kernel with its own side, itself left out, less that with the
    other side: high where its own side is dense and the other is not.

    Args:
        real: (n_real, d), n_real >= 2.
        synthetic: (n_synthetic, d), n_synthetic >= 2.
        kernel: frozen.

    Returns:
        (n_real,) and (n_synthetic,); larger is more unlike the other side.

    Raises:
        ValueError: fewer than two images on a side, two widths, or NaN.
    """
    left, right = pair(real, synthetic, least=2)
    some_left, some_right = _some(left), _some(right)
    return (
        _own(kernel, left, some_left) - kernel.mean_rows(left, some_right),
        _own(kernel, right, some_right) - kernel.mean_rows(right, some_left),
    )


def _some(points: NDArray[np.float32]) -> NDArray[np.float32]:
    if len(points) <= _MOST:
        return points
    return points[np.sort(np.random.default_rng(0).permutation(len(points))[:_MOST])]


def _own(
    kernel: Kernel, points: NDArray[np.float32], some: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Average the kernel with one side's others; of a thinned side, each is another."""
    n = len(some)
    means = kernel.mean_rows(points, some)
    return (n * means - 1.0) / (n - 1) if some is points else means
