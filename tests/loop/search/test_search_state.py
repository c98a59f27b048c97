"""What a class's search knows, as its phases and absorbing read it."""

from __future__ import annotations

import math

import modes
import numpy as np

from gapclose.loop.search.search_state import SearchState


def state_of(trials: int) -> SearchState:
    real = modes.mixed({"brown": 0.6, "gray": 0.4}, 100, np.random.default_rng(0))
    search = modes.make_search(real, images_per_trial=8, confirm_images=200)
    for _ in range(trials):
        proposal = modes.propose(search, settings_trials=4)
        search.absorb(proposal, modes.generate(proposal))
    return search.state


def test_the_gap_is_the_baselines_until_fresh_images_have_told() -> None:
    nothing = state_of(0)
    assert not nothing.has_baseline
    assert math.isnan(nothing.gap)
    assert math.isnan(nothing.expected)
    fitted = state_of(6)
    assert fitted.gap == fitted.baseline_gap > fitted.expected == fitted.atoms.gap()
    measured = state_of(7)
    assert measured.gap == measured.expected == measured.mixture_gap.gap != measured.baseline_gap


def test_what_is_expected_is_no_worse_than_the_baseline() -> None:
    state = state_of(6)
    state.baseline_gap = state.atoms.gap() - 1.0
    assert state.expected == state.baseline_gap


def test_it_is_open_once_the_first_prompts_are_tried() -> None:
    assert [state_of(n).opened for n in (0, 1, 5, 6)] == [False, False, False, True]


def test_seeds_are_fresh_for_each_trial() -> None:
    state = state_of(3)
    first = state.fresh_seeds(5)
    state.number += 1
    assert len({*first, *state.fresh_seeds(5), *state.baseline_seeds()}) == 10 + 100


def test_a_screen_that_showed_nothing_orders_nothing() -> None:
    slots = {"color": list(modes.WORDS), "place": ["", " here", " there", " afar"]}
    space = modes.make_space(prompt="a {color} frog{place}", slots=slots)
    real = modes.mixed({"brown": 0.6, "gray": 0.4}, 100, np.random.default_rng(0))
    for done in (False, True):
        search = modes.make_search(real, space=space, blind=True, images_per_trial=8)
        for _ in range(1 + done):
            proposal = modes.propose(search, settings_trials=8)
            search.absorb(proposal, modes.generate(proposal))
        search.state.end_screen()
        assert search.state.screen.over
        assert bool(search.prior) is done
        before = search.prior
        search.state.end_screen()
        assert search.prior is before
