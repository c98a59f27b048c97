"""What the files of a run hold, and what of it waits for the disk."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import pytest
from histories import evaluated, failed, opened, proposed, tried, verdict
from pond_config import pond_config

from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.report.contents import STATE, TRIALS, TrialRows, state_json
from gapclose.loop.report.projections import Projections
from gapclose.loop.run.events import (
    Event,
    Job,
    RunFinished,
    SessionStarted,
    Stopped,
    StopReason,
    TrialProposed,
    VerdictsReached,
)
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.state import RunState, apply, fold


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return create_run(tmp_path / "run", pond_config())


def asked(cls: str, number: int) -> TrialProposed:
    """A trial whose recipe and seeds are its own."""
    recipe = Recipe(draw=Draw(prompt=f"{cls} {number}"), camera=Camera())
    return proposed(cls, number, jobs=(Job(recipe=recipe.to_json(), seeds=(number, 99)),))


def test_each_of_several_trials_under_way_has_a_row_of_its_own() -> None:
    rows = TrialRows().of_all(
        [
            asked("frog", 3),
            asked("frog", 4),
            asked("ship", 4),
            asked("frog", 5),
            tried("frog", 4, images=8),
            failed("ship", 4, images=2),
            tried("frog", 3, images=5),
        ]
    )
    assert [(row["class"], row["number"], row["state"]) for row in rows] == [
        ("frog", 4, "complete"),
        ("ship", 4, "fail"),
        ("frog", 3, "complete"),
    ]
    assert [row["recipe"]["draw"]["prompt"] for row in rows] == ["frog 4", "ship 4", "frog 3"]
    assert [row["seeds"] for row in rows] == [[4, 99], [4, 99], [3, 99]]
    assert [row["images_total"] for row in rows] == [8, 2, 13]


def test_of_an_event_of_the_search_nothing_waits_for_the_disk(run: RunDir) -> None:
    """The journal's line does, and these come back from it."""
    projections, state = Projections(run), RunState()
    events: list[Event] = [
        SessionStarted(classes=("frog",)),
        asked("frog", 0),
        tried("frog", 0),
        asked("frog", 1),
        failed("frog", 1),
    ]
    with patch.object(os, "fsync", side_effect=AssertionError("waits")):
        for event in events:
            state = apply(state, event)
            projections.follow(event, state)
    assert [row["number"] for row in run.trials()] == [0, 1]
    assert run.read_json(STATE)["classes"]["frog"]["trials"] == 2
    assert {path.name for path in run.path.iterdir()} >= {TRIALS, STATE}
    assert not list(run.path.glob(".*.tmp"))


def test_of_a_run_that_has_ended_the_state_says_the_verdicts_whatever_was_tried_since() -> None:
    """As gap.json does; of one that goes on it says where the search stands."""
    reached = verdict(gap=0.01, ratio=0.1, floor_p95=0.1)
    events = [
        SessionStarted(classes=("frog",)),
        opened(trials=0),
        evaluated(),
        VerdictsReached(verdicts={"frog": reached}),
        proposed(),
        tried(),
    ]
    told = ("gap", "ratio", "floor_p95", "closed", "confirmed")
    searched = state_json(fold(events))["classes"]["frog"]
    assert {key: searched[key] for key in told} == {
        "gap": 0.2,
        "ratio": 2.0,
        "floor_p95": 0.1,
        "closed": False,
        "confirmed": False,
    }
    ended = RunFinished(stopped={"frog": Stopped(reason=StopReason.LIMIT)})
    done = state_json(fold([*events, ended]))["classes"]["frog"]
    assert {key: done[key] for key in told} == {key: getattr(reached, key) for key in told}
