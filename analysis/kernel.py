"""Kernel: how alike two images' embeddings are, as a number in (0, 1].

The gap, the floor and the mixture's weights all measure with it. Its
bandwidths are fitted once on real embeddings and then frozen, so that no generator can change the
ruler it is measured by. It refuses NaN and embeddings of two widths, and it never holds more than
a few tiles of a large matrix unless the matrix is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Kernel", "hollow", "pair", "quadratic", "rows", "squared_distances"]

MULTIPLES = (0.25, 0.5, 1.0, 2.0)
_FIT_ROWS = 2_000
_TILE_ROWS = 2_048
_TILE_COLUMNS = 4_096


def rows(values: ArrayLike, what: str = "embeddings") -> NDArray[np.float32]:
    """Check that embeddings are a finite (n, d) array, n >= 1, and return it in float32.

    Raises:
        ValueError: not two-dimensional, empty, or holding NaN or infinity; the message names
            `what` and the row.
    """
    array = np.ascontiguousarray(values, dtype=np.float32)
    if array.ndim != 2:
        raise ValueError(
            f"{what}: expected one row per image, (n, d), but the shape is {array.shape}"
        )
    if array.size == 0:
        raise ValueError(f"{what}: no embeddings, the shape is {array.shape}")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(
            f"{what}: row {bad[0]} holds NaN or infinity ({len(bad)} of {len(array)} rows do); "
            "leave those images out or embed them again"
        )
    return array


def squared_distances(
    a: NDArray[np.float32], b: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Compute squared distances (n_a, n_b) between rows; without `b`, of `a` to itself.

    One float32 matrix product. Rows should be near the origin (unit rows are): the rounding error
    is about 1e-7 of the larger squared norm. The diagonal of `a` to itself is exactly 0.
    """
    other = a if b is None else b
    norms_a = np.einsum("ij,ij->i", a, a)
    norms_b = norms_a if b is None else np.einsum("ij,ij->i", other, other)
    out: NDArray[np.float32] = a @ other.T
    out *= -2.0
    out += norms_a[:, None]
    out += norms_b[None, :]
    np.maximum(out, 0.0, out=out)
    if b is None:
        np.fill_diagonal(out, 0.0)
    return out


