"""Coverage: do synthetic images lie where real ones do, reach everywhere, and copy none?

Precision and recall, density and coverage, the Vendi ratio and a count of near-copies. An audit
reports them beside the gap and confirmation asks whether they pass. They are guards: uncalibrated
by nature, so what passes is judged against real images put through the same figures at the same
size, and none of them is ever a p-value.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.kernel import pair, rows, squared_distances

__all__ = [
    "Coverage",
    "copied",
    "coverage",
    "coverage_and_duplicates",
    "relative_coverage",
    "vendi_ratio",
    "vendi_score",
]

_TILE = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Four shares, higher is better; density may exceed 1.

    Attributes:
        precision: synthetic images inside some real image's neighbourhood.
        recall: real images inside some synthetic image's neighbourhood.
        density: how many real neighbourhoods hold a synthetic image, over k.
        coverage: real images whose neighbourhood holds a synthetic image.
    """

    precision: float
    recall: float
    density: float
    coverage: float

    def to_json(self) -> dict[str, float]:
        """Return plain floats by name."""
        return asdict(self)


def coverage(*, real: ArrayLike, synthetic: ArrayLike, k: int = 5) -> Coverage:
    """Compute precision, recall (arXiv 1904.06991), density, coverage (2002.09797, eq. 5, 6).

    A neighbourhood is the open ball around an image out to its k-th nearest neighbour on its own
    side, itself not counted. Each side needs more than k images. Memory stays at a few tiles
    whatever n is.

    Args:
        real: (n_real, d).
        synthetic: (n_synthetic, d).
        k: neighbours, >= 1.

    Raises:
        ValueError: too few images for k, two widths, or NaN.
    """
    return coverage_and_duplicates(real=real, synthetic=synthetic, k=k)[0]


def coverage_and_duplicates(
    *, real: ArrayLike, synthetic: ArrayLike, k: int = 5
) -> tuple[Coverage, int]:
    """Compute `coverage`, and count the near-copies (see `copied`), in half the time.

    Raises:
        ValueError: as `coverage`.
    """
    left, right = _pair(real, synthetic)
    for what, side in (("real", left), ("synthetic", right)):
        if len(side) <= k:
            raise ValueError(
                f"{what}: {len(side)} images have no {k} neighbours, give more than {k}"
            )
    near_real, near_synthetic = _squared_nearest(left, k), _squared_nearest(right, k)
    radii_real, radii_synthetic = near_real.max(axis=1), near_synthetic.max(axis=1)
    inside = np.zeros(len(right), dtype=np.int64)
    reached = np.zeros(len(left), dtype=bool)
    covered = np.zeros(len(left), dtype=bool)
    nearest = np.full(len(right), np.inf, dtype=np.float32)
    for i in range(0, len(left), _TILE):
        block = slice(i, i + _TILE)
        for j in range(0, len(right), _TILE):
            other = slice(j, j + _TILE)
            squared = squared_distances(left[block], right[other])
            balls = squared < radii_real[block, None]
            inside[other] += balls.sum(axis=0)
            covered[block] |= balls.any(axis=1)
            reached[block] |= (squared < radii_synthetic[None, other]).any(axis=1)
            np.minimum(nearest[other], squared.min(axis=0), out=nearest[other])
    figures = Coverage(
        precision=float((inside > 0).mean()),
        recall=float(reached.mean()),
        density=float(inside.mean() / k),
        coverage=float(covered.mean()),
    )
    return figures, int(_too_near(left, near_real.min(axis=1), nearest).sum())


def relative_coverage(
    *,
    real: ArrayLike,
    synthetic: ArrayLike,
    k: int = 5,
    seed: int = 0,
    splits: int = 4,
    n_most: int = 2_000,
) -> Coverage:
    """Divide the four figures by those of real against real at the same n; 1 is real's.

    The real images are halved at random; one half is measured against the other half, and against
    as many synthetic images. Means over the splits are divided by each other.

    Args:
        real: (n_real, d) with n_real // 2 > k.
        synthetic: (n_synthetic, d) with n_synthetic > k.
        k: neighbours.
        seed: of the halving.
        splits: halvings averaged over.
        n_most: most images in a half.

    Raises:
        ValueError: too few images for k, two widths, or NaN.
    """
    left, right = _pair(real, synthetic)
    n = min(len(left) // 2, len(right), n_most)
    random = np.random.default_rng(seed)
    synthetic_sum, real_sum = np.zeros(4), np.zeros(4)
    for _ in range(splits):
        order = random.permutation(len(left))
        half, other_half = left[order[:n]], left[order[n : 2 * n]]
        chosen = right[random.permutation(len(right))[:n]]
        synthetic_sum += _four(coverage(real=half, synthetic=chosen, k=k))
        real_sum += _four(coverage(real=half, synthetic=other_half, k=k))
    # Where real does not reach real (one point repeated), 0 over 0 says nothing against the
    # synthetic side.
    ratio = np.where(real_sum > 0, synthetic_sum / np.where(real_sum > 0, real_sum, 1.0), 1.0)
    return Coverage(
        precision=float(ratio[0]),
        recall=float(ratio[1]),
        density=float(ratio[2]),
        coverage=float(ratio[3]),
    )


def vendi_score(embeddings: ArrayLike) -> float:
    """Count effectively different images, in [1, n]: exp of the cosine kernel's entropy.

    arXiv 2210.02410, definition 3.1; rows are brought to unit length first (a zero row is left out
    of the sum). The smaller of the n x n and the d x d matrix is decomposed.

    Raises:
        ValueError: NaN.
    """
    points = rows(embeddings).astype(np.float64)
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    points = points / np.where(norms > 0, norms, 1.0)
    matrix = points @ points.T if len(points) < points.shape[1] else points.T @ points
    eigenvalues = np.linalg.eigvalsh(matrix / len(points))
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-np.sum(eigenvalues * np.log(eigenvalues))))


