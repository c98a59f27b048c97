"""A mixture held still: its gap is that of all its fresh images, and when they have decided."""

from __future__ import annotations

import math
from typing import Any

import modes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapclose.analysis.class_gap import MIN_CLOSED
from gapclose.analysis.floor import Floor
from gapclose.analysis.gap import mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.mixture_gap import CERTAIN, CLOSED, Measurement, MixtureGap
from gapclose.loop.search.trial import Images, Mixture

EVEN = dict.fromkeys(modes.WORDS, 1 / len(modes.WORDS))
RECIPES = tuple(modes.make_space().recipe({"color": word}) for word in modes.WORDS)
MIXTURE = Mixture(recipes=RECIPES, weights=tuple(EVEN.values()), gap_tune=math.nan)


def make_measurement(floor: float = 0.01, confirm_images: int = 200) -> Measurement:
    return Measurement(mixture=MIXTURE, floor=floor, confirm_images=confirm_images)


def images_of(rows: modes.Rows) -> Images:
    n = len(rows)
    return Images(embeddings=rows, recipes=(0,) * n, seeds=tuple(range(n)))


def of_gap(gap: float, n: int, **options: Any) -> Measurement:
    """One that has so many images already, with this gap."""
    found = make_measurement(**options)
    found._rows.append(np.zeros((n, 2), dtype=np.float32))
    found.gap = gap
    return found


def test_its_gap_is_the_squared_mmd_of_all_its_images() -> None:
    rng = np.random.default_rng(0)
    real = modes.mixed(EVEN, 60, rng)
    kernel = Kernel.fit(real)
    bank = AtomBank(kernel=kernel, real=real)
    held = make_measurement()
    assert len(held) == 0
    assert math.isnan(held.gap)
    seen = []
    for n in (1, 2, 40, 7):
        seen.append(modes.sampled(EVEN, n, rng))
        held.add(images_of(seen[-1]), bank)
        rows = np.concatenate(seen)
        assert len(held) == len(rows)
        if len(rows) == 1:
            assert math.isnan(held.gap)
            assert held.outcome(60) == "more"
        else:
            wanted = mmd2(real=real, synthetic=rows, kernel=kernel)
            assert held.gap == pytest.approx(wanted, abs=1e-6)
    assert len(bank) == 0  # it looks at the photos alone


@given(st.floats(-0.05, 0.05), st.integers(2, 400), st.integers(20, 400), st.integers(20, 2000))
def test_what_images_say(gap: float, n: int, confirm_images: int, n_real: int) -> None:
    outcome = of_gap(gap, n, confirm_images=confirm_images).outcome(n_real)
    enough = n >= max(confirm_images, MIN_CLOSED)
    if gap <= CLOSED * 0.01:
        assert outcome == ("closed" if enough else "more")
    elif enough:
        assert outcome == "open"
    # A wider gap is never said to be less open, nor the same gap of more images.
    order = ("closed", "more", "open")
    wider = of_gap(gap + 0.01, n, confirm_images=confirm_images).outcome(n_real)
    assert order.index(wider) >= order.index(outcome)
    if not enough and outcome == "open":
        assert of_gap(gap, n + 1, confirm_images=confirm_images).outcome(n_real) == "open"


def test_few_images_must_show_more() -> None:
    # At the size of a confirmation a floor above; of a quarter of the images chance is wider.
    for n, least in ((199, CLOSED + CERTAIN), (50, CLOSED + 2.5 * CERTAIN)):
        assert of_gap((least - 0.05) * 0.01, n).outcome(200) == "more"
        assert of_gap((least + 0.05) * 0.01, n).outcome(200) == "open"


@pytest.mark.parametrize("confirm_images", [20, 60])
def test_under_a_hundred_images_close_nothing(confirm_images: int) -> None:
    assert of_gap(-1.0, 99, confirm_images=confirm_images).outcome(50) == "more"
    assert of_gap(-1.0, 100, confirm_images=confirm_images).outcome(50) == "closed"


