"""What lies where in a run folder, and that nothing leaves it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from histories import TRIAL

from gapclose.loop.errors import RunDamagedError, UnwritableError
from gapclose.loop.run.files import count_lines, read_lines
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import joined_run
from gapclose.loop.run.journal import read_journal
from gapclose.loop.run.lock import lock
from gapclose.loop.search.study_storage import open_study_file


@pytest.mark.parametrize("damage", ["garbage", "torn"])
def test_a_damaged_study_makes_way_for_a_new_one(run: RunDir, damage: str) -> None:
    open_study_file(run.study_path)  # there is none yet
    with contextlib.closing(sqlite3.connect(run.study_path)) as database:
        database.execute("create table t (x)")
        database.executemany("insert into t values (?)", [("y" * 100,)] * 1000)
        database.commit()
    open_study_file(run.study_path)
    whole = run.study_path.read_bytes()
    assert len(whole) > 50_000
    run.study_path.write_bytes(b"no database" * 99 if damage == "garbage" else whole[:9000])
    open_study_file(run.study_path)
    assert {p.name for p in run.path.glob("study*")} == {"study.db", "study.db.damaged"}


def test_damage_before_the_last_line_is_told_with_its_place(run: RunDir) -> None:
    trial = json.dumps(TRIAL)
    (run.path / "trials.jsonl").write_text(f"{trial}\nxx\n{trial}\n")
    with pytest.raises(RunDamagedError, match=r"trials\.jsonl, line 2"):
        run.trials()
    (run.path / "gap.json").write_text("{")
    with pytest.raises(RunDamagedError, match=r"gap\.json"):
        run.read_json("gap.json")


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "9" * 5000])
def test_json_that_python_cannot_read_is_damaged(run: RunDir, text: str) -> None:
    (run.path / "gap.json").write_text(text)
    with pytest.raises(RunDamagedError, match=r"gap\.json: is damaged"):
        run.read_json("gap.json")
    (run.path / "trials.jsonl").write_text(f'{json.dumps(TRIAL)}\n{{"number": {text}}}\n')
    with pytest.raises(RunDamagedError, match=r"trials\.jsonl, line 2"):
        run.trials()
    run.journal_path.write_text(f"{text}\n")
    with pytest.raises(RunDamagedError, match=r"journal\.jsonl, line 1"):
        [*read_journal(run.journal_path)]


def place(what: str, path: Path, outside: Path) -> None:
    """Put something else in place of a file."""
    path.parent.mkdir(exist_ok=True)
    match what:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            targets = {"link": outside, "device": "/dev/zero", "self": path, "nowhere": "none"}
            path.symlink_to(targets[what])


@pytest.mark.parametrize("what", ["pipe", "folder", "link", "device", "self", "nowhere"])
def test_nothing_but_a_regular_file_is_opened(run: RunDir, tmp_path: Path, what: str) -> None:
    outside = tmp_path / "private.json"
    outside.write_text('{"a": 1}')
    place(what, run.path / "gap.json", outside)
    with pytest.raises(RunDamagedError, match=r"gap\.json: is a link or not a regular file"):
        run.read_json("gap.json")
    with pytest.raises(RunDamagedError, match=r"gap\.json: is a link or not a regular file"):
        run.has("gap.json")
    for name in ("trials.jsonl", "journal.jsonl"):
        place(what, run.path / name, outside)
        with pytest.raises(RunDamagedError, match=rf"{name}: is a link or not a regular file"):
            run.append_line(name, TRIAL)
    with pytest.raises(RunDamagedError, match=r"trials\.jsonl: is a link or not a regular file"):
        run.trials()
    place(what, run.path / "embeddings" / "x.safetensors", outside)
    with pytest.raises(RunDamagedError, match=r"x\.safetensors: is a link or not a regular file"):
        run.embeddings_path("x")
    (run.path / "lock").unlink()
    place(what, run.path / "lock", outside)
    with pytest.raises(RunDamagedError, match="lock: is a link or not a regular file"), lock(run):
        pass
    if what != "folder":  # what is replaced whole needs no opening
        run.write_json("gap.json", {"b": 2})
        assert run.read_json("gap.json") == {"b": 2}
    assert outside.read_text() == '{"a": 1}'


@pytest.mark.parametrize("folder", ["images", "images/frog", "embeddings", "real", "validation"])
def test_no_folder_of_a_run_leads_out_of_it(run: RunDir, tmp_path: Path, folder: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (run.path / folder).parent.mkdir(exist_ok=True)
    (run.path / folder).symlink_to(outside)
    with pytest.raises(RunDamagedError, match="is a link or no folder"):
        run.folder(folder)
    for ask in (
        lambda: run.write_json(f"{folder}/x.json", {}),
        lambda: run.read_json(f"{folder}/x.json"),
        lambda: run.remove(f"{folder}/x.json"),
        lambda: run.resolve(f"{folder}/x.png"),
    ):
        with pytest.raises(RunDamagedError, match="is a link or no folder"):
            ask()
    if folder.startswith("images"):
        with pytest.raises(RunDamagedError, match="is a link or no folder"):
            run.image_path("frog", "ab", 1)
    assert not [*outside.iterdir()]


@pytest.mark.parametrize("name", ["trials.jsonl", "samples.jsonl", "journal.jsonl", "gap.json"])
def test_a_file_of_holes_is_not_read_into_memory(run: RunDir, name: str) -> None:
    path = run.path / name
    path.touch()
    os.truncate(path, 20 * 2**30)
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**30, before[1]))
    try:
        assert count_lines(path) is None
        with pytest.raises(RunDamagedError):
            run.read_json(name) if name == "gap.json" else read_lines(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_json_takes_what_numpy_gives_and_never_nan(run: RunDir) -> None:
    value = {
        "gap": np.float32(0.5),
        "n": np.int64(3),
        "rows": np.arange(3),
        "nan": float("nan"),
        "inf": [np.inf],
        "path": Path("a/b"),
        "ok": np.bool_(True),
        "tuple": (1, 2),
    }
    run.write_json("gap.json", value)
    assert run.read_json("gap.json") == {
        "gap": 0.5,
        "n": 3,
        "rows": [0, 1, 2],
        "nan": None,
        "inf": [None],
        "path": "a/b",
        "ok": True,
        "tuple": [1, 2],
    }
    with pytest.raises(TypeError, match="object"):
        run.write_json("gap.json", object())
    assert run.read_json("gap.json")["n"] == 3


def test_samples(run: RunDir) -> None:
    assert run.samples() == []
    rows = [
        {"path": "images/a/b/1.png", "class": "é", "side": "synthetic", "stage": "tuned"},
        {"path": "/x.jpg", "class": "b", "side": "real", "stage": "real"},
    ]
    run.write_samples(rows)
    assert run.samples() == rows
    run.write_samples(rows[:1])
    assert run.samples() == rows[:1]


def test_paths_stay_inside(run: RunDir) -> None:
    fingerprint = "ab" * 32
    assert run.image_path("tree frog", fingerprint, 7) == (
        run.path / "images" / "tree frog" / fingerprint / "7.png"
    )
    confirm = run.confirm_path("frog", 2, "tuned", 9)
    assert confirm.relative_to(run.path).as_posix() == "images/frog/confirm-2/tuned/9.png"
    for cls in ("..", ".", "", "a/b", "a\\b", "a\0b"):
        with pytest.raises(ValueError, match="cannot name"):
            run.image_path(cls, fingerprint, 0)
        with pytest.raises(ValueError, match="cannot name"):
            run.image_path("frog", cls, 0)
    for name in ("../x.json", "/etc/passwd", "a/../../b", ""):
        with pytest.raises(ValueError, match="no path inside"):
            run.read_json(name)
    inside = run.image_path("frog", fingerprint, 1)
    assert run.resolve(run.relative(inside)) == inside
    assert run.resolve(run.relative(Path("/data/x.jpg"))) == Path("/data/x.jpg")
    with pytest.raises(ValueError, match="no path inside"):
        run.resolve("../secret")


def test_errors_that_cannot_be_logged_cost_nothing(
    run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    (run.path / "errors.log").mkdir()
    run.log_error("a trial failed")
    assert "errors.log: is a link or not a regular file" in caplog.text


def test_an_error_whose_message_is_no_text_is_logged(run: RunDir) -> None:
    try:
        raise RuntimeError("half of \ud83d")
    except RuntimeError:
        run.log_error("a trial failed")
    log = (run.path / "errors.log").read_text(encoding="utf-8")
    assert log.endswith("RuntimeError: half of \\ud83d\n\n")


def test_a_line_that_the_disk_has_no_room_for_does_not_count(run: RunDir) -> None:
    run.append_line("trials.jsonl", TRIAL)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (run.path / "trials.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 9, before[1]))
    try:
        with pytest.raises(UnwritableError, match=r"trials\.jsonl: cannot be written: File too"):
            run.append_line("trials.jsonl", {**TRIAL, "number": 1})
        with pytest.raises(UnwritableError, match=r"big\.json: cannot be written: .*ulimit -f"):
            run.write_json("big.json", list(range(99)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (run.path / "trials.jsonl").stat().st_size > size  # torn
    with joined_run(run.path, run.config()):
        run.append_line("trials.jsonl", {**TRIAL, "number": 1})
    assert [row["number"] for row in run.trials()] == [0, 1]
    assert not list(run.path.glob(".*"))
