"""The whole loop through the real command line: killed at every step, interrupted, resumed."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from rig import command, evidence_holds, finished, here, lines, wait_for_lines, written

from gapclose.generators.pond.renderer import write_real
from gapclose.loop.config.schema import ConfigError, TuneConfig, load_config
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.run import Run
from gapclose.loop.run.tags import write_tags
from gapclose.loop.schedule.budget import Budget
from gapclose.loop.schedule.cost_model import PROBE_SECONDS, CostModel
from gapclose.loop.search.space import Space
from gapclose.loop.tuning import _Tuning, tune


@pytest.fixture(scope="module")
def config(photos: Path) -> Path:
    return written(photos.parent / "tiny.yaml", photos)


@pytest.fixture(scope="module")
def unbroken(photos: Path, config: Path) -> RunDir:
    """A run that nothing disturbed."""
    path = photos.parent / "unbroken"
    code, err = here("tune", config, "--out", path)
    assert code == 0, err
    return RunDir.open(path)


# ------------------------------------------------------------------------------- killed


FRESH = 15_000_000  # seeds from here on are for looks
DEATHS = [
    "gapclose.loop.work.synthesis:Synthesis.embed:before:2",  # a trial's images, nothing else
    "gapclose.loop.run.folder:RunDir.append_trial:before:2",  # its embeddings too, but no line
    "gapclose.loop.run.folder:RunDir.append_trial:after:2",  # the line, but no study
    "gapclose.loop.search.optuna_record:OptunaRecord.tell:after:1",  # the study, but no state
    "gapclose.loop.tuning:evaluate_holdout:after:3",  # half of the confirmation
    "gapclose.loop.report.page:write_report:before:1",  # all but the page
]


@pytest.mark.slow
def test_killed_anywhere_the_same_command_goes_on(
    photos: Path, config: Path, unbroken: RunDir
) -> None:
    run = photos.parent / "killed"
    kept = b""

    # SIGKILL from outside, inside a trial some time after the first line.
    process = command("tune", config, "--out", run, SLOW_POND_SECONDS="0.01")
    wait_for_lines(process, run, 1)
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert finished(process)[0] == -signal.SIGKILL
    kept = evidence_holds(run, kept)

    # Ctrl-C ends after the trial under way and says how to go on.
    process = command("tune", config, "--out", run, SLOW_POND_SECONDS="0.02")
    wait_for_lines(process, run, lines(run) + 1)
    process.send_signal(signal.SIGINT)
    code, err = finished(process)
    assert code == 130, err
    assert "goes on with it: gapclose tune" in err
    assert "Traceback" not in err
    kept = evidence_holds(run, kept)

    log = photos.parent / "drawn"
    for death in DEATHS:
        process = command("tune", config, "--out", run, KILL_AT=death, SLOW_POND_LOG=str(log))
        code, err = finished(process)
        assert code == -signal.SIGKILL, (death, err)
        assert json.loads((run / "state.json").read_text())["stage"] != "done"
        kept = evidence_holds(run, kept)

    # A look that was finished before a death is not drawn again after it.
    looked = [row for row in log.read_text().splitlines() if int(row.split()[1]) >= FRESH]
    assert looked
    assert len(looked) == len(set(looked))

    # Ctrl-C while classes are confirmed does not wait for all of them.
    process = command("tune", config, "--out", run, SLOW_POND_SECONDS="0.02")
    until = time.monotonic() + 120
    while json.loads((run / "state.json").read_text())["stage"] != "confirm":
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    events, err = process.communicate(timeout=300)
    assert (process.returncode, "goes on with it" in err) == (130, True), err
    assert events.count('"what": "confirming"') == 1  # one look, and no other class's
    assert "frog, ship: under 100 photos to confirm with" in events
    assert "Warning" not in err

    # A writer may die in the middle of its line.
    with (run / "trials.jsonl").open("ab") as file:
        file.write(b'{"class": "frog", "numb')
    code, err = finished(command("tune", config, "--out", run))
    assert code == 0, err
    assert evidence_holds(run, kept) == (run / "trials.jsonl").read_bytes()

    assert (run / "mixtures.json").read_bytes() == (unbroken.path / "mixtures.json").read_bytes()
    ours, theirs = Run.open(run).trials, Run.open(unbroken.path).trials
    for mine, other in zip(ours, theirs, strict=True):
        timeless = set(mine) - {"seconds"}
        assert {k: mine[k] for k in timeless} == {k: other[k] for k in timeless}
    for name in ("frog", "ship"):
        assert told(run, config, name) == told(unbroken.path, config, name)
    assert not [p for p in run.rglob("*") if p.suffix in (".tmp", ".part")]


def told(run: Path, config: Path, cls: str) -> list[tuple[int, str, float | None]]:
    """The class's study: number, stage and value of every trial, each once."""
    space = Space.of(load_config(config), cls)
    study = optuna.load_study(
        storage=f"sqlite:///{run / 'study.db'}",
        study_name=f"{cls}-{space.digest()}-{Run.open(run).state['id']}",
    )
    rows = [(t.user_attrs["number"], t.user_attrs["stage"], t.value) for t in study.trials]
    assert len({number for number, _, _ in rows}) == len(rows)
    wanted = [row for row in Run.open(run).trials if row["class"] == cls]
    assert rows == [(row["number"], row["stage"], row["value"]) for row in wanted]
    return rows


