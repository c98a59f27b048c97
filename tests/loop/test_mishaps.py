"""Runs that cannot go as they should: no time, no images, no confirmation; and what they say."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from rig import command, finished, here, written
from slow_pond import SlowPond, _image

from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.pond.renderer import write_real
from gapclose.generators.recipe import Draw
from gapclose.loop.report.run_view import Run
from gapclose.loop.report.status import read_status
from gapclose.loop.run.class_state import Evaluation
from gapclose.loop.run.events import RoundStarted
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import read_journal
from gapclose.loop.run.state import RunState, fold
from gapclose.loop.run.tags import write_tags
from gapclose.loop.schedule.view import View
from gapclose.loop.session import Session
from gapclose.loop.work.holdout import evaluate_holdout
from gapclose.loop.work.synthesis import Synthesis


def folded(run: Path) -> RunState:
    """Where a run stands."""
    return fold(read_journal(RunDir(run).journal_path))


def evaluation_of(run: Path, cls: str) -> Evaluation:
    """What the last fold said of a class."""
    evaluation = folded(run).of(cls).evaluation
    assert evaluation is not None
    return evaluation


@pytest.mark.slow
def test_out_of_time_after_the_baselines_no_image_is_drawn_to_confirm_what_nothing_was_tried_for(
    photos: Path, tmp_path: Path
) -> None:
    tune = {"budget": "1s", "trials": None, "images_per_trial": 8}
    config = written(tmp_path / "c.yaml", photos, tune=tune, confirm={"images": 200})
    code, err = here("tune", config, "--out", tmp_path / "run")
    assert code == 0, err
    run = Run.open(tmp_path / "run")
    assert [row["stage"] for row in run.trials] == ["baseline", "baseline"]
    # At that rate, baselines may be smaller than 100; one more image has loaded the models.
    sizes = [len(row["seeds"]) for row in run.trials]
    assert all(24 <= size <= 100 for size in sizes)
    assert run.state["images"] == 1 + sum(sizes)
    for row in run.gap["classes"]:
        assert row["gap"] == row["before"]["gap"]
        assert row["confirmed"] is False  # plain frogs are green; ships are all one gray
    page = (tmp_path / "run/report.html").read_text()
    assert "Nothing was tuned: the budget left no time to try any recipe." in page
    assert "1 trial; stopped because: the budget is out." in page
    # The fold that judged the baseline alone is still unseen by a search.
    more = ("--set", "tune.budget=null", "--set", "tune.trials=3", "--set", "confirm.images=24")
    config = written(tmp_path / "c.yaml", photos, tune=tune)
    out = tmp_path / "other"
    assert here("tune", config, "--out", out)[0] == 0
    for name in ("frog", "ship"):
        assert evaluation_of(out, name).opened.fold == 0
        assert folded(out).of(name).spent_folds == ()
    code, err = here("tune", config, "--out", out, *more)
    assert code == 0, err
    for name in ("frog", "ship"):
        opened = evaluation_of(out, name).opened
        assert (opened.fold, opened.trials) == (0, 3)
        assert folded(out).of(name).spent_folds == (opened.photos,)


@pytest.mark.slow
def test_a_class_that_cannot_be_drawn_does_not_take_the_others_with_it(
    photos: Path, tmp_path: Path
) -> None:
    config = written(
        tmp_path / "c.yaml", photos, tune={"budget": None, "trials": 4, "images_per_trial": 8}
    )
    out = tmp_path / "run"
    code, err = here("tune", config, "--out", out, SLOW_POND_FAILS="ship")
    assert code == 0, err
    run = Run.open(out)
    ships = [row for row in run.trials if row["class"] == "ship"]
    assert [row["state"] for row in ships] == ["fail"] * 3  # three in a row stop the class
    assert "no ship today" in ships[0]["error"]
    assert [row["name"] for row in run.gap["classes"]] == ["frog"]
    assert [row["class"] for row in run.gap["skipped"]] == ["ship"]


@pytest.mark.slow
def test_what_the_generator_refuses_fails_a_trial_but_as_the_baseline_the_config(
    photos: Path, tmp_path: Path
) -> None:
    tune = {"budget": None, "trials": 20, "images_per_trial": 8}
    config, out = written(tmp_path / "c.yaml", photos, classes=["frog"], tune=tune), tmp_path / "o"
    code, err = here("tune", config, "--out", out, SLOW_POND_REFUSES="two")
    assert code == 0, err
    run = Run.open(out)
    states = {(row["recipe"]["draw"]["scheduler"], row["state"]) for row in run.trials}
    assert states == {("one", "complete"), ("two", "fail")}
    assert [row["name"] for row in run.gap["classes"]] == ["frog"]
    told = (out / "errors.log").read_text()
    assert "Traceback" in told
    assert "scheduler: two does not fit" in told
    code, err = here("tune", config, "--out", tmp_path / "b", SLOW_POND_REFUSES="one")
    assert (code, err.splitlines()[-1]) == (2, "error: scheduler: one does not fit")


@pytest.mark.slow
def test_a_run_that_is_refused_at_its_first_trial_leaves_nothing(
    photos: Path, tmp_path: Path
) -> None:
    """Or its folder would refuse the config that fixes it."""
    config, out = written(tmp_path / "c.yaml", photos, classes=["frog"]), tmp_path / "run"
    generate = SlowPond.generate

    def refuses(self: SlowPond, draw: Draw, seeds: Any) -> Any:
        if len(seeds) > 1:  # not the one image by which it is looked at before
            raise GeneratorConfigError("guidance_scale: 3.0 does not fit")
        return generate(self, draw, seeds)

    with patch.object(SlowPond, "generate", refuses):
        code, err = here("tune", config, "--out", out)
    assert (code, err.splitlines()) == (2, ["error: guidance_scale: 3.0 does not fit"])
    assert not out.exists()


@pytest.mark.slow
def test_what_a_hubs_model_does_not_take_is_told_once_it_has_been_loaded(
    photos: Path, tmp_path: Path
) -> None:
    """Its schedulers are known only then; tried one by one, they would stop class after class."""
    config = written(tmp_path / "c.yaml", photos)
    wrong = GeneratorConfigError("scheduler: 'two' does not fit")
    with (
        patch("gapclose.loop.photos.check_drawn") as checked,
        patch("gapclose.loop.session.check_drawn", side_effect=wrong),
    ):
        code, err = here("tune", config, "--out", tmp_path / "o")
    assert (code, err.splitlines()[-1]) == (2, "error: scheduler: 'two' does not fit")
    assert checked.call_count == 1
    assert {row["stage"] for row in Run.open(tmp_path / "o").trials} == {"baseline"}
    with (
        patch("gapclose.loop.photos.check_drawn") as checked,
        patch("gapclose.loop.session.check_drawn") as again,
    ):
        assert here("tune", config, "--out", tmp_path / "o")[0] == 0
    assert (checked.call_count, again.call_count) == (1, 1)  # at the start, and once a session


@pytest.mark.slow
def test_a_class_of_mostly_invalid_images_is_told_and_the_others_are_finished(
    photos: Path, tmp_path: Path
) -> None:
    tune = {"budget": None, "trials": 5, "images_per_trial": 8}
    config, out = written(tmp_path / "c.yaml", photos, tune=tune), tmp_path / "run"
    code, err = here("tune", config, "--out", out, SLOW_POND_INVALID="ship")
    assert code == 0, err
    run = Run.open(out)
    baseline, *others = [row for row in run.trials if row["class"] == "ship"]
    assert (baseline["state"], baseline["invalid"], baseline["images_total"]) == (
        "complete",
        90,
        100,
    )
    assert [row["state"] for row in others] == ["fail"] * 3
    assert others[-1]["invalid"] >= 7
    assert others[-1]["images_total"] > 100  # they were drawn all the same
    assert [row["name"] for row in run.gap["classes"]] == ["frog"]
    (skipped,) = run.gap["skipped"]
    assert skipped["class"] == "ship"
    assert "10 of 100 images are valid" in skipped["why"]


@pytest.mark.slow
def test_a_run_where_nothing_can_be_drawn_says_so_and_goes_on_once_it_is_fixed(
    photos: Path, tmp_path: Path
) -> None:
    tune = {"budget": None, "trials": 5, "images_per_trial": 8}
    config = written(tmp_path / "c.yaml", photos, classes=["frog"], tune=tune)
    out = tmp_path / "run"
    assert here("audit", config, "--out", out)[0] == 0  # whose verdicts are not this run's
    code, err = here("tune", config, "--out", out, SLOW_POND_FAILS="frog")
    assert code == 1
    assert err.splitlines()[-1].startswith("error: no class could be scored: frog: 3 failures in")
    run = Run.open(out)
    assert run.state["stopped_because"].startswith(
        "frog: 3 failures in a row, of which the last: "
    )
    assert run.state["stopped_because"].endswith("no frog today")
    assert [row["class"] for row in run.gap["skipped"]] == ["frog"]
    assert "no frog today" in (out / "report.html").read_text()
    # A restart implies that the cause was fixed: the three failures are history, even if it
    # dies before it has generated anything.
    death = "gapclose.loop.work.synthesis:Synthesis.embed:before:1"
    assert finished(command("tune", config, "--out", out, KILL_AT=death))[0] == -signal.SIGKILL
    code, err = here("tune", config, "--out", out)
    assert code == 0, err
    run = Run.open(out)
    assert [row["state"] for row in run.trials] == ["fail"] * 3 + ["complete"] * 2
    assert [row["name"] for row in run.gap["classes"]] == ["frog"]


@pytest.mark.slow
def test_photos_are_spent_only_on_a_mixture_that_they_have_not_judged(tmp_path: Path) -> None:
    """Failures make no mixture another one, and a fold of the mere baseline has judged none."""
    write_real(tmp_path / "photos", per_class=250, classes=("frog",))  # of one fold
    tune = {"budget": None, "trials": 1, "images_per_trial": 8}
    config = written(tmp_path / "c.yaml", tmp_path / "photos", classes=["frog"], tune=tune)
    out = tmp_path / "run"
    assert here("tune", config, "--out", out)[0] == 0
    assert [row["stage"] for row in Run.open(out).trials] == ["baseline"]
    code, err = here("tune", config, "--out", out, "--set", "tune.trials=3")
    assert code == 0, err
    opened = evaluation_of(out, "frog").opened
    assert (opened.fold, opened.trials, len(Run.open(out).trials)) == (0, 3, 3)

    write_real(tmp_path / "more", per_class=420, classes=("frog",))  # of two
    tune["trials"] = 3
    config = written(tmp_path / "c.yaml", tmp_path / "more", classes=["frog"], tune=tune)
    out = tmp_path / "other"
    assert here("tune", config, "--out", out)[0] == 0
    first = (out / "mixtures.json").read_bytes()
    more = ("tune", config, "--out", out, "--set", "tune.trials=8")
    assert here(*more, SLOW_POND_FAILS="frog")[0] == 0
    run = Run.open(out)
    assert [row["state"] for row in run.trials[-3:]] == ["fail"] * 3
    assert evaluation_of(out, "frog").opened.fold == 0
    assert (out / "mixtures.json").read_bytes() == first
    assert here(*more)[0] == 0
    run = Run.open(out)
    assert [row["state"] for row in run.trials[-2:]] == ["complete"] * 2
    assert (len(run.trials), evaluation_of(out, "frog").opened.fold) == (8, 1)


@pytest.mark.slow
def test_a_fold_that_was_opened_is_evaluated_on_its_photos_though_others_have_come(
    tmp_path: Path,
) -> None:
    """Also the fold of the mere baseline, which is not spent."""
    photos, later = tmp_path / "photos", tmp_path / "later"
    write_real(photos, per_class=400, classes=("frog",))
    later.mkdir()
    for path in sorted((photos / "frog").iterdir())[100:]:
        path.rename(later / path.name)
    tune = {"budget": None, "trials": 1, "images_per_trial": 8}
    config, out = written(tmp_path / "c.yaml", photos, classes=["frog"], tune=tune), tmp_path / "r"
    death = "gapclose.loop.work.confirmation:evaluate_holdout:before:1"
    assert finished(command("tune", config, "--out", out, KILL_AT=death))[0] == -signal.SIGKILL
    opened = folded(out).of("frog").opened
    assert opened is not None
    assert (opened.fold, opened.spends, folded(out).of("frog").spent_folds) == (0, False, ())
    for path in later.iterdir():
        path.rename(photos / "frog" / path.name)

    evaluated: list[tuple[str, ...]] = []

    def generate(*args: Any, real: Any, fold: int, **options: Any) -> Any:
        evaluated.append(real.folds[fold].photos)
        return evaluate_holdout(*args, real=real, fold=fold, **options)

    with patch("gapclose.loop.work.confirmation.evaluate_holdout", generate):
        code, err = here("tune", config, "--out", out)
    assert code == 0, err
    assert {*evaluated} == {opened.photos}
    assert evaluation_of(out, "frog").opened == opened
    assert evaluation_of(out, "frog").result.after["n_real"] == len(opened.photos)
    assert folded(out).of("frog").spent_folds == ()  # it may judge the first mixture


@pytest.mark.slow
def test_tags_on_the_only_photos_that_can_confirm_a_class_do_not_end_it(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_real(photos, per_class=250, classes=("frog",))
    tune = {"budget": None, "trials": 1, "images_per_trial": 8}
    config, out = written(tmp_path / "c.yaml", photos, classes=["frog"], tune=tune), tmp_path / "r"
    assert here("tune", config, "--out", out)[0] == 0
    truth = [json.loads(row) for row in (photos / "scenes.jsonl").read_text().splitlines()]
    gray = {str(photos / row["file"]) for row in truth if row["color"] == "gray"}
    shown = {row["path"] for row in RunDir.open(out).samples() if row["stage"] == "real"}
    write_tags(RunDir.open(out), {path: ["gap"] for path in sorted(gray & shown)})
    process = command("tune", config, "--out", out, "--set", "tune.trials=4")
    said, err = process.communicate()
    assert process.returncode == 0, err
    assert "are tagged gap; but only photos that you have seen are left" in said
    assert len(Run.open(out).trials) == 4


@pytest.mark.slow
def test_a_passing_fault_takes_no_verdict_away(photos: Path, tmp_path: Path) -> None:
    config, out = written(tmp_path / "c.yaml", photos, classes=["frog"]), tmp_path / "run"
    assert here("tune", config, "--out", out)[0] == 0
    before = Run.open(out).gap["classes"]
    with patch.object(Synthesis, "embed", side_effect=RuntimeError("memory is out")):
        assert here("tune", config, "--out", out)[0] == 0
        assert Run.open(out).gap["classes"] == before
        told = (out / "gap.json").read_bytes()
        (out / "gap.json").unlink()
        assert here("report", out)[0] == 0  # the journal knows it: nothing is embedded
    assert (out / "gap.json").read_bytes() == told


@pytest.mark.slow
def test_a_passing_fault_in_one_class_takes_no_verdict_away_while_another_moves_on(
    tmp_path: Path,
) -> None:
    photos = tmp_path / "photos"
    write_real(photos, per_class=420, classes=("frog",))
    write_real(photos, per_class=60, classes=("ship",))
    tune = {"budget": None, "trials": 3, "images_per_trial": 8}
    config, out = written(tmp_path / "c.yaml", photos, tune=tune), tmp_path / "run"
    assert here("tune", config, "--out", out)[0] == 0
    (before,) = [row for row in Run.open(out).gap["classes"] if row["name"] == "ship"]

    measured: list[str] = []

    def generate(*args: Any, real: Any, **options: Any) -> Any:
        measured.append(real.name)
        if real.name == "ship":
            raise RuntimeError("memory is out")
        return evaluate_holdout(*args, real=real, **options)

    with patch("gapclose.loop.work.confirmation.evaluate_holdout", generate):
        assert here("tune", config, "--out", out, "--set", "tune.trials=5")[0] == 0
    run = Run.open(out)
    assert [evaluation_of(out, name).opened.fold for name in ("frog", "ship")] == [1, 0]
    assert {*measured} == {"frog"}  # what has a verdict and no new fold is not measured again
    (after,) = [row for row in run.gap["classes"] if row["name"] == "ship"]
    together = {"q_value", "attributes", "judge", "before"}  # whose q-values are of all classes
    assert {k: after[k] for k in after.keys() - together} == {
        k: before[k] for k in before.keys() - together
    } | {"importances": after["importances"]}
    assert run.gap["skipped"] == []


@pytest.mark.slow
def test_a_confirmation_that_fails_is_told_and_done_again_on_its_fold(tmp_path: Path) -> None:
    """The verdict of the fold before it stays until then, and so does its mixture."""
    photos = tmp_path / "photos"
    write_real(photos, per_class=420, classes=("frog", "ship"))  # of two folds
    tune = {"budget": None, "trials": 3, "images_per_trial": 8}
    config, out = written(tmp_path / "c.yaml", photos, tune=tune), tmp_path / "run"
    assert here("tune", config, "--out", out)[0] == 0
    before = {row["name"]: row for row in Run.open(out).gap["classes"]}
    mixture = Run.open(out).mixtures["classes"]["ship"]

    def generate(*args: Any, real: Any, **options: Any) -> Any:
        if real.name == "ship":
            raise RuntimeError("memory is out")
        return evaluate_holdout(*args, real=real, **options)

    more = ("tune", config, "--out", out, "--set", "tune.trials=7")
    with patch("gapclose.loop.work.confirmation.evaluate_holdout", generate):
        code, err = here(*more)
    assert code == 0, err
    run = Run.open(out)
    assert [evaluation_of(out, name).opened.fold for name in ("frog", "ship")] == [1, 0]
    after = {row["name"]: row for row in run.gap["classes"]}
    assert after["frog"]["gap"] != before["frog"]["gap"]
    measured = ("gap", "p_value", "n_real", "coverage", "duplicates", "confirmed")
    for key in measured:
        assert after["ship"][key] == before["ship"][key]
    assert run.mixtures["classes"]["ship"] == mixture
    assert run.gap["skipped"] == []
    said = "its confirmation failed: RuntimeError: memory is out"
    assert run.gap["stopped"]["ship"] == said
    assert run.gap["stop_reasons"]["ship"] == "confirmation_failed"
    assert f"ship: {said}" in run.state["stopped_because"]
    assert "memory is out" in (out / "errors.log").read_text()
    assert here(*more)[0] == 0
    frog, ship = (evaluation_of(out, name).opened for name in ("frog", "ship"))
    assert (ship.fold, ship.trials) == (frog.fold, frog.trials) == (1, 7)
    assert Run.open(out).gap["stop_reasons"]["ship"] != "confirmation_failed"
    for name in ("frog", "ship"):  # one fold each for either mixture
        assert len(folded(out).of(name).spent_folds) == 2


@pytest.mark.slow
def test_an_audit_goes_on_with_what_it_drew(photos: Path, tmp_path: Path) -> None:
    config, out, log = written(tmp_path / "c.yaml", photos), tmp_path / "run", tmp_path / "drawn"
    at = "gapclose.loop.work.baselines:evaluate_holdout:before:2"
    words = ("audit", config, "--out", out)
    assert finished(command(*words, KILL_AT=at, SLOW_POND_LOG=str(log)))[0] == -signal.SIGKILL
    tried, other, frogs = log.read_text().splitlines()
    # One image, to see that it returns one, and one of another prompt.
    assert len(tried.split()) == len(other.split()) == 2
    assert read_status(out).kind == "audit"
    assert here(*words, SLOW_POND_LOG=str(log))[0] == 0
    *_, ships = log.read_text().splitlines()  # and no frogs
    assert frogs != ships
    (out / "gap.json").unlink()
    assert here("report", out, SLOW_POND_LOG=str(log))[0] == 0
    assert len(log.read_text().splitlines()) == 4
    assert len(Run.open(out).gap["classes"]) == 2
    # Whoever repeats a whole audit wants to know what the generator makes now.
    assert here(*words, SLOW_POND_LOG=str(log))[0] == 0
    assert len(log.read_text().splitlines()) == 6


@pytest.mark.slow
def test_classes_that_rest_keep_no_time_from_those_that_do_not(tmp_path: Path) -> None:
    """What they confirmed is read back; drawing it anew is not to be reckoned with."""
    photos = tmp_path / "photos"
    write_real(photos, per_class=250, classes=("frog", "ship"))
    tune = {"budget": None, "trials": 3, "images_per_trial": 8}
    config, out = written(tmp_path / "c.yaml", photos, tune=tune), tmp_path / "run"
    assert here("tune", config, "--out", out)[0] == 0  # of one fold each: all rest
    kept: list[float] = []

    def reserved(self: Session) -> None:
        images = self.config.confirm.images
        slow = self.state.timings.with_evaluation("frog", 1000.0, images)
        self.state = replace(self.state, timings=slow)
        kept.append(View(self.state, self.limits, self.watch.used).reserve())

    later = ("--set", "tune.trials=null", "--set", "tune.budget=2h")
    with patch.object(Session, "_prioritize", reserved):
        assert here("tune", config, "--out", out, *later)[0] == 0
    assert 0 < kept[0] < 1000.0


@pytest.mark.slow
def test_a_class_that_does_not_hold_goes_back_into_the_search_at_the_same_trial_after_a_death(
    tmp_path: Path,
) -> None:
    """The real ships are the baseline's own: closed from the start; 24 images confirm nothing."""
    photos = tmp_path / "photos" / "ship"
    photos.mkdir(parents=True)
    plain = Draw(prompt="a photo of a ship", guidance_scale=2.0)
    for seed in range(420):
        Image.fromarray(_image(plain, 10**9 + seed)).save(photos / f"{seed}.png")
    config = written(tmp_path / "c.yaml", photos.parent, classes=["ship"])
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    code, err = here("tune", config, "--out", unbroken)
    assert code == 0, err

    def reopened(run: Path) -> list[RoundStarted]:
        rounds = [e for e in read_journal(RunDir(run).journal_path) if isinstance(e, RoundStarted)]
        return [e.model_copy(update={"at": 0.0, "used": 0.0}) for e in rounds if e.reopened]

    opened = evaluation_of(unbroken, "ship").opened
    assert (opened.fold, opened.trials) == (1, 7)
    assert [[*told.reopened] for told in reopened(unbroken)] == [["ship"]]
    assert folded(unbroken).of("ship").reopened_at == 1
    assert Run.open(unbroken).state["stopped_because"].startswith("ship: ")
    trial, line = "loop.run.folder:RunDir.append_line", "loop.run.journal:append_line"
    for death in (
        f"{trial}:after:1",
        f"{line}:before:4",
        f"{trial}:before:2",
        f"{line}:after:3",
        f"{trial}:after:2",
    ):
        at = f"gapclose.{death}"
        assert finished(command("tune", config, "--out", killed, KILL_AT=at))[0] == -signal.SIGKILL
    code, err = here("tune", config, "--out", killed)
    assert code == 0, err
    assert (killed / "mixtures.json").read_bytes() == (unbroken / "mixtures.json").read_bytes()
    assert reopened(killed) == reopened(unbroken)


