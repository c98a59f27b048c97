"""Distances: the figures that others report, for comparison with their tables.

An audit prints them beside the gap. None of them decides anything here: FID depends on the number
of images (it is biased upwards at small n and rewards collapse there), CMMD hardly sees lost
diversity, and none comes with a floor. Values are of the embedder at hand, so they compare with
published ones only where that used the same features.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.kernel import pair, squared_distances

__all__ = ["CAVEAT", "cmmd", "frechet_distance", "kid", "reference_distances"]

CAVEAT = "FID depends on these numbers and falls as they grow; CMMD hardly sees lost diversity."
CMMD_BANDWIDTH = 10.0
CMMD_SCALE = 1000.0
SMALL = 0.05
_TILE = 2_048

_Tile = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


def kid(*, real: ArrayLike, synthetic: ArrayLike) -> float:
    """Compute the kernel distance: unbiased MMD^2, (x'y / d + 1)^3 (arXiv 1801.01401, eq. 4).

    Over all images as one subset, where other tools average over random subsets of 1,000.

    Args:
        real: (n_real, d), n_real >= 2.
        synthetic: (n_synthetic, d), n_synthetic >= 2.

    Raises:
        ValueError: fewer than two images on a side, two widths, or NaN.
    """
    left, right = pair(real, synthetic, least=2)
    width = np.float32(left.shape[1])

    def tile(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        inner = a @ b.T
        inner /= width
        # Less the constant 1, which cancels: (t + 1)^3 - 1 = t (t^2 + 3 t + 3) keeps more digits.
        out = inner + np.float32(3.0)
        out *= inner
        out += np.float32(3.0)
        out *= inner
        return out

    return _mmd2(left, right, tile, unbiased=True)


def cmmd(*, real: ArrayLike, synthetic: ArrayLike) -> float:
    """Compute CMMD as its reference code does (arXiv 2401.09603): biased, sigma 10, x 1,000.

    Meant for rows of unit length; the paper says unbiased, its code keeps the diagonal.

    Raises:
        ValueError: two widths, no rows, or NaN.
    """
    left, right = pair(real, synthetic)

    def tile(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        squared = squared_distances(a, None if a is b else b)
        squared *= np.float32(-0.5 / CMMD_BANDWIDTH**2)
        # exp less the constant 1, which cancels. On unit rows the exponent is at most 0.02, where
        # four terms are exact to 1e-9 and ten times as fast.
        if float(squared.min()) < -SMALL:
            return np.expm1(squared, out=squared)
        out = squared / np.float32(4.0)
        for divisor in (3.0, 2.0, 1.0):
            out += np.float32(1.0)
            out *= squared
            out /= np.float32(divisor)
        return out

    return CMMD_SCALE * _mmd2(left, right, tile, unbiased=False)


def frechet_distance(*, real: ArrayLike, synthetic: ArrayLike) -> float:
    """Compute the Frechet distance of the sides' Gaussians (arXiv 1706.08500, eq. 6).

    With Inception features this is FID. Below n = d the covariances are singular and the figure
    says more about n than about the images.

    Raises:
        ValueError: fewer than two images on a side, two widths, or NaN.
    """
    left, right = pair(real, synthetic, least=2)
    means = [side.mean(axis=0, dtype=np.float64) for side in (left, right)]
    first, second = (_covariance(side) for side in (left, right))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    # tr (S1 S2)^(1/2) by the symmetric matrix that has the same eigenvalues.
    shared = np.linalg.eigvalsh(root @ second @ root)
    shift = float(((means[0] - means[1]) ** 2).sum())
    traces = float(np.trace(first) + np.trace(second))
    return shift + traces - 2.0 * float(np.sqrt(np.maximum(shared, 0.0)).sum())


def reference_distances(*, real: ArrayLike, synthetic: ArrayLike) -> dict[str, float]:
    """Compute all three, by name, as gap.json holds them."""
    return {
        "kid": kid(real=real, synthetic=synthetic),
        "fid": frechet_distance(real=real, synthetic=synthetic),
        "cmmd": cmmd(real=real, synthetic=synthetic),
    }


def _covariance(side: NDArray[np.float32]) -> NDArray[np.float64]:
    total = np.zeros((side.shape[1], side.shape[1]))
    mean = side.mean(axis=0, dtype=np.float64)
    for i in range(0, len(side), _TILE):
        block = side[i : i + _TILE] - mean
        total += block.T @ block
    return total / (len(side) - 1)


def _mmd2(
    left: NDArray[np.float32], right: NDArray[np.float32], tile: _Tile, *, unbiased: bool
) -> float:
    within = sum(_within(side, tile, unbiased=unbiased) for side in (left, right))
    cross = 0.0
    for i in range(0, len(left), _TILE):
        for j in range(0, len(right), _TILE):
            block = tile(left[i : i + _TILE], right[j : j + _TILE])
            cross += float(block.sum(dtype=np.float64))
    return within - 2.0 * cross / (len(left) * len(right))


def _within(side: NDArray[np.float32], tile: _Tile, *, unbiased: bool) -> float:
    """Average a side's kernel; tiles below the diagonal are those above it, mirrored."""
    n, total = len(side), 0.0
    for i in range(0, n, _TILE):
        own = side[i : i + _TILE]
        block = tile(own, own)
        total += float(block.sum(dtype=np.float64))
        if unbiased:
            total -= float(np.trace(block, dtype=np.float64))
        for j in range(i + _TILE, n, _TILE):
            total += 2.0 * float(tile(own, side[j : j + _TILE]).sum(dtype=np.float64))
    return total / (n * (n - 1) if unbiased else n * n)
