"""The linear probe: it learns what is linear, whatever the space's cone and scale."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis.downstream.linear import LinearProbe
from gapclose.analysis.embedding import unit_rows
from gapclose.analysis.spectrum import Spectrum


def cloud(
    n: int, width: int, *, apart: float, cone: float = 0.0, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit rows of ten classes about centres of their own, in a cone of one direction."""
    rng = np.random.default_rng([seed, 1])
    centres = np.random.default_rng(0).normal(size=(10, width))
    labels = np.arange(n) % 10
    rows = apart * centres[labels] + rng.normal(size=(n, width))
    rows[:, 0] += cone * np.sqrt(width)
    return unit_rows(rows), labels


@pytest.mark.parametrize("cone", [0.0, 5.0])
def test_it_tells_classes_in_a_narrow_cone_as_well(cone: float) -> None:
    x, labels = cloud(400, 64, apart=0.5, cone=cone)
    unseen, truth = cloud(1000, 64, apart=0.5, cone=cone, seed=1)
    told = LinearProbe(embedder=Spectrum()).fit(x, labels, classes=10, seed=0)
    assert (told(unseen).argmax(axis=1) == truth).mean() > 0.9


def test_noise_is_told_at_chance() -> None:
    x, labels = cloud(400, 64, apart=0.0)
    unseen, truth = cloud(1000, 64, apart=0.0, seed=1)
    told = LinearProbe(embedder=Spectrum()).fit(x, labels, classes=10, seed=0)
    assert (told(unseen).argmax(axis=1) == truth).mean() < 0.15


def test_two_thousand_rows_of_512_take_seconds() -> None:
    x, labels = cloud(2000, 512, apart=0.1)
    start = time.process_time()
    LinearProbe(embedder=Spectrum()).fit(x, labels, classes=10, seed=0)
    assert time.process_time() - start < 20


def test_rows_that_are_all_one_point_are_no_failure() -> None:
    x = np.tile(unit_rows(np.ones((1, 4))), (6, 1))
    found = LinearProbe(embedder=Spectrum()).fit(x, np.arange(6) % 2, classes=2, seed=0)(x)
    np.testing.assert_allclose(found, 0.5, atol=1e-3)


def test_a_row_that_is_not_finite_and_a_single_class_are_refused() -> None:
    x, labels = cloud(20, 8, apart=1.0)
    probe = LinearProbe(embedder=Spectrum())
    with pytest.raises(ValueError, match="class"):
        probe.fit(x, np.zeros(20, int), classes=2, seed=0)
    x[3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        probe.fit(x, labels, classes=10, seed=0)
