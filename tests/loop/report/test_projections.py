"""What is written from the journal comes back when it is lost, and from the journal alone."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import optuna
import pytest
from rig import command, finished, here, written

from gapclose.loop.errors import RunDamagedError
from gapclose.loop.export import drop_outdated
from gapclose.loop.exporting.plan import class_plans
from gapclose.loop.report import projections
from gapclose.loop.report.contents import GAP, MIXTURES, STATE, TRIALS, state_json
from gapclose.loop.report.projections import open_run
from gapclose.loop.report.run_view import Run
from gapclose.loop.report.status import read_status
from gapclose.loop.run.events import RunFinished, SessionStarted, TrialFinished
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import fold_run, read_journal
from gapclose.loop.run.lock import lock
from gapclose.loop.run.state import fold
from gapclose.loop.search.study_storage import sqlite_url

pytestmark = pytest.mark.slow

PROJECTIONS = (TRIALS, STATE, MIXTURES, GAP)
READERS = ("status", "report", "export")


@pytest.fixture(scope="module")
def config(photos: Path) -> Path:
    tune = {"budget": None, "trials": 5, "images_per_trial": 8}
    return written(photos.parent / "projections.yaml", photos, tune=tune)


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    """A run that has ended."""
    run = config.parent / "whole"
    code, err = here("tune", config, "--out", run)
    assert code == 0, err
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def contents(run: Path) -> dict[str, bytes]:
    """All that a person may lose of it."""
    return {name: (run / name).read_bytes() for name in PROJECTIONS if (run / name).exists()}


def read(reader: str, run: Path) -> tuple[int, str]:
    """A command that reads a run."""
    more = [run.parent / f"{run.name}-data", "--per-class", 1] if reader == "export" else []
    return here(reader, run, *more)


def trials_in(study_db: Path) -> dict[str, list[tuple[Any, ...]]]:
    """By study, what is told of its trials."""
    text = sqlite_url(study_db).render_as_string()
    return {
        name: [
            (trial.number, trial.state, trial.value, trial.params, trial.user_attrs)
            for trial in optuna.load_study(study_name=name, storage=text).trials
        ]
        for name in optuna.get_all_study_names(text)
    }


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The system refuses to open anything in it for writing; root may write wherever it lies."""
    opened: Callable[..., int] = os.open

    def refuse(path: Any, flags: int, *args: Any, **options: Any) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and Path(os.fsdecode(path)).is_relative_to(folder):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fsdecode(path))
        return opened(path, flags, *args, **options)

    with patch.object(os, "open", refuse):
        yield


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", PROJECTIONS)
def test_what_is_deleted_comes_back_to_the_byte_by_whatever_reads_the_run_next(
    name: str, reader: str, run: Path
) -> None:
    before = contents(run)
    assert {*before} == {*PROJECTIONS}
    (run / name).unlink()
    code, err = read(reader, run)
    assert code == 0, err
    assert contents(run) == before


def test_all_at_once_come_back_and_what_is_read_of_them_is_what_was(
    run: Path, whole: Path
) -> None:
    before = contents(run)
    for name in PROJECTIONS:
        (run / name).unlink()
    opened, same = Run.open(run), Run.open(whole)
    assert contents(run) == before
    assert (opened.gap, opened.mixtures) == (same.gap, same.mixtures)
    assert (opened.trials, opened.state) == (same.trials, same.state)
    assert read_status(run).stage == "done"