def pair(
    real: ArrayLike, synthetic: ArrayLike, *, least: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Check that both sides are finite, of one width, each with `least` rows or more.

    Raises:
        ValueError: too few images on a side, two widths, or NaN.
    """
    left, right = rows(real, "real"), rows(synthetic, "synthetic")
    if left.shape[1] != right.shape[1]:
        raise ValueError(
            f"real embeddings have width {left.shape[1]}, synthetic {right.shape[1]}; "
            "embed both sides with one embedder"
        )
    for what, side in (("real", left), ("synthetic", right)):
        if len(side) < least:
            raise ValueError(f"{what}: needs at least {least} images, there are {len(side)}")
    return left, right


def hollow(
    gram: NDArray[np.floating],
) -> tuple[NDArray[np.float32], NDArray[np.float64], float]:
    """Empty a matrix's diagonal and take its mean out; return it, its row sums, their sum.

    A constant off the diagonal cancels in every unbiased MMD^2; without it float32 keeps more
    digits of the rest.
    """
    n = len(gram)
    whole = float(gram.sum(dtype=np.float64)) - float(np.trace(gram))
    centred = (gram - gram.dtype.type(whole / (n * (n - 1)))).astype(np.float32)
    np.fill_diagonal(centred, 0.0)
    row_sums = centred.sum(axis=1, dtype=np.float64)
    return centred, row_sums, float(row_sums.sum())


def quadratic(matrix: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute v'Mv for each column v: the product in float32, the sums in float64."""
    product = matrix @ columns
    product *= columns
    sums: NDArray[np.float64] = product.sum(axis=0, dtype=np.float64)
    return sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Mean of Gaussian kernels exp(-d^2 / (2 s^2)), one per bandwidth s; so k(x, x) = 1.

    Every Gaussian comes from the one squared-distance matrix: for a test that compares bandwidths
    apart, call `squared_distances` once and `Kernel(bandwidths=(s,)).of_squared(d2)` per
    bandwidth.

    Attributes:
        bandwidths: s > 0, in units of embedding distance.
    """

    bandwidths: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse bandwidths that would divide by zero or make NaN.

        Raises:
            ValueError: none, or one that is not a positive finite number.
        """
        if not self.bandwidths or not all(np.isfinite(s) and s > 0 for s in self.bandwidths):
            raise ValueError(f"bandwidths must be positive numbers, not {self.bandwidths}")

    @classmethod
    def fit(cls, real: ArrayLike) -> Kernel:
        """Set bandwidths to 1/4, 1/2, 1 and 2 times the median distance of two real images.

        The small ones see fine structure and copies, the large ones shifts of the whole class.
        More than 2,000 images are thinned to 2,000 by a fixed seed. Where most images are copies
        of each other (median 0), the mean of the distances that are not 0 stands in; where all are
        one point, 1.0, the scale of unit rows.

        Args:
            real: (n, d) with n >= 2.

        Raises:
            ValueError: fewer than two rows, or NaN.
        """
        points = rows(real, "real")
        if len(points) < 2:
            raise ValueError("real: a kernel needs at least 2 images, there is 1")
        if len(points) > _FIT_ROWS:
            chosen = np.random.default_rng(0).choice(len(points), _FIT_ROWS, replace=False)
            points = points[np.sort(chosen)]
        points = points - _centre(points)
        distances = np.sqrt(squared_distances(points)[np.triu_indices(len(points), 1)])
        # Copies differ by rounding alone: about sqrt(1e-7) of the largest norm.
        noise = 1e-3 * float(np.sqrt(np.einsum("ij,ij->i", points, points).max()))
        scale = float(np.median(distances))
        if scale <= noise:
            apart = distances[distances > noise]
            scale = float(apart.mean(dtype=np.float64)) if len(apart) else 1.0
        return cls(bandwidths=tuple(multiple * scale for multiple in MULTIPLES))

    def of_squared(self, squared: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the kernel's values at squared distances, same shape."""
        out = np.zeros_like(squared)
        term = np.empty_like(squared)
        for bandwidth in self.bandwidths:
            np.multiply(squared, np.float32(-0.5 / bandwidth**2), out=term)
            np.exp(term, out=term)
            out += term
        out /= np.float32(len(self.bandwidths))
        return out

    def gram(self, a: ArrayLike, b: ArrayLike | None = None) -> NDArray[np.float64]:
        """Compute the matrix (n_a, n_b); without `b`, of `a` with itself, its diagonal ones.

        Computed in float32 tiles (values agree with float64 to about 1e-6), returned as float64.
        """
        left, right = self._pair(a, b)
        out = np.empty((len(left), len(left if right is None else right)), dtype=np.float64)
        for i, j, tile in self._tiles(left, right):
            out[i : i + tile.shape[0], j : j + tile.shape[1]] = tile
        return out

    def mean_rows(self, a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
        """Average k(a_i, b_j) over j: (n_a,). Memory does not grow with n_a x n_b."""
        left, right = self._pair(a, b)
        sums = np.zeros(len(left), dtype=np.float64)
        for i, _, tile in self._tiles(left, right):
            sums[i : i + tile.shape[0]] += tile.sum(axis=1, dtype=np.float64)
        return sums / len(left if right is None else right)

    def mean(self, a: ArrayLike, b: ArrayLike) -> float:
        """Average k(a_i, b_j) over all pairs. Memory does not grow with n_a x n_b."""
        return float(self.mean_rows(a, b).mean())

    def mean_distinct(self, a: ArrayLike) -> float:
        """Average k(a_i, a_j) over i != j: unbiased for two independent images. Needs n >= 2.

        Raises:
            ValueError: fewer than two rows, or NaN.
        """
        left, _ = self._pair(a, None)
        n = len(left)
        if n < 2:
            raise ValueError("the mean over distinct pairs needs at least 2 images, there is 1")
        total = sum(float(tile.sum(dtype=np.float64)) for _, _, tile in self._tiles(left, None))
        return (total - n) / (n * (n - 1))

    @staticmethod
    def _pair(
        a: ArrayLike, b: ArrayLike | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        left = rows(a, "first side")
        # Distances do not move with the origin, their rounding error does.
        centre = _centre(left)
        if b is None or b is a:
            return left - centre, None
        right = rows(b, "second side")
        if left.shape[1] != right.shape[1]:
            raise ValueError(
                f"embeddings of width {left.shape[1]} and {right.shape[1]} cannot be compared; "
                "embed both sides with one embedder"
            )
        return left - centre, right - centre

    def _tiles(
        self, left: NDArray[np.float32], right: NDArray[np.float32] | None
    ) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        other = left if right is None else right
        for i in range(0, len(left), _TILE_ROWS):
            block = left[i : i + _TILE_ROWS]
            for j in range(0, len(other), _TILE_COLUMNS):
                squared = squared_distances(block, other[j : j + _TILE_COLUMNS])
                if right is None:
                    low, high = max(i, j), min(i + squared.shape[0], j + squared.shape[1])
                    same = np.arange(low, high)
                    squared[same - i, same - j] = 0.0
                yield i, j, self.of_squared(squared)


def _centre(points: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float64] = points.mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32)
