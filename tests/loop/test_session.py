"""A session with several trials in flight: decided, proposed, absorbed and resumed in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from workshop import Workshop, open_workshop

from gapclose.generators.recipe import Recipe
from gapclose.loop.config.schema import TuneConfig
from gapclose.loop.report.projections import Projections, mixtures_json
from gapclose.loop.run.events import (
    PhotosGrouped,
    PhotosListed,
    SessionStarted,
    TrialFailed,
    TrialFinished,
    TrialProposed,
)
from gapclose.loop.run.journal import Journal, read_journal
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.run.state import RunState, fold
from gapclose.loop.schedule.actions import Finish, RunTrial
from gapclose.loop.schedule.budget import ClassLimits, Limits
from gapclose.loop.session import Session, Stopwatch
from gapclose.loop.work.diagnostics import Diagnostics
from gapclose.loop.work.proposals import Proposals

CLASSES = ("frog", "toad")


def session_of(shop: Workshop, *, in_flight: int) -> Session:
    """A session on what the journal holds, as `tune` opens it."""
    path = shop.rundir.journal_path
    limits = Limits(
        tune=TuneConfig(budget=None, trials=14, images_per_trial=8),
        confirm_images=100,
        classes={
            name: ClassLimits(floor=search.floor, folds=len(shop.real[name].folds))
            for name, search in shop.searches.items()
        },
        in_flight=in_flight,
    )
    session = Session(
        config=shop.config,
        rundir=shop.rundir,
        journal=Journal(path),
        state=fold(read_journal(path)),
        limits=limits,
        watch=Stopwatch(),
        reporter=SilentReporter(),
        synthesis=shop.synthesis,
        trials=shop.trials,
        confirmation=shop.confirmation,
        recalls=shop.recalls,
        proposals=Proposals(
            proposer=None,
            synthesis=shop.synthesis,
            searches=shop.searches,
            real=shop.real,
            groups=shop.confirmation.groups,
        ),
        diagnostics=Diagnostics(
            synthesis=shop.synthesis,
            evidence=shop.evidence,
            real=shop.real,
            config=shop.config,
            nouns=shop.confirmation.nouns,
            groups=shop.confirmation.groups,
            searches=shop.searches,
        ),
        projections=Projections(shop.rundir),
        grouped=shop.grouped,
    )
    listed = PhotosListed(tune={name: real.tune.photos for name, real in shop.real.items()})
    session.begin(listed, None)
    return session


def go_on(session: Session, *, actions: int = 10_000) -> RunState:
    """Until nothing is worth another trial, or after so many actions."""
    for _ in range(actions):
        action = session.decide()
        if isinstance(action, Finish):
            break
        session.perform(action)
    session.close()
    return session.state


def timeless(shop: Workshop) -> list[str]:
    """The journal without what only the clock or the folder says, and the starts of sessions."""
    clock = {"at", "used", "seconds", "probe", "run"}
    return [
        event.model_dump_json(exclude=clock).replace(str(shop.rundir.path.parent), "")
        for event in read_journal(shop.rundir.journal_path)
        if not isinstance(event, SessionStarted)
    ]


@pytest.mark.parametrize("in_flight", [2, 5])
def test_a_run_with_trials_in_flight_equals_itself_resumed_at_any_action(
    tmp_path: Path, in_flight: int
) -> None:
    options: dict[str, Any] = {
        "classes": CLASSES,
        "images_per_trial": 8,
        "guidance_scale": [1.0, 9.0],
    }
    whole = open_workshop(tmp_path / "whole", **options)
    state = go_on(session_of(whole, in_flight=in_flight))
    assert not state.in_flight
    assert all(state.of(n).trials == 14 or state.of(n).progress.closed for n in CLASSES)
    assert all(state.of(name).judged is not None for name in CLASSES)

    events = [*read_journal(whole.rundir.journal_path)]
    flying, most, order = [], 0, []
    for event in events:
        if isinstance(event, TrialProposed):
            flying.append((event.cls, event.number))
        if isinstance(event, TrialFinished | TrialFailed):
            order.append((event.cls, event.number))
            assert flying.pop(0) == order[-1], "absorbed in the order proposed"
        most = max(most, len(flying))
    assert most == in_flight
    made = [event for event in events if isinstance(event, TrialProposed)]
    for name in CLASSES:
        fresh = [
            seed
            for event in made
            if event.cls == name and event.stage != "settings"
            for job in event.jobs
            for seed in job.seeds
        ]
        assert len({*fresh}) == len(fresh), "no seed is handed out twice"

    again = open_workshop(tmp_path / "again", **options)
    for actions in (3, 5, 8, 13, 21):
        go_on(session_of(again, in_flight=in_flight), actions=actions)
        again.reopen()
    last = go_on(session_of(again, in_flight=in_flight))
    assert timeless(again) == timeless(whole)
    assert mixtures_json(last) == mixtures_json(state)


def test_a_run_with_captions_equals_itself_resumed_at_any_action(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "images_per_trial": 8,
        "guidance_scale": [1.0, 9.0],
        "captions": "words",
    }
    whole = open_workshop(tmp_path / "whole", **options)
    state = go_on(session_of(whole, in_flight=1))
    events = [*read_journal(whole.rundir.journal_path)]
    (grouped,) = [event for event in events if isinstance(event, PhotosGrouped)]
    made = [event for event in events if isinstance(event, TrialProposed)]
    drawn = [Recipe.from_json(job.recipe).draw for event in made for job in event.jobs]
    assert {draw.photos for draw in drawn} >= {None, grouped.groups["all photos"]}
    (whole_job,) = made[1].jobs
    assert whole_job.recipe["draw"]["prompt"] == "{captions of all photos}"
    assert len(whole_job.seeds) == 2 * len(made[2].jobs[0].seeds)
    assert "{" not in "".join(draw.prompt for draw, _ in whole.generator.asked)

    again = open_workshop(tmp_path / "again", **options)
    for actions in (1, 3, 5, 8):
        go_on(session_of(again, in_flight=1), actions=actions)
        again.reopen()
    last = go_on(session_of(again, in_flight=1))
    assert timeless(again) == timeless(whole)
    assert mixtures_json(last) == mixtures_json(state)


def test_a_run_with_pictures_leaves_copies_and_equals_itself_resumed_at_any_action(
    tmp_path: Path,
) -> None:
    options: dict[str, Any] = {
        "images_per_trial": 8,
        "guidance_scale": [1.0, 9.0],
        "strength": [0.1, 1.0],
    }
    whole = open_workshop(tmp_path / "whole", **options)
    state = go_on(session_of(whole, in_flight=1))
    events = [*read_journal(whole.rundir.journal_path)]
    made = {event.number: event for event in events if isinstance(event, TrialProposed)}
    copied = [event for event in events if isinstance(event, TrialFinished) and event.copied]
    assert copied, "a strength below one half was tried"
    for event in copied:
        for job in made[event.number].jobs:
            strength = job.recipe["draw"].get("strength")
            assert ({*job.seeds} <= {*event.copied}) == (strength is not None and strength < 0.5)
    for evaluation in (state.of("frog").evaluation, state.of("frog").judged):
        assert evaluation is not None
        kept = [recipe["recipe"]["draw"] for recipe in evaluation.opened.mixture["recipes"]]
        assert all(draw.get("strength", 1.0) >= 0.5 for draw in kept)

    again = open_workshop(tmp_path / "again", **options)
    for actions in (1, 3, 5, 8):
        go_on(session_of(again, in_flight=1), actions=actions)
        again.reopen()
    last = go_on(session_of(again, in_flight=1))
    assert timeless(again) == timeless(whole)
    assert mixtures_json(last) == mixtures_json(state)


def test_a_trial_that_fails_leaves_those_beside_it_in_flight(tmp_path: Path) -> None:
    shop = open_workshop(tmp_path, images_per_trial=8)
    session = session_of(shop, in_flight=3)
    while len(session.state.in_flight) < 3:
        session.perform(session.decide())
    first, second, third = session.state.in_flight
    shop.generator.spoils = lambda _, seed: seed in first.jobs[0].seeds
    action = session.decide()
    assert action == RunTrial(trial=first)
    session.perform(action)
    assert (session.state.of("frog").failed, session.state.in_flight) == (1, (second, third))
    again = fold(read_journal(shop.rundir.journal_path))
    assert replace(again, used=0.0) == replace(session.state, used=0.0)
    session.close()