def vendi_ratio(
    *, real: ArrayLike, synthetic: ArrayLike, seed: int = 0, n_most: int = 2_000
) -> float:
    """Divide synthetic's Vendi score by that of as many real images; under 1 is less diverse.

    The score grows with n, so both sides are thinned to one size, at most `n_most`.

    Raises:
        ValueError: two widths or NaN.
    """
    left, right = _pair(real, synthetic)
    n = min(len(left), len(right), n_most)
    random = np.random.default_rng(seed)
    return vendi_score(right[random.permutation(len(right))[:n]]) / vendi_score(
        left[random.permutation(len(left))[:n]]
    )


def copied(*, real: ArrayLike, synthetic: ArrayLike) -> NDArray[np.int64]:
    """Find the real image that each synthetic one is a near-copy of.

    A synthetic image counts when it is closer to a real image than half the distance that only 1 %
    of real images come within of another real image. Each real image is held out against the
    others, and real images that are copies of each other are left out of that quantile, or a data
    set with repeats would hide a generator's. Half of the 1 % quantile, because at a few hundred
    images a smaller quantile is the minimum, and an honest generator beats the minimum once per
    set. In one dimension 0.5 % of honest images count; in five, 0.03 %.

    Returns:
        (n_synthetic,) numbers of real images; -1 of an image that is no copy.

    Raises:
        ValueError: two widths or NaN.
    """
    left, right = _pair(real, synthetic)
    found = np.full(len(right), -1, dtype=np.int64)
    if len(left) < 2:
        return found
    nearest = np.full(len(right), np.inf, dtype=np.float32)
    for j in range(0, len(right), _TILE):
        block = slice(j, j + _TILE)
        for i in range(0, len(left), _TILE):
            squared = squared_distances(right[block], left[i : i + _TILE])
            nearer = squared.min(axis=1) < nearest[block]
            found[block] = np.where(nearer, i + squared.argmin(axis=1), found[block])
            np.minimum(nearest[block], squared.min(axis=1), out=nearest[block])
    return np.where(_too_near(left, _squared_nearest(left, 1)[:, 0], nearest), found, -1)


def _too_near(
    real: NDArray[np.float32], held_out: NDArray[np.float32], nearest: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Find what is too near, by the squared distances of real and of synthetic to real."""
    apart = np.sqrt(held_out)
    rounding = 1e-3 * float(np.sqrt(np.einsum("ij,ij->i", real, real).max()))
    apart = apart[apart > rounding]
    limit = max(0.5 * float(np.quantile(apart, 0.01)), rounding) if len(apart) else rounding
    return np.asarray(np.sqrt(nearest) <= limit)


def _pair(
    real: ArrayLike, synthetic: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    left, right = pair(real, synthetic)
    centre = left.mean(axis=0, dtype=np.float64).astype(np.float32)
    return left - centre, right - centre


def _squared_nearest(points: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Find squared distances (n, k) of each row to its k nearest other rows, in no order."""
    out = np.empty((len(points), k), dtype=np.float32)
    for i in range(0, len(points), _TILE):
        block = points[i : i + _TILE]
        best: NDArray[np.float32] | None = None
        for j in range(0, len(points), _TILE):
            squared = squared_distances(block, points[j : j + _TILE])
            if i == j:
                np.fill_diagonal(squared, np.inf)
            if best is not None:
                squared = np.concatenate([best, squared], axis=1)
            keep = min(k, squared.shape[1])
            best = np.partition(squared, keep - 1, axis=1)[:, :keep]
        assert best is not None
        out[i : i + len(block)] = best
    return out


def _four(figures: Coverage) -> NDArray[np.float64]:
    return np.array([figures.precision, figures.recall, figures.density, figures.coverage])
