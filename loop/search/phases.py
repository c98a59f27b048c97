"""Phases: which trial of a class comes next.

They are asked in their order, and the first that has a trial proposes it. `begin` then notes it as
under way, so that the next may be proposed before it has a result. A trial that is replayed was
not proposed here: `begin` ends the phases before it, too, and what it has to guess of them its
recorded result corrects (`ClassSearch.recall`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from gapclose.generators.recipe import Recipe
from gapclose.loop.run.events import Stage
from gapclose.loop.search.gains import GAIN
from gapclose.loop.search.optuna_record import derive_seed, propose
from gapclose.loop.search.parameter_stage import ParameterStage
from gapclose.loop.search.screen import SCREENED
from gapclose.loop.search.search_state import SearchState
from gapclose.loop.search.seeds import TRIAL
from gapclose.loop.search.space import Params, takes_all_captions
from gapclose.loop.search.trial import Mixture, Proposal
from gapclose.loop.search.turns import whose_turn

BATCH: Final = 5  # trials' images that a batch of the mixture has
MANY: Final = 2  # times the images of a prompt: the captions of all photos are many prompts
REDRAWS: Final = 8  # of a whole recipe, while its prompt has had its chances


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a trial is proposed under.

    Attributes:
        settings_trials: How many trials the settings get; fewer with hints.
        hints: Settings that won in other classes, tried first.
        batch: Images of the mixture at a time, where there is not the time for as many as are
            usual.
        prices: Seconds of an image by generator, where there are several and time is what ends
            the search.
    """

    settings_trials: int
    hints: Sequence[Params] = ()
    batch: int | None = None
    prices: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the search.

    Attributes:
        name: What it tries.
        left_when: What ends it.
        propose: Its next trial; None once it has none.
    """

    name: str
    left_when: str
    propose: Callable[[SearchState, Ask], Proposal | None]


def next_trial(state: SearchState, ask: Ask) -> Proposal:
    """Return what to generate next."""
    for phase in PHASES:
        if (proposal := phase.propose(state, ask)) is not None:
            return proposal
    raise AssertionError("the last phase always has a trial")


def begin(state: SearchState, proposal: Proposal) -> None:
    """Note a proposed trial as under way, so that the next proposal differs."""
    _end_phases_before(state, proposal)
    state.number = proposal.number + 1
    if proposal.stage == "parameters":
        state.parameters.of_recipe(proposal.jobs[0][0]).begin()
    if proposal.stage == "screen":
        state.screen.done += 1
    if proposal.stage == "settings":
        state.settings.note(proposal.params)
    if proposal.stage == "joint":
        state.prompts.begin(proposal.params)
    if proposal.stage == "mixture":
        state.mixture_gap.begin(proposal.number, state.mixture)
    if proposal.stage == "given":
        state.mixture_gap.begin(proposal.number, state.given_mixture)


def _end_phases_before(state: SearchState, proposal: Proposal) -> None:
    joint = proposal.stage == "joint"
    if not state.has_baseline or proposal.stage in ("given", "parameters"):
        return
    if joint and state.prompts.is_prioritized(proposal.params):
        return
    state.parameters.end()
    if proposal.stage == "screen":
        return
    state.end_screen()
    if proposal.stage == "settings":
        state.settings.pair_as(state.atoms, {seed for _, seeds in proposal.jobs for seed in seeds})
        return
    if state.settings.winner is None and not (joint and state.prompts.opening is not None):
        state.settings.pick(state.atoms, least=GAIN * state.floor)


def _baseline(state: SearchState, ask: Ask) -> Proposal | None:
    if state.has_baseline:
        return None
    return _trial(state, "baseline", {}, [(state.space.baseline, state.baseline_seeds())])


def _given(state: SearchState, ask: Ask) -> Proposal | None:
    """Propose images of the mixture that was given, as many as its measurement lacks.

    They measure it as it is, and they are what the bank begins with.
    """
    if not state.tries_given:
        return None
    measurement = state.mixture_gap.under_way(state.given_mixture)
    return _batch(state, "given", measurement.mixture, _usual(state, ask), measurement.missing)


def _prioritized(state: SearchState, ask: Ask) -> Proposal | None:
    words = state.prompts.urgent
    return None if words is None else _joint(state, {**state.settings.shared, **words})


def _parameters(state: SearchState, ask: Ask) -> Proposal | None:
    """Propose images that differ in the generator's own parameters."""
    stage = state.parameters.due(ask.settings_trials, resting=state.resting)
    if stage is None:
        state.parameters.end()
        return None
    return _fit(state, ask, stage)


