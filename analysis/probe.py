"""The probe: how well a linear classifier tells synthetic from real in one embedding."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.kernel import pair

__all__ = ["linear_auc"]


def linear_auc(*, real: ArrayLike, synthetic: ArrayLike, folds: int = 5, seed: int = 0) -> float:
    """Average a ridge probe's area under the ROC curve for synthetic over held-out folds.

    0.5 is what equal distributions give in expectation; each fold is ranked apart, because ranking
    across folds is biased below 0.5. The ridge is a tenth of the mean squared coordinate, which
    keeps n near d from interpolating.

    Args:
        real: (n_real, d), n_real >= folds.
        synthetic: (n_synthetic, d), n_synthetic >= folds.
        folds: >= 2.
        seed: of the folds.

    Raises:
        ValueError: fewer images than folds on a side, two widths, or NaN.
    """
    left, right = pair(real, synthetic, least=folds)
    points = np.concatenate([left, right]).astype(np.float64)
    is_synthetic = np.repeat([False, True], [len(left), len(right)])
    random = np.random.default_rng(seed)
    fold = np.concatenate(
        [random.permutation(np.arange(len(side)) % folds) for side in (left, right)]
    )
    areas = []
    for held_out in range(folds):
        train, test = fold != held_out, fold == held_out
        scores = points[test] @ _ridge_direction(points[train], is_synthetic[train])
        areas.append(_auc(real=scores[~is_synthetic[test]], synthetic=scores[is_synthetic[test]]))
    return float(np.mean(areas))


def _ridge_direction(
    points: NDArray[np.float64], is_synthetic: NDArray[np.bool_]
) -> NDArray[np.float64]:
    centred = points - points.mean(axis=0)
    n, width = centred.shape
    target = is_synthetic - is_synthetic.mean()
    ridge = max(0.1 * float((centred**2).sum()) / width, 1e-12)
    direction: NDArray[np.float64]
    if n < width:
        dual = np.linalg.solve(centred @ centred.T + ridge * np.eye(n), target)
        direction = centred.T @ dual
    else:
        direction = np.linalg.solve(
            centred.T @ centred + ridge * np.eye(width), centred.T @ target
        )
    return direction


def _auc(*, real: NDArray[np.float64], synthetic: NDArray[np.float64]) -> float:
    ordered = np.sort(real)
    below = np.searchsorted(ordered, synthetic, side="left")
    up_to = np.searchsorted(ordered, synthetic, side="right")
    return float((below + up_to).mean() / (2 * len(real)))
