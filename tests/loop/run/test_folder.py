from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapclose.loop.config.schema import ConfigError, RunConfig, load_config, parse_config
from gapclose.loop.run.files import RunDamagedError, UnwritableError, write_bytes, write_text
from gapclose.loop.run.folder import RunBusyError, RunDir, RunMismatchError
from gapclose.loop.search.optuna_record import open_study_file


def make(**changes: Any) -> RunConfig:
    plain: dict[str, Any] = {
        "real": {"kind": "pond"},
        "generator": {"kind": "diffusers", "model": "pond"},
        "embedder": "pond",
    }
    return parse_config({**plain, **changes})


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "runs" / "r", make())


def test_a_new_run_says_what_made_it(run: RunDir) -> None:
    assert RunDir.open(run.path).config() == make()
    environment = run.read_json("environment.json")
    assert environment["packages"]["numpy"] == np.__version__
    text = json.dumps(environment)
    assert str(Path.home()) not in text
    assert os.uname().nodename not in text


def test_limits_may_change_and_nothing_else(run: RunDir) -> None:
    longer = make(tune={"budget": "1h"}, device="cpu")
    RunDir.create(run.path, longer)
    assert run.config() == longer
    with pytest.raises(RunMismatchError, match="embedder, judge differ; name another folder"):
        RunDir.create(run.path, make(embedder="x", judge="y", device="cuda"))
    assert run.config() == longer


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match="holds other things than a run"):
        RunDir.create(tmp_path, make())
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]
    with pytest.raises(ConfigError, match="is a file"):
        RunDir.create(tmp_path / "photo.jpg", make())
    with pytest.raises(ConfigError, match="is no run"):
        RunDir.open(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        RunDir.open(tmp_path / "none")


def test_a_folder_that_was_killed_while_it_became_a_run_becomes_one(run: RunDir) -> None:
    run.config_path.unlink()
    (run.path / ".config.yaml.x7.tmp").write_text("embedd")
    RunDir.create(run.path, make(embedder="x", judge="y"))
    assert RunDir.open(run.path).config().embedder == "x"


def test_a_new_run_whose_input_is_refused_leaves_nothing(tmp_path: Path) -> None:
    made = RunDir.create(tmp_path / "r", make())
    (made.path / "real").mkdir()
    with pytest.raises(ConfigError, match="wrong"), made.writing():
        raise ConfigError("wrong")
    assert list(tmp_path.iterdir()) == []
    # What is there already stays, whatever is wrong now, and so does what only failed.
    made = RunDir.create(tmp_path / "r", make())
    with pytest.raises(RuntimeError), made.writing():
        raise RuntimeError
    with pytest.raises(ConfigError), RunDir.create(tmp_path / "r", make()).writing():
        raise ConfigError("wrong")
    tried, drawn = (RunDir.create(tmp_path / name, make()) for name in ("tried", "drawn"))
    tried.append_line("trials.jsonl", {"number": 0})
    (drawn.path / "images").mkdir()
    for kept in (tried, drawn):
        with pytest.raises(ConfigError), kept.writing():
            raise ConfigError("wrong")
    assert {p.name for p in tmp_path.iterdir()} == {"r", "tried", "drawn"}


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


def test_halves_that_a_killed_writer_left_are_swept_up(run: RunDir) -> None:
    halves = [".state.json.x7.tmp", "embeddings/.frog-00001.y.tmp", "images/frog/ab/.z.part"]
    others = ["state.json", "embeddings/a.tmp", "images/frog/ab/1.png", "export/.z.part"]
    for name in halves + others:
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).touch()
    with run.writing():
        assert not any((run.path / name).exists() for name in halves)
        assert all((run.path / name).exists() for name in others)


