"""Gap: how far a class's synthetic images are from its real ones, and how sure we are.

Audits, tuning and confirmation call it with embeddings; it never sees an image and never loads a
model. The gap is compared with the floor (real against real) to look at; `two_sample` decides. It
refuses to score a class with fewer than 20 images on a side, and it never says "closed" from fewer
than 100.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.class_gap import ClassGap, with_q
from gapclose.analysis.coverage import (
    coverage_and_duplicates,
    relative_coverage,
    vendi_ratio,
)
from gapclose.analysis.distances import reference_distances
from gapclose.analysis.errors import TooFewError
from gapclose.analysis.floor import Floor
from gapclose.analysis.kernel import Kernel, pair
from gapclose.analysis.probe import linear_auc
from gapclose.analysis.two_sample import permutation_p_value

__all__ = ["MIN_IMAGES", "audit_embeddings", "mmd2"]

MIN_IMAGES = 20
_ONE_POINT = 1e-6  # of 1 - the mean kernel: rounding alone reaches 1e-7


def mmd2(*, real: ArrayLike, synthetic: ArrayLike, kernel: Kernel) -> float:
    """Compute the unbiased MMD^2 (JMLR 13:723, eq. 3): 0 in expectation for equal sides.

    Args:
        real: (n_real, d), n_real >= 2.
        synthetic: (n_synthetic, d), n_synthetic >= 2.
        kernel: frozen from real images.

    Raises:
        ValueError: fewer than two images on a side, two widths, or NaN.
    """
    left, right = pair(real, synthetic, least=2)
    return (
        kernel.mean_distinct(left) + kernel.mean_distinct(right) - 2.0 * kernel.mean(left, right)
    )


def audit_embeddings(
    *,
    real: ArrayLike,
    synthetic: ArrayLike,
    name: str = "all",
    kernel: Kernel | None = None,
    seed: int = 0,
    permutations: int = 999,
    n_test: int = 2_000,
    guards: bool = True,
    splits: int = 1_000,
    label_agreement: float | None = None,
    invalid: int = 0,
) -> ClassGap:
    """Measure one class's gap, test it, and guard it by what else can be wrong.

    At most `n_test` images a side, chosen by `seed`, enter the gap, its floor and its test, and
    all of them the guards. `q_value` is that of the class alone; `with_q` sets it for several.

    Args:
        real: (n_real, d).
        synthetic: (n_synthetic, d); other seeds than any image that a setting was chosen by.
        name: the class.
        kernel: frozen; None fits it on `real`.
        seed: of thinning, splits, permutations and folds.
        permutations: `permutations_for(n_classes)` in a run.
        n_test: most images a side in tests.
        guards: also probe, coverage, diversity and duplicates.
        splits: half-splits of the floor.
        label_agreement: share of the synthetic images that a classifier takes for the class, if
            one was asked.
        invalid: images the generator returned unusable, passed through.

    Raises:
        TooFewError: fewer than 20 images on a side.
        ValueError: two widths, or NaN.
    """
    _check_enough(real, synthetic, name)
    left, right = pair(real, synthetic, least=MIN_IMAGES)
    random = np.random.default_rng(seed)
    tested_real, tested_synthetic = _thin(left, n_test, random), _thin(right, n_test, random)
    row = replace(
        _tested(
            real=tested_real,
            synthetic=tested_synthetic,
            name=name,
            kernel=Kernel.fit(left) if kernel is None else kernel,
            seed=seed,
            permutations=permutations,
            splits=splits,
        ),
        n_real=len(left),
        n_synthetic=len(right),
        label_agreement=label_agreement,
        invalid=invalid,
    )
    if guards:
        auc = linear_auc(real=tested_real, synthetic=tested_synthetic, seed=seed)
        row = _guarded(replace(row, auc=auc), real=left, synthetic=right, seed=seed)
    return with_q([row])[0]


def _tested(
    *,
    real: NDArray[np.float32],
    synthetic: NDArray[np.float32],
    name: str,
    kernel: Kernel,
    seed: int,
    permutations: int,
    splits: int,
) -> ClassGap:
    """Measure the gap, its floor and its test, all from one Gram matrix."""
    n_real, n_synthetic = len(real), len(synthetic)
    gram = kernel.gram(np.concatenate([real, synthetic]))
    within = gram[:n_real, :n_real]
    mean_real = (within.sum() - n_real) / (n_real * (n_real - 1))
    mean_synthetic = (gram[n_real:, n_real:].sum() - n_synthetic) / (
        n_synthetic * (n_synthetic - 1)
    )
    gap = float(mean_real + mean_synthetic - 2.0 * gram[:n_real, n_real:].mean())
    floor = Floor.of_gram(within, splits=splits, seed=seed)
    spread = float(1.0 - mean_real)
    return ClassGap(
        name=name,
        n_real=n_real,
        n_synthetic=n_synthetic,
        gap=gap,
        floor_p95=floor.floor_p95(n_real=n_real, n_synthetic=n_synthetic),
        ratio=floor.ratio(gap, n_real=n_real, n_synthetic=n_synthetic),
        effect=gap / spread if spread > _ONE_POINT else None,
        detectable=floor.detectable(n_real=n_real, n_synthetic=n_synthetic),
        p_value=permutation_p_value(
            real=real, synthetic=synthetic, permutations=permutations, seed=seed
        ),
        standard_error=_standard_error(gram, n_real),
    )


def _guarded(
    row: ClassGap, *, real: NDArray[np.float32], synthetic: NDArray[np.float32], seed: int
) -> ClassGap:
    """Add coverage, diversity, duplicates and reference distances, over all images."""
    figures, copies = coverage_and_duplicates(real=real, synthetic=synthetic)
    return replace(
        row,
        precision=figures.precision,
        recall=figures.recall,
        density=figures.density,
        coverage=figures.coverage,
        vendi_ratio=vendi_ratio(real=real, synthetic=synthetic, seed=seed),
        duplicates=copies,
        guards=relative_coverage(real=real, synthetic=synthetic, seed=seed).to_json(),
        reference=reference_distances(real=real, synthetic=synthetic),
    )


def _standard_error(gram: NDArray[np.float64], n_real: int) -> float:
    """Estimate that of the unbiased MMD^2 by each side's jackknife (Efron & Stein 1981).

    It errs to the safe side: where there is no gap, it is up to twice the variance.

    Args:
        gram: (n_real + n_synthetic, same) of both sides, ones on the diagonal.
        n_real: how many rows are real.
    """
    variance = 0.0
    for own, other in ((slice(None, n_real), slice(n_real, None)),
                       (slice(n_real, None), slice(None, n_real))):  # fmt: skip
        n, m = len(gram[own, own]), len(gram[other, other])
        within, across = gram[own, own].sum(axis=1) - 1.0, gram[own, other].sum(axis=1)
        without = (within.sum() - 2.0 * within) / ((n - 1) * (n - 2))
        without -= 2.0 * (across.sum() - across) / ((n - 1) * m)
        variance += float((n - 1) * without.var())
    return math.sqrt(variance)


def _thin(
    points: NDArray[np.float32], n_most: int, random: np.random.Generator
) -> NDArray[np.float32]:
    if len(points) <= n_most:
        return points
    return points[np.sort(random.choice(len(points), n_most, replace=False))]


def _check_enough(real: ArrayLike, synthetic: ArrayLike, name: str) -> None:
    for what, side in (("real", real), ("synthetic", synthetic)):
        n = len(np.asarray(side))
        if n < MIN_IMAGES:
            raise TooFewError(name, what, n, MIN_IMAGES)
