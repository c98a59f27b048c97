"""A tiny run killed at every one of its file operations, against one that nothing disturbed.

    python tests/benchmarks/kill_points.py [--every 1] [--pairs 200] [--only K ...]

The run has all phases: baseline, prompts, settings, mixture, a confirmation that fails; then, with
more trials allowed, it is reopened, closed and confirmed on another fold, and reports. A wrapper
counts its writes, fsyncs, renames and unlinks, and kills the process at the k-th, half of a write
on the disk. Resumed, it must end with the mixtures, verdicts and folds of the undisturbed run, and
no fold may have judged two mixtures. Then the same with two kills in a row, at random pairs.
"""

from __future__ import annotations

import argparse
import builtins
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What is compiled and cached before a fork is inherited by it; OpenMP of numba's refuses that.
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from rig import written
from slow_pond import SlowPond

from gapclose.generators.images import write_pngs
from gapclose.generators.recipe import Draw
from gapclose.loop.config.schema import load_config
from gapclose.loop.run.journal import read_journal
from gapclose.loop.run.state import fold
from gapclose.loop.tuning import tune

FIRST, MORE = 3, 12  # trials of the first session, and of all
PHOTOS = 420


class Count:
    """Counts file operations under a folder, and kills this process at one of them."""

    def __init__(self, folder: Path, kill_at: int | None) -> None:
        self.folder, self.kill_at, self.done = str(folder), kill_at, 0

    def step(self, *paths: Any, before: Callable[[], Any] = lambda: None) -> None:
        """One operation on these paths; `before` is what of it still happens."""
        if not any(str(path).startswith(self.folder) for path in paths):
            return
        self.done += 1
        if self.done == self.kill_at:
            before()
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Wrap what writes, synchronises, renames and removes; a file's writes count as one."""
        self._wrap_opening()
        for name in ("fsync", "rename", "replace", "unlink", "truncate", "ftruncate"):
            self._wrap(name)

    def _wrap(self, name: str) -> None:
        real = getattr(os, name)

        def wrapped(*args: Any, **options: Any) -> Any:
            if name in ("fsync", "ftruncate"):
                self.step(Path(f"/proc/self/fd/{args[0]}").readlink())
            else:
                self.step(*(arg for arg in args[:2] if not isinstance(arg, int)))
            return real(*args, **options)

        setattr(os, name, wrapped)

    def _wrap_opening(self) -> None:
        real_open, real_fdopen = io.open, os.fdopen

        def opened(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            file = real_open(path, mode, *args, **options)
            mine = str(path).startswith(self.folder) and set(mode) & set("wax+")
            return Counted(file, str(path), self) if mine else file

        def fdopened(handle: int, mode: str = "r", *args: Any, **options: Any) -> Any:
            path = str(Path(f"/proc/self/fd/{handle}").readlink())
            file = real_fdopen(handle, mode, *args, **options)
            return Counted(file, path, self) if path.startswith(self.folder) else file

        builtins.open = io.open = opened  # type: ignore[assignment]
        os.fdopen = fdopened  # type: ignore[assignment]


class Counted:
    """A file whose first write is counted; the one that kills leaves half on the disk."""

    def __init__(self, file: Any, path: str, count: Count) -> None:
        self._file, self._path, self._count, self._written = file, path, count, False

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        if not self._written:
            self._written = True
            self._count.step(self._path, before=half)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Any:
        self._file.__enter__()
        return self

    def __exit__(self, *exception: Any) -> Any:
        return self._file.__exit__(*exception)

    def __iter__(self) -> Any:
        return iter(self._file)


def session(config: Path, run: Path, *, kill_at: int | None, report: Path) -> int:
    """Both sessions of the run in a process of its own; returns how it ended.

    Args:
        config: Of the run; the second session allows more trials.
        run: The run folder.
        kill_at: The operation that it dies at.
        report: Is told how many operations there were.
    """
    child = os.fork()
    if child == 0:
        try:
            warnings.simplefilter("ignore")
            sys.stderr = sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
            count = Count(run, kill_at)
            count.install()
            state = fold(read_journal(run / "journal.jsonl"))
            trials = state.of("frog").trials
            if trials < FIRST or (trials == FIRST and state.of("frog").judged is None):
                tune(load_config(config, [f"tune.trials={FIRST}"]), out=run)
            tune(load_config(config, [f"tune.trials={MORE}"]), out=run)
            report.write_text(str(count.done))
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent is told
            report.write_text(f"{type(error).__name__}: {error}")
            os._exit(1)
    return os.waitpid(child, 0)[1]


def outcome(run: Path) -> dict[str, Any]:
    """What must not depend on kills."""
    state = fold(read_journal(run / "journal.jsonl"))
    frog = state.of("frog")
    assert frog.judged is not None
    assert frog.judged.verdict is not None
    gap = json.loads((run / "gap.json").read_text())
    row = gap["classes"][0]
    return {
        "mixtures": json.loads((run / "mixtures.json").read_text()),
        "verdict": frog.judged.verdict.model_dump(),
        "row": {key: row[key] for key in ("gap", "ratio", "q_value", "closed", "confirmed")},
        "spent": [sorted(photos) for photos in frog.spent_folds],
        "trials": [
            {key: value for key, value in json.loads(line).items() if key != "seconds"}
            for line in (run / "trials.jsonl").read_text().splitlines()
        ],
    }


def mixtures_by_fold(run: Path) -> dict[int, set[str]]:
    """Which mixtures of the search each fold has judged."""
    judged: dict[int, set[str]] = {}
    for event in read_journal(run / "journal.jsonl"):
        if event.kind == "fold_opened" and event.spends:
            judged.setdefault(event.fold, set()).add(json.dumps(event.mixture, sort_keys=True))
    return judged


def world(folder: Path) -> Path:
    """Photos that two words together draw, and a config whose baseline has one of them."""
    photos = folder / "photos" / "frog"
    for first, color in ((5_000_000, "green"), (6_000_000, "brown")):
        draw = Draw(
            prompt=f"a photo of a {color} frog",
            guidance_scale=5.0,
            num_inference_steps=4,
            scheduler="one",
        )
        drawn = SlowPond().generate(draw, range(first, first + PHOTOS // 2))
        write_pngs({photos / f"{color}{k}.png": image for k, image in enumerate(drawn.images)})
    return written(
        folder / "c.yaml",
        folder / "photos",
        classes=["frog"],
        space={
            "prompt": "a photo of a {color} frog",
            "slots": {"color": ["", "brown", "green"]},
            "guidance_scale": [1.0, 6.0],
            "camera": {"noise": [0.0, 0.01]},
        },
        baseline={
            "prompt": "a photo of a frog",
            "guidance_scale": 3.0,
            "num_inference_steps": 4,
            "scheduler": "one",
        },
        tune={"budget": None, "trials": FIRST, "images_per_trial": 24},
        confirm={"images": 100},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take each n-th operation only")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--only", type=int, nargs="*", help="these operations, and no pairs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        os.environ.setdefault("GAPCLOSE_CACHE", str(folder / "cache"))
        os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1] / "support")
        config, said = world(folder), folder / "said"
        # Warm: what is compiled and cached here is inherited by every fork.
        tune(load_config(config, [f"tune.trials={FIRST}"]), out=folder / "warm")
        run = folder / "undisturbed"
        assert session(config, run, kill_at=None, report=said) == 0, said.read_text()
        last, wanted = int(said.read_text()), outcome(run)
        events = [event.kind for event in read_journal(run / "journal.jsonl")]
        verdicts = [
            verdict.confirmed
            for event in read_journal(run / "journal.jsonl")
            if event.kind == "verdicts_reached"
            for verdict in event.verdicts.values()
        ]
        print(f"{last} operations, {len(events)} events, confirmed: {verdicts}", flush=True)
        chance = random.Random(0)
        points: list[tuple[int, ...]] = [(k,) for k in range(1, last + 1, options.every)]
        pairs = [(chance.randint(1, last), chance.randint(1, last)) for _ in range(options.pairs)]
        if options.only:
            points, pairs = [(k,) for k in options.only], []
        bad, start = 0, time.perf_counter()
        for number, kills in enumerate([*points, *pairs], start=1):
            run = folder / "run"
            shutil.rmtree(run, ignore_errors=True)
            for kill_at in kills:
                session(config, run, kill_at=kill_at, report=said)
            status = session(config, run, kill_at=None, report=said)
            faults = []
            if status != 0:
                faults.append(f"ended with {status}: {said.read_text()[:300]}")
            else:
                found = outcome(run)
                faults += [key for key, value in wanted.items() if found[key] != value]
                if any(len(mixtures) > 1 for mixtures in mixtures_by_fold(run).values()):
                    faults.append("a fold judged two mixtures")
            bad += bool(faults)
            if faults:
                print(f"killed at {kills}: {', '.join(faults)}", flush=True)
            if number % 50 == 0:
                print(f"{number} done, {time.perf_counter() - start:.0f} s", flush=True)
        print(f"k = 1..{last} by {options.every}, {len(pairs)} pairs: {bad} faults")
    raise SystemExit(bad > 0)


if __name__ == "__main__":
    main()
