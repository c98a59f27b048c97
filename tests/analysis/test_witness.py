"""The witness function: known differences come first, and equal sides have none."""

from __future__ import annotations

import numpy as np
import pytest

from gapclose.analysis.gap import mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.analysis.witness import witness


def two_modes(n: int, share: float, seed: int) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    rows = rng.normal(scale=0.3, size=(n, 16)).astype(np.float32)
    rows[: int(share * n), 0] += 3.0
    return rows


def test_the_mode_that_only_one_side_has_is_most_unlike() -> None:
    real, synthetic = two_modes(100, 0.0, 1), two_modes(80, 0.25, 2)
    kernel = Kernel.fit(real)
    of_real, of_synthetic = witness(real=real, synthetic=synthetic, kernel=kernel)
    assert set(np.argsort(-of_synthetic)[:20]) == set(range(20))
    assert of_real.shape == (100,)


def test_its_mean_difference_is_the_gap() -> None:
    real, synthetic = two_modes(60, 0.5, 1), two_modes(50, 0.1, 2)
    kernel = Kernel.fit(real)
    of_real, of_synthetic = witness(real=real, synthetic=synthetic, kernel=kernel)
    gap = mmd2(real=real, synthetic=synthetic, kernel=kernel)
    assert of_real.mean() + of_synthetic.mean() == pytest.approx(gap, abs=1e-6)


def test_a_naive_double_loop_agrees() -> None:
    real, synthetic = two_modes(9, 0.5, 1), two_modes(7, 0.1, 2)
    kernel = Kernel.fit(real)
    of_real, of_synthetic = witness(real=real, synthetic=synthetic, kernel=kernel)

    def k(a: object, b: object) -> float:
        return float(kernel.gram(np.stack([a]), np.stack([b]))[0, 0])  # type: ignore[arg-type]

    for i in range(9):
        own = np.mean([k(real[i], real[j]) for j in range(9) if j != i])
        other = np.mean([k(real[i], row) for row in synthetic])
        assert of_real[i] == pytest.approx(own - other, abs=1e-5)
    for i in range(7):
        own = np.mean([k(synthetic[i], synthetic[j]) for j in range(7) if j != i])
        other = np.mean([k(synthetic[i], row) for row in real])
        assert of_synthetic[i] == pytest.approx(own - other, abs=1e-5)


def test_large_sides_are_held_against_a_part_of_each() -> None:
    real, synthetic = two_modes(2_600, 0.5, 1), two_modes(2_300, 0.1, 2)
    kernel = Kernel.fit(real)
    of_real, of_synthetic = witness(real=real, synthetic=synthetic, kernel=kernel)
    assert (len(of_real), len(of_synthetic)) == (2_600, 2_300)
    assert of_real[:1300].mean() > of_real[1300:].mean() + 0.1