@pytest.mark.slow
def test_a_clock_that_is_set_back_and_forth_changes_nothing(photos: Path, tmp_path: Path) -> None:
    """By years, between any two readings: no decision is made by a stamp."""
    tune = {"budget": None, "trials": 3, "images_per_trial": 8}
    config = written(tmp_path / "c.yaml", photos, tune=tune)
    code, err = here("tune", config, "--out", tmp_path / "plain")
    assert code == 0, err
    rng = np.random.default_rng(0)
    readings: list[float] = []

    def jumping() -> float:
        readings.append(float(rng.uniform(0.0, 4e9)))
        return readings[-1]

    with patch("time.time", jumping):
        for trials in (1, 3):  # the second session finds stamps of years to come
            more = ("--set", f"tune.trials={trials}")
            code, err = here("tune", config, "--out", tmp_path / "odd", *more)
            assert (code, err) == (0, "")
        assert here("status", tmp_path / "odd")[0] == 0
        assert here("report", tmp_path / "odd")[0] == 0
    assert len(readings) > 10
    for run in ("plain", "odd"):
        rows = Run.open(tmp_path / run).trials
        states = {(row["class"], row["number"], row["state"]) for row in rows}
        assert states == {(name, n, "complete") for name in ("frog", "ship") for n in range(3)}
    state = read_status(tmp_path / "odd")
    assert state.running is False
    seconds = [event.at for event in read_journal(RunDir(tmp_path / "odd").journal_path)]
    assert seconds != sorted(seconds), "the journal has the stamps as they were read"
    used = [event.used for event in read_journal(RunDir(tmp_path / "odd").journal_path)]
    assert used == sorted(used)
