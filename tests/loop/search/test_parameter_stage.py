"""The stage of parameters: an even trial, fits after it, and what each looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import modes
import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.generators.distributions import Categorical, TruncatedNormal, quantile_of
from gapclose.generators.recipe import Draw
from gapclose.generators.values import Value
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.parameter_stage import EVEN, FITTED, OTHER, ROUNDS
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Images, Proposal

IMAGES = 6
OWN = {"light": [0, 90], "metal": ["steel", "brass"]}
LIGHT = TruncatedNormal(low=0, high=90, mean=70, sd=5)
METAL = Categorical(choices=("steel", "brass"), shares=(0.8, 0.2))


def shown(own: Mapping[str, Value], rng: np.random.Generator) -> NDArray[np.float32]:
    row = np.array([np.cos(float(own["light"]) / 30), np.sin(float(own["light"]) / 30), 0, 0, 0])
    row[2 + (own["metal"] == "brass")] = 1.0
    return (row + 0.1 * rng.normal(size=5)).astype(np.float32)


def real() -> NDArray[np.float32]:
    rng = np.random.default_rng(5)
    own = [
        {"light": LIGHT.at(quantile_of("light", i)), "metal": METAL.at(quantile_of("metal", i))}
        for i in range(200)
    ]
    return np.stack([shown(its, rng) for its in own])


def space(**more: object) -> Space:
    return modes.make_space(**{"prompt": "a frog", "slots": {}, "parameters": OWN, **more})


def search(**more: object) -> ClassSearch:
    return modes.make_search(real(), space=space(**more), images_per_trial=IMAGES)


def generated(proposal: Proposal) -> Images:
    rows, recipes, seeds = [], [], []
    for job, (recipe, its) in enumerate(proposal.jobs):
        for seed in its:
            own = recipe.draw.of_seed(seed).parameters
            rows.append(shown(own, np.random.default_rng(seed)))  # type: ignore[arg-type]
            recipes.append(job)
            seeds.append(seed)
    return Images(embeddings=np.stack(rows), recipes=tuple(recipes), seeds=tuple(seeds))


def run(it: ClassSearch, trials: int) -> list[Proposal]:
    done = []
    for _ in range(trials):
        done.append(modes.propose(it, settings_trials=9))
        it.absorb(done[-1], generated(done[-1]))
    return done


def test_the_first_trial_is_even_and_fits_follow_it() -> None:
    it = search()
    done = run(it, ROUNDS + 3)
    stages = [proposal.stage for proposal in done]
    assert stages == ["baseline"] + ["parameters"] * ROUNDS + ["joint", "mixture"]
    even, first = done[1], done[2]
    ((recipe, seeds),) = even.jobs
    assert len(seeds) == EVEN * IMAGES
    assert recipe.draw.parameters == it.space.parts[0].parameters
    assert [len(its) for _, its in first.jobs] == [FITTED * IMAGES, OTHER * IMAGES]
    assert all(proposal.params == {} for proposal in done[:-2] if proposal.stage != "baseline")
    assert done[-2].jobs[0][0].draw.parameters == it.state.parameters.shared(None)
    everything = [seed for proposal in done for _, its in proposal.jobs for seed in its]
    assert len({*everything}) == len(everything)


def test_what_photos_have_is_found_and_the_gap_closes() -> None:
    it = search()
    run(it, ROUNDS + 6)
    light, metal = (it.state.parameters.shared(None)[name] for name in ("light", "metal"))
    assert isinstance(light, TruncatedNormal)
    assert light.moments()[0] == pytest.approx(70, abs=4)
    assert isinstance(metal, Categorical)
    assert metal.shares == pytest.approx((0.8, 0.2), abs=0.1)
    assert it.mixture().gap_tune < 2.0 * it.floor < 0.2 * it.baseline_gap


def test_a_class_without_parameters_has_no_such_trials() -> None:
    it = modes.make_search(real(), space=modes.make_space(), images_per_trial=IMAGES)
    assert it.state.parameters.over
    assert it.state.parameters.shared(None) == {}
    assert it.state.observed() == {}


def test_replayed_trials_leave_the_same_shared_parameters() -> None:
    live, again = search(), search()
    for proposal in run(live, ROUNDS + 4):
        again.begin(proposal)
        again.absorb(proposal, generated(proposal))
    assert again.state.parameters == live.state.parameters
    assert again.mixture() == live.mixture()
    assert modes.propose(again, settings_trials=9) == modes.propose(live, settings_trials=9)


def test_where_all_failed_the_even_trial_comes_again() -> None:
    it = search()
    run(it, 1)
    for _ in range(3):
        proposal = modes.propose(it, settings_trials=9)
        assert len(proposal.jobs) == 1
        it.absorb_failure(proposal)
    assert run(it, 2)[1].jobs[0][0].draw.parameters != it.space.parts[0].parameters


def test_a_fit_that_gave_no_images_is_none_of_the_mixture() -> None:
    it = search()
    run(it, 3)
    before = it.mixture()
    failed, pending = (modes.propose(it, settings_trials=9) for _ in "ab")
    it.absorb_failure(failed)
    assert it.mixture() == before
    assert len(it.state.parameters.stages[None].fits) == 1
    it.absorb(pending, generated(pending))
    assert len(it.state.parameters.stages[None].fits) == 2


def test_few_trials_leave_some_for_the_mixture() -> None:
    it = search()
    stages = []
    for _ in range(6):
        proposal = modes.propose(it, settings_trials=3)
        stages.append(proposal.stage)
        it.absorb(proposal, generated(proposal))
    assert stages == ["baseline", *["parameters"] * 3, "joint", "mixture"]


def test_what_was_found_closed_is_what_was_measured() -> None:
    it = search()
    run(it, ROUNDS + 2)
    for _ in range(40):
        if it.state.mixture_gap.closed:
            break
        run(it, 1)
    assert it.state.mixture_gap.closed
    measured = it.state.mixture_gap.measured
    assert measured is not None
    assert it.mixture() == replace(measured, gap_tune=it.state.mixture_gap.gap)


def test_little_time_makes_small_trials() -> None:
    it = search()
    run(it, 1)
    assert [len(seeds) for _, seeds in modes.propose(it, settings_trials=9, batch=10).jobs] == [10]


def test_images_of_other_words_are_no_evidence() -> None:
    """Images of one prompt and its settings are fitted together, the heaviest ones."""
    it = search(slots={"color": ["red", "blue"]}, prompt="a {color} frog")
    run(it, ROUNDS + 1)
    atoms, stage = it.state.atoms, it.state.parameters.stages[None]
    blue = replace(it.space.baseline, draw=it.space.recipe({"color": "blue"}).draw)
    ((at, _), _) = stage.next(blue, atoms)
    assert at.draw.prompt == "a red frog"

    def plain(draw: Draw) -> str:
        return draw.prompt

    assert {plain(recipe.draw) for recipe in atoms.recipes[1:]} == {"a red frog"}


def test_even_images_say_what_mattered() -> None:
    it = search()
    run(it, 4)
    seen = it.state.observed()[None]
    assert len(seen) == EVEN * IMAGES
    assert set(seen[0].params) == {"parameters.light", "parameters.metal"}
    near = [its.value for its in seen if abs(float(its.params["parameters.light"]) - 70) < 10]
    far = [its.value for its in seen if abs(float(its.params["parameters.light"]) - 70) > 40]
    assert np.mean(near) < np.mean(far)
