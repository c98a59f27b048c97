"""Clusters: planted groups are found, halves of one set have none, and the shapes hold."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis import clusters
from gapclose.analysis.clusters import find_clusters

Rows = NDArray[np.float32]


def normal(n: int, width: int = 16, *, seed: int, at: float = 0.0, spread: float = 1.0) -> Rows:
    points = np.random.default_rng(seed).normal(size=(n, width)) * spread
    points[:, 0] += at
    return points.astype(np.float32)


def planted(n: int, k: int, *, seed: int = 0) -> tuple[Rows, Rows]:
    """Of n synthetic images the first k are a tight group of their own."""
    group = normal(k, seed=seed + 1, at=6.0, spread=0.4)
    return normal(n, seed=seed + 2), np.concatenate([group, normal(n - k, seed=seed + 3)])


@pytest.mark.parametrize("side", ["synthetic", "real"])
def test_a_planted_group_is_found_on_its_side_and_nothing_else(side: str) -> None:
    plain, grouped = planted(200, 30)
    pair = (plain, grouped) if side == "synthetic" else (grouped, plain)
    other = (normal(150, seed=7), normal(90, seed=8))
    (found,) = find_clusters({"ship": other, "frog": pair})
    mine, theirs = (found.synthetic, found.real)[:: 1 if side == "synthetic" else -1]
    assert (found.cls, found.side, found.q_value) == ("frog", side, 0.001)
    assert set(mine) >= set(range(30))
    assert len(mine) <= 32
    assert len(theirs) <= 2
    assert found.size == len(found.real) + len(found.synthetic)


def test_two_separate_groups_are_two_clusters_that_share_no_image() -> None:
    real, synthetic = planted(300, 40)
    synthetic[40:80] = normal(40, seed=9, at=-6.0, spread=0.4)
    found = find_clusters({"frog": (real, synthetic)})
    assert len(found) == 2
    first, second = (set(cluster.synthetic) for cluster in found)
    assert not first & second
    assert {min(first) // 40, min(second) // 40} == {0, 1}


def test_halves_of_one_set_have_no_cluster_as_often_as_the_level_says() -> None:
    reported = 0
    for seed in range(100):
        halves = {
            str(cls): (normal(60, seed=100 * seed + cls), normal(40, seed=50_000 + 7 * seed + cls))
            for cls in range(3)
        }
        reported += bool(find_clusters(halves, permutations=99, seed=seed))
    assert reported <= 12  # 5 expected; 2.2 is the standard deviation


def test_a_class_of_many_images_is_searched_in_heaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "LEAVES", 60)
    monkeypatch.setattr(clusters, "MOST_LEAVES", 120)
    real, synthetic = planted(1_000, 100)
    (found, *_) = find_clusters({"frog": (real, synthetic)}, permutations=199)
    hits = sum(i < 100 for i in found.synthetic)
    assert hits >= 90
    assert hits / found.size >= 0.9


def test_neither_order_nor_rotation_nor_scale_changes_the_groups() -> None:
    real, synthetic = planted(150, 25)
    turn = np.linalg.qr(normal(16, seed=3))[0].astype(np.float32)
    one = find_clusters({"frog": (real, synthetic)})
    for again in (
        find_clusters({"frog": (real @ turn * 3, synthetic @ turn * 3)}),
        find_clusters({"frog": (real[::-1], synthetic)}),
    ):
        assert [set(c.synthetic) for c in again] == [set(c.synthetic) for c in one]


def test_a_pocket_of_one_side_inside_a_group_of_the_other_is_counted_once() -> None:
    real, synthetic = normal(200, seed=1), normal(200, seed=2)
    real[:120] = normal(120, seed=3, at=9.0)
    synthetic[:20] = normal(20, seed=4, at=9.0, spread=0.05)
    found = find_clusters({"frog": (real, synthetic)})
    taken = [i for cluster in found for i in cluster.synthetic]
    assert len(set(taken)) == len(taken)


def test_a_group_in_a_wide_space_is_found_by_the_directions_that_vary_most() -> None:
    scales = np.linspace(1.0, 0.05, 128, dtype=np.float32)
    real, synthetic = normal(150, 128, seed=1) * scales, normal(150, 128, seed=2) * scales
    synthetic[:30, :5] += 3.0
    (found,) = find_clusters({"frog": (real, synthetic)})
    hits = sum(i < 30 for i in found.synthetic)
    assert hits >= 22
    assert hits / found.size >= 0.9


def test_one_point_and_two_far_heaps() -> None:
    many = np.full((1_100, 4), 0.5, dtype=np.float32)
    assert find_clusters({"frog": (many, many)}) == []
    same = many[:30]
    assert find_clusters({"frog": (same, same)}) == []
    apart = find_clusters({"frog": (same, same + 9)})
    assert {(c.side, c.size) for c in apart} == {("real", 30), ("synthetic", 30)}
    assert find_clusters({}) == []
    assert find_clusters({"frog": (same[:2], same[:2])}) == []


def test_bad_input_says_what() -> None:
    with pytest.raises(ValueError, match="synthetic: needs at least 2 images"):
        find_clusters({"frog": (normal(4, seed=0), normal(1, seed=0))})
