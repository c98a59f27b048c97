"""The map: groups stay groups, the same rows give the same map, tiny inputs are laid out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis.projection import fit_umap


def groups(n: int, *, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    centres = np.repeat(np.eye(8)[:2], n, axis=0)
    return (centres + 0.05 * random.normal(size=centres.shape)).astype(np.float32)


@pytest.mark.slow
def test_two_groups_stay_apart_and_the_map_repeats() -> None:
    points = groups(60)
    layout = fit_umap(points, seed=3)
    assert layout.shape == (120, 2)
    assert layout.dtype == np.float32
    first, second = layout[:60], layout[60:]
    between = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    within = max(
        np.linalg.norm(side - side.mean(axis=0), axis=1).mean() for side in (first, second)
    )
    assert between > 2 * within
    np.testing.assert_array_equal(fit_umap(points, seed=3), layout)
    np.testing.assert_array_equal(points, groups(60))


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 6, 14, 31])
def test_small_sets_are_mapped(n: int) -> None:
    layout = fit_umap(groups(n)[:n])
    assert layout.shape == (n, 2)
    assert np.isfinite(layout).all()


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_fewer_than_five_lie_on_their_principal_axes(n: int) -> None:
    points = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    layout = fit_umap(points)
    assert layout.shape == (n, 2)
    if n <= 3:  # three points span a plane, so their distances survive
        for i in range(n):
            for j in range(n):
                expected = np.linalg.norm(points[i] - points[j])
                assert np.linalg.norm(layout[i] - layout[j]) == pytest.approx(expected, rel=1e-4)


def test_one_column_and_identical_rows() -> None:
    assert fit_umap(np.arange(4.0)[:, None]).shape == (4, 2)
    np.testing.assert_array_equal(fit_umap(np.ones((30, 4))), np.zeros((30, 2)))


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="row 0 holds NaN"):
        fit_umap(np.full((10, 3), np.nan))