def test_a_perfect_mixture_closes_and_a_poor_one_is_open_early() -> None:
    ends = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        real = modes.sampled(EVEN, 150, rng)
        kernel = Kernel.fit(real)
        bank = AtomBank(kernel=kernel, real=real)
        floor = Floor.fit(real, kernel=kernel).floor_p95(n_real=150, n_synthetic=200)
        for shares in (EVEN, {"brown": 1.0}):
            held = make_measurement(floor=floor)
            while held.outcome(150) == "more":
                held.add(images_of(modes.sampled(shares, 40, rng)), bank)
            ends.append((len(shares), held.outcome(150), len(held)))
    assert sum(end == (5, "closed", 200) for end in ends) >= 22
    assert {end for end in ends if end[0] == 1} == {(1, "open", 40)}


# --------------------------------------------------------- one measurement after the other


def near(n: int, *, by: float = 0.0, seed: int = 0) -> Images:
    """Images of the mixture, off its photos by some."""
    rows = modes.mixed(EVEN, n, np.random.default_rng(seed))
    rows[:, -1] += by
    return images_of(np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True)))


def held(confirm_images: int = 100) -> tuple[MixtureGap, AtomBank]:
    real = modes.mixed(EVEN, 200, np.random.default_rng(9))
    kernel = Kernel.fit(real)
    floor = Floor.fit(real, kernel=kernel).floor_p95(n_real=200, n_synthetic=confirm_images)
    return MixtureGap(floor=floor, confirm_images=confirm_images), AtomBank(
        kernel=kernel, real=real
    )


def fed(told: MixtureGap, trial: int, images: Images, bank: AtomBank) -> None:
    """One trial after the other."""
    told.begin(trial, lambda: MIXTURE)
    told.absorb(trial, images, bank)


def test_a_measurement_keeps_its_mixture_until_it_has_decided() -> None:
    told, bank = held()
    first = told.under_way(lambda: MIXTURE)
    assert told.under_way(lambda: pytest.fail("one is under way")) is first
    fed(told, 1, near(50), bank)
    assert told.current is first
    assert told.gap == first.gap
    fed(told, 2, near(50, seed=1), bank)
    assert (told.current, told.closed) == (None, True)
    assert told.gap == first.gap


def test_a_few_images_of_the_next_measurement_say_less_than_all_of_the_last() -> None:
    told, bank = held()
    fed(told, 1, near(100), bank)
    gap, told.closed = told.gap, True
    fed(told, 2, near(20, seed=2), bank)
    assert told.gap == gap
    assert not told.closed
    fed(told, 3, near(80, seed=3), bank)
    assert told.gap != gap


def test_a_gap_that_is_seen_at_once_ends_the_measurement_open() -> None:
    told, bank = held()
    fed(told, 1, near(30, by=0.8), bank)
    assert (told.current, told.closed) == (None, False)
    assert told.gap > 0


def test_what_was_drawn_for_a_measurement_that_has_ended_is_not_scored() -> None:
    told, bank = held()
    for trial in (1, 2, 3):
        told.begin(trial, lambda: MIXTURE)
    told.absorb(1, near(100), bank)
    assert (told.current, told.closed) == (None, True)
    gap = told.gap
    told.absorb(2, near(30, by=0.8), bank)
    assert (told.gap, told.closed) == (gap, True)
    told.begin(4, lambda: MIXTURE)  # of the next one
    told.absorb(3, near(30, by=0.8), bank)
    assert told.current is not None
    assert len(told.current) == 0
    told.forget(4)
    assert len(told.current) == 0


def test_a_measurement_that_is_abandoned_leaves_the_gap_that_it_told() -> None:
    told, bank = held()
    fed(told, 1, near(50), bank)
    gap = told.gap
    told.begin(2, lambda: MIXTURE)
    told.abandon()
    assert (told.current, told.gap) == (None, gap)
    told.absorb(2, near(50), bank)
    assert (told.current, told.gap) == (None, gap)