@pytest.mark.slow
def test_what_a_run_leaves_behind(unbroken: RunDir) -> None:
    run = Run.open(unbroken.path)
    rows = run.trials
    assert rows[0]["stage"] == "baseline"
    assert {row["stage"] for row in rows} == {
        "baseline",
        "joint",
        "mixture",
        "settings",
    }
    baseline = Space.of(run.config, "frog").baseline
    assert rows[0]["recipe"] == baseline.to_json()
    assert run.state["stage"] == "done"
    assert run.state["stopped_because"] == "frog, ship: tune.trials or tune.images reached"
    assert {c["name"] for c in run.gap["classes"]} == {"frog", "ship"}
    for row in run.gap["classes"]:
        thought = run.mixtures["classes"][row["name"]]["gap_tune"]
        assert row["optimism"] == pytest.approx((row["gap"] - thought) / row["floor_p95"])
        # Once it is done, the status says what was confirmed, not what the search had hoped.
        shown = run.state["classes"][row["name"]]
        assert (shown["gap"], shown["ratio"]) == (row["gap"], row["ratio"])
        assert (row["before"]["n_synthetic"], row["n_synthetic"]) == (100, 24)
        assert row["closed"] is not True  # fewer than 100 never say closed
    for mixture in run.mixtures["classes"].values():
        assert sum(r["weight"] for r in mixture["recipes"]) == pytest.approx(1.0)
    # No pair of one seed may enter a kernel mean: whole-recipe trials draw fresh ones.
    for cls in ("frog", "ship"):
        seeds = [
            s for r in rows if r["class"] == cls and r["stage"] != "settings" for s in r["seeds"]
        ]
        assert len(set(seeds)) == len(seeds)
    shown = unbroken.samples()
    assert {row["stage"] for row in shown} == {"real", "baseline", "tuned"}
    trial_seeds = {seed for row in rows for seed in row["seeds"]}
    assert not trial_seeds & {row["seed"] for row in shown if row["stage"] == "tuned"}
    assert (unbroken.path / "report.html").stat().st_size > 10_000
    with sqlite3.connect(unbroken.study_path) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_a_lost_gap_json_is_measured_anew_and_nothing_is_tried(
    unbroken: RunDir, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(unbroken.path, copy)
    for name in ("gap.json", "report.html"):
        (copy / name).unlink()
    code, err = here("report", copy, SLOW_POND_LOG=str(tmp_path / "drawn"))
    assert code == 0, err
    assert not (tmp_path / "drawn").exists()
    assert (copy / "report.html").stat().st_size > 10_000
    for name in ("trials.jsonl", "mixtures.json"):
        assert (copy / name).read_bytes() == (unbroken.path / name).read_bytes()
    before, after = Run.open(unbroken.path).gap, Run.open(copy).gap
    for old, new in zip(before["classes"], after["classes"], strict=True):
        assert new["name"] == old["name"]
        assert new["gap"] == pytest.approx(old["gap"], abs=1e-6)
        assert new["before"]["gap"] == pytest.approx(old["before"]["gap"], abs=1e-6)
        assert new["confirmed"] == old["confirmed"]


@pytest.mark.slow
def test_a_finished_run_with_more_trials_looks_at_unseen_photos(tmp_path: Path) -> None:
    write_real(tmp_path / "photos", per_class=420, classes=("frog",))
    config = written(tmp_path / "c.yaml", tmp_path / "photos", classes=["frog"])
    out = tmp_path / "run"

    def looked(trials: int) -> tuple[dict[str, Any], int, bytes]:
        words = ("--out", out, "--set", f"tune.trials={trials}")
        code, err = here("tune", config, *words)
        assert code == 0, err
        look = Run.open(out).state["looks"]["frog"]
        assert look["confirmed"] is False  # 24 images never say closed
        return look, lines(out), (out / "mixtures.json").read_bytes()

    def joint_prompts() -> list[str]:
        rows = [row for row in Run.open(out).trials if row["stage"] == "joint"]
        return [row["recipe"]["draw"]["prompt"] for row in rows]

    look, trials, first = looked(2)
    assert (look["part"], look["trials"], trials) == (0, 2, 2)
    look, _, again = looked(2)  # nothing new: the same look
    assert (look["part"], again) == (0, first)
    # Measured anew, the run is as done as it was, for the same reason.
    before = Run.open(out).state
    (out / "gap.json").unlink()
    assert here("report", out)[0] == 0
    for key in ("stage", "stopped_because", "looks", "seconds_used"):
        assert Run.open(out).state[key] == before[key]

    # A person tags gray frogs, which the generator makes too few of: gray is what is tried next.
    truth = [
        json.loads(row) for row in (tmp_path / "photos/scenes.jsonl").read_text().splitlines()
    ]
    gray = {str(tmp_path / "photos" / row["file"]) for row in truth if row["color"] == "gray"}
    shown = {row["path"] for row in RunDir.open(out).samples() if row["stage"] == "real"}
    write_tags(RunDir.open(out), {path: ["gap"] for path in sorted(gray & shown)})
    tried = joint_prompts()
    assert not any("gray" in prompt for prompt in tried)
    more = ("--out", out, "--set", "tune.trials=6")
    for death in ("run.folder:RunDir.append_trial:after:1", "tuning:score_evaluations:before:1"):
        at = f"gapclose.loop.{death}"
        assert finished(command("tune", config, *more, KILL_AT=at))[0] == -signal.SIGKILL
    # A report in between measures what was confirmed: it looks at no other photos, draws nothing,
    # though the next look is drawn, and the run is still to go on.
    (out / "gap.json").unlink()
    code, err = here("report", out, SLOW_POND_LOG=str(tmp_path / "drawn"))
    assert (code, (tmp_path / "drawn").exists()) == (0, False), err
    state = Run.open(out).state
    tagged = look | {"tagged": True}
    assert (state["looks"]["frog"], "stopped_because" in state) == (tagged, False)
    assert (state["stage"] == "done", (out / "mixtures.json").read_bytes()) == (False, first)
    assert (out / "gap.json").exists()
    # Once there are other mixtures, its verdicts are nobody's: nothing is exported by them.
    at = "gapclose.loop.tuning:clusters_of:before:1"
    drawn = {"KILL_AT": at, "SLOW_POND_LOG": str(tmp_path / "drawn")}
    assert finished(command("tune", config, *more, **drawn))[0] == -signal.SIGKILL
    assert not (tmp_path / "drawn").exists()
    assert (out / "mixtures.json").read_bytes() != first
    assert not (out / "gap.json").exists()
    look, trials, second = looked(6)
    assert (look["part"], look["trials"], trials) == (1, 6, 6)
    assert Run.open(out).state["pointed"]["frog"]["at"] == 2  # not where it was resumed
    assert "gray frog" in joint_prompts()[len(tried)]
    # Of some 210 photos there are two parts. With both seen, nothing more is tried or changed.
    look, trials, third = looked(8)
    assert (look["part"], look["trials"], trials) == (1, 6, 6)
    assert third == second


def test_hints_are_the_first_winners_of_other_classes_and_not_the_baselines(config: Path) -> None:
    tuning = object.__new__(_Tuning)
    tuning.spaces = {"frog": Space.of(load_config(config), "frog")}
    baseline = tuning.spaces["frog"].baseline_settings()
    others = [baseline | {"guidance_scale": float(scale)} for scale in range(4)]
    won = zip(("cat", "frog", "dog", "deer"), others, strict=True)
    tuning.winners = [("ship", baseline), *won]
    assert tuning._hints("frog") == [others[0], others[2]]


# ---------------------------------------------------------------------------------- rounds


def look(**facts: Any) -> dict[str, Any]:
    """A look that did not hold, at all there was after nine trials."""
    shown = {"part": 0, "trials": 9, "atoms": 5, "confirmed": False, "gap": 0.5, "tagged": False}
    return shown | facts


def search(**facts: Any) -> Any:
    """A search that stands still: nine trials, five of them with evidence, and wants more."""
    shown = {"number": 9, "images": 200, "has_baseline": True, "pending": False, "prioritized": ()}
    shown |= {"gap": 0.2, "unseen_gap": 0.0, "floor": 0.1, "failures": 0, "since_gain": 0}
    shown |= {"baseline_gap": 2.0, "baseline_floor": 0.1, "evidence": 5, "why": None}
    found = SimpleNamespace(**shown | facts)
    found.expected = found.gap
    found.stopped = lambda: found.why
    found.reopen = lambda unseen_gap: vars(found).update(unseen_gap=unseen_gap, why=None)
    return found


def standing_still(
    searches: dict[str, Any], looks: dict[str, dict[str, Any]], **limits: Any
) -> _Tuning:
    """A controller between two steps, a second an image, by default with all time there is."""
    tuning = object.__new__(_Tuning)
    limits = {"budget": None, "trials": 100} | limits
    tuning.budget = Budget(limits=TuneConfig(**limits), now=lambda: 0.0)
    tuning.pace = CostModel(trial_images=8, baseline_images=100, look_images=100)
    tuning.pace.note_look("frog", 100.0, images=100)
    tuning.searches, tuning.searching, tuning.due = searches, True, set()
    tuning.gallery = {name: SimpleNamespace(parts=[0, 1, 2]) for name in searches}  # type: ignore[misc]
    tuning.state = {"looks": looks, "reopened": {}, "mendable": [], "spare": False}
    tuning.looks, tuning.failed = {}, {}
    tuning.images_before, tuning.synthesis = 0, SimpleNamespace(generated=0)  # type: ignore[assignment]
    tuning.rundir = SimpleNamespace(write_json=lambda *_: None)  # type: ignore[assignment]
    return tuning


def test_a_class_that_comes_to_rest_within_a_round_gets_no_more_trials() -> None:
    """As a confirmed one does whose pointed prompts are spent: a resumed run would not try it."""
    searches = {"frog": search(gap=9.0), "ship": search()}
    tuning = standing_still(searches, {"frog": look(confirmed=True), "ship": look()})
    tuning.due = {*searches}
    searches["frog"].pending = True
    assert tuning._next_trial() == "frog"
    searches["frog"].pending = False
    assert tuning._next_trial() == "ship"


def test_a_class_that_was_told_to_go_on_is_tried_before_it_is_looked_at_in_vain() -> None:
    searches = {"frog": search(gap=0.01), "ship": search(gap=0.9)}
    looks = {"frog": look(gap=0.01), "ship": look(trials=7, atoms=3)}
    tuning = standing_still(searches, looks)
    tuning.due = {*searches}
    assert tuning._next_look() == "ship"


def test_a_round_begins_with_what_went_on_and_then_the_worst_that_there_is_time_for() -> None:
    """Whether or not there is time: what was begun, settings of an untried class too."""
    searches = {
        "frog": search(number=12, evidence=1),
        "ship": search(why="closed on the tune split"),
        "cat": search(),
        "dog": search(),
        "deer": search(),
        "bird": search(number=12, evidence=6),
    }
    looks = {name: look(gap=k / 2) for k, name in enumerate(searches)}
    looks["frog"] |= {"atoms": 1}
    looks["dog"] |= {"confirmed": True}
    looks["deer"] |= {"part": 2}
    tuning = standing_still(searches, looks, trials=None, budget=1.0)
    tuning._reopen()
    assert (tuning.due, tuning._next_trial()) == ({"frog", "bird"}, None)
    assert tuning.state["reopened"] == {}
    tuning = standing_still(searches, looks, trials=None, budget=700.0)
    tuning._reopen()
    assert tuning.due == {"frog", "bird", "cat"}
    tuning = standing_still(searches, looks)
    tuning._reopen()
    assert tuning.due == {"frog", "bird", "ship", "cat"}
    told = tuning.state["reopened"]
    assert told == {"cat": [{"at": 9, "gap": 1.0}], "ship": [{"at": 9, "gap": 0.5}]}
    assert tuning._next_trial() is not None


def test_no_time_is_kept_back_for_classes_that_can_neither_be_tried_nor_seen_anew() -> None:
    """They were told to go on, and three failures stopped them, or their trials are spent."""
    searches = {name: search(number=12, failures=3, why="3 failures") for name in ("cat", "dog")}
    searches |= {"deer": search(number=100), "frog": search()}
    looks = {name: look() for name in searches}
    tuning = standing_still(searches, looks, budget=320.0)
    tuning.state["reopened"] = {"cat": [{"at": 9, "gap": 0.5}]}
    tuning._reopen()
    assert (tuning.due, tuning._next_trial()) == ({"frog"}, "frog")


def test_what_three_failures_stopped_is_taken_up_before_what_did_not_hold() -> None:
    broken = search(number=3, failures=3, why="3 failures", has_baseline=False, evidence=0)
    broken.reset_failures = lambda: vars(broken).update(failures=0, why=None)
    searches = {name: search(gap=1.5) for name in ("cat", "dog", "deer", "bird")}
    searches["frog"] = broken
    looks = {name: look(gap=1.5) for name in searches if name != "frog"}
    tuning = standing_still(searches, looks, trials=None, budget=600.0)
    tuning.state |= {"stopped_because": "frog: 3 failures", "mended": {}}
    tuning._note_mendable()
    tuning._reopen()
    assert tuning.state["mended"] == {"frog": [3]}
    assert tuning._next_trial() == "frog"


@pytest.mark.parametrize("atoms", [1, 5])  # 1: it failed while it compared settings
@pytest.mark.parametrize(("left", "mended"), [(150.0, False), (600.0, True)])
def test_failures_are_forgotten_only_where_there_is_time_to_go_on(
    left: float, mended: bool, atoms: int
) -> None:
    """Else the report would lose the reason why the class stopped."""
    broken = search(number=12, failures=3, why="3 failures", evidence=atoms)
    broken.reset_failures = lambda: vars(broken).update(failures=0, why=None)
    seen = {"frog": look(atoms=atoms)}
    tuning = standing_still({"frog": broken}, seen, trials=None, budget=left)
    tuning.state |= {"stopped_because": "frog: 3 failures", "mended": {}}
    tuning._note_mendable()
    tuning._reopen()
    assert (broken.failures == 0) == (tuning.state["mended"] == {"frog": [12]}) == mended
    assert tuning._next_trial() == ("frog" if mended else None)


def test_what_closed_by_half_of_the_time_is_looked_at_while_others_are_tried() -> None:
    closed, failing = {"why": "closed on the tune split", "gap": -0.1}, {"failures": 3}
    searches = {
        "frog": search(),
        "ship": search(**closed),
        "cat": search(why=None),
        "dog": search(why="3 failures", gap=0.0, failures=3),
        "deer": search(why="3 failures", **failing),
        "bird": search(why="closed from the start", gap=0.15, evidence=1),
    }
    tuning = standing_still(searches, {}, trials=None, budget=4000.0)
    tuning._reopen()
    assert tuning._early() == []
    tuning.budget.used_before = 2000.0
    assert sorted(tuning._early()) == ["bird", "dog", "ship"]
    # Not where what does not hold could not be searched on in,
    tuning.budget.used_before = 3300.0
    assert tuning._early() == []
    # nor where trials end the search of each class.
    tuning = standing_still(searches, {}, budget=4000.0)
    tuning._reopen()
    tuning.budget.used_before = 2000.0
    assert tuning._early() == []


def waiting(**limits: Any) -> tuple[_Tuning, list[str]]:
    """Two classes that wait for their baselines after one that took a second an image."""
    facts = {"has_baseline": False, "baseline_images": 100, "number": 0}
    tuning = standing_still({"frog": search(), "ship": search(**facts)}, {}, **limits)
    images = {"seeds": [*range(100)], "seconds": 100.0}
    tuning.pace.note_trial({"class": "frog", "state": "complete", "stage": "baseline"} | images)
    said: list[str] = []
    tuning.reporter = SimpleNamespace(event=lambda _, message: said.append(message))  # type: ignore[assignment]
    tuning._floor = lambda *_: 0.1  # type: ignore[method-assign]
    tuning.slow = False
    return tuning, said


def test_where_time_is_short_baselines_are_small_and_call_no_class_closed() -> None:
    tuning, said = waiting(trials=None, budget=300.0)
    ship = tuning.searches["ship"]
    for _ in range(2):
        tuning._fit_baseline("ship")
        # A quarter of what 400 s leave to search in, for two classes at a second an image.
        assert (ship.baseline_images, ship.baseline_floor) == (47, float("-inf"))
    assert len(said) == 1
    assert said[0].startswith("at 1 s an image there is no time for whole baselines: some have fe")
    ship.failures = 1  # too few of its images were valid, perhaps
    tuning._fit_baseline("ship")
    assert (ship.baseline_images, ship.baseline_floor) == (100, 0.1)


@pytest.mark.parametrize("limits", [{}, {"budget": 300.0}, {"trials": None, "budget": 3000.0}])
def test_where_trials_end_the_search_or_time_is_left_they_are_whole(
    limits: dict[str, Any],
) -> None:
    tuning, said = waiting(**limits)
    tuning._fit_baseline("ship")
    assert (tuning.searches["ship"].baseline_images, said) == (100, [])


def test_on_a_slow_machine_more_time_is_kept_back_to_close() -> None:
    tuning = standing_still({"frog": search()}, {}, budget=4000.0)
    idle = tuning._reserve()
    tuning.pace.note_probe(3 * PROBE_SECONDS)
    assert tuning._reserve() == pytest.approx(3 * idle)  # nothing is due: it is closing alone


def test_time_that_is_left_is_not_called_out() -> None:
    tuning = standing_still({"frog": search()}, {"frog": look()})
    assert tuning._stopped("frog") == "the budget is out"
    tuning.state["spare"] = True
    assert tuning._stopped("frog") == "too little time is left to search and confirm once more"


def test_closed_for_the_search_alone_is_no_reason_to_have_stopped() -> None:
    for why in ("closed on the tune split", "closed from the start"):
        tuning = standing_still({"frog": search(why=why)}, {"frog": look()})
        assert tuning._stopped("frog") == "the budget is out"
        tuning.state["looks"]["frog"]["part"] = 2
        assert tuning._stopped("frog").startswith("all 3 looks at photos")
        tuning.state["looks"]["frog"]["confirmed"] = True
        assert tuning._stopped("frog") == why
    tuning = standing_still({"frog": search(why="3 failures in a row")}, {"frog": look()})
    assert tuning._stopped("frog") == "3 failures in a row"


def test_a_run_is_not_resumed_without_a_class_that_it_has_tried(
    photos: Path, tmp_path: Path
) -> None:
    config = load_config(written(tmp_path / "c.yaml", photos, classes="all"))
    run = RunDir.create(tmp_path / "run", config)
    run.append_trial({"class": "cat", "number": 0, "state": "fail"})
    with pytest.raises(ConfigError, match="tried class cat, which has no images now: put its fol"):
        tune(config, out=run.path)


@pytest.mark.slow
def test_a_run_of_another_config_or_in_use_is_left_alone(config: Path, unbroken: RunDir) -> None:
    before = (unbroken.path / "config.yaml").read_bytes()
    code, err = here("tune", config, "--out", unbroken.path, "--set", "confirm.images=30")
    assert code == 2
    assert "confirm.images" in err
    assert "--out" in err
    with unbroken.lock():
        code, err = here("tune", config, "--out", unbroken.path)
    assert code == 2
    assert "another process is using this run" in err
    assert err.count("\n") == 1
    assert (unbroken.path / "config.yaml").read_bytes() == before
