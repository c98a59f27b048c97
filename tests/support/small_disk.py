"""A small file system of its own, and a run on it that is out of room again and again."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from rig import here


class UnmountableError(Exception):
    """Nothing can be mounted here."""


@contextlib.contextmanager
def mounted(place: Path, *, kib: int) -> Iterator[Path]:
    """Have a file system of so many KiB at a folder.

    Raises:
        UnmountableError: The system does not let it be mounted.
    """
    place.mkdir()
    try:
        _mount(place, f"size={kib}k")
    except OSError as error:
        raise UnmountableError(str(error)) from error
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def grow(place: Path, *, kib: int) -> None:
    """Let the file system of a folder have so many KiB from now on."""
    _mount(place, f"remount,size={kib}k")


def _mount(place: Path, options: str) -> None:
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr.strip())


def tune_in_steps(config: Path, place: Path, *, first: int, step: int) -> Iterator[str]:
    """Tune on a file system that has `step` KiB more whenever it is full, until the run is done.

    Each time the run must end in one line, with no trial failed.

    Yields:
        What could not be written, each time that it was full.
    """
    run, kib = place / "run", first
    while True:
        grow(place, kib=kib)
        code, err = here("tune", config, "--out", run)
        if code == 0:
            return
        *before, line = err.splitlines()
        assert code == 1, err
        assert line.startswith(f"error: {place}"), err
        assert line.endswith("left on device; free some space, then the same command goes on"), err
        assert all("is not in the study yet" in told for told in before), err
        trials = run / "trials.jsonl"
        written = trials.read_bytes().split(b"\n")[:-1] if trials.exists() else []
        assert {json.loads(row)["state"] for row in written} <= {"complete"}, written
        yield line.removeprefix(f"error: {place}{os.sep}").partition(": ")[0]
        kib += step
