"""Kernel means: over the pairs that were compared, by a double loop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.kernel_means import KernelMeans

Floats = NDArray[np.float64]


def now(size: int, compute: Callable[[], Floats]) -> Floats:
    found = compute()
    assert found.shape == (size,)
    return found


def rows_of(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    rows = rng.normal(size=(n, 5))
    return np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))


class DoubleLoop:
    """The same means, pair by pair."""

    def __init__(self, means: KernelMeans, kernel: Kernel) -> None:
        self.means, self.kernel, self.rng = means, kernel, np.random.default_rng(0)
        self.here: list[int] = []
        self.image: dict[int, NDArray[np.float32]] = {}
        self.atom: dict[int, int] = {}
        self.pairs: defaultdict[tuple[int, int], list[float]] = defaultdict(list)

    def add(self, atom: int, first: int, n: int) -> None:
        rows = rows_of(self.rng, n)
        self.means.add(atom, rows, range(first, first + n), (), now)
        for seed, row in zip(range(first, first + n), rows, strict=True):
            self.image[seed], self.atom[seed] = row, atom
            self.compare(seed)

    def compare(self, seed: int) -> None:
        for other in self.here:
            one = self.atom[seed], self.atom[other]
            value = self.kernel.gram(self.image[seed][None], self.image[other][None])[0, 0]
            for pair in {one, one[::-1]}:
                self.pairs[pair].append(float(value))
        self.here.append(seed)

    def check(self) -> None:
        active = self.means.active.tolist()
        wanted = [[np.mean(self.pairs[one, other]) for other in active] for one in active]
        np.testing.assert_allclose(self.means.values, wanted, atol=1e-6)
        assert self.means.images.seeds.tolist() == self.here


def test_means_are_over_all_pairs_that_were_compared() -> None:
    kernel = Kernel(bandwidths=(0.5, 1.0))
    means = KernelMeans(kernel, 5)
    loop = DoubleLoop(means, kernel)
    for atom in range(4):
        loop.add(atom, 100 * atom, 3 + atom)
    loop.add(1, 150, 4)
    assert means.counted.tolist() == [3, 8, 5, 6]
    loop.check()
    # Two atoms stay, with the last images that they have: sums go on from where they were.
    means.keep(np.array([1, 3]), 3)
    loop.here[:] = [303, 304, 305, 151, 152, 153]
    assert (means.active.tolist(), means.counted.tolist()) == ([1, 3], [8, 6])
    loop.check()
    loop.add(3, 390, 2)
    loop.add(4, 400, 2)
    assert means.counted.tolist() == [8, 8, 2]
    loop.check()
    # What comes back has no sums, and is compared with what is at hand.
    for pair in [pair for pair in loop.pairs if 2 in pair]:
        del loop.pairs[pair]
    means.reactivate([2], now)
    for seed in range(200, 205):
        loop.compare(seed)
    assert means.active.tolist() == [1, 3, 4, 2]
    loop.check()
    assert means.all_of(1)[1].tolist() == [100, 101, 102, 103, 150, 151, 152, 153]
    assert means.all_of(0)[1].tolist() == [0, 1, 2]


def test_images_are_held_against_the_share_of_a_mixture_that_is_at_hand() -> None:
    rng = np.random.default_rng(1)
    kernel = Kernel(bandwidths=(0.5, 1.0))
    means = KernelMeans(kernel, 5)
    for atom in range(3):
        means.add(atom, rows_of(rng, 6), range(10 * atom, 10 * atom + 6), (), now)
    means.keep(np.array([0, 2]), 4)
    fresh, weights = rows_of(rng, 3), np.array([0.7, 0.0, 0.3])
    found = means.towards(weights, fresh, np.array([90, 91, 92]))
    wanted = 0.7 * kernel.mean_rows(fresh, means.all_of(0)[0][-4:])
    wanted += 0.3 * kernel.mean_rows(fresh, means.all_of(2)[0][-4:])
    np.testing.assert_allclose(found, wanted, atol=1e-6)
