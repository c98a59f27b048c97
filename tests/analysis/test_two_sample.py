"""The test against its own definition, its level, and the three faults that one kernel misses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest

from gapclose.analysis.gap import mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.analysis.two_sample import (
    memberships,
    permutation_p_value,
    permutations_for,
    permuted_gaps,
)

Rows = NDArray[np.float32]


def normal(n: int, width: int = 16, *, seed: int) -> Rows:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def test_permuted_gaps_are_the_gaps_of_the_permuted_sides() -> None:
    pooled = normal(18, 3, seed=1)
    kernel = Kernel.fit(pooled)
    members = memberships(10, 8, permutations=50, seed=2)
    gaps, rounding = permuted_gaps(kernel.gram(pooled), members)
    assert members.shape == (18, 51)
    assert (members.sum(axis=0) == 10).all()
    assert members[:10, 0].all()
    for gap, column in zip(gaps, members.T, strict=True):
        real, synthetic = pooled[column > 0], pooled[column == 0]
        expected = mmd2(real=real, synthetic=synthetic, kernel=kernel)
        assert gap == pytest.approx(expected, abs=2e-6)
    assert 0 < rounding < 1e-6


def test_of_two_separate_heaps_only_the_labels_as_they_are_and_their_mirror_reach_them() -> None:
    heaps = np.concatenate([normal(4, seed=1), normal(4, seed=2) + 50])
    p = permutation_p_value(real=heaps[:4], synthetic=heaps[4:], permutations=20_000)
    splits = list(itertools.combinations(range(8), 4))
    assert p == pytest.approx(2 / len(splits), abs=0.004)


def test_p_values_of_equal_sides_are_uniform() -> None:
    found = [
        permutation_p_value(
            real=normal(40, 6, seed=s), synthetic=normal(25, 6, seed=9_000 + s), permutations=199
        )
        for s in range(400)
    ]
    assert kstest(found, "uniform").pvalue > 0.01
    assert 7 <= sum(p <= 0.05 for p in found) <= 33  # 20 expected; 4.4 is the deviation


def shrunk(rows: Rows, rng: np.random.Generator) -> Rows:
    return rows * np.float32(np.sqrt(0.6))


def replaced(rows: Rows, rng: np.random.Generator) -> Rows:
    out = rows.copy()
    out[: len(rows) // 10] += np.float32(1.5)
    return out


def shifted(rows: Rows, rng: np.random.Generator) -> Rows:
    # Along the direction of least variance, where no Gaussian of the whole looks.
    out = rows.copy()
    out[:, -1] += np.float32(0.4)
    return out


@pytest.mark.parametrize("fault", [shrunk, replaced, shifted])
def test_each_fault_is_seen(fault: object) -> None:
    scales = np.linspace(1.0, 0.2, 16, dtype=np.float32)
    seen = 0
    for seed in range(40):
        real, synthetic = normal(100, seed=seed) * scales, normal(100, seed=500 + seed) * scales
        rng = np.random.default_rng(seed)
        p = permutation_p_value(
            real=real,
            synthetic=fault(synthetic, rng),  # type: ignore[operator]
            permutations=199,
        )
        seen += p <= 0.05
    assert seen >= 32


def test_what_does_not_matter_does_not_matter() -> None:
    real, synthetic = normal(60, seed=1), normal(50, seed=2) + np.float32(0.12)
    p = permutation_p_value(real=real, synthetic=synthetic)
    assert 0.001 < p < 0.5  # or the comparisons below say nothing
    turn = np.linalg.qr(normal(16, seed=3))[0]
    for a, b in ((real @ turn, synthetic @ turn), (real * 7 + 3, synthetic * 7 + 3)):
        assert permutation_p_value(real=a, synthetic=b) == pytest.approx(p, abs=0.005)
    other = permutation_p_value(real=synthetic[::-1], synthetic=real, seed=4)
    assert other == pytest.approx(p, abs=0.05)
    assert permutation_p_value(real=real, synthetic=synthetic) == p


def test_no_width_and_no_repetition_is_an_error() -> None:
    one = np.full((30, 8), 0.5, dtype=np.float32)
    assert permutation_p_value(real=one, synthetic=one) == 1.0
    assert permutation_p_value(real=one, synthetic=one + 1) == 0.001
    twice = np.repeat(normal(15, seed=1), 2, axis=0)
    assert permutation_p_value(real=twice, synthetic=twice) > 0.5
    wide = permutation_p_value(real=normal(30, 300, seed=1), synthetic=normal(30, 300, seed=2))
    assert 0.001 < wide <= 1
    line = permutation_p_value(real=normal(30, 1, seed=1), synthetic=normal(30, 1, seed=2) + 2)
    assert line == 0.001


def test_rows_that_are_all_equally_far_apart_are_rejected_no_more_often() -> None:
    """A constant kernel leaves rounding alone to look at, and rounding depends on the place."""
    rejected = 0
    for seed in range(60):
        apart = np.eye(60, dtype=np.float32)[np.random.default_rng([seed, 7]).permutation(60)]
        p = permutation_p_value(real=apart[:30], synthetic=apart[30:], permutations=99, seed=seed)
        rejected += p <= 0.05
    assert rejected <= 9  # 3 expected; 1.7 is the deviation


def test_bad_input_says_what_and_where() -> None:
    with pytest.raises(ValueError, match="synthetic: needs at least 2 images, there are 1"):
        permutation_p_value(real=normal(4, seed=0), synthetic=normal(1, seed=0))
    with pytest.raises(ValueError, match="width 16, synthetic 4"):
        permutation_p_value(real=normal(4, seed=0), synthetic=normal(4, 4, seed=0))
    assert permutations_for(10) == 999
    assert permutations_for(100) == 4_000
