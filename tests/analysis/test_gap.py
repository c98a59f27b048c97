"""The gap against exact answers, its test and what it can detect against their nominal rates."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sphere import Rows, unit

from gapclose.analysis.criteria import guard_objections
from gapclose.analysis.errors import TooFewError
from gapclose.analysis.floor import Floor
from gapclose.analysis.gap import audit_embeddings, mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.analysis.two_sample import memberships, permutation_p_value, permuted_gaps


def naive_mmd2(kernel: Kernel, x: Rows, y: Rows) -> float:
    def k(a: Rows, b: Rows) -> float:
        squared = float(((a.astype(np.float64) - b) ** 2).sum())
        return float(np.mean([math.exp(-squared / (2 * s * s)) for s in kernel.bandwidths]))

    m, n = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    yy = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    xy = sum(k(a, b) for a in x for b in y) / (m * n)
    return xx + yy - 2 * xy


def test_mmd2_is_the_double_loop() -> None:
    real, synthetic = unit(12, seed=1), unit(9, seed=2, shift=1.0)
    kernel = Kernel.fit(real)
    expected = naive_mmd2(kernel, real, synthetic)
    assert mmd2(real=real, synthetic=synthetic, kernel=kernel) == pytest.approx(expected, abs=2e-6)


def test_mmd2_swaps_sides_and_ignores_order() -> None:
    real, synthetic = unit(40, seed=1), unit(30, seed=2, shift=0.5)
    kernel = Kernel.fit(real)
    gap = mmd2(real=real, synthetic=synthetic, kernel=kernel)
    assert mmd2(real=synthetic, synthetic=real, kernel=kernel) == pytest.approx(gap, abs=1e-6)
    assert mmd2(real=real[::-1], synthetic=synthetic[::-1], kernel=kernel) == pytest.approx(
        gap, abs=1e-6
    )
    assert abs(gap) > 1e-3


def test_mmd2_is_zero_in_expectation() -> None:
    gaps = []
    for seed in range(200):
        both = unit(40, 4, seed=seed)
        kernel = Kernel.fit(unit(100, 4, seed=999))
        gaps.append(mmd2(real=both[:20], synthetic=both[20:], kernel=kernel))
    error = np.std(gaps) / math.sqrt(len(gaps))
    assert abs(np.mean(gaps)) < 3 * error
    assert min(gaps) < 0


@pytest.mark.parametrize(("n_real", "n_synthetic"), [(30, 30), (60, 20)])
def test_two_halves_of_one_set_are_rejected_at_the_level(n_real: int, n_synthetic: int) -> None:
    rejected = over_floor = 0
    repetitions = 400
    for seed in range(repetitions):
        both = unit(n_real + n_synthetic, 6, seed=seed)
        row = audit_embeddings(
            real=both[:n_real],
            synthetic=both[n_real:],
            permutations=199,
            splits=200,
            guards=False,
            seed=seed,
        )
        rejected += row.p_value <= 0.05
        over_floor += row.ratio is not None and row.ratio > 1
    # 20 expected of 400; 4.4 is the standard deviation of the binomial.
    assert 7 <= rejected <= 33
    assert 6 <= over_floor <= 40


def test_detectable_is_seen_about_four_times_in_five() -> None:
    pond = unit(2_000, 32, seed=1)
    kernel = Kernel.fit(pond)
    floor = Floor.fit(pond[:600], kernel=kernel, splits=1_000)
    target = floor.detectable(n_real=100, n_synthetic=100)
    shifts = np.linspace(0.1, 1.5, 8)
    away = [
        mmd2(real=pond, synthetic=unit(2_000, 32, seed=2, shift=s), kernel=kernel) for s in shifts
    ]
    shift = float(np.interp(target, away, shifts))
    seen = several = 0
    for seed in range(200):
        real = unit(100, 32, seed=1_000 + seed)
        synthetic = unit(100, 32, seed=5_000 + seed, shift=shift)
        members = memberships(100, 100, permutations=199, seed=seed)
        gaps, _ = permuted_gaps(kernel.gram(np.concatenate([real, synthetic])), members)
        seen += (gaps >= gaps[0]).mean() <= 0.05
        several += permutation_p_value(real=real, synthetic=synthetic, permutations=199) <= 0.05
    assert 0.65 <= seen / 200 <= 0.92
    assert several / 200 >= 0.8  # several kernels see no less


def test_a_gap_is_seen_and_sized() -> None:
    row = audit_embeddings(real=unit(120, seed=1), synthetic=unit(120, seed=2, shift=2.0))
    assert row.closed is False
    assert row.p_value == 0.001
    assert row.ratio is not None
    assert row.ratio > 10
    assert row.auc is not None
    assert row.auc > 0.8
    assert row.effect is not None
    assert row.gap < row.effect < 1
    assert row.detectable is not None
    assert row.floor_p95 < row.detectable < row.gap


def test_standard_error_is_the_jackknife_written_out() -> None:
    real, synthetic = unit(25, seed=1), unit(21, seed=2, shift=1.0)
    kernel = Kernel.fit(real)
    variance = 0.0
    for side, n in (("real", 25), ("synthetic", 21)):
        sides = {"real": real, "synthetic": synthetic}
        left_out = [
            mmd2(**sides | {side: np.delete(sides[side], i, axis=0)}, kernel=kernel)
            for i in range(n)
        ]
        variance += (n - 1) * float(np.var(left_out))
    row = audit_embeddings(real=real, synthetic=synthetic, kernel=kernel, guards=False)
    assert row.standard_error == pytest.approx(math.sqrt(variance), rel=1e-3)


def test_two_standard_errors_hold_the_gap_nineteen_times_in_twenty() -> None:
    kernel = Kernel.fit(unit(400, seed=9_999))
    truth = mmd2(real=unit(3_000, seed=1), synthetic=unit(3_000, seed=2, shift=0.8), kernel=kernel)
    inside = 0
    for seed in range(200):
        real, synthetic = unit(60, seed=3 * seed), unit(80, seed=3 * seed + 1, shift=0.8)
        row = audit_embeddings(
            real=real, synthetic=synthetic, kernel=kernel, guards=False, permutations=19, splits=20
        )
        assert row.standard_error is not None
        inside += abs(row.gap - truth) <= 1.96 * row.standard_error
    assert inside >= 182  # of 200 at 0.95 fewer are seen once in 200


def test_no_gap_is_closed_only_with_a_hundred_a_side() -> None:
    both = unit(400, seed=4)
    row = audit_embeddings(real=both[:100], synthetic=both[100:200])
    assert row.closed is True
    assert guard_objections(row) == []
    assert audit_embeddings(real=both[:100], synthetic=both[100:199]).closed is None


def test_collapse_keeps_precision_and_loses_recall() -> None:
    real = unit(200, 8, seed=1)
    collapsed = real[0] + 0.01 * unit(200, 8, seed=2)
    row = audit_embeddings(real=real, synthetic=collapsed)
    assert row.precision is not None
    assert row.recall is not None
    assert row.vendi_ratio is not None
    assert row.precision > 0.9
    assert row.recall < 0.1
    assert row.vendi_ratio < 0.5
    assert row.closed is False
    told = guard_objections(row)
    assert [t.split()[0] for t in told] == ["recall", "coverage", "diversity", "200"], told


def test_copies_leave_no_gap_but_do_not_pass() -> None:
    real = unit(200, 8, seed=1)
    row = audit_embeddings(real=real, synthetic=real)
    assert row.closed is True
    assert row.duplicates == 200
    assert guard_objections(row) == ["200 of 200 images are near-copies of real ones"]


def test_rotation_changes_no_number() -> None:
    real, synthetic = unit(60, seed=1), unit(50, seed=2, shift=0.7)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0].astype(np.float32)
    one = audit_embeddings(real=real, synthetic=synthetic).to_json()
    other = audit_embeddings(real=real @ turn, synthetic=synthetic @ turn).to_json()
    for key in ("gap", "floor_p95", "effect", "detectable", "p_value", "auc", "vendi_ratio"):
        assert other[key] == pytest.approx(one[key], rel=1e-2, abs=1e-6), key


def test_constant_rows_give_plain_numbers() -> None:
    same = np.full((30, 8), 0.5, dtype=np.float32)
    row = audit_embeddings(real=same, synthetic=same)
    assert row.gap == pytest.approx(0.0, abs=1e-9)
    assert row.p_value == 1.0
    assert row.ratio is None
    assert row.effect is None
    json.dumps(row.to_json(), allow_nan=False)
    apart = audit_embeddings(real=same, synthetic=same + 1)
    assert apart.closed is False


def test_duplicated_rows_are_no_error() -> None:
    real = np.repeat(unit(20, seed=1), 5, axis=0)
    row = audit_embeddings(real=real, synthetic=np.repeat(unit(20, seed=2), 5, axis=0))
    json.dumps(row.to_json(), allow_nan=False)
    assert row.closed is False
    assert row.duplicates == 0


def test_bad_input_says_what_and_where() -> None:
    real = unit(40)
    with pytest.raises(TooFewError, match="class frog: too few, 1 synthetic images where 20"):
        audit_embeddings(real=real, synthetic=unit(1), name="frog")
    with pytest.raises(TooFewError, match="19 real"):
        audit_embeddings(real=real[:19], synthetic=real)
    broken = unit(40)
    broken[7] = np.nan
    with pytest.raises(ValueError, match="synthetic: row 7 holds NaN"):
        audit_embeddings(real=real, synthetic=broken)
    with pytest.raises(ValueError, match="width 16, synthetic 4"):
        audit_embeddings(real=real, synthetic=unit(40, 4))
    with pytest.raises(ValueError, match="synthetic: needs at least 2 images"):
        mmd2(real=real, synthetic=real[:1], kernel=Kernel.fit(real))


def test_tests_look_at_n_test_images_and_guards_at_all() -> None:
    both = unit(500, 6, seed=3)
    row = audit_embeddings(real=both[:300], synthetic=both[300:], n_test=50)
    few = audit_embeddings(real=both[:50], synthetic=both[300:350])
    assert (row.n_real, row.n_synthetic) == (300, 200)
    assert row.floor_p95 == pytest.approx(few.floor_p95, rel=0.5)
    assert row.precision == audit_embeddings(real=both[:300], synthetic=both[300:]).precision


def test_same_seed_same_row() -> None:
    real, synthetic = unit(60, seed=1), unit(60, seed=2)
    one = audit_embeddings(real=real, synthetic=synthetic, n_test=40, seed=5)
    assert audit_embeddings(real=real, synthetic=synthetic, n_test=40, seed=5) == one
