"""The floor against the gap of halves written out."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from sphere import unit

from gapclose.analysis.floor import Floor, floor_p95
from gapclose.analysis.gap import mmd2
from gapclose.analysis.kernel import Kernel


@pytest.mark.parametrize("n", [8, 9])
def test_floor_is_the_gap_of_halves_written_out(n: int) -> None:
    real = unit(n, 4)
    kernel = Kernel.fit(real)
    floor = Floor.fit(real, kernel=kernel, splits=3_000)
    random = np.random.default_rng(7)
    half = n // 2
    gaps = []
    for _ in range(1_000):
        order = random.permutation(n)
        gaps.append(
            mmd2(real=real[order[:half]], synthetic=real[order[half : 2 * half]], kernel=kernel)
        )
    assert floor.half == half
    assert floor.sd == pytest.approx(np.std(gaps), rel=0.1)
    assert floor.p95 == pytest.approx(np.quantile(gaps, 0.95), abs=0.15 * np.std(gaps))


@pytest.mark.parametrize("n", [4, 5])
def test_floor_is_one_of_the_gaps_that_halves_can_have(n: int) -> None:
    real = unit(n, 4)
    kernel = Kernel.fit(real)
    gaps = [
        mmd2(real=real[list(order[:2])], synthetic=real[list(order[2:4])], kernel=kernel)
        for order in permutations(range(n))
    ]
    floor = Floor.fit(real, kernel=kernel, splits=3_000)
    assert min(abs(gap - floor.p95) for gap in gaps) < 1e-6
    assert floor.sd == pytest.approx(np.std(gaps), rel=0.05)


def test_floor_is_rescaled_to_the_sizes() -> None:
    real = unit(60)
    kernel = Kernel.fit(real)
    floor = Floor.fit(real, kernel=kernel, seed=3)
    expected = floor.p95 * (1 / 60 + 1 / 20) / (2 / 30)
    assert floor.floor_p95(n_real=60, n_synthetic=20) == pytest.approx(expected)
    assert floor_p95(real, n_synthetic=20, kernel=kernel, seed=3) == pytest.approx(expected)
    assert floor.ratio(expected * 3, n_real=60, n_synthetic=20) == pytest.approx(3.0)


def test_the_floor_of_a_gram_matrix_is_that_of_its_images_and_leaves_it_alone() -> None:
    real = unit(31, 6)
    kernel = Kernel.fit(real)
    gram = kernel.gram(real)
    before = gram.copy()
    assert Floor.of_gram(gram, seed=2) == Floor.fit(real, kernel=kernel, seed=2)
    assert Floor.fit(real, kernel=kernel, seed=2) != Floor.fit(real, kernel=kernel, seed=3)
    np.testing.assert_array_equal(gram, before)


def test_more_images_lower_the_floor_and_what_is_detectable() -> None:
    real = unit(80)
    floor = Floor.fit(real, kernel=Kernel.fit(real))
    told = [
        (floor.floor_p95(n_real=80, n_synthetic=n), floor.detectable(n_real=80, n_synthetic=n))
        for n in (20, 40, 200, 5_000)
    ]
    assert told == sorted(told, reverse=True)
    assert all(0.0 < p95 < seen for p95, seen in told)


def test_the_widest_direction_is_the_largest_eigenvalue() -> None:
    real = unit(50, 4, shift=1.0)
    kernel = Kernel.fit(real)
    gram = kernel.gram(real)
    centring = np.eye(50) - 1 / 50
    largest = np.linalg.eigvalsh(centring @ gram @ centring)[-1] / 50
    assert Floor.fit(real, kernel=kernel).widest == pytest.approx(largest, rel=0.02)


def test_real_images_that_are_one_point_have_no_floor() -> None:
    same = np.full((30, 8), 0.5, dtype=np.float32)
    floor = Floor.fit(same, kernel=Kernel.fit(same))
    assert floor.floor_p95(n_real=30, n_synthetic=30) == pytest.approx(0.0, abs=1e-6)
    assert floor.widest == pytest.approx(0.0, abs=1e-6)
    none = Floor(half=15, p95=0.0, sd=0.0, widest=0.0)
    assert none.ratio(1.0, n_real=30, n_synthetic=30) is None
    assert none.detectable(n_real=30, n_synthetic=30) == 0.0


def test_too_few_real_images_have_no_halves() -> None:
    real = unit(40)
    for n in (1, 3):
        with pytest.raises(ValueError, match=f"at least 4 images, there are {n}"):
            Floor.fit(real[:n], kernel=Kernel.fit(real))
    assert math.isfinite(Floor.fit(real[:4], kernel=Kernel.fit(real)).p95)
