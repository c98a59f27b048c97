"""Distances against the reference code and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from gapclose.analysis import distances
from gapclose.analysis.distances import cmmd, frechet_distance, kid, reference_distances

Rows = NDArray[np.float32]


def normal(n: int, width: int = 16, *, seed: int, shift: float = 0.0) -> Rows:
    points = np.random.default_rng(seed).normal(size=(n, width)) + shift
    return points.astype(np.float32)


@pytest.mark.parametrize(("width", "shift"), [(16, 0.3), (64, 0.02), (300, 0.0)])
def test_kid_is_torch_fidelitys(width: int, shift: float) -> None:
    real, synthetic = normal(400, width, seed=1), 0.9 * normal(400, width, seed=2, shift=shift)
    expected = kid_features_to_metric(
        torch.from_numpy(real.astype(np.float64)),
        torch.from_numpy(synthetic.astype(np.float64)),
        kid_subsets=1,
        kid_subset_size=400,
        verbose=False,
    )["kernel_inception_distance_mean"]
    assert kid(real=real, synthetic=synthetic) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("n_synthetic", "shift"), [(500, 0.3), (200, 0.0)])
def test_frechet_distance_is_torch_fidelitys(n_synthetic: int, shift: float) -> None:
    real, synthetic = normal(500, 64, seed=1), 0.9 * normal(n_synthetic, 64, seed=2, shift=shift)
    stats = [
        fid_features_to_statistics(torch.from_numpy(side.astype(np.float64)))
        for side in (real, synthetic)
    ]
    expected = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    ours = frechet_distance(real=real, synthetic=synthetic)
    assert ours == pytest.approx(expected, rel=1e-4)


def test_frechet_distance_of_gaussians_in_closed_form() -> None:
    # Diagonal covariances: |m|^2 + sum (s1 - s2)^2.
    scales = np.array([1.0, 2.0, 0.5])
    real = normal(200_000, 3, seed=1)
    synthetic = normal(200_000, 3, seed=2) * scales.astype(np.float32) + np.float32(0.5)
    expected = 3 * 0.25 + float(((1 - scales) ** 2).sum())
    ours = frechet_distance(real=real, synthetic=synthetic)
    assert ours == pytest.approx(expected, rel=0.02)


def test_frechet_distance_of_fewer_images_than_directions_is_finite() -> None:
    same = normal(10, 40, seed=1)
    assert frechet_distance(real=same, synthetic=same) == pytest.approx(0.0, abs=1e-4)
    assert frechet_distance(real=same, synthetic=normal(12, 40, seed=2)) > 1


def test_cmmd_is_its_formula() -> None:
    real, synthetic = (normal(n, 8, seed=n).astype(np.float64) for n in (30, 20))
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    synthetic /= np.linalg.norm(synthetic, axis=1, keepdims=True)

    def mean(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        squared = ((a[:, None] - b[None]) ** 2).sum(axis=-1)
        return float(np.exp(-squared / 200).mean())

    expected = 1000 * (mean(real, real) + mean(synthetic, synthetic) - 2 * mean(real, synthetic))
    assert cmmd(real=real, synthetic=synthetic) == pytest.approx(expected, rel=1e-4)


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, synthetic = normal(70, seed=1), normal(50, seed=2, shift=0.2)
    whole = reference_distances(real=real, synthetic=synthetic)
    assert list(whole) == ["kid", "fid", "cmmd"]
    monkeypatch.setattr(distances, "_TILE", 7)
    assert reference_distances(real=real, synthetic=synthetic) == pytest.approx(whole, rel=1e-4)


def test_bad_input_says_what() -> None:
    with pytest.raises(ValueError, match="real: needs at least 2 images"):
        kid(real=normal(1, seed=0), synthetic=normal(5, seed=0))
    with pytest.raises(ValueError, match="width 16, synthetic 4"):
        frechet_distance(real=normal(5, seed=0), synthetic=normal(5, 4, seed=0))