def _screen(state: SearchState, ask: Ask) -> Proposal | None:
    """Propose more prompts at the settings that all begin with, a few images each."""
    prompts = [] if state.screen.over else state.screen.next(ask.settings_trials // 2)
    if not prompts:
        state.end_screen()
        return None
    seeds = state.fresh_seeds(SCREENED * len(prompts))
    jobs = [
        (state.shared(words), seeds[SCREENED * i : SCREENED * (i + 1)])
        for i, words in enumerate(prompts)
    ]
    return _trial(state, "screen", {}, jobs)


def _opening(state: SearchState, ask: Ask) -> Proposal | None:
    if state.settings.winner is not None or (words := state.prompts.opening) is None:
        return None
    return _joint(state, {**state.settings.shared, **words})


def _settings(state: SearchState, ask: Ask) -> Proposal | None:
    """Propose other settings, on images that the bank holds already."""
    stage = state.settings
    if stage.winner is not None:
        return None
    tries = bool(state.space.settings) and stage.pair(state.atoms, state.images_per_trial)
    if tries and stage.wants(ask.settings_trials, ask.hints):
        params = stage.propose(state.atoms.bank, state.atoms.weights, ask.hints)
        if params is not None:
            jobs = [(state.recipe({**params, **words}), seeds) for words, seeds in stage.jobs()]
            return _trial(state, "settings", params, jobs)
    stage.pick(state.atoms, least=GAIN * state.floor)
    return None


def _recipe(state: SearchState, ask: Ask) -> Proposal | None:
    """Propose the next prompt, or TPE's recipe by the Frank-Wolfe scores as they stand now.

    Every other one has the settings that all share: of recipes with few images each, each with
    settings of its own, the weights are chance. These are first prompts with words that no
    trial has tried: the prior errs, and of a word that it rules out TPE knows nothing.
    """
    words, shared = state.prompts.likely, state.settings.shared
    fitted = [its.part for its in state.parameters.searched if its.part.name not in state.resting]
    part = whose_turn(fitted, state.atoms, ask.prices)
    stage = None if part is None else state.parameters.stages[part.name]
    working = [its for its in state.space.parts if its.name not in state.resting]
    varied = [its for its in working if state.space.distributions_of(its)]
    if stage is not None and not varied:
        return _fit(state, ask, stage) if state.balance.leans_to_mixture else None
    if not state.balance.explores(
        state.atoms, state.gap, state.images_per_trial, untried=words is not None
    ):
        return None
    sharing = state.number % 2 == 1
    if words is None and stage is not None and sharing:
        return _fit(state, ask, stage)
    if words is None and sharing:
        words = state.prompts.unlikely(params for params, _ in state.atoms.tried())
    if words is not None:
        return _joint(state, {**shared, **words})
    part = whose_turn(varied or working, state.atoms, ask.prices)
    assert part is not None, "there is a generator"
    own = state.space.words_of(part)
    past = [its for its in state.atoms.history() if own.items() <= its.params.items()]
    distributions = state.space.distributions_of(part)
    fixed = {}
    if sharing and len(state.space.prompts(held=own)) > 1:
        fixed = {name: value for name, value in shared.items() if name in distributions}
    for again in range(REDRAWS):
        seed = derive_seed(state.seed, state.space.cls, state.number, *([again] if again else []))
        params = propose(distributions, past, seed=seed, fixed=fixed) | own
        if state.prompts.has_chances(params) and not state.copies.at(params.get("strength")):
            break
    params = shared | params
    if state.copies.at(params.get("strength")):
        params |= shared
    return _joint(state, state.space.used(params))


def _mixture(state: SearchState, ask: Ask) -> Proposal | None:
    mixture = state.mixture_gap.under_way(state.mixture).mixture
    return _batch(state, "mixture", mixture, _usual(state, ask))


def _fit(state: SearchState, ask: Ask, stage: ParameterStage) -> Proposal:
    """Propose what the parameters come to by all images so far, to be seen on fresh ones."""
    recipe = state.shared(state.space.words_of(stage.part))
    jobs, seeds = [], iter(state.fresh_seeds(TRIAL))
    for its, trials in stage.next(recipe, state.atoms):
        most = trials * state.images_per_trial
        n = max(2, min(most, TRIAL // 2, ask.batch or TRIAL))
        jobs.append((its, tuple(islice(seeds, n))))
    return _trial(state, "parameters", {}, jobs)


def _usual(state: SearchState, ask: Ask) -> int:
    usual = min(BATCH * state.images_per_trial, TRIAL)
    return usual if ask.batch is None else min(ask.batch, usual)


def _batch(state: SearchState, stage: Stage, mixture: Mixture, *most: int) -> Proposal:
    seeds = state.fresh_seeds(max(2, min(most)))
    jobs = [(recipe, tuple(its)) for recipe, its in mixture.jobs(seeds)]
    return _trial(state, stage, {}, jobs)


def _joint(state: SearchState, params: Params) -> Proposal:
    recipe = state.recipe(params)
    times = MANY if takes_all_captions(recipe.draw) else 1
    seeds = state.fresh_seeds(min(times * state.images_per_trial, TRIAL))
    return _trial(state, "joint", params, [(recipe, seeds)])


def _trial(
    state: SearchState,
    stage: Stage,
    params: Params,
    jobs: Sequence[tuple[Recipe, tuple[int, ...]]],
) -> Proposal:
    return Proposal(number=state.number, stage=stage, params=params, jobs=tuple(jobs))


PHASES: Final = (
    Phase("baseline", "trial 0 is scored", _baseline),
    Phase("the given mixture", "its measurement has ended, or it failed twice", _given),
    Phase("prioritized prompts", "each has been tried", _prioritized),
    Phase("parameters", "they have been fitted a few times", _parameters),
    Phase("screen", "it has had its share of the trials", _screen),
    Phase("first prompts", "each has been tried, or settings are chosen", _opening),
    Phase("settings", "they are chosen", _settings),
    Phase("new recipes", "more images of the mixture gain more", _recipe),
    Phase("the mixture", "never", _mixture),
)
