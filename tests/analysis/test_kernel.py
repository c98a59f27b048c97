"""The kernel against arithmetic written out, and against degenerate embeddings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapclose.analysis import kernel as kernel_module
from gapclose.analysis.kernel import MULTIPLES, Kernel, rows, squared_distances


def unit(n: int, width: int = 8, *, seed: int = 0) -> NDArray[np.float32]:
    points = np.random.default_rng(seed).normal(size=(n, width))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def naive(kernel: Kernel, x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    squared = sum((float(p) - float(q)) ** 2 for p, q in zip(x, y, strict=True))
    terms = [math.exp(-squared / (2 * s * s)) for s in kernel.bandwidths]
    return sum(terms) / len(terms)


def test_gram_is_the_double_loop() -> None:
    a, b = unit(7, seed=1), unit(5, seed=2)
    kernel = Kernel.fit(a)
    expected = np.array([[naive(kernel, x, y) for y in b] for x in a])
    gram = kernel.gram(a, b)
    assert gram.dtype == np.float64
    np.testing.assert_allclose(gram, expected, atol=2e-6)
    np.testing.assert_allclose(kernel.mean_rows(a, b), expected.mean(axis=1), atol=2e-6)
    assert kernel.mean(a, b) == pytest.approx(expected.mean(), abs=1e-6)


def test_gram_with_itself_has_ones_and_distinct_leaves_them_out() -> None:
    a = unit(6)
    kernel = Kernel.fit(a)
    gram = kernel.gram(a)
    np.testing.assert_array_equal(np.diag(gram), 1.0)
    np.testing.assert_allclose(gram, gram.T, atol=1e-7)
    off = gram[~np.eye(6, dtype=bool)]
    assert kernel.mean_distinct(a) == pytest.approx(off.mean(), abs=1e-9)


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = unit(37, seed=3), unit(23, seed=4)
    kernel = Kernel.fit(a)
    whole = (kernel.gram(a), kernel.gram(a, b), kernel.mean_rows(a, b), kernel.mean_distinct(a))
    monkeypatch.setattr(kernel_module, "_TILE_ROWS", 5)
    monkeypatch.setattr(kernel_module, "_TILE_COLUMNS", 7)
    tiled = (kernel.gram(a), kernel.gram(a, b), kernel.mean_rows(a, b), kernel.mean_distinct(a))
    for one, other in zip(whole, tiled, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_array_equal(np.diag(tiled[0]), 1.0)


def test_bandwidths_stand_on_the_median_real_distance() -> None:
    line = np.array([[0.0], [1.0], [3.0]], dtype=np.float32)
    assert Kernel.fit(line).bandwidths == pytest.approx([2.0 * m for m in MULTIPLES])


def test_many_images_are_thinned_and_the_fit_repeats() -> None:
    a = unit(2_500, 4)
    assert Kernel.fit(a) == Kernel.fit(a)
    few = Kernel.fit(a[:2_000]).bandwidths
    assert Kernel.fit(a).bandwidths == pytest.approx(few, rel=0.03)


def test_a_rotation_of_the_space_changes_nothing() -> None:
    a, b = unit(40, seed=5), unit(30, seed=6)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0].astype(np.float32)
    assert Kernel.fit(a @ turn).bandwidths == pytest.approx(Kernel.fit(a).bandwidths, rel=1e-5)
    kernel = Kernel.fit(a)
    np.testing.assert_allclose(kernel.gram(a @ turn, b @ turn), kernel.gram(a, b), atol=1e-5)


def test_an_offset_costs_no_precision() -> None:
    a, b = unit(40, seed=5), unit(30, seed=6)
    kernel = Kernel.fit(a)
    np.testing.assert_allclose(kernel.gram(a + 50, b + 50), kernel.gram(a, b), atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 3.7])
def test_constant_rows_do_not_divide_by_zero(offset: float) -> None:
    same = np.full((30, 8), offset, dtype=np.float32)
    kernel = Kernel.fit(same)
    assert kernel.bandwidths == MULTIPLES
    np.testing.assert_array_equal(kernel.gram(same), 1.0)
    assert kernel.mean_distinct(same) == 1.0


def test_mostly_copies_take_the_mean_of_what_differs() -> None:
    points = np.zeros((10, 2), dtype=np.float32)
    points[9] = (3.0, 4.0)
    assert Kernel.fit(points).bandwidths == pytest.approx([5.0 * m for m in MULTIPLES], rel=1e-5)


def test_single_bandwidths_average_to_the_kernel() -> None:
    a, b = unit(9, seed=1), unit(8, seed=2)
    kernel = Kernel.fit(a)
    squared = squared_distances(a, b)
    parts = [Kernel(bandwidths=(s,)).of_squared(squared) for s in kernel.bandwidths]
    np.testing.assert_allclose(np.mean(parts, axis=0), kernel.of_squared(squared), atol=1e-6)


def test_nan_is_refused_and_located() -> None:
    broken = unit(10)
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"real: row 3 holds NaN.*1 of 10"):
        Kernel.fit(broken)
    kernel = Kernel.fit(unit(10))
    with pytest.raises(ValueError, match="second side: row 3"):
        kernel.mean(unit(10), broken)


def test_shapes_that_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Kernel.fit(unit(1))
    kernel = Kernel.fit(unit(10))
    with pytest.raises(ValueError, match="width 8 and 9"):
        kernel.mean(unit(10), unit(10, 9))
    with pytest.raises(ValueError, match="at least 2"):
        kernel.mean_distinct(unit(1))
    with pytest.raises(ValueError, match="one row per image"):
        rows(np.zeros(8))
    with pytest.raises(ValueError, match="no embeddings"):
        rows(np.zeros((0, 8)))
    with pytest.raises(ValueError, match="positive"):
        Kernel(bandwidths=(0.0,))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 20), m=st.integers(1, 20), width=st.integers(1, 6), seed=st.integers(0, 99)
)
def test_values_lie_in_the_unit_interval_and_sides_swap(
    n: int, m: int, width: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(n, width)), random.normal(size=(m, width))
    kernel = Kernel.fit(a)
    gram = kernel.gram(a, b)
    assert gram.min() >= 0
    assert gram.max() <= 1
    np.testing.assert_allclose(kernel.gram(b, a), gram.T, atol=1e-5)
