"""When a run by the clock ends, and what its time is used for; hours of it in milliseconds.

Whatever depends on decisions alone is asked of nights whose images nobody draws: each step takes
the seconds that a machine would take for it, and each search gains a little with each trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from histories import as_read, evaluated, limits, mixture, opened, proposed, row, tried, verdict
from rig import Clock, by_clock, here, written

from gapclose.generators.pond.renderer import CLASSES as TEN
from gapclose.generators.pond.renderer import COLORS, write_real
from gapclose.loop import session, tuning
from gapclose.loop.report.run_view import Run
from gapclose.loop.run.events import (
    Event,
    FoldOpened,
    Progress,
    RoundStarted,
    RunFinished,
    RunStarted,
    SessionStarted,
    TrialFinished,
    TrialProposed,
    VerdictsReached,
)
from gapclose.loop.run.notices import BaselinesCut, Notice
from gapclose.loop.run.state import RunState, apply
from gapclose.loop.schedule.actions import (
    Action,
    EvaluateFold,
    Finish,
    Judge,
    ProposeTrial,
    RunTrial,
    StartRound,
)
from gapclose.loop.schedule.budget import Limits
from gapclose.loop.schedule.cost_model import PROBE_SECONDS
from gapclose.loop.schedule.decide import decide
from gapclose.loop.schedule.reserve import REPORT_SECONDS, REPORT_SECONDS_PER_CLASS
from gapclose.loop.work import confirmation, trials
from gapclose.loop.work.diagnostics import Diagnostics

STARTING = 15.0  # seconds that idle cores take to render and embed the demo's photos
IMAGE = 0.028  # and to draw an image
TRIAL = 0.3  # and for the rest of a trial
FLOOR = 0.1
GAIN = 0.995  # what a trial leaves of its class's gap


@dataclass(kw_only=True)
class Night:
    """A run whose steps take time and nothing else.

    Attributes:
        gaps: Of the baselines, by class, in floors; below 1 one is closed from the start.
        limits: Of the run.
        image: Seconds that an image takes.
        slower: Than idle cores, in all but images.
        now: Seconds since it began.
        events: What has happened.
    """

    gaps: Mapping[str, float]
    limits: Limits
    image: float
    slower: float = 0.0
    now: float = 0.0
    state: RunState = field(default_factory=RunState)
    events: list[Event] = field(default_factory=list)

    @property
    def probe(self) -> float:
        return max(self.slower, 1.0) * PROBE_SECONDS

    def tell(self, event: Event) -> None:
        self.events.append(as_read(event.model_copy(update={"used": self.now})))
        self.state = apply(self.state, self.events[-1])

    def run(self) -> Night:
        """From its start to its report."""
        self.now += self.slower * STARTING
        self.tell(RunStarted(run="abcd"))
        budget = self.limits.tune.budget
        self.tell(SessionStarted(classes=(*self.gaps,), budget=budget, probe=self.probe))
        while not isinstance(action := self.decide(), Finish):
            self.perform(action)
        self.now += self.slower * (REPORT_SECONDS + REPORT_SECONDS_PER_CLASS * len(self.gaps))
        self.tell(RunFinished(stopped=action.stopped))
        return self

    def decide(self) -> Action:
        return decide(self.state, limits=self.limits, now=self.now)

    def perform(self, action: Action) -> None:
        match action:
            case ProposeTrial():
                cls = self.state.of(action.cls)
                images = 8 if cls.has_baseline else action.baseline_images
                stage = "joint" if cls.has_baseline else "baseline"
                self.tell(proposed(action.cls, cls.proposed, stage=stage, images=images))
            case RunTrial():
                self.try_out(action.trial)
            case EvaluateFold():
                self.evaluate(action)
            case Judge():
                told = {n: c.evaluation for n, c in self.state.classes.items() if c.evaluation}
                verdicts = {name: verdict(fold=its.opened.fold) for name, its in told.items()}
                self.tell(VerdictsReached(verdicts=verdicts))
            case StartRound():
                fields = ("due", "reopened", "reset", "halfway")
                self.tell(RoundStarted(**{key: getattr(action, key) for key in fields}))

    def try_out(self, trial: TrialProposed) -> None:
        """It gains a little."""
        cls, images = self.state.of(trial.cls), sum(len(job.seeds) for job in trial.jobs)
        seconds = self.image * images + self.slower * TRIAL
        self.now += seconds
        old, first = cls.progress, not cls.has_baseline
        gap = FLOOR * self.gaps[trial.cls] if first else GAIN * (old.gap or 0.0)
        progress = Progress(
            floor=FLOOR,
            baseline_gap=gap if first else old.baseline_gap,
            gap=gap,
            expected=gap,
            evidence=old.evidence + 1,
            closed_from_start=first and gap < FLOOR,
            closed=not first and gap < FLOOR,
            opened=not first,
        )
        facts = {"images": images, "seconds": seconds, "probe": self.probe}
        self.tell(tried(trial.cls, trial.number, progress=progress, **facts))

    def evaluate(self, action: EvaluateFold) -> None:
        """It does not hold; where nothing was tried, nothing is drawn."""
        name, cls = action.cls, self.state.of(action.cls)
        evidence = cls.progress.evidence
        mixed = mixture(f"{name}-{evidence}")
        facts = {"trials": cls.trials, "evidence": evidence, "spends": not cls.untried}
        self.tell(opened(name, action.fold, mixture=mixed, early=action.early, **facts))
        images = 0 if cls.untried else self.limits.confirm_images
        self.now += self.image * images
        after = row(name, gap=2 * FLOOR + (cls.progress.gap or 0.0)).to_json()
        figures = {"seconds": self.image * images, "images": images, "mixture": mixed}
        self.tell(evaluated(name, action.fold, after=after, **figures))

    def of(self, kind: type[Event], name: str) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind) and event.cls == name]


FOUR = dict(zip(("frog", "bird", "cat", "dog"), (12.0, 11.0, 10.0, 9.0), strict=True))


@pytest.mark.parametrize(
    ("budget", "image"), [(4 * 3600.0, 5.0), (8 * 3600.0, 5.0), (8 * 3600.0, 10.0)]
)
def test_time_that_was_kept_back_and_not_used_is_searched_in_and_the_run_ends_in_time(
    budget: float, image: float
) -> None:
    allowed = limits(FOUR, budget=budget, confirm_images=200)
    night = Night(gaps=FOUR, limits=allowed, image=image).run()
    for name in FOUR:
        assert len(night.of(TrialFinished, name)) > 1
        assert night.of(FoldOpened, name)
    assert budget - 200 * image < night.now <= budget


def test_what_has_closed_is_confirmed_while_others_are_tried() -> None:
    """Or, if it did not hold, no time would be left to search on in it."""
    gaps = {"frog": 40.0, "truck": 0.5}
    allowed = limits(gaps, budget=5200.0, confirm_images=50)
    night = Night(gaps=gaps, limits=allowed, image=10.0).run()
    judged = [
        event.used
        for event in night.events
        if isinstance(event, VerdictsReached) and "truck" in event.verdicts
    ]
    assert 5200 / 2 <= judged[0] < night.of(TrialFinished, "frog")[-1].used
    assert len(judged) > 1  # again with what is judged last: q-values are of all classes
    assert night.now <= 5200


@pytest.mark.parametrize(
    ("drawing", "rest"),
    [(1.0, 1.0), (3.0, 3.0), (10.0, 1.0), (5.0, 2.0)],
    ids=["idle", "busy", "without its GPU", "both"],
)
def test_on_a_slow_machine_the_worst_class_is_worked_on_and_the_budget_is_kept(
    drawing: float, rest: float
) -> None:
    gaps = {name: 3.0 + number for number, name in enumerate(TEN)}
    worst = TEN[-1]
    allowed = limits(TEN, folds=1, budget=270.0, confirm_images=104)
    night = Night(gaps=gaps, limits=allowed, image=drawing * IMAGE, slower=rest).run()
    assert 210 < night.now <= 300
    baselines = {name: night.of(TrialProposed, name)[0].jobs[0].seeds for name in TEN}
    first, *others = map(len, baselines.values())
    assert first == 100 >= max(others) >= min(others) >= 20
    assert (max(others) < 100) == (drawing > 1)
    assert all(night.of(FoldOpened, name) for name in TEN)
    assert len(night.of(TrialFinished, worst)) > 4


# ------------------------------------------------------------------------- whole runs


@contextmanager
def machine(clock: Clock, *, slower: float) -> Iterator[None]:
    """What does not draw takes its time too, as on the idle cores it was measured on or slower."""

    def takes(holder: Any, name: str, seconds: float) -> Any:
        real = getattr(holder, name)

        def wrapped(*args: Any, **options: Any) -> Any:
            clock.now += slower * seconds
            return real(*args, **options)

        return patch.object(holder, name, wrapped)

    def probed(holder: Any) -> Any:
        return patch.object(holder, "probe", lambda: slower * PROBE_SECONDS)

    report = REPORT_SECONDS + REPORT_SECONDS_PER_CLASS * len(TEN)
    with (
        takes(tuning, "open_real_data", STARTING),
        takes(Diagnostics, "run", report),
        probed(session),
        probed(trials),
        probed(confirmation),
    ):
        yield


SPACE = {
    "prompt": "a photo of a {color} {class}",
    "slots": {"color": ["", *COLORS]},
    "guidance_scale": [1.0, 6.0],
}


@pytest.mark.slow
def test_a_whole_run_on_a_busy_machine_keeps_its_budget_and_closes_most_of_the_worst_gap(
    tmp_path: Path,
) -> None:
    write_real(tmp_path / "photos", per_class=120, classes=TEN)
    tune = {"budget": "270s", "trials": None, "images_per_trial": 8}
    changes = {"classes": [*TEN], "space": SPACE, "tune": tune, "confirm": {"images": 104}}
    config, out = written(tmp_path / "c.yaml", tmp_path / "photos", **changes), tmp_path / "run"
    clock = Clock()
    said: list[Notice] = []

    def heard(_: object, notice: Notice) -> None:
        said.append(notice)

    with (
        machine(clock, slower=3.0),
        patch("gapclose.loop.progress.line_reporter.LineReporter.tell", heard),
    ):
        seconds = f"{3.0 * IMAGE}"
        code, err = by_clock(clock, "tune", config, "--out", out, SLOW_POND_SECONDS=seconds)
    assert code == 0, err
    assert 210 < clock.now <= 300
    run = Run.open(out)
    baselines = {r["class"]: len(r["seeds"]) for r in run.trials if r["stage"] == "baseline"}
    assert [*baselines] == [*TEN]
    first, *others = baselines.values()
    assert first == 100 > max(others) >= min(others) >= 20
    assert sum(isinstance(notice, BaselinesCut) for notice in said) == 1
    assert {row["name"] for row in run.gap["classes"]} == {*TEN}
    for shown in run.gap["classes"]:
        assert shown["before"]["n_synthetic"] == baselines[shown["name"]]
    worst = max(run.gap["classes"], key=lambda row: row["before"]["gap"])
    assert sum(row["class"] == worst["name"] for row in run.trials) > 4
    assert worst["gap"] < 0.3 * worst["before"]["gap"]
    # What was drawn is known to whoever reads the run again, and is not drawn once more.
    (out / "gap.json").unlink()
    log = tmp_path / "drawn"
    assert here("report", out, SLOW_POND_LOG=str(log))[0] == 0
    again = {row["name"]: row["before"]["n_synthetic"] for row in Run.open(out).gap["classes"]}
    assert (again, log.exists()) == (baselines, False)


@pytest.mark.slow
def test_a_small_baseline_of_which_most_is_invalid_is_drawn_whole(tmp_path: Path) -> None:
    write_real(tmp_path / "photos", per_class=80, classes=("frog", "ship"))
    tune = {"budget": "120s", "trials": None, "images_per_trial": 8}
    config, out = written(tmp_path / "c.yaml", tmp_path / "photos", tune=tune), tmp_path / "run"
    slow_ships = {"SLOW_POND_SECONDS": "0.6", "SLOW_POND_INVALID": "ship"}
    code, err = by_clock(Clock(), "tune", config, "--out", out, **slow_ships)
    assert code == 0, err
    drawn = [
        (row["state"], len(row["seeds"]))
        for row in Run.open(out).trials
        if (row["class"], row["stage"]) == ("ship", "baseline")
    ]
    assert drawn == [("fail", 24), ("complete", 100)]
