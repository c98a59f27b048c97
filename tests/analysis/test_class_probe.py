"""What tells classes, by whose rule, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis.class_probe import Layout, Rules, in_own_units

Points = NDArray[np.float64]


def told(points: Points, layout: Layout, other: Points | None = None) -> Points:
    rules = Rules(in_own_units(points, layout), layout)
    return rules.share_right(in_own_units(points if other is None else other, layout))


def classes(layout: Layout, means: list[float], *, seed: int, spread: float = 1.0) -> Points:
    """(1, n, 1): each class about its mean."""
    noise = np.random.default_rng(seed).normal(size=len(layout.cls))
    values = np.asarray(means)[layout.cls] + spread * noise
    return np.asarray(values[None, :, None])


def test_a_layout_has_every_image_once_and_every_class_in_every_fold() -> None:
    layout = Layout.of([7, 23, 5])
    assert np.bincount(layout.cls).tolist() == [7, 23, 5]
    assert layout.counts.min() >= 1
    assert layout.weights.sum() == pytest.approx(1.0)
    assert [layout.weights[layout.cls == k].sum() for k in range(3)] == pytest.approx([1 / 3] * 3)
    stood = np.concatenate([np.arange(len(layout.cls))[fold] for fold in layout.folds()])
    assert stood.tolist() == list(range(35))
    rows = [np.full((n, 2), k) for k, n in enumerate((7, 23, 5))]
    assert (layout.arranged(rows)[:, 0] == layout.cls).all()


def test_what_is_apart_is_told_and_a_constant_is_not() -> None:
    layout = Layout.of([30, 20, 25])
    apart = classes(layout, [0.0, 10.0, 20.0], seed=0)
    assert told(apart, layout) == pytest.approx([1.0])
    assert told(np.zeros((1, 75, 2)), layout) == pytest.approx([1 / 3])


def test_a_spread_is_told_where_means_are_equal() -> None:
    layout = Layout.of([200, 200])
    noise = np.random.default_rng(0).normal(size=400)
    points = (noise * np.where(layout.cls == 0, 1.0, 6.0))[None, :, None]
    assert told(points, layout)[0] > 0.75


def test_no_image_is_told_by_itself() -> None:
    layout = Layout.of([25] * 4)
    points = np.random.default_rng(0).normal(size=(60, 100, 12))
    assert told(points, layout).mean() == pytest.approx(0.25, abs=0.02)


def test_classes_that_never_vary_are_told() -> None:
    layout = Layout.of([20, 20])
    points = np.asarray(layout.cls, dtype=np.float64)[None, :, None]
    assert told(points, layout) == pytest.approx([1.0])


def test_arrangements_do_not_touch_each_other() -> None:
    layout = Layout.of([30, 40])
    points = np.random.default_rng(0).normal(size=(5, 70, 3)) + layout.cls[None, :, None]
    together = told(points, layout)
    assert together == pytest.approx([told(points[i : i + 1], layout)[0] for i in range(5)])


def test_a_rule_passes_a_shift_and_scale_and_fails_another_order() -> None:
    layout = Layout.of([50, 50, 50])
    ours = classes(layout, [0.0, 5.0, 10.0], seed=0)
    shifted = 7.0 + 3.0 * classes(layout, [0.0, 5.0, 10.0], seed=1)
    turned = classes(layout, [5.0, 10.0, 0.0], seed=2)
    assert told(ours, layout, shifted)[0] > 0.95
    assert told(ours, layout, turned)[0] < 0.1
