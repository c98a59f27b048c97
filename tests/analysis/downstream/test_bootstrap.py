"""Resampled recalls: the variance of each factor is right, also with few levels of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis.downstream.bootstrap import resampled_recalls


def resampled(right: NDArray[np.bool_], truth: NDArray[np.int64], seed: int = 0) -> NDArray:
    classes = int(truth.max()) + 1
    found = resampled_recalls({"a": right}, truth, classes=classes, resamples=4000, seed=seed)
    return found["a"]


def levels(shares: list[float], *, axis: int, m: int = 100) -> NDArray[np.bool_]:
    """Runs (draws, seeds, m) along one factor, each with so many images told right."""
    rows = np.stack([np.arange(m) < round(share * m) for share in shares])
    return np.expand_dims(rows, 1 - axis)


def test_test_images_vary_as_a_share_of_so_many_does() -> None:
    right = (np.arange(400) < 120)[None, None]
    found = resampled(right, np.zeros(400, int))
    assert found.shape == (4000, 1)
    assert found.mean() == pytest.approx(0.3, abs=0.002)
    assert found.std() == pytest.approx(np.sqrt(0.3 * 0.7 / 400), rel=0.05)


def test_images_are_resampled_within_their_class() -> None:
    truth = np.array([0] * 10 + [1] * 90)
    found = resampled((truth == 0)[None, None], truth)
    np.testing.assert_array_equal(found[:, 0], 1.0)  # never without an image of it
    np.testing.assert_array_equal(found[:, 1], 0.0)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shares", [[0.0, 1.0], [0.0, 1.0, 1.0]])
def test_levels_vary_as_their_mean_does_unbiased(shares: list[float], axis: int) -> None:
    # Every image of a run is told alike, so that only the factor's levels vary.
    found = resampled(levels(shares, axis=axis), np.zeros(100, int))
    assert found.mean() == pytest.approx(np.mean(shares), abs=0.03)
    assert found.std() == pytest.approx(np.std(shares, ddof=1) / np.sqrt(len(shares)), rel=0.05)


def test_one_level_alone_varies_not() -> None:
    np.testing.assert_array_equal(resampled(np.ones((1, 1, 5), bool), np.zeros(5, int)), 1.0)


def test_images_and_seeds_are_shared_by_arms_and_draws_are_not() -> None:
    truth = np.zeros(200, int)
    images = (np.arange(200) < 80)[None, None]
    seeds, draws = levels([0.0, 1.0, 1.0], axis=1, m=200), levels([0.0, 1.0, 1.0], axis=0, m=200)
    arms = {
        f"{name} {k}": right
        for name, right in {"images": images, "seeds": seeds, "draws": draws}.items()
        for k in (1, 2)
    }
    found = resampled_recalls(arms, truth, classes=1, resamples=4000)
    for name in ("images", "seeds"):
        np.testing.assert_array_equal(found[f"{name} 1"], found[f"{name} 2"])
    related = np.corrcoef(found["draws 1"][:, 0], found["draws 2"][:, 0])[0, 1]
    assert abs(related) < 0.06


def test_an_arm_does_not_depend_on_the_others_nor_on_chance() -> None:
    rng = np.random.default_rng(1)
    truth = np.arange(60) % 3
    arms = {name: rng.random((2, 3, 60)) < 0.7 for name in ("a", "b", "c")}
    alone = resampled_recalls({"b": arms["b"]}, truth, classes=3, resamples=50, seed=4)["b"]
    backwards = dict(reversed(arms.items()))
    for given in (arms, backwards):
        found = resampled_recalls(given, truth, classes=3, resamples=50, seed=4)["b"]
        np.testing.assert_array_equal(found, alone)
    other = resampled_recalls({"b": arms["b"]}, truth, classes=3, resamples=50, seed=5)["b"]
    assert not np.array_equal(other, alone)


def test_resamples_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    right, truth = np.random.default_rng(0).random((2, 2, 90)) < 0.5, np.arange(90) % 2
    whole = resampled(right, truth)
    monkeypatch.setattr("gapclose.analysis.downstream.bootstrap._CHUNK", 1000)
    np.testing.assert_allclose(resampled(right, truth), whole, atol=1e-6)