def test_what_is_there_is_not_written_again_and_asks_for_no_lock(run: Path) -> None:
    seen = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with patch.object(projections, "lock", side_effect=AssertionError("nothing is lost")):
        open_run(run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == seen


@pytest.mark.parametrize("name", [MIXTURES, GAP])
@pytest.mark.parametrize("reader", ["report", "export"])
def test_verdicts_that_are_not_the_journals_are_written_anew(
    name: str, reader: str, run: Path
) -> None:
    """A kill may come between the journal's line and the file, or between the two files."""
    before = contents(run)
    old = json.loads(before[name])
    if name == GAP:
        for row in old["classes"]:
            row["confirmed"] = not row["confirmed"]
    else:
        old["classes"] = {cls: old["classes"][other] for cls, other in (("frog", "ship"),)}
    (run / name).write_text(json.dumps(old))
    code, err = read(reader, run)
    assert code == 0, err
    assert contents(run) == before


def test_an_export_believes_the_journal_while_somebody_writes_the_run(run: Path) -> None:
    gap = json.loads((run / GAP).read_text())
    said = {row["name"]: row["confirmed"] for row in gap["classes"]}
    for row in gap["classes"]:
        row["confirmed"] = not row["confirmed"]
    (run / GAP).write_text(json.dumps(gap))
    with lock(RunDir(run)):
        plans = class_plans(RunDir(run), only_confirmed=False)
    assert {plan.name: plan.confirmed for plan in plans} == said


def test_a_lost_study_is_filled_by_the_next_start_with_the_trials_that_it_had(
    config: Path, run: Path
) -> None:
    study, before = run / "study.db", contents(run)
    told = trials_in(study)
    assert sorted(map(len, told.values())) == [5, 5]
    study.unlink()
    for reader in READERS:
        assert read(reader, run)[0] == 0
    assert not study.exists()  # whoever reads needs none
    code, err = here("tune", config, "--out", run)
    assert code == 0, err
    assert trials_in(study) == told
    assert contents(run)[TRIALS] == before[TRIALS]


def without_last(text: bytes) -> bytes:
    return b"".join(text.splitlines(keepends=True)[:-1])


def zeros_from(share: float) -> Callable[[bytes], bytes]:
    """What a page becomes that never reached the disk, though the file's size did."""
    return lambda text: text[: (start := int(share * len(text)))] + bytes(len(text) - start)


# What a power cut leaves of a file that was written without waiting for the disk.
POWER_CUTS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "trials empty": (TRIALS, lambda _: b""),
    "trials of zeros": (TRIALS, zeros_from(0.0)),
    "trials that end in zeros": (TRIALS, zeros_from(0.7)),
    "trials with zeros behind": (TRIALS, lambda text: text + bytes(4096)),
    "trials with zeros in a line": (TRIALS, lambda text: text[:20] + bytes(9) + text[29:]),
    "trials less a line": (TRIALS, without_last),
    "trials torn": (TRIALS, lambda text: text[:-40]),
    "state empty": (STATE, lambda _: b""),
    "state of zeros": (STATE, zeros_from(0.0)),
    "state torn": (STATE, lambda text: text[:50]),
    "state from before": (STATE, lambda _: b'{"seconds_used": 0.0, "stage": "start"}'),
    "state from after": (STATE, lambda _: b'{"seconds_used": 1e9, "stage": "tune"}'),
    "state of no object": (STATE, lambda _: b"[1.0]"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", POWER_CUTS)
def test_what_a_power_cut_damaged_comes_back_to_the_byte_by_whatever_reads_the_run_next(
    damage: str, reader: str, run: Path
) -> None:
    before, (name, damaged) = contents(run), POWER_CUTS[damage]
    (run / name).write_bytes(damaged(before[name]))
    assert contents(run) != before
    code, err = read(reader, run)
    assert code == 0, err
    assert contents(run) == before


@pytest.mark.parametrize("damage", POWER_CUTS)
def test_what_a_power_cut_damaged_is_read_from_the_journal_where_nothing_can_be_written(
    damage: str, run: Path, whole: Path
) -> None:
    name, damaged = POWER_CUTS[damage]
    (run / name).write_bytes(damaged((run / name).read_bytes()))
    for prevented in (read_only(run), lock(RunDir(run))):
        with prevented:
            broken = contents(run)  # a writer cuts what is torn
            opened, same = Run.open(run), Run.open(whole)
            assert opened.trials == same.trials
            assert opened.state == same.state
            assert here("status", run)[0] == 0
            code, err = read("export", run)
            assert code == 0, err
            shutil.rmtree(run.parent / f"{run.name}-data")
            assert contents(run) == broken


def test_a_line_that_the_writer_has_yet_to_write_is_no_damage(run: Path, whole: Path) -> None:
    """The journal's line comes first: a reader may look in between."""
    trials = (run / TRIALS).read_bytes()
    (run / TRIALS).write_bytes(without_last(trials))
    with lock(RunDir(run)):
        for reader in READERS:
            code, err = read(reader, run)
            assert code == 0, err
        assert Run.open(run).trials == Run.open(whole).trials
        assert (run / TRIALS).read_bytes() == without_last(trials)


def test_a_run_that_died_before_its_page_was_written_is_not_called_done(run: Path) -> None:
    events = [*read_journal(run / "journal.jsonl")]
    assert isinstance(events[-1], RunFinished)
    state = state_json(fold(events[:-1]))
    (run / STATE).write_text(json.dumps(state))
    with patch.object(projections, "lock", side_effect=AssertionError("nothing is lost")):
        assert read_status(run).stage == state["stage"] == "confirm"
    (run / TRIALS).write_bytes(b"")  # nor because another file is lost
    assert read_status(run).stage == "confirm"
    assert (run / TRIALS).read_bytes() != b""


def test_an_export_folds_the_journal_once(run: Path) -> None:
    with patch.object(projections, "fold_run", wraps=fold_run) as folded:
        assert read("export", run) == (0, "")
    assert folded.call_count == 1


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "torn": lambda text: text[:-40],
    "torn after a whole one": lambda text: text + b'{"class": "frog", "num',
    "stale": without_last,
    "ahead": lambda text: text + text.splitlines(keepends=True)[-1],
    "edited": lambda text: text.replace(b'"complete"', b'"fail"'),
    "no JSON": lambda text: b"what is this\n" + text,
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_became_of_the_trials_the_next_start_puts_them_right(
    damage: str, config: Path, run: Path
) -> None:
    """They are never read back as facts: nothing is tried again, or forgotten."""
    before = contents(run)
    (run / TRIALS).write_bytes(DAMAGES[damage](before[TRIALS]))
    assert contents(run) != before
    assert here("status", run)[0] == 0
    code, err = here("tune", config, "--out", run)
    assert code == 0, err
    after = contents(run)
    assert after[TRIALS] == before[TRIALS]
    assert after[MIXTURES] == before[MIXTURES]
    assert json.loads(after[GAP])["classes"] == json.loads(before[GAP])["classes"]


@pytest.mark.parametrize("name", [STATE, MIXTURES, GAP])
def test_what_is_stale_of_the_others_is_put_right_as_well(
    name: str, config: Path, run: Path
) -> None:
    before = json.loads((run / name).read_bytes())
    (run / name).write_text('{"schema": 1, "classes": {}}\n')
    code, err = here("tune", config, "--out", run)
    assert code == 0, err
    again = json.loads((run / name).read_bytes())
    key = "seconds" if name == GAP else "seconds_used"  # a second session took its own
    assert {**again, key: None} == {**before, key: None}


def test_what_took_how_long_is_of_the_sessions_that_it_says(config: Path, run: Path) -> None:
    first = json.loads((run / GAP).read_bytes())["seconds"]
    code, err = here("tune", config, "--out", run)  # a second session, which tries nothing
    assert code == 0, err
    events = [*read_journal(run / "journal.jsonl")]
    begun = max(n for n, event in enumerate(events) if isinstance(event, SessionStarted))
    again = json.loads((run / GAP).read_bytes())["seconds"]
    every, last = again["all_sessions"], again["last_session"]
    trials = [event.seconds for event in events if isinstance(event, TrialFinished)]
    assert every["trials"] == first["all_sessions"]["trials"] == sum(trials)
    assert every["all"] == pytest.approx(first["all_sessions"]["all"] + last["all"], abs=0.5)
    assert every["all"] <= events[-1].used
    assert events[-1].used - events[begun].used <= last["all"] + 0.5
    assert last["loop"] <= last["tune"] <= last["all"]
    assert last["generate"] + last["embed"] <= last["all"]
    assert first["last_session"]["all"] == pytest.approx(first["all_sessions"]["all"])


@pytest.mark.parametrize("name", PROJECTIONS)
def test_in_a_folder_that_cannot_be_written_nothing_crashes_and_nothing_changes(
    name: str, run: Path
) -> None:
    (run / name).unlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with read_only(run):
        assert open_run(run).path == run
        assert here("status", run) == (0, "")
        code, err = read("report", run)
        assert (code, err.count("\n")) == (1, 1), err  # its page lies there
        assert err.startswith("error: ")
        assert "cannot be written: Read-only file system; make it writable" in err
        code, err = read("export", run)
        assert code == 0 or (err.count("\n") == 1 and err.startswith("error: ")), err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", PROJECTIONS)
def test_while_somebody_writes_the_run_a_reader_leaves_it_to_them(name: str, run: Path) -> None:
    before = contents(run)
    (run / name).unlink()
    with lock(RunDir(run)):
        assert here("status", run) == (0, "")
        open_run(run)
        assert contents(run) == {key: text for key, text in before.items() if key != name}
    assert here("status", run) == (0, "")
    assert contents(run) == before


def test_an_export_holds_the_mixtures_even_where_their_file_cannot_be_written(
    run: Path, tmp_path: Path
) -> None:
    def recipes(out: Path) -> list[str]:
        assert here("export", run, out, "--per-class", 12)[0] == 0
        lines = (out / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        return sorted(json.loads(line)["recipe_fingerprint"] for line in lines)

    before = recipes(tmp_path / "before")
    assert len({*before}) > 2  # more than the two baselines
    (run / MIXTURES).unlink()
    with lock(RunDir(run)):
        assert recipes(tmp_path / "while") == before
    with read_only(run):
        assert recipes(tmp_path / "read-only") == before
    assert not (run / MIXTURES).exists()


def test_a_start_that_changes_no_mixture_outdates_no_export(config: Path, run: Path) -> None:
    data = run / "export"
    assert here("export", run, data, "--per-class", 1)[0] == 0
    assert here("tune", config, "--out", run)[0] == 0
    (run / TRIALS).unlink()
    assert here("status", run)[0] == 0
    drop_outdated(run, data)
    assert data.is_dir()


def test_of_a_run_that_was_cut_off_no_verdict_is_made_up(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    death = "gapclose.loop.run.journal:append_line:after:10"
    code, _ = finished(command("tune", config, "--out", out, KILL_AT=death))
    assert code == -signal.SIGKILL
    events = [*read_journal(out / "journal.jsonl")]
    done = [event for event in events if isinstance(event, TrialFinished)]
    for name in (TRIALS, STATE):
        (out / name).unlink()
    run = Run.open(out)
    assert [(row["class"], row["number"]) for row in run.trials] == [
        (event.cls, event.number) for event in done
    ]
    assert run.state["seconds_used"] == events[-1].used
    assert "stopped_because" not in run.state
    assert {*contents(out)} == {TRIALS, STATE}
    # Whoever watches it takes no lock for what there is not yet: it would refuse the next start.
    with patch.object(projections, "lock", side_effect=AssertionError("there is no need")):
        assert here("status", out)[0] == 0
    # Nor does whoever watches it read the journal again and again for verdicts.
    with patch.object(projections, "read_journal", side_effect=AssertionError("no need")):
        assert here("status", out)[0] == 0
    code, err = here("tune", config, "--out", out)
    assert code == 0, err
    assert {*contents(out)} == {*PROJECTIONS}


def test_a_lost_file_of_a_run_that_goes_on_is_written_as_it_stands_then(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer may have ended between the reader's reading of the journal and its lock."""
    before = contents(run)
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert isinstance([*read_journal(run / "journal.jsonl")][-1], RunFinished)
    (run / "journal.jsonl").write_bytes(b"".join(lines[:-1]))
    (run / STATE).unlink()

    @contextmanager
    def late(rundir: RunDir) -> Iterator[None]:
        (run / "journal.jsonl").write_bytes(b"".join(lines))
        with lock(rundir):
            yield

    monkeypatch.setattr(projections, "lock", late)
    open_run(run)
    assert contents(run) == before


def test_a_damaged_journal_is_told_and_nothing_is_written_of_it(run: Path) -> None:
    (run / STATE).unlink()
    before = contents(run)
    journal = run / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"trial_finished"', b'"trial_f', 1))
    with pytest.raises(RunDamagedError, match=r"journal\.jsonl, line \d+: is damaged"):
        projections.open_run(run)
    code, err = here("status", run)
    assert (code, err.count("\n")) == (2, 1), err
    assert contents(run) == before
