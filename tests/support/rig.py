"""The real command line on a small world, for tests that kill, mislead and repeat it."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import slow_pond
import yaml

from gapclose.generators.recipe import Recipe
from gapclose.loop.cli import main
from gapclose.loop.session import Stopwatch

HERE = Path(__file__).parent

# Commands are forked from a process that has imported what takes seconds to import.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["rig", "open_clip", "gapclose.loop.tuning"])
STREAMS = ("stdout", "stderr")
CAMERA_IMAGES = 120  # that cameras are tried on, instead of hundreds


class Command:
    """The command line in a process of its own, with as much of `Popen` as tests use.

    KILL_AT="module:name:before|after:n" in its environment kills the process there.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self._said = Path(tempfile.mkdtemp())
        self._process = FORKS.Process(
            target=_run_command, args=(words, self._said, {**environment}), daemon=True
        )
        with patch.dict(os.environ, environment):
            self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Return what it has written to stdout and stderr, once it has ended."""
        self._process.join(timeout)
        ended = not self._process.is_alive()
        self._process.kill()
        self._process.join()
        out, err = ((self._said / name).read_text(encoding="utf-8") for name in STREAMS)
        shutil.rmtree(self._said)
        assert ended, f"it was still at work after {timeout:.0f} s: {err}"
        return out, err


def _run_command(words: Sequence[str], said: Path, environment: dict[str, str]) -> None:
    """Run the command line in the process of its own, in its environment alone."""
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(STREAMS, start=1):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT), number)
    if at := os.environ.get("KILL_AT"):
        _kill_at(*at.split(":"))
    with quick(), patch.object(sys, "argv", ["gapclose", *words]):
        main()


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Spare what takes seconds and is tested by itself: a real map, whose functions are compiled
    in each process, and hundreds of images under each camera.
    """
    with (
        patch("gapclose.loop.work.embedding_map.fit_umap", lambda rows, **_: rows[:, :2]),
        patch("gapclose.loop.work.trials.IMAGES", CAMERA_IMAGES),
    ):
        yield


def _kill_at(module: str, name: str, side: str, n: str) -> None:
    holder: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        holder = getattr(holder, part)
    real, calls = getattr(holder, last), []

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if side == "before" and len(calls) == int(n):
            os.kill(os.getpid(), signal.SIGKILL)
        out = real(*args, **kwargs)
        if side == "after" and len(calls) == int(n):
            os.kill(os.getpid(), signal.SIGKILL)
        return out

    setattr(holder, last, wrapped)


def command(*words: object, **environment: str) -> Command:
    own = {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"} | environment
    return Command([*map(str, words)], os.environ | own)


def finished(process: Command) -> tuple[int, str]:
    _, err = process.communicate()
    assert process.returncode is not None
    return process.returncode, err


def here(*words: object, **environment: str) -> tuple[int, str]:
    """The command line in this process, where everything is imported and compiled already."""
    err = io.StringIO()
    with (
        patch.object(sys, "argv", ["gapclose", *map(str, words)]),
        patch.dict(os.environ, environment),
        quick(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0), err.getvalue()


@dataclass
class Clock:
    """Seconds since a run began; only the slow pond moves it, and slower as the night goes on."""

    slower: float = 0.0  # by how much after eight hours
    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds * (1.0 + self.slower * self.now / (8 * 3600.0))


def by_clock(clock: Clock, *words: object, **environment: str) -> tuple[int, str]:
    """`here`, with hours in seconds: what does not draw takes no time."""
    with (
        patch.object(slow_pond, "time", SimpleNamespace(sleep=clock.sleep)),
        patch("time.perf_counter", clock),
        patch("gapclose.loop.tuning.Stopwatch", partial(Stopwatch, now=clock)),
    ):
        return here(*words, **environment)


def lines(run: Path) -> int:
    path = run / "trials.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_lines(process: Command, run: Path, n: int) -> None:
    until = time.monotonic() + 120
    while lines(run) < n:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "the run is stuck"
        time.sleep(0.01)


def written(path: Path, photos: Path, *, camera: bool = False, **changes: Any) -> Path:
    """A config of frogs and ships; to choose a camera for it takes longer than all else."""
    data: dict[str, Any] = {
        "real": {"path": str(photos)},
        "classes": ["frog", "ship"],
        "generator": {"kind": "slow_pond:SlowPond"},
        "embedder": "pond",
        "space": {
            "prompt": "a photo of a {color} {class}{place}",
            "slots": {
                "color": ["", "green", "brown", "gray"],
                "place": ["", " on grass", " on water"],
            },
            "guidance_scale": [1.0, 6.0],
            "num_inference_steps": [4, 8],
            "scheduler": ["one", "two"],
        }
        | ({"camera": {"noise": [0.0, 0.03]}} if camera else {}),
        # Too little guidance: neither class is to keep its baseline.
        "baseline": {"guidance_scale": 2.0, "num_inference_steps": 4, "scheduler": "one"},
        "tune": {"budget": None, "trials": 7, "images_per_trial": 8},
        "confirm": {"images": 24},
    }
    path.write_text(yaml.safe_dump(data | changes), encoding="utf-8")
    return path


def evidence_holds(run: Path, before: bytes) -> bytes:
    """What must be true after any death; returns the finished lines."""
    path = run / "trials.jsonl"
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    assert whole.startswith(before), "a finished trial was lost or done again"
    rows = [json.loads(line) for line in whole.splitlines()]
    for cls in ("frog", "ship"):
        numbers = [row["number"] for row in rows if row["class"] == cls]
        assert numbers == list(range(len(numbers)))
    for row in rows:
        assert row["state"] == "complete", row["error"]
        for job in row["jobs"]:
            draw = Recipe.from_json(job["recipe"]).draw.fingerprint()
            for seed in job["seeds"]:
                assert (run / "images" / row["class"] / draw / f"{seed}.png").stat().st_size
        assert (run / "embeddings" / f"{row['class']}-{row['number']:05d}.safetensors").is_file()
    return whole
