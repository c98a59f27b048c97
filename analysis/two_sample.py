"""Two-sample test: could two sets of embeddings have come from one distribution?

The gap's p-value, for the tuning embedder and the judge. One kernel cannot see everything: small
bandwidths see lost diversity and miss a tenth of wrong images, large ones the other way round. So
several kernels share the same permutations, and the smallest p-value of them decides (MMDAgg,
arXiv 2110.15073; here aggregated by the studentized maximum). It estimates no size: that is
`gap.mmd2`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.kernel import Kernel, hollow, pair, quadratic, squared_distances

__all__ = ["memberships", "permutation_p_value", "permutations_for", "permuted_gaps"]

# Of the covariance towards a multiple of the identity, before it is inverted: directions in which
# a class hardly varies may count for more than they weigh, but not for all there is.
SHRINKAGE = 0.8
_CHUNK = 256
_TIE = 1e-6


def permutation_p_value(
    *, real: ArrayLike, synthetic: ArrayLike, permutations: int = 999, seed: int = 0
) -> float:
    """Compute (1 + #{permuted statistic >= statistic}) / (1 + B), valid at any size.

    The statistic is the largest, over six kernels, of the unbiased MMD^2 in standard deviations
    of its own permutations. The kernels are fitted on both sides together and so do not know
    which image is whose, and the observed labels count as one of the permutations that the
    standardization sees: exchangeable sides give a p-value that is uniform up to its steps.

    The kernels, on rows about the pooled mean: Gaussians at the gap's four bandwidths; the cubed
    inner product (a few per cent of images from elsewhere, which lie far out in one direction);
    and the whitened inner product (a shift of the mean along directions of little variance).

    Args:
        real: (n_real, d), n_real >= 2.
        synthetic: (n_synthetic, d), n_synthetic >= 2.
        permutations: B; `permutations_for` gives the number that a run needs.
        seed: of the permutations.

    Raises:
        ValueError: fewer than two images on a side, two widths, or NaN.
    """
    left, right = pair(real, synthetic, least=2)
    members = memberships(len(left), len(right), permutations=permutations, seed=seed)
    # In random order: rounding depends on a row's place, and real rows came first.
    order = np.random.default_rng([seed, 1]).permutation(len(members))
    members = members[order]
    highest = np.full(members.shape[1], -np.inf)
    tie = _TIE
    for gram in _grams(np.concatenate([left, right])[order]):
        gaps, noise = permuted_gaps(gram, members)
        spread = float(gaps.std())
        if spread <= noise:  # the kernel sees one point, or every partition alike
            continue
        np.maximum(highest, (gaps - gaps.mean()) / spread, out=highest)
        tie = max(tie, noise / spread)
    # `highest[0]` is the observed one; it reaches itself, which is the 1 + in the numerator.
    return float((highest >= highest[0] - tie).mean())


def permutations_for(n_tests: int) -> int:
    """Choose B for so many tests: fewer could not reach q <= 0.05 for one among them.

    Args:
        n_tests: Classes; for judges, classes times judges.
    """
    return max(999, 40 * n_tests)


def memberships(
    n_real: int, n_synthetic: int, *, permutations: int, seed: int = 0
) -> NDArray[np.float32]:
    """Mark the real side (n, 1 + B): the labels as they are, then random relabellings."""
    n = n_real + n_synthetic
    random = np.random.default_rng(seed)
    members = np.zeros((n, 1 + permutations), dtype=np.float32)
    members[:n_real, 0] = 1.0
    for start in range(1, 1 + permutations, _CHUNK):
        block = members[:, start : start + _CHUNK]
        uniform = random.random((block.shape[1], n), dtype=np.float32)
        chosen = np.argpartition(uniform, n_real - 1, axis=1)[:, :n_real]
        np.put_along_axis(block, chosen.T, 1.0, axis=0)
    return members


def permuted_gaps(
    gram: NDArray[np.floating], members: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float]:
    """Compute every labelling's unbiased MMD^2, and how far rounding may part equal ones.

    Args:
        gram: (n, n) kernel values of both sides together; not changed.
        members: (n, m) of `memberships`.

    Returns:
        (m,) gaps, and the rounding: float32 products differ by about 1e-7 of the kernel's spread.
    """
    n_real = int(members[:, 0].sum())
    n_synthetic = len(members) - n_real
    centred, row_sums, total = hollow(gram)
    gaps = np.empty(members.shape[1])
    for start in range(0, len(gaps), _CHUNK):
        block = members[:, start : start + _CHUNK]
        within_real = quadratic(centred, block)
        both = row_sums @ block
        within_synthetic = total - 2.0 * both + within_real
        gaps[start : start + _CHUNK] = (
            within_real / (n_real * (n_real - 1))
            + within_synthetic / (n_synthetic * (n_synthetic - 1))
            - 2.0 * (both - within_real) / (n_real * n_synthetic)
        )
    rounding = _TIE * float(np.abs(centred).mean(dtype=np.float64)) / min(n_real, n_synthetic)
    return gaps, rounding


def _grams(points: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield the kernel matrices (n, n), one at a time; the rows come in random order."""
    points = points - points.mean(axis=0, dtype=np.float64).astype(np.float32)
    squared = squared_distances(points)
    for bandwidth in Kernel.fit(points).bandwidths:
        yield Kernel(bandwidths=(bandwidth,)).of_squared(squared)
    del squared
    norms = np.linalg.norm(points, axis=1)
    scale = float(norms.mean(dtype=np.float64)) or 1.0
    inner = points @ points.T
    inner /= np.float32(scale**2)
    yield inner * inner * inner
    white = _whitened(points)
    yield white @ white.T


def _whitened(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whiten rows by their shrunk covariance (n and d may be in any proportion)."""
    n, width = points.shape
    covariance = (points.T @ points).astype(np.float64) / n
    middle = float(np.trace(covariance)) / width
    if middle <= 0:
        return points
    values, vectors = np.linalg.eigh(covariance)
    shrunk = (1 - SHRINKAGE) * np.maximum(values, 0.0) + SHRINKAGE * middle
    return np.asarray(points @ (vectors / np.sqrt(shrunk)).astype(np.float32))
