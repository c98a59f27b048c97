"""The floor: what the gap's estimator says of real images against real images.

A gap is reported in floors, for reading; `two_sample` decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.kernel import Kernel, hollow, quadratic

__all__ = ["Floor", "floor_p95"]

_Z_POWER_80 = 0.8416212335729143
_SPLIT_CHUNK = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """Gaps of real against real, kept so that each trial's ratio costs one division.

    Attributes:
        half: images in each half of a split.
        p95: 95th percentile of the gap of two halves.
        sd: standard deviation of the gap of two halves.
        widest: largest eigenvalue of the covariance in the kernel's space.
    """

    half: int
    p95: float
    sd: float
    widest: float

    @classmethod
    def fit(cls, real: ArrayLike, *, kernel: Kernel, splits: int = 200, seed: int = 0) -> Floor:
        """Split real images into random halves of h = n // 2, `splits` times, on one Gram matrix.

        Args:
            real: (n, d), n >= 4; at most a few thousand.
            kernel: frozen.
            splits: >= 200 for a percentile worth the name.
            seed: of the splits.

        Raises:
            ValueError: n < 4, or NaN.
        """
        return cls.of_gram(kernel.gram(real), splits=splits, seed=seed)

    @classmethod
    def of_gram(cls, gram: NDArray[np.float64], *, splits: int = 200, seed: int = 0) -> Floor:
        """Do as `fit`, from the Gram matrix (n, n) of real images, which is not changed.

        Raises:
            ValueError: n < 4.
        """
        n = len(gram)
        half = n // 2
        if half < 2:
            raise ValueError(f"real: a floor needs at least 4 images, there are {n}")
        centred, row_sums, total = hollow(gram)
        random = np.random.default_rng(seed)
        gaps = np.empty(splits, dtype=np.float64)
        for start in range(0, splits, _SPLIT_CHUNK):
            columns = min(_SPLIT_CHUNK, splits - start)
            order = np.argsort(random.random((n, columns), dtype=np.float32), axis=0)
            signs = np.zeros((n, columns), dtype=np.float32)
            np.put_along_axis(signs, order[:half], 1.0, axis=0)
            np.put_along_axis(signs, order[half : 2 * half], -1.0, axis=0)
            # With s = +1, -1 for the halves: s'Ks = aa + bb - 2 ab, and over the 2h images used aa
            # + bb + 2 ab = T.
            difference = quadratic(centred, signs)
            used = np.full(columns, total)
            if n % 2:
                used -= 2.0 * row_sums[order[-1]]
            within, cross = (used + difference) / 2.0, (used - difference) / 4.0
            gaps[start : start + columns] = within / (half * (half - 1)) - 2.0 * cross / half**2
        return cls(
            half=half,
            p95=float(np.quantile(gaps, 0.95)),
            sd=float(gaps.std()),
            widest=_largest_eigenvalue(gram, random),
        )

    def floor_p95(self, *, n_real: int, n_synthetic: int) -> float:
        """Rescale the floor to these sizes: p95 times (1/n_real + 1/n_synthetic) / (2/h)."""
        return self.p95 * self._scale(n_real, n_synthetic)

    def ratio(self, gap: float, *, n_real: int, n_synthetic: int) -> float | None:
        """Divide a gap by the floor; None where the floor is not above 0 (real is one point)."""
        floor = self.floor_p95(n_real=n_real, n_synthetic=n_synthetic)
        return gap / floor if floor > 0 else None

    def detectable(self, *, n_real: int, n_synthetic: int) -> float:
        """Find the gap that a test at level 0.05 sees with 80 % power, d = floor + 0.84 sd(d).

        `two_sample` has more than this one statistic to go by and mostly sees less.

        The estimate is taken as normal about its gap. Its variance is what it has without a gap
        plus 4 d v (1/n_real + 1/n_synthetic), v being the largest eigenvalue of the real images'
        covariance in the kernel's space: the case of a mean that moves along the direction in
        which real images vary most. A gap spread over other directions is seen a little sooner.
        """
        scale = self._scale(n_real, n_synthetic)
        floor, spread = self.p95 * scale, _Z_POWER_80 * self.sd * scale
        slope = _Z_POWER_80**2 * 4.0 * self.widest * (1.0 / n_real + 1.0 / n_synthetic)
        middle = floor + slope / 2.0
        return middle + math.sqrt(max(middle**2 - floor**2 + spread**2, 0.0))

    def _scale(self, n_real: int, n_synthetic: int) -> float:
        return (1.0 / n_real + 1.0 / n_synthetic) * self.half / 2.0


def floor_p95(
    real: ArrayLike, *, n_synthetic: int, kernel: Kernel, splits: int = 200, seed: int = 0
) -> float:
    """Estimate the floor: 95th percentile over half-splits of real, rescaled to both sizes.

    Raises:
        ValueError: fewer than 4 real images, or NaN.
    """
    n_real = len(np.asarray(real))
    fitted = Floor.fit(real, kernel=kernel, splits=splits, seed=seed)
    return fitted.floor_p95(n_real=n_real, n_synthetic=n_synthetic)


def _largest_eigenvalue(gram: NDArray[np.float64], random: np.random.Generator) -> float:
    """Find that of the centred Gram matrix over n by 30 power iterations, good to a percent."""
    n = len(gram)
    vector = random.normal(size=n)
    value = 0.0
    for _ in range(30):
        vector -= vector.mean()
        length = float(np.linalg.norm(vector))
        if length < 1e-12:
            return 0.0
        vector /= length
        product = gram @ vector
        value = float(vector @ product)
        vector = product
    return max(value / n, 0.0)
