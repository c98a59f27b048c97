"""The limits: what stays fits into half of them, and nothing is left out that helps more."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gapclose.loop.search.bank_limits import BankLimits


def test_a_usual_run_fits() -> None:
    # Of 500 trials of 8 images seven in ten are of the mixture, with 40; or all are recipes.
    assert not BankLimits().is_exceeded(images=350 * 40 + 150 * 8, atoms=500)
    assert BankLimits().is_exceeded(images=16_001, atoms=1)
    assert BankLimits().is_exceeded(images=1, atoms=1_001)


@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=60), st.integers(16, 4_000))
def test_the_mixture_has_a_quarter_of_the_room(sizes: list[int], images: int) -> None:
    limits, carrying = BankLimits(images=images), np.array(sizes)
    most = limits.most_of_each(carrying)
    taken = np.minimum(carrying, most).sum()
    assert most == 2 or taken <= images // 4
    # Twice as many would be too many, or are more than are allowed of one.
    assert np.minimum(carrying, 2 * most + 1).sum() > images // 4 or 2 * most > images // 4


@given(st.integers(1, 60), st.integers(0, 10_000), st.booleans())
def test_what_stays_are_the_mixture_and_what_helps_it_most(n: int, seed: int, bar: bool) -> None:
    rng, limits = np.random.default_rng(seed), BankLimits(images=200, atoms=30)
    sizes, scores = rng.integers(2, 12, size=n), rng.normal(size=n)
    without = rng.random(n) < 0.3 if bar else None
    weights = np.where(rng.random(n) < 0.1, rng.random(n), 0.0)
    chosen = limits.chosen(weights, scores, sizes, without)
    barred = np.zeros(n, bool) if without is None else without
    stays = np.isin(np.arange(n), chosen)
    carries = (weights > 0) & ~barred
    assert stays[carries].all()
    assert len(chosen) >= 1
    if carries.sum() <= 15 and sizes[carries].sum() <= 100:
        assert len(chosen) <= 15
        assert sizes[chosen].sum() <= 100
    # Inactive atoms would help less than what stays; barred atoms stay only once all others do.
    others = stays & ~carries
    if others.any() and (~stays).any():
        last = max((barred[i], scores[i]) for i in np.flatnonzero(others))
        assert last <= min((barred[i], scores[i]) for i in np.flatnonzero(~stays))


def test_where_all_that_carry_weight_are_barred_another_stays() -> None:
    scores, sizes = np.array([0.0, 3.0, 2.0]), np.array([90, 90, 90])
    barred = np.array([True, False, False])
    chosen = BankLimits(images=200).chosen(np.array([1.0, 0.0, 0.0]), scores, sizes, barred)
    assert chosen.tolist() == [2]
