"""Favoured atoms: they hold against chance, and give way to what is better."""

from __future__ import annotations

import numpy as np
import pytest
from modes import mixed
from numpy.typing import NDArray

from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.favoured import ENOUGH, suffice
from gapclose.loop.search.image_rows import ImageRows

REAL = {"brown": 0.5, "gray": 0.3, "red": 0.2}
Rows = NDArray[np.float32]


def bank_of(*atoms: tuple[dict[str, float], int], seed: int) -> tuple[AtomBank, ImageRows]:
    """A bank of atoms, each of so many images in some shares, and the images."""
    rng = np.random.default_rng(seed)
    real = mixed(REAL, 200, rng)
    bank, images = AtomBank(kernel=Kernel.fit(real), real=real), ImageRows(real.shape[1])
    first = 0
    for number, (shares, n) in enumerate(atoms):
        rows, seeds = mixed(shares, n, rng), [*range(first, first + n)]
        bank.add(rows, seeds)
        images.append(rows, seeds, number)
        first += n
    return bank, images


def kept(*atoms: tuple[dict[str, float], int], runs: int = 20) -> float:
    """How often the first atom suffices."""
    favoured, none = np.arange(len(atoms)) == 0, np.zeros(len(atoms), dtype=np.bool_)
    found = [bank_of(*atoms, seed=seed) for seed in range(runs)]
    return float(np.mean([suffice(favoured, none, images, bank.empty) for bank, images in found]))


def test_right_shares_suffice_against_atoms_of_few_images() -> None:
    others = [({word: 1.0}, 8) for word in ("brown", "gray", "red", "plain")]
    assert kept((REAL, 16), ({"plain": 1.0}, 100), *others) >= 0.75


def test_wrong_shares_give_way() -> None:
    others = [({word: 1.0}, 8) for word in ("brown", "gray", "red")]
    assert kept(({"brown": 0.2, "plain": 0.8}, 16), *others) == 0.0


def test_the_weight_stays_with_favoured_atoms_as_long_as_they_suffice() -> None:
    bank, _ = bank_of((REAL, 60), ({"plain": 1.0}, 60), seed=0)
    free = bank.fit()
    assert 0.0 < free[1] < 0.5
    np.testing.assert_array_equal(bank.fit(favoured=np.array([True, False])), [1.0, 0.0])
    np.testing.assert_array_equal(bank.fit(favoured=np.array([False, True])), free)


def test_among_favoured_atoms_weights_are_fitted() -> None:
    wrong = {"plain": 0.6, "brown": 0.4}  # as at settings that change what is seen
    bank, _ = bank_of((wrong, 60), (REAL, 60), ({"blue": 1.0}, 8), seed=0)
    weights = bank.fit(favoured=np.array([True, True, False]))
    assert weights[2] == 0.0
    assert weights[1] > 0.8


def test_too_few_images_say_nothing_and_many_need_no_help() -> None:
    favoured, none = np.array([True, False]), np.zeros(2, dtype=np.bool_)
    bank, images = bank_of(({"plain": 1.0}, 3), (REAL, 40), seed=0)
    assert suffice(favoured, none, images, bank.empty)
    bank, images = bank_of((REAL, ENOUGH), (REAL, 2), seed=0)
    assert not suffice(favoured, none, images, bank.empty)


@pytest.mark.parametrize("barred", [False, True])
def test_a_barred_atom_is_no_rival(barred: bool) -> None:
    bank, images = bank_of(({"plain": 1.0}, 40), (REAL, 40), seed=0)
    favoured, without = np.array([True, False]), np.array([False, barred])
    assert suffice(favoured, without, images, bank.empty) is barred
