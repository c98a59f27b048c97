"""Inactive atoms: a trial costs the same whatever came before, and no atom that helps is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.floor import Floor
from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.atom_bank import AtomBank, near_real
from gapclose.loop.search.bank_limits import BankLimits
from gapclose.loop.search.kernel_means import RECALLED
from gapclose.loop.search.mixture_weights import allot, drop_small
from gapclose.loop.search.recording import Recording

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]

WIDTH: Final = 10
UNBOUNDED: Final = BankLimits(images=10**9, atoms=10**9)


class CountingKernel(Kernel):
    """A kernel that counts how often it is evaluated."""

    evaluations = 0

    def gram(self, a: ArrayLike, b: ArrayLike | None = None) -> Floats:
        found = super().gram(a, b)
        CountingKernel.evaluations += found.size
        return found


class World:
    """Photos of a few modes, and recipes near one of them each."""

    def __init__(self, seed: int, *, spread: float = 0.4) -> None:
        self.rng, self.spread = np.random.default_rng(seed), spread
        self.modes = self.rng.normal(size=(4, WIDTH))
        self.photos = self._near(self.modes[self.rng.choice(4, 150, p=(0.4, 0.3, 0.2, 0.1))])
        self.centres: list[NDArray[np.float64]] = []
        self._seed = 0

    def _near(self, centres: NDArray[np.float64]) -> Rows:
        rows = centres + self.spread * self.rng.normal(size=centres.shape)
        return np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    def recipe(self) -> int:
        away = self.rng.choice((0.1, 0.5, 1.0)) * self.rng.normal(size=WIDTH)
        self.centres.append(self.modes[self.rng.integers(4)] + away)
        return len(self.centres) - 1

    def images(self, recipe: int, n: int) -> tuple[Rows, range]:
        self._seed += n
        return self._near(np.tile(self.centres[recipe], (n, 1))), range(self._seed - n, self._seed)


def bank_of(world: World, limits: BankLimits) -> AtomBank:
    kernel = CountingKernel(bandwidths=Kernel.fit(world.photos).bandwidths)
    return AtomBank(kernel=kernel, real=world.photos, limits=limits)


def grown(weights: Floats | None, bank: AtomBank) -> Floats | None:
    if weights is None:
        return None
    return np.concatenate([weights, np.zeros(len(bank) - len(weights))])


def searched(
    world: World, banks: Sequence[AtomBank], trials: int
) -> tuple[list[Floats], list[int]]:
    """Fill banks with the same trials: a third are recipes, the others are of the last mixture.

    Returns:
        The weights of each, and the evaluations of the last in each trial.
    """
    weights: list[Floats | None] = [None] * len(banks)
    counts = []
    for trial in range(trials):
        lead = weights[0]
        if lead is None or trial % 3 == 0:
            jobs = [(world.recipe(), 8)]
        else:
            jobs = [(i, n) for i, n in enumerate(allot([*drop_small(lead)], 16)) if n]
        made = [(recipe, *world.images(recipe, n)) for recipe, n in jobs]
        for number, bank in enumerate(banks):
            before = CountingKernel.evaluations
            for recipe, rows, seeds in made:
                bank.add(rows, seeds, atom=recipe if recipe < len(bank) else None)
            weights[number] = bank.fit(start=grown(weights[number], bank))
            bank.gap(weights[number])
        counts.append(CountingKernel.evaluations - before)
    return [w for w in weights if w is not None], counts


def test_a_trial_compares_with_no_more_images_than_its_limits_allow() -> None:
    world, limits = World(1), BankLimits(images=300, atoms=40)
    bank = bank_of(world, limits)
    _, counts = searched(world, [bank], 240)
    assert int(bank.sizes.sum()) > 10 * limits.images
    assert len(bank) > 1.5 * limits.atoms
    assert len(bank.active) <= limits.atoms
    # But for the few trials after which others become inactive, which looks at all atoms once.
    often = np.sort(counts)[: int(0.9 * len(counts))]
    assert often.max() <= 24 * (limits.images + 24)
    assert max(counts) <= 24 * (limits.images + 24) + 8 * len(bank) * limits.images
    early, late = np.median(counts[40:80]), np.median(counts[200:240])
    assert late <= 2 * early


def test_every_atom_is_active_within_the_limits() -> None:
    world = World(2)
    bounded, unbounded = (
        bank_of(world, BankLimits(images=1_000, atoms=30)),
        bank_of(world, UNBOUNDED),
    )
    found, _ = searched(world, [unbounded, bounded], 60)
    assert found[0].tobytes() == found[1].tobytes()
    assert bounded.Q.tobytes() == unbounded.Q.tobytes()


def everything(world: World, bank: AtomBank) -> AtomBank:
    """The same images in a bank in which every atom is active."""
    exact = bank_of(world, UNBOUNDED)
    for number in range(len(bank)):
        rows, seeds = bank.rows_of(number)
        exact.add(rows, seeds.tolist())
    return exact


def floor_of(world: World) -> float:
    floor = Floor.fit(world.photos, kernel=Kernel.fit(world.photos), seed=0)
    return floor.floor_p95(n_real=len(world.photos), n_synthetic=200)


def test_the_mixture_is_as_good_as_one_that_is_fitted_to_everything() -> None:
    """A mixture keeps 300 images here, and 4,000 within the limits of a run: chance is larger."""
    lost = []
    for seed in (0, 1, 2, 3, 620):
        world = World(seed)
        unbounded, bounded = (
            bank_of(world, UNBOUNDED),
            bank_of(world, BankLimits(images=1_200, atoms=48)),
        )
        found, _ = searched(world, [unbounded, bounded], 160)
        assert len(bounded.active) < len(unbounded.active) == len(bounded)
        # Held against all pairs of all images. A tenth of a floor is a gain, half of one closed.
        unit, first = floor_of(world), np.eye(len(unbounded))[0]
        lost.append((unbounded.gap(found[1]) - unbounded.gap(found[0])) / unit)
        assert unbounded.gap(first) - unbounded.gap(found[1]) > 5 * unit
    assert np.mean(lost) < 0.25
    assert max(lost) < 0.5


def one_of_each(world: World, limits: BankLimits) -> AtomBank:
    """A bank of a perfect recipe of each mode, a poorer one of each, and many of no use."""
    bank = bank_of(world, limits)
    for away in (0.0, 0.6):
        for mode in world.modes:
            world.centres.append(mode + away * world.rng.normal(size=WIDTH) / np.sqrt(3))
    world.centres += [3 * world.rng.normal(size=WIDTH) for _ in range(40)]
    for recipe in range(len(world.centres)):
        bank.add(*world.images(recipe, 24))
    return bank


def test_an_inactive_atom_is_reactivated_once_it_would_help() -> None:
    world = World(5)
    bank = one_of_each(world, BankLimits(images=800, atoms=30))
    weights = bank.fit()
    # All that is at hand turns out to copy photos.
    barred = np.isin(np.arange(len(bank)), bank.active)
    after = bank.fit(start=weights, without=barred)
    assert after.sum() == pytest.approx(1.0)
    for _ in range(8):
        for recipe, n in enumerate(allot([*drop_small(after)], 100)):
            if n:
                rows, seeds = world.images(recipe, n)
                bank.add(rows, seeds, atom=recipe)
        after = bank.fit(start=after, without=barred)
    assert after[barred].sum() == 0
    exact = everything(world, bank)
    assert exact.gap(after) < 1.05 * exact.gap(exact.fit(without=barred))


def test_archived_images_are_kept_in_their_order_and_are_not_added_twice() -> None:
    world = World(7)
    bank, wanted = bank_of(world, BankLimits(images=200, atoms=10)), list[tuple[Rows, list[int]]]()
    weights = None
    for trial in range(60):
        recipe = world.recipe() if trial % 2 == 0 else trial % len(bank)
        rows, seeds = world.images(recipe, 6)
        bank.add(rows, seeds, atom=recipe if recipe < len(bank) else None)
        if recipe == len(wanted):
            wanted.append((rows, [*seeds]))
        else:
            wanted[recipe] = (
                np.concatenate([wanted[recipe][0], rows]),
                wanted[recipe][1] + [*seeds],
            )
        weights = bank.fit(start=grown(weights, bank))
    assert len(bank.active) <= 10 < len(bank)
    assert bank.sizes.tolist() == [len(seeds) for _, seeds in wanted]
    for atom, (rows, seeds) in enumerate(wanted):
        kept, known = bank.rows_of(atom)
        assert known.tolist() == seeds
        np.testing.assert_array_equal(kept, rows)
        active, size = bank.active.tolist(), len(bank.active)
        with pytest.raises(ValueError, match="a seed each"):
            bank.add(rows[:2], [10**6, seeds[0]], atom=atom)
        assert (bank.active.tolist(), len(bank.Q)) == (active, size)


def test_an_atom_that_gets_images_is_compared_again_with_those_that_it_had() -> None:
    world = World(8)
    bank = one_of_each(world, BankLimits(images=400, atoms=16))
    bank.fit()
    inactive = int(np.setdiff1d(np.arange(len(bank)), bank.active)[0])
    before, _ = bank.rows_of(inactive)
    rows, seeds = world.images(inactive, 1)
    bank.add(rows, seeds, atom=inactive)
    assert bank.active[-1] == inactive
    its = np.concatenate([before[-RECALLED:], rows])
    assert bank.Q[-1, -1] == pytest.approx(bank.kernel.mean_distinct(its), abs=1e-6)
    assert bank.q[inactive] == pytest.approx(bank.kernel.mean(its, world.photos), abs=1e-6)


def test_the_score_of_an_inactive_atom_compares_the_same_images_on_both_sides() -> None:
    world = World(10)
    bank = bank_of(world, BankLimits(images=1_500, atoms=8))
    for _ in range(30):
        bank.add(*world.images(world.recipe(), 2 * RECALLED))
    weights = bank.fit()
    inactive = np.setdiff1d(np.arange(len(bank)), bank.active)
    bank.add(*world.images(int(weights.argmax()), 1_500), atom=int(weights.argmax()))
    weights = bank.fit(start=weights)
    scores = bank.scores(weights)
    inactive = np.intersect1d(inactive, np.setdiff1d(np.arange(len(bank)), bank.active))
    assert len(inactive) > 10
    for atom in inactive.tolist():
        rows, seeds = (its[-RECALLED:] for its in bank.rows_of(atom))
        near = near_real(bank.kernel, rows, bank.real)
        slopes = bank.slopes(weights, rows, seeds.tolist(), near)
        assert scores[atom] == pytest.approx(slopes.mean(), abs=1e-6)


def test_a_search_with_inactive_atoms_is_replayed_without_computing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def filled(known: Sequence[Recording | None]) -> tuple[AtomBank, Floats, list[Recording]]:
        world, noted = World(9), []
        bank, weights = bank_of(world, BankLimits(images=200, atoms=16)), None
        for trial, recording in enumerate(known):
            recipe = world.recipe() if trial % 2 == 0 else trial % len(bank)
            rows, seeds = world.images(recipe, 6)
            with bank.noting(recording) as recorder:
                bank.add(rows, seeds, atom=recipe if recipe < len(bank) else None)
                weights = bank.fit(start=grown(weights, bank))
            noted.append(recorder.recording)
        assert weights is not None
        return bank, weights, noted

    bank, weights, noted = filled([None] * 60)
    assert len(bank.active) < len(bank)
    for name in ("gram", "mean_rows", "mean"):
        monkeypatch.setattr(Kernel, name, None)
    monkeypatch.setattr(CountingKernel, "gram", None)
    again, weights_again, _ = filled(noted)
    assert weights_again.tobytes() == weights.tobytes()
    for name in ("active", "Q", "q", "sizes"):
        assert getattr(again, name).tobytes() == getattr(bank, name).tobytes()
    assert again.scores(weights).tobytes() == bank.scores(weights).tobytes()
