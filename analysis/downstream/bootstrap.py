"""The bootstrap of what classifiers told right: test images, draws and training seeds as factors.

worth.py calls it. Each factor is resampled on its own and a prediction weighs the product of its
levels' weights (the pigeonhole bootstrap: Owen 2007, Annals of Applied Statistics 1(2); products
of weights: Owen and Eckles 2012, arXiv 1106.2125), which is mildly conservative. It knows no arm's
role and computes no interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["resampled_recalls"]

_IMAGES, _SEEDS, _DRAWS = range(3)  # streams of random numbers
_CHUNK: Final = 2**22  # counts at once: 16 MB
_DIGITS: Final = 12  # weights sum to 1 up to rounding, and equal recalls must differ by exactly 0

Recalls = NDArray[np.float64]


def resampled_recalls(
    right: Mapping[str, NDArray[np.bool_]],
    truth: NDArray[np.integer],
    *,
    classes: int,
    resamples: int,
    seed: int = 0,
) -> dict[str, Recalls]:
    """Resample every class's recall, averaged over draws and training seeds.

    Test images are drawn with replacement within each class, the same for all arms: differences
    are paired. Training seeds weigh the same in all arms that have as many of them; draws, which
    are other images in every arm, are weighed on their own. An arm's resamples do not depend on
    which other arms there are.

    There are two or three draws and seeds, and drawing those with replacement would lose half or
    a third of their variance. Their weights are Gaussian instead, so that the variance of the
    mean is that of the levels, unbiased, from two levels up; one level alone has none. Weights may
    be negative, and a recall may lie a little outside [0, 1].

    Args:
        right: Arm -> (draws, seeds, m), whether an image was told right.
        truth: (m,), 0 to classes - 1, of every class at least one image.
        classes: Their number.
        resamples: How many.
        seed: Of the weights.

    Returns:
        Arm -> (resamples, classes).
    """
    by_run = {arm: np.empty((resamples, classes, *runs.shape[:2])) for arm, runs in right.items()}
    random = np.random.default_rng([seed, _IMAGES])
    for cls in range(classes):
        of_class = np.flatnonzero(truth == cls)
        told = {
            arm: np.moveaxis(runs[:, :, of_class], 2, 0).astype(np.float32)
            for arm, runs in right.items()
        }
        rows = max(1, _CHUNK // len(of_class))
        for start in range(0, resamples, rows):
            part = slice(start, min(start + rows, resamples))
            counts = _image_counts(random, part.stop - part.start, len(of_class))
            for arm, runs in told.items():
                by_run[arm][part, cls] = np.tensordot(counts, runs, axes=1)
        for recalls in by_run.values():
            recalls[:, cls] /= len(of_class)
    found = {}
    for arm, recalls in by_run.items():
        n_draws, n_seeds = recalls.shape[2:]
        draws = _level_weights([seed, _DRAWS, *arm.encode()], resamples, n_draws)
        seeds = _level_weights([seed, _SEEDS, n_seeds], resamples, n_seeds)
        found[arm] = np.einsum("bcds,bd,bs->bc", recalls, draws, seeds, optimize=True)
        found[arm] = found[arm].round(_DIGITS)
    return found


def _image_counts(random: np.random.Generator, resamples: int, n: int) -> NDArray[np.float32]:
    """Draw n of n images with replacement: (resamples, n), rows sum to n."""
    drawn = random.integers(0, n, (resamples, n))
    drawn += n * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * n)
    return counts.reshape(resamples, n).astype(np.float32)  # whose sums are exact


def _level_weights(seed: list[int], resamples: int, n: int) -> NDArray[np.float64]:
    """Weigh n levels: (resamples, n), rows sum to 1; a weighted mean varies by s^2 / n."""
    if n == 1:
        return np.ones((resamples, 1))
    noise = np.random.default_rng(seed).standard_normal((resamples, n))
    noise -= noise.mean(axis=1, keepdims=True)
    weights: NDArray[np.float64] = 1 / n + noise / np.sqrt(n * (n - 1))
    return weights
