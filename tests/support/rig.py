"""The real command line on a small world, for tests that kill, mislead and repeat it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
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

# Runs the command line; KILL_AT="module:name:before|after:n" kills the process there.
DRIVER = """
import importlib, os, signal, sys
if at := os.environ.get("KILL_AT"):
    module, name, side, n = at.split(":")
    holder = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        holder = getattr(holder, part)
    real, calls = getattr(holder, last), []
    def wrapped(*args, **kwargs):
        calls.append(1)
        if side == "before" and len(calls) == int(n):
            os.kill(os.getpid(), signal.SIGKILL)
        out = real(*args, **kwargs)
        if side == "after" and len(calls) == int(n):
            os.kill(os.getpid(), signal.SIGKILL)
        return out
    setattr(holder, last, wrapped)
sys.argv = ["gapclose", *sys.argv[1:]]
from gapclose.loop.cli import main
main()
"""


def command(*words: object, **environment: str) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *map(str, words)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, err


def here(*words: object, **environment: str) -> tuple[int, str]:
    """The command line in this process, where everything is imported and compiled already."""
    err = io.StringIO()
    with (
        patch.object(sys, "argv", ["gapclose", *map(str, words)]),
        patch.dict(os.environ, environment),
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


def wait_for_lines(process: subprocess.Popen[str], run: Path, n: int) -> None:
    until = time.monotonic() + 120
    while lines(run) < n:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "the run is stuck"
        time.sleep(0.01)


def written(path: Path, photos: Path, **changes: Any) -> Path:
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
            "camera": {"noise": [0.0, 0.03]},
        },
        "baseline": {"guidance_scale": 3.0, "num_inference_steps": 4, "scheduler": "one"},
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
