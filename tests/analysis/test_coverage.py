"""Coverage figures against the reference code, and against collapse, copies and repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from prdc import compute_prdc
from sphere import unit

from gapclose.analysis import coverage as coverage_module
from gapclose.analysis.coverage import (
    copied,
    coverage,
    relative_coverage,
    vendi_ratio,
    vendi_score,
)

KEYS = ("precision", "recall", "density", "coverage")


@pytest.mark.parametrize(
    ("n_real", "n_synthetic", "k"), [(300, 300, 5), (120, 200, 3), (90, 40, 1)]
)
def test_agrees_with_prdc(n_real: int, n_synthetic: int, k: int) -> None:
    real, synthetic = unit(n_real, seed=1), 0.9 * unit(n_synthetic, seed=2, shift=0.8)
    expected = compute_prdc(real_features=real, fake_features=synthetic, nearest_k=k)
    ours = coverage(real=real, synthetic=synthetic, k=k).to_json()
    for key in KEYS:
        assert ours[key] == pytest.approx(expected[key], rel=1e-4), key


def duplicates(*, real: Any, synthetic: Any) -> int:
    """How many are near-copies."""
    return int((copied(real=real, synthetic=synthetic) >= 0).sum())


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, synthetic = unit(70, seed=1), unit(50, seed=2, shift=0.8)
    whole = coverage(real=real, synthetic=synthetic)
    copies = duplicates(real=real, synthetic=np.concatenate([synthetic, real[:3]]))
    monkeypatch.setattr(coverage_module, "_TILE", 3)
    assert coverage(real=real, synthetic=synthetic) == whole
    assert duplicates(real=real, synthetic=np.concatenate([synthetic, real[:3]])) == copies == 3


def test_collapse_has_high_precision_and_low_recall() -> None:
    real = unit(300, 8, seed=1)
    collapsed = real[0] + 0.01 * unit(300, 8, seed=2)
    figures = coverage(real=real, synthetic=collapsed)
    assert figures.precision == 1.0
    assert figures.recall < 0.05
    assert figures.coverage < 0.2
    swapped = coverage(real=collapsed, synthetic=real)
    assert swapped.precision < 0.05
    assert swapped.recall == 1.0


def test_two_points_by_hand() -> None:
    # On a line, k = 1: every real ball has radius 1, every synthetic ball radius 3.
    real = np.array([[0.0], [1.0], [10.0], [11.0]])
    synthetic = np.array([[0.5], [3.5]])
    figures = coverage(real=real, synthetic=synthetic, k=1)
    assert figures.precision == 0.5
    assert figures.recall == 0.5
    assert figures.density == 1.0
    assert figures.coverage == 0.5


def test_rotation_and_order_change_nothing() -> None:
    real, synthetic = unit(100, seed=1), unit(90, seed=2, shift=0.5)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0].astype(np.float32)
    one = coverage(real=real, synthetic=synthetic)
    assert coverage(real=real[::-1], synthetic=synthetic[::-1]) == one
    turned = coverage(real=real @ turn, synthetic=synthetic @ turn).to_json()
    assert turned == pytest.approx(one.to_json(), abs=0.011)


def test_every_row_repeated_past_k_leaves_empty_balls() -> None:
    real = np.repeat(unit(10, seed=1), 6, axis=0)
    figures = coverage(real=real, synthetic=unit(20, seed=2), k=5)
    assert figures.precision == 0.0
    assert figures.coverage == 0.0


def test_constant_rows_are_finite() -> None:
    same = np.full((20, 4), 0.5)
    assert coverage(real=same, synthetic=same).to_json() == dict.fromkeys(KEYS, 0.0)
    assert relative_coverage(real=same, synthetic=same).to_json() == dict.fromkeys(KEYS, 1.0)
    assert vendi_ratio(real=same, synthetic=same) == pytest.approx(1.0)
    assert vendi_score(np.zeros((5, 3))) == 1.0


def test_too_few_and_nan() -> None:
    with pytest.raises(ValueError, match="synthetic: 1 images have no 5 neighbours"):
        coverage(real=unit(10), synthetic=unit(1))
    broken = unit(10)
    broken[4] = np.nan
    with pytest.raises(ValueError, match="real: row 4 holds NaN"):
        coverage(real=broken, synthetic=unit(10))
    with pytest.raises(ValueError, match="width 16, synthetic 3"):
        duplicates(real=unit(10), synthetic=unit(10, 3))
    assert duplicates(real=unit(1), synthetic=unit(3, seed=1)) == 0


def test_relative_is_one_for_real_and_low_for_collapse() -> None:
    real = unit(400, seed=1)
    fair = relative_coverage(real=real, synthetic=unit(200, seed=2)).to_json()
    assert fair == pytest.approx(dict.fromkeys(KEYS, 1.0), abs=0.1)
    collapsed = real[0] + 0.01 * unit(200, seed=3)
    figures = relative_coverage(real=real, synthetic=collapsed)
    assert figures.precision > 0.9
    assert figures.recall < 0.1
    assert figures.coverage < 0.3


def test_vendi_score_counts_what_differs() -> None:
    axes = np.eye(6)
    assert vendi_score(axes) == pytest.approx(6.0)
    assert vendi_score(np.repeat(axes[:3], 4, axis=0)) == pytest.approx(3.0)
    assert vendi_score(5.0 * np.ones((7, 3))) == pytest.approx(1.0)
    # Both ways of decomposing: fewer rows than columns and the other way round.
    tall = unit(40, 8)
    padded = np.concatenate([tall, np.zeros((40, 60), dtype=np.float32)], axis=1)
    assert vendi_score(padded) == pytest.approx(vendi_score(tall))


def test_vendi_ratio_compares_at_one_size() -> None:
    everything = unit(1_000, 64, seed=1)
    assert vendi_ratio(real=everything[:900], synthetic=everything[900:]) == pytest.approx(
        1.0, abs=0.1
    )
    narrow = everything[:100].copy()
    narrow[:, 2:] *= 0.1
    assert vendi_ratio(real=everything, synthetic=narrow) < 0.6
    assert vendi_ratio(real=narrow, synthetic=everything) > 1.5


def test_near_copies_are_counted_and_honest_images_are_not() -> None:
    everything = unit(800, 12, seed=1)
    real, fresh = everything[:400], everything[400:]
    assert duplicates(real=real, synthetic=fresh) <= 1
    copies = real[:25] + 0.01 * unit(25, 12, seed=3)
    assert duplicates(real=real, synthetic=np.concatenate([fresh, copies])) >= 25


def test_copies_within_real_hide_no_copies_of_real() -> None:
    everything = unit(800, 12, seed=1)
    real = np.concatenate([everything[:300], everything[:100]])
    assert duplicates(real=real, synthetic=everything[400:]) <= 1
    assert duplicates(real=real, synthetic=everything[:40]) == 40
