"""Lessons: what the trial of each stage changes, and what it leaves alone."""

from __future__ import annotations

from typing import Any, get_args

import modes
import numpy as np
import pytest

from gapclose.loop.run.events import Stage
from gapclose.loop.search.absorbing import ABSORB, note_failure
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.phases import begin
from gapclose.loop.search.trial import Proposal

SPACE = modes.make_space(guidance_scale=[1.0, 9.0])


def searched(trials: int, **options: Any) -> ClassSearch:
    real = modes.mixed({"brown": 0.6, "gray": 0.4}, 100, np.random.default_rng(0))
    search = modes.make_search(real, images_per_trial=8, **{"space": SPACE} | options)
    for _ in range(trials):
        proposal = modes.propose(search, settings_trials=4)
        search.absorb(proposal, modes.generate(proposal))
    return search


def learned(search: ClassSearch, stage: Stage, own: float = 0.25) -> tuple[Proposal, float]:
    proposal = modes.propose(search, settings_trials=4)
    assert proposal.stage == stage
    return proposal, ABSORB[stage](search.state, proposal, modes.generate(proposal), own)


def test_every_stage_has_one() -> None:
    assert {*ABSORB} == {*get_args(Stage)}


def test_the_baseline_is_the_first_atom_and_its_gap_is_known() -> None:
    search = searched(0)
    _, value = learned(search, "baseline")
    assert value == search.state.baseline_gap == 0.25
    assert search.state.has_baseline
    assert search.state.atoms.weights.tolist() == [1.0]
    assert search.state.atoms.tried() == []


def test_a_recipe_is_an_atom_and_its_prompt_is_tried() -> None:
    search = searched(2)  # the first prompt is the baseline's
    proposal, value = learned(search, "joint")
    state = search.state
    assert state.atoms.tried()[1:] == [(proposal.params, 1)]
    assert value == state.atoms.score(1)
    assert not search.holds_untried([proposal.params])
    # A first prompt is no new recipe: the balance begins once settings are chosen.
    assert not state.balance.explores(state.atoms, 0.0, 8, untried=True)
    assert repr(state.balance) == repr(searched(0).state.balance)


def test_settings_say_what_they_change_and_no_mixture_learns_from_them() -> None:
    search = searched(6)
    before, atoms = search.weights.tobytes(), len(search.bank)
    proposal, value = learned(search, "settings")
    state = search.state
    points, values = state.settings.scores(search.bank, search.weights)
    assert (points[-1], float(values[-1])) == (proposal.params, value)
    assert (search.weights.tobytes(), len(search.bank)) == (before, atoms)
    assert state.settings.done == 1


def test_images_of_the_mixture_are_scored_before_it_learns_from_them() -> None:
    search = searched(10)
    state, sizes = search.state, search.bank.sizes.sum()
    proposal, value = learned(search, "mixture")
    images = modes.generate(proposal)
    assert value == 0.25
    assert state.mixture_gap.gap == pytest.approx(search.bank.gap_of(images.embeddings))
    assert search.bank.sizes.sum() >= sizes + len(images.seeds) - len(proposal.jobs)
    assert state.balance.explores(state.atoms, state.gap, 8, untried=False)


def test_what_failed_does_not_come_next_again() -> None:
    search = searched(1)
    first = modes.propose(search, settings_trials=4)
    note_failure(search.state, first)
    assert modes.propose(search, settings_trials=4).params != first.params
    search = searched(6)
    first = modes.propose(search, settings_trials=4)
    note_failure(search.state, first)
    assert search.state.settings.done == 1
    assert modes.propose(search, settings_trials=4).params != first.params
    before = repr(search.state.balance)
    mixture = Proposal(number=9, stage="mixture", params={}, jobs=())
    begin(search.state, mixture)
    note_failure(search.state, mixture)
    assert repr(search.state.balance) == before


def test_a_failed_screen_goes_on_to_the_next_prompts() -> None:
    slots = {"color": list(modes.WORDS), "place": ["", " here", " there", " afar"]}
    space = modes.make_space(prompt="a {color} frog{place}", slots=slots)
    search = searched(1, space=space, blind=True)
    first = modes.propose(search, settings_trials=8)
    assert first.stage == "screen"
    note_failure(search.state, first)
    following = modes.propose(search, settings_trials=8)
    assert following.stage == "screen"
    assert {r for r, _ in following.jobs}.isdisjoint(r for r, _ in first.jobs)
