"""The bank: its kernel means against a double loop, and what may be added to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapclose.analysis.gap import mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.atom_bank import AtomBank, near_real
from gapclose.loop.search.bank_limits import BankLimits
from gapclose.loop.search.mixture_weights import solve_weights
from gapclose.loop.search.recording import Recording

Floats = NDArray[np.float64]


def unit(rng: np.random.Generator, n: int, d: int = 6, towards: int = 0) -> NDArray[np.float32]:
    """Unit rows round the axis `towards`."""
    rows = rng.normal(size=(n, d)) * 0.4
    rows[:, towards] += 1.0
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_bank_against_a_double_loop() -> None:
    rng = np.random.default_rng(1)
    real = unit(rng, 30)
    kernel = Kernel.fit(real)
    # Atoms 0 and 1 share two seeds; 2 and 3 are one set of seeds under two cameras.
    atoms = [
        (unit(rng, 5, towards=1), [1, 2, 3, 4, 5]),
        (unit(rng, 4, towards=2), [4, 5, 6, 7]),
        (unit(rng, 2, towards=3), [20, 21]),
        (unit(rng, 3, towards=3), [20, 21, 22]),
    ]
    bank = AtomBank(kernel=kernel, real=real)
    for number, (rows, seeds) in enumerate(atoms):
        assert bank.add(rows, seeds) == number
    assert bank.sizes.tolist() == [5, 4, 2, 3]

    def k(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        d2 = float(np.square(a.astype(np.float64) - b).sum())
        return float(np.mean([np.exp(-d2 / (2 * s * s)) for s in kernel.bandwidths]))

    for i, (a, seeds_a) in enumerate(atoms):
        assert bank.q[i] == pytest.approx(np.mean([k(x, y) for x in a for y in real]), abs=1e-5)
        for j, (b, seeds_b) in enumerate(atoms):
            values = [
                k(x, y)
                for x, s in zip(a, seeds_a, strict=True)
                for y, t in zip(b, seeds_b, strict=True)
                if s != t
            ]
            assert bank.Q[i, j] == pytest.approx(np.mean(values), abs=1e-5), (i, j)
    np.testing.assert_allclose(bank.Q, bank.Q.T)


@settings(max_examples=40)
@given(st.lists(st.integers(-1, 6), min_size=1, max_size=9), st.integers(0, 10_000))
def test_an_image_is_not_compared_with_its_own_source(sources: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    real, rows = unit(rng, 7), unit(rng, len(sources), towards=1)
    kernel = Kernel.fit(real)
    found = near_real(kernel, rows, real, sources)
    for row, source, near in zip(rows, sources, found, strict=True):
        others = real if source < 0 else np.delete(real, source, axis=0)
        assert near == pytest.approx(kernel.mean(row[None], others), abs=1e-6)
    np.testing.assert_array_equal(
        near_real(kernel, rows, real), near_real(kernel, rows, real, [-1] * len(rows))
    )


def test_copies_of_the_tune_split_are_as_far_from_it_as_from_unseen_photos() -> None:
    rng = np.random.default_rng(3)
    kernel = Kernel.fit(unit(rng, 400))
    unseen, told, flattered = [], [], []
    for _ in range(200):
        real, fold = unit(rng, 30), unit(rng, 30)
        sources = rng.integers(0, 30, size=24).tolist()
        rows, bank = real[sources], AtomBank(kernel=kernel, real=real)
        unseen.append(mmd2(real=fold, synthetic=rows, kernel=kernel))
        told.append(bank.gap_of(rows, sources=sources))
        flattered.append(bank.gap_of(rows))
        bank.add(rows, range(24), sources=sources)
        assert bank.gap(np.ones(1)) == pytest.approx(told[-1], abs=1e-6)
    error = np.std(np.subtract(told, unseen)) / np.sqrt(len(told))
    assert np.mean(unseen) > 5 * error
    assert np.mean(told) == pytest.approx(np.mean(unseen), abs=3 * error)
    assert np.mean(flattered) < -5 * error


def test_what_is_asked_of_images_with_sources_leaves_those_out() -> None:
    rng = np.random.default_rng(4)
    real = unit(rng, 12)
    kernel = Kernel.fit(real)
    sources, seeds = [0, 3, 3, 7, -1, 11], range(6)
    made = np.concatenate([real[sources[:4]], unit(rng, 2, towards=2)])
    changed = unit(rng, 6, towards=1)

    def bank(sources: Sequence[int]) -> AtomBank:
        found = AtomBank(kernel=kernel, real=real)
        found.add(made[:3], seeds[:3], sources=sources[:3])
        found.add(made[3:], seeds[3:], sources=sources[3:])
        found.add(made[:2], [8, 9], sources=sources[:2], atom=1)
        return found

    apart = bank(sources)
    wanted = [near_real(kernel, made[i], real, np.take(sources, i).tolist()).mean() for i in
              ([0, 1, 2], [3, 4, 5, 0, 1])]  # fmt: skip
    np.testing.assert_allclose(apart.q, wanted, atol=1e-6)
    np.testing.assert_allclose(apart.Q, bank([]).Q)  # seeds that share a photo are as they come
    weights = np.array([0.5, 0.5])
    near = near_real(kernel, made, real, sources)
    plain = near_real(kernel, made, real)
    fresh = range(90, 96)
    slopes = apart.slopes(weights, made, fresh, near)
    np.testing.assert_allclose(slopes, apart.slopes(weights, made, fresh, plain) + plain - near)
    moved = apart.change(weights, made, changed, fresh, sources=sources)
    far = near_real(kernel, changed, real, sources) - near_real(kernel, changed, real)
    assert moved == pytest.approx(
        apart.change(weights, made, changed, fresh) - 2 * (far - (near - plain)).mean(), abs=1e-6
    )
    far_off = AtomBank(kernel=kernel, real=real)
    far_off.add(unit(rng, 30, towards=3), range(100, 130))
    flattered = far_off.promise(np.ones(1), made, fresh)
    assert 0 < far_off.promise(np.ones(1), made, fresh, sources=sources) < flattered


def test_gaps_are_the_squared_mmd() -> None:
    rng = np.random.default_rng(2)
    real = unit(rng, 40)
    kernel = Kernel.fit(real)
    bank = AtomBank(kernel=kernel, real=real)
    sets = [unit(rng, 12, towards=t) for t in range(3)]
    for t, rows in enumerate(sets):
        bank.add(rows, range(100 * t, 100 * t + 12))
    wanted = [mmd2(real=real, synthetic=rows, kernel=kernel) for rows in sets]
    corners = [bank.gap(corner) for corner in np.eye(3)]
    np.testing.assert_allclose(corners, wanted, atol=1e-6)


def test_a_mixture_with_equal_counts_is_the_pooled_mmd_up_to_its_diagonal() -> None:
    # Half of each of two atoms: the cross term is the mean over both, as for the pooled set.
    rng = np.random.default_rng(5)
    real = unit(rng, 40)
    kernel = Kernel.fit(real)
    a, b = unit(rng, 200, towards=1), unit(rng, 200, towards=2)
    bank = AtomBank(kernel=kernel, real=real)
    bank.add(a, range(200))
    bank.add(b, range(200, 400))
    pooled = mmd2(real=real, synthetic=np.concatenate([a, b]), kernel=kernel)
    assert bank.gap(np.array([0.5, 0.5])) == pytest.approx(pooled, abs=0.01)


def test_images_that_say_nothing_are_refused() -> None:
    rng = np.random.default_rng(6)
    real = unit(rng, 40)
    bank = AtomBank(kernel=Kernel.fit(real), real=real)
    with pytest.raises(ValueError, match="at least 2 images"):
        bank.add(unit(rng, 1), [1])
    with pytest.raises(ValueError, match="a seed each"):
        bank.add(unit(rng, 3), [1, 2, 1])
    assert len(bank) == 0


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=9),
    st.integers(0, 10_000),
)
def test_images_that_come_later_count_as_if_they_had_been_there(
    batches: list[tuple[int, int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    real = unit(rng, 20)
    kernel = Kernel.fit(real)
    grown = AtomBank(kernel=kernel, real=real)
    rows: list[list[NDArray[np.float32]]] = []
    seeds: list[list[int]] = []
    number: dict[int, int] = {}
    for recipe, n in [(0, 2), *batches]:
        n = n if recipe in number else max(n, 2)
        its = unit(rng, n, towards=recipe + 1)
        # Atoms share seeds with each other, an atom's own differ.
        taken = seeds[number[recipe]] if recipe in number else []
        fresh = [s for s in rng.permutation(60).tolist() if s not in taken][:n]
        atom = grown.add(its, fresh, atom=number.get(recipe))
        assert atom == number.setdefault(recipe, len(number))
        if atom == len(rows):
            rows.append([])
            seeds.append([])
        rows[atom].append(its)
        seeds[atom] += fresh
    once = AtomBank(kernel=kernel, real=real)
    for parts, of in zip(rows, seeds, strict=True):
        once.add(np.concatenate(parts), of)
    assert grown.sizes.tolist() == once.sizes.tolist() == [len(of) for of in seeds]
    np.testing.assert_allclose(grown.Q, once.Q, atol=1e-6)
    np.testing.assert_allclose(grown.q, once.q, atol=1e-6)
    np.testing.assert_allclose(grown.fit(), once.fit(), atol=1e-3)
    for atom, of in enumerate(seeds):
        kept, known = grown.rows_of(atom)
        assert known.tolist() == of
        np.testing.assert_array_equal(kept, np.concatenate(rows[atom]))


def test_a_seed_comes_once_to_an_atom() -> None:
    rng = np.random.default_rng(6)
    real = unit(rng, 40)
    bank = AtomBank(kernel=Kernel.fit(real), real=real)
    bank.add(unit(rng, 3), [1, 2, 3])
    bank.add(unit(rng, 2), [1, 9])
    before = bank.Q.copy()
    with pytest.raises(ValueError, match="a seed each"):
        bank.add(unit(rng, 2), [4, 3], atom=0)
    with pytest.raises(ValueError, match="a seed each"):
        bank.add(unit(rng, 2), [4, 4], atom=0)
    np.testing.assert_array_equal(bank.Q, before)
    bank.add(unit(rng, 1), [9], atom=0)
    assert bank.sizes.tolist() == [4, 2]


def test_scores_are_the_gradient() -> None:
    rng = np.random.default_rng(7)
    real = unit(rng, 40)
    bank = AtomBank(kernel=Kernel.fit(real), real=real)
    for t in range(4):
        bank.add(unit(rng, 400, towards=t), range(1000 * t, 1000 * t + 400))
    weights = bank.fit()
    scores = bank.scores(weights)
    for j in range(4):
        step = 1e-4 * (np.eye(4)[j] - weights)
        slope = (bank.gap(weights + step) - bank.gap(weights - step)) / 2e-4
        assert slope == pytest.approx(2 * (scores[j] - weights @ scores), abs=1e-8)
    # Where the weights are fitted the atoms that carry some score alike, and no other lower.
    carrying = weights > 1e-3
    assert 1 < carrying.sum() < 4
    assert np.ptp(scores[carrying]) < 2e-3
    assert scores.min() >= scores[carrying].min() - 1e-3


def test_slopes_are_the_scores_image_by_image() -> None:
    rng = np.random.default_rng(8)
    real = unit(rng, 40)
    bank = AtomBank(kernel=Kernel.fit(real), real=real)
    sets = [(unit(rng, 6, towards=t), [10 * t + i for i in range(6)]) for t in range(3)]
    for rows, seeds in sets:
        bank.add(rows, seeds)
    weights = np.array([0.7, 0.3, 0.0])
    scores = bank.scores(weights)
    rows, seeds = sets[2]
    near = near_real(bank.kernel, rows, real)
    slopes = bank.slopes(weights, rows, seeds, near)
    assert slopes.shape == (6,)
    assert slopes.mean() == pytest.approx(scores[2], abs=1e-6)
    # Rows that the bank lacks count the same, whatever their seeds, if it has none of those.
    others = range(900, 906)
    np.testing.assert_allclose(bank.slopes(weights, rows, others, near), slopes, atol=1e-9)
    # An image of a seed that the bank has is held against the others alone.
    alone = bank.kernel.gram(rows[:1], np.concatenate([sets[0][0][1:], sets[1][0]]))[0]
    share = np.array([0.7 / 6] * 5 + [0.3 / 6] * 6)
    wanted = alone @ share / share.sum() - bank.kernel.mean(rows[:1], real)
    assert bank.slopes(weights, rows[:1], [0], near[:1])[0] == pytest.approx(wanted, abs=1e-6)


def many(rng: np.random.Generator, towards: Sequence[int], n: int) -> AtomBank:
    """A bank of recipes with so many images each; the photos are of axes 1 and 2."""
    real = np.concatenate([unit(rng, 60, towards=1), unit(rng, 60, towards=2)])
    bank = AtomBank(kernel=Kernel.fit(real), real=real)
    for t in towards:
        bank.add(unit(rng, n, towards=t), range(1000 * t, 1000 * t + n))
    return bank


@pytest.mark.parametrize("n", [4, 5, 8, 24])
@pytest.mark.parametrize("towards", [1, 2, 3])
def test_chance_promises_nothing(n: int, towards: int) -> None:
    # The mixture is the best of three recipes, so no more of them helps, and none is a loss
    # that it would be told.
    rng = np.random.default_rng([towards, n])
    bank = many(rng, (1, 2, 3), 400)
    weights = bank.fit()
    found = [
        bank.promise(weights, unit(rng, n, towards=towards), range(9000, 9000 + n))
        for _ in range(300)
    ]
    assert np.mean(found) < 2 * np.std(found) / np.sqrt(len(found)) + 1e-12
    assert min(found) < 0 < max(found) or towards == 3


def test_what_helps_promises_what_it_gains() -> None:
    rng = np.random.default_rng(5)
    bank = many(rng, (1, 3), 400)
    before = bank.fit()
    found = [bank.promise(before, unit(rng, 24, towards=2), range(9000, 9024)) for _ in range(100)]
    bank.add(unit(rng, 800, towards=2), range(20_000, 20_800))
    steps = np.linspace(0, 1, 401)
    start, end = np.append(before, 0.0), np.eye(3)[2]
    gains = bank.gap(start) - np.array([bank.gap((1 - a) * start + a * end) for a in steps])
    assert gains.max() > 0.02
    # A step that is found on few images is a little off the best one, never better in the mean.
    assert 0.9 * gains.max() < np.mean(found) < 1.05 * gains.max()


def test_the_ridge_spreads_weight_from_a_small_lucky_atom() -> None:
    rng = np.random.default_rng(8)
    real = unit(rng, 60)
    bank = AtomBank(kernel=Kernel.fit(real), real=real)
    bank.add(real[:2], [1, 2])  # two images that lie on real ones
    bank.add(unit(rng, 60), range(100, 160))
    assert bank.fit()[0] < solve_weights(bank.Q, bank.q)[0] - 0.05
    assert bank.fit()[1] > 0.5


def test_an_atom_of_one_image_is_refused() -> None:
    rng = np.random.default_rng(9)
    bank = AtomBank(kernel=Kernel.fit(unit(rng, 20)), real=unit(rng, 20))
    with pytest.raises(ValueError, match="at least 2 images"):
        bank.add(unit(rng, 1), [1])


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_the_order_of_atoms_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    real = unit(rng, 20)
    kernel = Kernel.fit(real)
    sets = [(unit(rng, 4, towards=t), range(10 * t, 10 * t + 4)) for t in range(3)]
    forth, back = AtomBank(kernel=kernel, real=real), AtomBank(kernel=kernel, real=real)
    for rows, seeds in sets:
        forth.add(rows, seeds)
    for rows, seeds in reversed(sets):
        back.add(rows, seeds)
    np.testing.assert_allclose(forth.Q, back.Q[::-1, ::-1], atol=1e-6)
    np.testing.assert_allclose(forth.q, back.q[::-1], atol=1e-6)


def test_what_was_noted_is_read_back_and_nothing_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(7)
    real = unit(rng, 30)

    def filled(known: Recording | None) -> tuple[AtomBank, list[float], Recording]:
        rng = np.random.default_rng(8)
        bank = AtomBank(kernel=Kernel.fit(real), real=real)
        with bank.noting(known) as recorder:
            for t in range(3):
                bank.add(unit(rng, 6, towards=t), range(10 * t, 10 * t + 6))
            weights = bank.fit()
            fresh, seeds = unit(rng, 4, towards=1), range(90, 94)
            told = [*weights, bank.promise(weights, fresh, seeds), bank.gap_of(fresh)]
            told.append(bank.score(weights, 1))
            bank.add(fresh, seeds, atom=1)
        return bank, told, recorder.recording

    bank, told, noted = filled(None)
    assert noted.basis == bank.basis
    for name in ("gram", "mean_rows", "mean"):
        monkeypatch.setattr(Kernel, name, None)
    again, told_again, noted_again = filled(noted)
    assert told_again == told
    assert noted_again.numbers.tobytes() == noted.numbers.tobytes()
    for name in ("Q", "q", "sizes"):
        assert getattr(again, name).tobytes() == getattr(bank, name).tobytes()
    with pytest.raises(TypeError):  # with other photos everything is computed anew
        filled(replace(noted, basis="other"))


def test_the_ruler_names_the_photos_the_kernel_and_the_room() -> None:
    real = unit(np.random.default_rng(1), 30)
    kernel = Kernel.fit(real)
    same = AtomBank(kernel=Kernel.fit(real), real=real.copy())
    assert AtomBank(kernel=kernel, real=real).basis == same.basis
    other = Kernel(bandwidths=kernel.bandwidths[:3])
    assert AtomBank(kernel=other, real=real).basis != same.basis
    assert AtomBank(kernel=kernel, real=real[::-1]).basis != same.basis
    assert AtomBank(kernel=kernel, real=real, limits=BankLimits(images=15_999)).basis != same.basis
