"""When a run by the clock ends, and what its time is used for; hours of it in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from rig import Clock, by_clock, here, written
from slow_pond import SlowPond

from gapclose.generators.images import write_pngs
from gapclose.generators.pond.renderer import CLASSES as TEN
from gapclose.generators.pond.renderer import COLORS, write_real
from gapclose.generators.recipe import Draw
from gapclose.loop import session, tuning
from gapclose.loop.report.run_view import Run
from gapclose.loop.run.events import Event, TrialFailed, TrialFinished, VerdictsReached
from gapclose.loop.run.notices import BaselinesCut, Notice
from gapclose.loop.run.state import RunState
from gapclose.loop.schedule.cost_model import PROBE_SECONDS
from gapclose.loop.schedule.reserve import REPORT_SECONDS, REPORT_SECONDS_PER_CLASS
from gapclose.loop.work import confirmation, trials
from gapclose.loop.work.diagnostics import Diagnostics

CLASSES = ("frog", "bird", "cat", "dog")
BUDGET = 4 * 3600.0  # of which baselines take 4,000 s
LOOK = 200 * 10.0  # 200 images of 10 s
SPACE = {
    "prompt": "a photo of a {color} {class}",
    "slots": {"color": ["", *COLORS]},
    "guidance_scale": [1.0, 6.0],
}


@pytest.mark.slow
def test_time_that_was_kept_back_and_not_used_is_searched_in_and_the_run_ends_in_time(
    tmp_path: Path,
) -> None:
    write_real(tmp_path / "photos", per_class=250, classes=CLASSES)
    tune = {"budget": f"{BUDGET:.0f}s", "trials": None, "images_per_trial": 8}
    changes = {"classes": [*CLASSES], "space": SPACE, "tune": tune, "confirm": {"images": 200}}
    config, out = written(tmp_path / "c.yaml", tmp_path / "photos", **changes), tmp_path / "run"
    clock = Clock()
    code, err = by_clock(clock, "tune", config, "--out", out, SLOW_POND_SECONDS="10")
    assert code == 0, err
    run = Run.open(out)
    # Nobody knew that the first mixtures would hold: time to draw their baselines was kept back.
    tried = {row["class"] for row in run.trials if row["stage"] != "baseline"}
    assert tried == {*CLASSES} == {row["name"] for row in run.gap["classes"]}
    assert BUDGET - LOOK < clock.now <= BUDGET


@pytest.mark.slow
def test_what_has_closed_is_looked_at_while_others_are_tried(tmp_path: Path) -> None:
    """Or, if it did not hold, no time would be left to search on in it."""
    photos = tmp_path / "photos"
    write_real(photos, per_class=400, classes=("frog",))
    plain = Draw(
        prompt="a photo of a truck", guidance_scale=3.0, num_inference_steps=4, scheduler="one"
    )
    drawn = SlowPond().generate(plain, range(5_000_000, 5_000_400))  # closed from the start
    write_pngs({photos / "truck" / f"{k}.png": image for k, image in enumerate(drawn.images)})
    tune = {"budget": "5200s", "trials": None, "images_per_trial": 8}
    changes = {"classes": ["frog", "truck"], "space": SPACE, "tune": tune}
    config = written(tmp_path / "c.yaml", photos, **changes, confirm={"images": 50})
    clock = Clock()
    looked: list[float] = []
    tried: list[float] = []

    def heard(_: object, event: Event, state: RunState) -> None:
        if isinstance(event, VerdictsReached) and "truck" in event.verdicts:
            looked.append(clock.now)
        if isinstance(event, TrialFinished | TrialFailed) and event.cls == "frog":
            tried.append(clock.now)

    with patch("gapclose.loop.progress.line_reporter.LineReporter.follow", heard):
        code, err = by_clock(
            clock, "tune", config, "--out", tmp_path / "run", SLOW_POND_SECONDS="10"
        )
    assert code == 0, err
    assert 5200 / 2 <= looked[0] < tried[-1]
    assert (
        len(looked) > 1
    )  # judged again with what was looked at last: q-values are of all classes
    assert clock.now <= 5200


STARTING = 15.0  # seconds that idle cores take to render and embed the demo's photos
IMAGE = 0.028  # and to draw an image


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("drawing", "rest"), [(3.0, 3.0), (10.0, 1.0)], ids=["busy", "without its GPU"]
)
def test_on_a_slow_machine_the_worst_classes_are_worked_on_and_the_budget_is_kept(
    drawing: float, rest: float, tmp_path: Path
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
        machine(clock, slower=rest),
        patch("gapclose.loop.progress.line_reporter.LineReporter.tell", heard),
    ):
        seconds = f"{drawing * IMAGE}"
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
    for row in run.gap["classes"]:
        assert row["before"]["n_synthetic"] == baselines[row["name"]]
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
