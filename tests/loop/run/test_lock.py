"""One process at a time writes a run, and finds what another left torn cut."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from histories import TRIAL
from pond_config import pond_config

from gapclose.loop.errors import ConfigError, RunBusyError, UnwritableError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.lock import lock

_HOLD = """
import sys, time
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.lock import lock
with lock(RunDir(sys.argv[1])):
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
            with pytest.raises(RunBusyError, match="another process"), lock(run):
                pass
            with pytest.raises(RunBusyError):
                create_run(run.path, pond_config(tune={"budget": "1h"}))
            assert run.config() == pond_config()
            assert run.trials() == []  # readers are not kept out
        finally:
            holder.kill()
    with lock(run):
        pass


def test_a_torn_line_is_ignored_by_readers_and_cut_by_writers(run: RunDir) -> None:
    run.append_line("trials.jsonl", {**TRIAL, "number": 0})
    file = run.path / "trials.jsonl"
    with file.open("ab") as f:
        f.write(b'{"number": 1, "ga')
    assert run.trials() == [{**TRIAL, "number": 0}]
    assert file.read_bytes().endswith(b"ga")
    with lock(run):
        run.append_line("trials.jsonl", {**TRIAL, "number": 1})
    assert [row["number"] for row in run.trials()] == [0, 1]


@pytest.mark.parametrize("cut", range(0, 24, 3))
def test_wherever_a_line_is_torn_the_lines_before_it_stay(run: RunDir, cut: int) -> None:
    run.append_line("trials.jsonl", {**TRIAL, "number": 0})
    whole = (run.path / "trials.jsonl").read_bytes()
    run.append_line("trials.jsonl", {"error": "äöü", **TRIAL, "number": 1})
    os.truncate(run.path / "trials.jsonl", len(whole) + cut)
    with lock(run):
        assert [row["number"] for row in run.trials()] == [0]
        assert (run.path / "trials.jsonl").read_bytes() == whole


_KILLED = """
import json, sys
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.lock import lock
run, trial = RunDir(sys.argv[1]), json.loads(sys.argv[2])
with lock(run):
    for number in range(100000):
        run.append_line("trials.jsonl", {**trial, "number": number, "text": "x" * 200})
        run.write_json("state.json", {"number": number, "text": "y" * 2000})
        print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 17, 80])
def test_sigkill_loses_no_told_trial(run: RunDir, lines: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(run.path), json.dumps(TRIAL)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(lines):
        told = int(process.stdout.readline())
    process.kill()
    rest = process.stdout.read().split()
    process.stdout.close()
    process.wait()
    told = int(rest[-1]) if rest else told
    with lock(run):
        numbers = [row["number"] for row in run.trials()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= told + 1
    assert run.read_json("state.json")["number"] >= told


def test_what_is_locked_and_what_cannot_be_is_named(run: RunDir, tmp_path: Path) -> None:
    with lock(run), pytest.raises(RunBusyError) as told, lock(run):
        pass
    assert told.value.path == run.path
    assert str(told.value).endswith("is using this run; wait for it to end")
    other = "wait for it to end, or name another folder with --out"
    with lock(run), pytest.raises(RunBusyError, match=other), lock(run, elsewhere=True):
        pass
    with (
        pytest.raises(UnwritableError, match="lock: cannot be written"),
        lock(RunDir(tmp_path / "x")),
    ):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_refused_in_a_line(
    run: RunDir, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(handle: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("gapclose.loop.run.lock.fcntl.flock", refuses)
    before = run.config_path.read_bytes()
    for enter in (lambda: lock(run).__enter__(), lambda: create_run(run.path, pond_config())):
        with pytest.raises(ConfigError, match=r"cannot be locked .*; name a folder on") as told:
            enter()
        assert str(told.value).startswith(f"{run.path / 'lock'}: ")
        assert len(str(told.value).splitlines()) == 1
    assert run.config_path.read_bytes() == before
