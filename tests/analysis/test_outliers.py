from __future__ import annotations

import numpy as np

from gapclose.analysis.outliers import find_outliers


def unit(n: int, center: int, rng: np.random.Generator) -> np.ndarray:
    points = rng.normal(scale=0.1, size=(n, 16))
    points[:, center] += 1.0
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_a_photo_of_something_else_is_named_first() -> None:
    rng = np.random.default_rng(0)
    frogs, others = unit(200, 0, rng), unit(3, 5, rng)
    found = find_outliers(np.concatenate([frogs, others]))
    assert {i for i, _ in found} == {200, 201, 202}
    distances = [distance for _, distance in found]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] > 2.0


def test_a_group_of_its_own_is_no_outlier() -> None:
    rng = np.random.default_rng(1)
    assert find_outliers(np.concatenate([unit(150, 0, rng), unit(40, 5, rng)])) == []


def test_of_ordinary_images_hardly_any_are_far_out() -> None:
    rng = np.random.default_rng(2)
    assert sum(len(find_outliers(unit(200, 0, rng))) for _ in range(20)) <= 4  # of 4,000


def test_few_or_equal_images_have_none() -> None:
    rng = np.random.default_rng(3)
    assert find_outliers(np.concatenate([unit(15, 0, rng), unit(1, 5, rng)])) == []
    assert find_outliers(np.ones((50, 4))) == []
