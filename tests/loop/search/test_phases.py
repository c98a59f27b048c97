"""Phases: they are asked in their order, and a replayed trial ends those before it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import modes
import numpy as np
import pytest

from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.phases import PHASES, Ask, Phase, begin, next_trial
from gapclose.loop.search.search_state import SearchState
from gapclose.loop.search.trial import Proposal

SPACE = modes.make_space(guidance_scale=[1.0, 9.0])
ASK = Ask(settings_trials=4)
TRUTH = {"brown": 0.5, "gray": 0.3, "plain": 0.2}


def places() -> Any:
    slots = {"color": list(modes.WORDS), "place": ["", " here", " there", " afar"]}
    return modes.make_space(prompt="a {color} frog{place}", slots=slots)


def searched(trials: int, *, rows: Any = (), **options: Any) -> ClassSearch:
    """One that never closes, after so many trials."""
    real = modes.mixed(TRUTH, 100, np.random.default_rng(0))
    real[:, -2] += 0.5
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    search = modes.make_search(real, images_per_trial=8, **{"space": SPACE} | options)
    search.state.give(rows)
    for _ in range(trials):
        proposal = modes.propose(search, settings_trials=4)
        search.absorb(proposal, modes.generate(proposal))
    return search


def phase_of(state: SearchState, ask: Ask = ASK) -> str:
    """The name of the phase that has the next trial."""
    state = deepcopy(state)
    return next(phase.name for phase in PHASES if phase.propose(state, ask) is not None)


def test_their_order() -> None:
    assert [phase.name for phase in PHASES] == [
        "baseline", "the given mixture", "prioritized prompts", "parameters", "screen",
        "first prompts", "settings", "new recipes", "the mixture",
    ]  # fmt: skip
    assert all(phase.left_when for phase in PHASES)


def test_each_has_its_turn() -> None:
    search, seen = searched(0), []
    for _ in range(40):
        seen.append(phase_of(search.state))
        proposal = modes.propose(search, settings_trials=4)
        search.absorb(proposal, modes.generate(proposal))
    assert [*dict.fromkeys(seen)] == [
        "baseline", "first prompts", "settings", "the mixture", "new recipes"
    ]  # fmt: skip
    assert seen[:10] == ["baseline"] + ["first prompts"] * 5 + ["settings"] * 4


def test_the_first_that_has_a_trial_proposes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Proposal(number=0, stage="joint", params={}, jobs=())
    asked: list[str] = []

    def phase(name: str, answer: Proposal | None) -> Phase:
        def propose(_: SearchState, ask: Ask) -> Proposal | None:
            assert ask is ASK
            asked.append(name)
            return answer

        return Phase(name, "never", propose)

    phases = phase("a", None), phase("b", trial), phase("c", trial)
    monkeypatch.setattr("gapclose.loop.search.phases.PHASES", phases)
    assert next_trial(searched(0).state, ASK) is trial
    assert asked == ["a", "b"]


def test_prioritized_prompts_wait_for_the_baseline_alone() -> None:
    for trials, wanted in (
        (0, "baseline"),
        (1, "prioritized prompts"),
        (8, "prioritized prompts"),
    ):
        search = searched(trials, space=places(), blind=True)
        search.prioritize([{"color": "red", "place": " afar"}, {"color": "blue", "place": ""}])
        assert phase_of(search.state) == wanted


def test_the_screen_has_half_of_what_settings_get() -> None:
    search = searched(1, space=places(), blind=True)
    assert phase_of(search.state, Ask(settings_trials=2)) == "screen"
    assert phase_of(search.state, Ask(settings_trials=1)) == "first prompts"
    assert not search.state.screen.over
    next_trial(search.state, Ask(settings_trials=1))
    assert search.state.screen.over


def test_a_given_mixture_comes_before_all_but_the_baseline() -> None:
    rows = [{"weight": 1.0, "prompt": "a brown frog"}]
    search, seen = searched(0), []
    search.state.give(rows)
    search.prioritize([{"color": "red"}])
    for _ in range(8):
        seen.append(phase_of(search.state))
        proposal = modes.propose(search, settings_trials=4)
        search.absorb(proposal, modes.generate(proposal))
    assert [*dict.fromkeys(seen)] == [
        "baseline", "the given mixture", "prioritized prompts", "the mixture", "new recipes"
    ]  # fmt: skip


def test_settings_are_chosen_where_none_may_be_tried() -> None:
    search = searched(6)
    assert search.state.settings.winner is None
    assert phase_of(search.state, Ask(settings_trials=0)) == "the mixture"
    next_trial(search.state, Ask(settings_trials=0))
    assert search.state.settings.winner == SPACE.baseline_settings()


def test_a_batch_is_no_larger_than_usual_and_scores_something() -> None:
    search = searched(6)
    for batch, wanted in ((None, 40), (30, 30), (1, 2), (4000, 40)):
        trial = next_trial(search.state, Ask(settings_trials=0, batch=batch))
        assert (trial.stage, sum(len(seeds) for _, seeds in trial.jobs)) == ("mixture", wanted)


@pytest.mark.parametrize("trials", range(1, 14))
def test_a_replayed_trial_leaves_the_state_that_proposing_it_left(trials: int) -> None:
    rows = [{"weight": 1.0, "prompt": f"a {word} frog"} for word in ("brown", "red")]
    for options in ({}, {"space": places(), "blind": True}, {"rows": rows}):
        before = searched(trials, **options).state
        proposed, replayed = deepcopy(before), deepcopy(before)
        trial = next_trial(proposed, ASK)
        begin(proposed, trial)
        begin(replayed, trial)
        assert replayed.number == proposed.number == trial.number + 1
        assert replayed.settings.winner == proposed.settings.winner
        assert replayed.screen.over == proposed.screen.over
        assert replayed.settings.jobs() == proposed.settings.jobs()
        assert (replayed.mixture_gap.current is None) == (proposed.mixture_gap.current is None)
        if proposed.mixture_gap.current is not None and replayed.mixture_gap.current is not None:
            assert replayed.mixture_gap.current.mixture == proposed.mixture_gap.current.mixture