_HOLD = """
import sys, time
from gapclose.loop.run.folder import RunDir
with RunDir(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_keeps_a_second_process_out_and_dies_with_its_holder(run: RunDir) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(run.path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(RunBusyError, match="another process"), run.lock():
                pass
            with pytest.raises(RunBusyError):
                RunDir.create(run.path, make(tune={"budget": "1h"}))
            assert run.config() == make()
            assert run.trials() == []  # readers are not kept out
        finally:
            holder.kill()
    with run.lock():
        pass


def test_a_torn_line_is_ignored_by_readers_and_cut_by_writers(run: RunDir) -> None:
    run.append_line("trials.jsonl", {"number": 0})
    file = run.path / "trials.jsonl"
    with file.open("ab") as f:
        f.write(b'{"number": 1, "ga')
    assert run.trials() == [{"number": 0}]
    assert file.read_bytes().endswith(b"ga")
    with run.lock():
        run.append_line("trials.jsonl", {"number": 1})
    assert [row["number"] for row in run.trials()] == [0, 1]


@pytest.mark.parametrize("cut", range(0, 24, 3))
def test_wherever_a_line_is_torn_the_lines_before_it_stay(run: RunDir, cut: int) -> None:
    run.append_line("trials.jsonl", {"number": 0})
    whole = (run.path / "trials.jsonl").read_bytes()
    run.append_line("trials.jsonl", {"number": 1, "x": "äöü"})
    os.truncate(run.path / "trials.jsonl", len(whole) + cut)
    with run.lock():
        assert [row["number"] for row in run.trials()] == [0]
        assert (run.path / "trials.jsonl").read_bytes() == whole


def test_damage_before_the_last_line_is_told_with_its_place(run: RunDir) -> None:
    (run.path / "trials.jsonl").write_text('{"number": 0}\nxx\n{"number": 2}\n')
    with pytest.raises(RunDamagedError, match=r"trials\.jsonl, line 2"):
        run.trials()
    (run.path / "gap.json").write_text("{")
    with pytest.raises(RunDamagedError, match=r"gap\.json"):
        run.read_json("gap.json")


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
    rows = [{"path": "images/a/b/1.png", "class": "é"}, {"path": "/x.jpg", "class": "b"}]
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


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.json"
    write_text(file, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnwritableError, match=r"a\.json: cannot be written: No space left"):
        write_bytes(file, b"new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_run_from_elsewhere_is_told_from_ones_own(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run.made_here()
    original = run.config_path.read_text()
    write_text(run.config_path, make(generator={"kind": "evil.mod:Gen"}).to_yaml())
    assert not run.made_here()
    write_text(run.config_path, original)
    assert run.made_here()
    monkeypatch.setenv("GAPCLOSE_CACHE", str(tmp_path / "someone else"))
    assert not run.made_here()


_KILLED = """
import sys
from gapclose.loop.run.folder import RunDir
run = RunDir(sys.argv[1])
with run.lock():
    for number in range(100000):
        run.append_line("trials.jsonl", {"number": number, "text": "x" * 200})
        run.write_json("state.json", {"number": number, "text": "y" * 2000})
        print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 17, 80])
def test_sigkill_loses_no_told_trial(run: RunDir, lines: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(run.path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(lines):
        told = int(process.stdout.readline())
    process.kill()
    rest = process.stdout.read().split()
    process.stdout.close()
    process.wait()
    told = int(rest[-1]) if rest else told
    with run.lock():
        numbers = [row["number"] for row in run.trials()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= told + 1
    assert run.read_json("state.json")["number"] >= told


@pytest.mark.parametrize("name", ["./world.py:Renderer", "world:Renderer"])
def test_code_from_elsewhere_is_neither_run_nor_found_without_trust(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way it is spelt, and also if it is only its folder that was changed."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "world.py").touch()
    (mine / "c.yaml").write_text(
        f"real: {{path: x}}\ngenerator: {{kind: '{name}'}}\nembedder: pond\n"
    )
    config = load_config(mine / "c.yaml")
    run = RunDir.create(tmp_path / "r", config)
    run.check_trust(run.config(), trust=False)
    found = str(mine) in sys.path
    assert found == (name == "world:Renderer")
    evil = tmp_path / "evil"
    text = run.config_path.read_text()
    assert str(mine) in text
    run.config_path.write_text(text.replace(str(mine), str(evil)))
    with pytest.raises(ConfigError, match="made elsewhere and names code to import"):
        run.check_trust(run.config(), trust=False)
    assert str(evil) not in sys.path
    run.check_trust(run.config(), trust=True)
    assert (str(evil) in sys.path) == found


def test_errors_that_cannot_be_logged_cost_nothing(
    run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    (run.path / "errors.log").mkdir()
    run.log_error("a trial failed", ValueError("why"))
    assert "errors.log: cannot be written: Is a directory" in caplog.text


def test_a_line_that_the_disk_has_no_room_for_does_not_count(run: RunDir) -> None:
    run.append_line("trials.jsonl", {"number": 0})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (run.path / "trials.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 9, before[1]))
    try:
        with pytest.raises(UnwritableError, match=r"trials\.jsonl: cannot be written: File too"):
            run.append_line("trials.jsonl", {"number": 1})
        with pytest.raises(UnwritableError, match=r"big\.json: cannot be written: .*ulimit -f"):
            run.write_json("big.json", list(range(99)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (run.path / "trials.jsonl").stat().st_size > size  # torn
    with run.writing():
        run.append_line("trials.jsonl", {"number": 1})
    assert [row["number"] for row in run.trials()] == [0, 1]
    assert not list(run.path.glob(".*"))


def test_a_full_disk_at_the_start_is_no_wrong_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UnwritableError, match="No space left on device; free some space"):
            RunDir.create(tmp_path / "r", make())
    assert RunDir.create(tmp_path / "r", make()).config() == make()
