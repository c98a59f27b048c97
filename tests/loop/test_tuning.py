"""The whole loop through the real command line: killed at every step, interrupted, resumed."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from histories import evaluated, opened, proposed
from rig import command, evidence_holds, finished, here, lines, quick, wait_for_lines, written

from gapclose.analysis.class_gap import ClassGap
from gapclose.analysis.low_level import GROUPS
from gapclose.generators.pond.renderer import write_real
from gapclose.loop.config.reading import load_config
from gapclose.loop.errors import ConfigError
from gapclose.loop.report.run_view import Run
from gapclose.loop.run.class_state import ClassState
from gapclose.loop.run.events import (
    Progress,
    PromptsPrioritized,
    Stopped,
    StopReason,
    TrialFailed,
)
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.journal import Journal, read_journal
from gapclose.loop.run.lock import lock
from gapclose.loop.run.state import RunState, apply, fold
from gapclose.loop.run.tags import write_tags
from gapclose.loop.run.verdicts import judged_rows
from gapclose.loop.schedule.objective import GapObjective
from gapclose.loop.search.space import Space, space_digest
from gapclose.loop.tuning import _pinned, tune


@pytest.fixture(scope="module")
def config(photos: Path) -> Path:
    return written(photos.parent / "tiny.yaml", photos, camera=True)


@pytest.fixture(scope="module")
def unbroken(photos: Path, config: Path) -> RunDir:
    """A run that nothing disturbed."""
    path = photos.parent / "unbroken"
    code, err = here("tune", config, "--out", path)
    assert code == 0, err
    return RunDir.open(path)


# ------------------------------------------------------------------------------- killed


FRESH = 15_000_000  # seeds from here on are for folds
DEATHS = [
    "gapclose.loop.work.synthesis:Synthesis.embed:before:2",  # a trial's images, nothing else
    "gapclose.loop.run.journal:Journal.append:before:4",  # its embeddings too, but no event
    "gapclose.loop.run.journal:Journal.append:after:5",  # the event, but no projection
    "gapclose.loop.search.optuna_record:OptunaRecord.tell:after:1",  # the study, but no state
    "gapclose.loop.work.confirmation:evaluate_holdout:after:3",  # half of the confirmation
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

    # A fold that was evaluated before a death is not drawn again after it.
    drawn = [row for row in log.read_text().splitlines() if int(row.split()[1]) >= FRESH]
    assert drawn
    assert len(drawn) == len(set(drawn))

    # A writer may die in the middle of its line.
    with (run / "trials.jsonl").open("ab") as file:
        file.write(b'{"class": "frog", "numb')
    code, err = here("tune", config, "--out", run)
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


@pytest.mark.slow
def test_ctrl_c_while_classes_are_confirmed_does_not_wait_for_all_of_them(
    photos: Path, config: Path, unbroken: RunDir
) -> None:
    run = photos.parent / "stopped"
    process = command("tune", config, "--out", run, "--json", SLOW_POND_SECONDS="0.02")
    until = time.monotonic() + 120
    while state_of(run).stage != "confirm":
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    events, err = process.communicate()
    assert (process.returncode, "goes on with it" in err) == (130, True), err
    assert events.count('"kind": "fold_evaluated"') == 1  # one fold, and no other class's
    assert '"kind": "photos_too_few", "classes": ["frog", "ship"], "least": 100' in events
    assert events.count('"kind": "interrupt_noted"') == 1
    assert "Warning" not in err
    code, err = here("tune", config, "--out", run)
    assert code == 0, err
    assert (run / "mixtures.json").read_bytes() == (unbroken.path / "mixtures.json").read_bytes()


def told(run: Path, config: Path, cls: str) -> list[tuple[int, str, float | None]]:
    """The class's study: number, stage and value of every trial, each once."""
    space = Space.of(load_config(config), cls)
    study = optuna.load_study(
        storage=f"sqlite:///{run / 'study.db'}",
        study_name=f"{cls}-{space_digest(space)}-{Run.open(run).state['id']}",
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
        for one in (row, row["before"]):
            assert one["recall_shortfall"] == one["recall_real"] - one["recall_synthetic"]
    for key in ("shortcuts", "shortcuts_before"):
        assert [probe["feature"] for probe in run.gap[key]] == [*GROUPS]
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
def test_a_lost_gap_json_is_written_from_the_journal_and_nothing_is_tried(
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
    assert (copy / "gap.json").read_bytes() == (unbroken.path / "gap.json").read_bytes()


def state_of(run: Path) -> RunState:
    return fold(read_journal(run / "journal.jsonl"))


@pytest.mark.slow
def test_a_finished_run_with_more_trials_is_confirmed_on_unseen_photos(tmp_path: Path) -> None:
    write_real(tmp_path / "photos", per_class=420, classes=("frog",))
    config = written(tmp_path / "c.yaml", tmp_path / "photos", classes=["frog"])
    out = tmp_path / "run"

    def evaluated(trials: int) -> tuple[tuple[int, int], int, bytes]:
        words = ("--out", out, "--set", f"tune.trials={trials}")
        code, err = here("tune", config, *words)
        assert code == 0, err
        judged = state_of(out).of("frog").judged
        assert judged is not None
        assert judged.confirmed is False  # 24 images never say closed
        at = (judged.opened.fold, judged.opened.trials)
        return at, lines(out), (out / "mixtures.json").read_bytes()

    def joint_prompts() -> list[str]:
        rows = [row for row in Run.open(out).trials if row["stage"] == "joint"]
        return [row["recipe"]["draw"]["prompt"] for row in rows]

    at, trials, first = evaluated(2)
    assert (at, trials) == ((0, 2), 2)
    at, _, again = evaluated(2)  # nothing new: the same fold
    assert (at, again) == ((0, 2), first)
    # Written from the journal, the run is as done as it was, for the same reason.
    before, gap = Run.open(out).state, (out / "gap.json").read_bytes()
    for name in ("gap.json", "state.json"):
        (out / name).unlink()
    assert here("report", out)[0] == 0
    assert (Run.open(out).state, (out / "gap.json").read_bytes()) == (before, gap)

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
    for death in ("run.journal:Journal.append:after:4", "work.recalls:verdicts_of:before:1"):
        at_death = f"gapclose.loop.{death}"
        assert finished(command("tune", config, *more, KILL_AT=at_death))[0] == -signal.SIGKILL
    # A report in between shows what was judged; the run is still to go on.
    (out / "gap.json").unlink()
    code, err = here("report", out, SLOW_POND_LOG=str(tmp_path / "drawn"))
    assert (code, (tmp_path / "drawn").exists()) == (0, False), err
    state, frog = Run.open(out).state, state_of(out).of("frog")
    assert frog.judged is not None
    assert frog.evaluation is not None
    assert (frog.judged.opened.fold, frog.evaluation.opened.fold) == (0, 1)
    assert frog.evaluation.verdict is None
    assert "stopped_because" not in state
    assert (state["stage"] == "done", (out / "mixtures.json").read_bytes()) == (False, first)
    assert json.loads((out / "gap.json").read_text())["stop_reasons"] == {"frog": "interrupted"}
    # Once there are other mixtures, gap.json is of those; the evaluated fold is read back.
    death = "gapclose.loop.work.diagnostics:Diagnostics.run:before:1"
    drawn = {"KILL_AT": death, "SLOW_POND_LOG": str(tmp_path / "drawn")}
    assert finished(command("tune", config, *more, **drawn))[0] == -signal.SIGKILL
    assert not (tmp_path / "drawn").exists()
    assert (out / "mixtures.json").read_bytes() != first
    assert (out / "gap.json").read_bytes() != gap
    at, trials, second = evaluated(6)
    assert (at, trials) == ((1, 6), 6)
    events = read_journal(out / "journal.jsonl")
    assert sum(isinstance(e, PromptsPrioritized) for e in events) == 1  # by the first session
    assert "gray frog" in joint_prompts()[len(tried)]
    # Of some 210 photos there are two folds. With both spent, nothing more is tried or changed.
    at, trials, third = evaluated(8)
    assert (at, trials) == ((1, 6), 6)
    assert third == second
    assert len(state_of(out).of("frog").spent_folds) == 2


def test_a_run_is_not_resumed_without_a_class_that_it_has_tried(
    photos: Path, tmp_path: Path
) -> None:
    config = load_config(written(tmp_path / "c.yaml", photos, classes="all"))
    run = create_run(tmp_path / "run", config)
    progress = Progress()
    for event in (
        proposed("cat", 0, stage="baseline"),
        TrialFailed(
            cls="cat", number=0, error="no", invalid=0, images=0, seconds=1.0, progress=progress
        ),
    ):
        Journal(run.journal_path).append(event, used=1.0)
        # Also while its first trial is under way.
        with pytest.raises(ConfigError, match="tried class cat, which has no images now: put its"):
            tune(config, out=run.path)


def test_an_unspent_fold_is_cut_anew_only_if_it_has_too_few_to_close_a_class() -> None:
    few, enough = (tuple(f"photo-{i}" for i in range(n)) for n in (99, 100))
    for photos, spends, wanted in (
        (few, False, ()),
        (enough, False, (enough,)),
        (few, True, (few,)),
    ):
        fold = opened(photos=photos, spends=spends)
        state = apply(RunState(), fold)
        assert _pinned(state.of("frog")) == (photos,)
        assert _pinned(apply(state, evaluated()).of("frog")) == wanted


@pytest.mark.slow
def test_a_run_of_another_config_or_in_use_is_left_alone(config: Path, unbroken: RunDir) -> None:
    before = (unbroken.path / "config.yaml").read_bytes()
    code, err = here("tune", config, "--out", unbroken.path, "--set", "confirm.images=30")
    assert code == 2
    assert "confirm.images" in err
    assert "--out" in err
    with lock(unbroken):
        code, err = here("tune", config, "--out", unbroken.path)
    assert code == 2
    assert "another process is using this run; wait for it to end, or name another folder" in err
    assert err.count("\n") == 1
    assert (unbroken.path / "config.yaml").read_bytes() == before


def test_a_run_that_an_earlier_version_tuned_is_refused_in_one_line(
    config: Path, unbroken: RunDir, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(unbroken.path, copy)
    (copy / "journal.jsonl").unlink()
    code, err = here("tune", config, "--out", copy)
    assert (code, err.count("\n")) == (2, 1)
    assert "tuned by an earlier version, which kept no journal" in err
    assert here("report", copy)[0] == here("status", copy)[0] == 0


BASELINES = Stopped(reason=StopReason.OBJECTIVE, detail="baselines are all that is asked for")


class BaselinesOnly(GapObjective):
    """One under which no class is worth more than its baseline."""

    def stopped(self, cls: ClassState, *, floor: float) -> Stopped | None:
        return BASELINES

    def settled(self, cls: ClassState, *, floor: float) -> Stopped | None:
        return BASELINES


class NotTonight:
    """One under which no class is confirmed, closed or not."""

    def objections(self, row: ClassGap, *, agreement: float | None) -> Sequence[str]:
        return (f"{row.name}: not tonight",)


@pytest.mark.slow
def test_a_run_is_tuned_for_the_objective_and_judged_by_the_criteria_that_it_is_given(
    photos: Path, tmp_path: Path
) -> None:
    config, out = load_config(written(tmp_path / "c.yaml", photos)), tmp_path / "run"
    with quick():
        run = tune(config, out=out, objective=BaselinesOnly(), criteria=(NotTonight(),))
    assert [row["stage"] for row in run.trials] == ["baseline", "baseline"]
    assert run.gap["stop_reasons"] == dict.fromkeys(("frog", "ship"), "objective")
    said = "the objective is met: baselines are all that is asked for"
    assert run.gap["stopped"] == dict.fromkeys(("frog", "ship"), said)
    state = fold(read_journal(RunDir.open(out).journal_path))
    for name in ("frog", "ship"):
        judged = state.of(name).judged
        assert judged is not None
        assert judged.verdict is not None
        assert judged.verdict.objections == (f"{name}: not tonight",)
        row = judged_rows(state)[name]
        assert (row.confirmed, row.objections) == (False, judged.verdict.objections)
