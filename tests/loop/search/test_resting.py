"""A generator that keeps failing is left out, so that the others go on."""

from __future__ import annotations

from typing import Any

import modes
import numpy as np

from gapclose.loop.config.reading import parse_config
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.phases import Ask
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Proposal


def search(*names: str) -> ClassSearch:
    data: dict[str, Any] = {
        "real": {"path": "somewhere"},
        "generators": {name: {"kind": f"m.w:{name.title()}"} for name in names},
        "embedder": "pond",
        "classes": ["frog"],
        "space": {"prompt": "a {color} frog", "slots": {"color": [*modes.WORDS]}},
        "baseline": {"prompt": "a plain frog", "guidance_scale": 5.0},
    }
    space = Space.of(parse_config(data), "frog")
    real = modes.mixed({"red": 0.5, "blue": 0.5}, 120, np.random.default_rng(0))
    return modes.make_search(real, space=space)


def run(it: ClassSearch, n: int, *, fails: str) -> list[Proposal]:
    """Run trials, of which those of one generator alone fail once there is a baseline."""
    done = []
    for _ in range(n):
        proposal = it.propose(Ask(settings_trials=4))
        it.begin(proposal)
        drawn_by = {recipe.draw.generator for recipe, _ in proposal.jobs}
        if proposal.number and drawn_by == {fails}:
            it.absorb_failure(proposal)
        else:
            it.absorb(proposal, modes.generate(proposal))
        done.append(proposal)
    return done


def longest(done: list[Proposal], name: str) -> int:
    """How many trials of one generator alone follow each other."""
    most = now = 0
    for proposal in done[1:]:
        alone = {recipe.draw.generator for recipe, _ in proposal.jobs} == {name}
        now = now + 1 if alone else 0
        most = max(most, now)
    return most


def test_the_others_go_on_before_three_failures_stop_the_class() -> None:
    it = search("good", "broken")
    done = run(it, 24, fails="broken")
    assert longest(done, "broken") <= 2
    assert sum({r.draw.generator for r, _ in p.jobs} == {"broken"} for p in done[1:]) == 2
    assert it.state.resting == {"broken"}


def test_after_a_restart_it_has_its_chances_again() -> None:
    it = search("good", "broken")
    run(it, 12, fails="broken")
    it.reset_failures()
    assert it.state.resting == frozenset()
    assert it.state.prompts.resting == frozenset()


def test_where_all_fail_none_rests() -> None:
    it = search("one", "other")
    run(it, 1, fails="")
    for name in ("one", "other"):
        for _ in range(2):
            it.state.faults[name] += 1
    assert it.state.resting == frozenset(), "the class is stopped as ever"
