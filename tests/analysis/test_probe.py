"""A linear probe on sides that are equal, and on sides that a line tells apart."""

from __future__ import annotations

import numpy as np
import pytest
from sphere import unit

from gapclose.analysis.probe import linear_auc


def test_probe_finds_nothing_in_equal_sides() -> None:
    areas = [
        linear_auc(real=unit(40, seed=s), synthetic=unit(40, seed=500 + s)) for s in range(40)
    ]
    assert abs(np.mean(areas) - 0.5) < 0.04


@pytest.mark.parametrize("width", [8, 300])
def test_probe_in_few_and_many_dimensions(width: int) -> None:
    real, synthetic = unit(100, width, seed=1), unit(80, width, seed=2, shift=4.0)
    assert linear_auc(real=real, synthetic=synthetic) > 0.9


def test_probe_ranks_sides_that_never_overlap_apart() -> None:
    one = np.tile(np.asarray([[1.0, 0.0]], dtype=np.float32), (20, 1))
    other = one[:, ::-1].copy()
    assert linear_auc(real=one, synthetic=other) == 1.0
    assert linear_auc(real=one, synthetic=one) == 0.5  # ties count half


def test_probe_follows_its_seed_and_needs_an_image_in_each_fold() -> None:
    real, synthetic = unit(30, seed=1), unit(30, seed=2, shift=0.3)
    told = [linear_auc(real=real, synthetic=synthetic, seed=seed) for seed in (0, 0, 1)]
    assert told[0] == told[1] != told[2]
    with pytest.raises(ValueError, match="synthetic: needs at least 5 images"):
        linear_auc(real=real, synthetic=synthetic[:4])
    linear_auc(real=real, synthetic=synthetic[:4], folds=4)
