"""A tiny run killed at every one of its file operations, against one that nothing disturbed.

    python tests/benchmarks/kill_points.py [--every 1] [--pairs 200] [--real 50] [--camera]

The run has all phases: baseline, prompts, settings, mixture, a confirmation that fails; then, with
more trials allowed, it is reopened, closed and confirmed on another fold, and reports. A wrapper
counts its writes, fsyncs, renames and unlinks. What a kill at the k-th would leave on the disk,
half of a write included, is kept while nothing disturbs the run, and resumed afterwards: it must
end with the mixtures, verdicts and folds of the undisturbed run, and no fold may have judged two
mixtures. A SIGKILL at some random k shows that it leaves what was kept. Then two kills in a row at
random pairs, the second a SIGKILL too.
"""

from __future__ import annotations

import argparse
import builtins
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# What is compiled and cached before a fork is inherited by it; OpenMP of numba's refuses that.
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from rig import written
from slow_pond import SlowPond

from gapclose.generators.images import write_pngs
from gapclose.generators.recipe import Draw
from gapclose.loop.config.reading import load_config
from gapclose.loop.run.journal import read_journal
from gapclose.loop.run.state import fold
from gapclose.loop.tuning import tune

FIRST, MORE = 3, 12  # trials of the first session, and of all
PHOTOS = 420


Files = dict[str, str]  # what a folder holds: sha256 of the content, by relative path


class Snapshots:
    """What a run folder held at each of its operations, content by its sha256."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store = folder, store
        store.mkdir(exist_ok=True)
        self._seen: dict[str, tuple[tuple[int, ...], str]] = {}
        self._before: Files = {}

    def take(self, number: int, path: str = "", half: bytes = b"") -> None:
        """Keep the folder as it is, with what half a write would have added to a file."""
        while True:
            files = self._files()
            if files == self._files():  # SQLite writes from a thread of its own
                break
        if half:
            name = str(Path(path).relative_to(self.folder))
            files[name] = self._keep(Path(path).read_bytes() + half)
        changed = {name: key for name, key in files.items() if self._before.get(name) != key}
        gone = [name for name in self._before if name not in files]
        self._before = files
        row = {"number": number, "changed": changed, "gone": gone}
        with (self.store / "index.jsonl").open("a") as index:
            index.write(json.dumps(row) + "\n")

    def _files(self) -> Files:
        files: Files = {}
        for place, _, names in os.walk(self.folder):
            for name in names:
                path = Path(place) / name
                try:
                    stat = path.stat()
                    key = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                    known = self._seen.get(str(path))
                    if known is None or known[0] != key:
                        known = self._seen[str(path)] = (key, self._keep(path.read_bytes()))
                except FileNotFoundError:  # SQLite's journal
                    continue
                files[str(path.relative_to(self.folder))] = known[1]
        return files

    def _keep(self, data: bytes) -> str:
        key = hashlib.sha256(data).hexdigest()
        if not (self.store / key).exists():
            (self.store / key).write_bytes(data)
        return key


def read_snapshots(store: Path) -> list[Files]:
    """The folder at operation 1, 2, ..."""
    found: list[Files] = []
    files: Files = {}
    for line in (store / "index.jsonl").read_text().splitlines():
        row = json.loads(line)
        files = {k: v for k, v in {**files, **row["changed"]}.items() if k not in row["gone"]}
        found.append(files)
    return found


def lay_out(files: Files, store: Path, run: Path) -> None:
    """Make a run folder what it was."""
    shutil.rmtree(run, ignore_errors=True)
    for name, key in files.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store / key, run / name)


def shape(names: Iterable[str]) -> list[str]:
    """The files of a folder, whatever is random in the name of a temporary one."""
    return sorted(re.sub(r"\.[a-z0-9_]{8}\.(tmp|part)$", r".\1", name) for name in names)


class Count:
    """Counts file operations under a folder; kills this process at one, or snapshots all."""

    def __init__(
        self, folder: Path, kill_at: int | None, snapshots: Snapshots | None = None
    ) -> None:
        self.folder, self.kill_at, self.done = str(folder), kill_at, 0
        self._snapshots = snapshots

    def step(self, *paths: Any, half: bytes = b"", file: Any = None) -> None:
        """One operation on these paths; of a write, half is on the disk before a kill."""
        if not any(str(path).startswith(self.folder) for path in paths):
            return
        self.done += 1
        if self._snapshots is not None:
            self._snapshots.take(self.done, str(paths[0]), half)
        if self.done == self.kill_at:
            if file is not None:
                os.write(file.fileno(), half)
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
        if not self._written:
            self._written = True
            raw = data.encode() if isinstance(data, str) else bytes(data)
            self._count.step(self._path, half=raw[: len(raw) // 2], file=self._file)
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


def session(
    config: Path, run: Path, *, said: Path, kill_at: int | None = None, store: Path | None = None
) -> int:
    """Both sessions of the run in a process of its own; returns how it ended.

    Args:
        config: Of the run; the second session allows more trials.
        run: The run folder.
        said: Is told how many operations there were, or what went wrong.
        kill_at: The operation that it dies at.
        store: Takes a snapshot at each.
    """
    child = os.fork()
    if child == 0:
        try:
            warnings.simplefilter("ignore")
            sys.stderr = sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
            snapshots = None if store is None else Snapshots(run, store)
            count = Count(run, kill_at, snapshots)
            count.install()
            # As if left alone: more trials are allowed once the first session has ended.
            if all(event.kind != "run_finished" for event in read_journal(run / "journal.jsonl")):
                tune(load_config(config, [f"tune.trials={FIRST}"]), out=run)
            tune(load_config(config, [f"tune.trials={MORE}"]), out=run)
            said.write_text(str(count.done))
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent is told
            said.write_text(f"{type(error).__name__}: {error}")
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


def world(folder: Path, *, camera: bool = False) -> Path:
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
            **({"camera": {"noise": [0.0, 0.01]}} if camera else {}),
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


class Trial:
    """Resumes what kills left in one folder, against the undisturbed run."""

    def __init__(self, config: Path, folder: Path, store: Path, wanted: dict[str, Any]) -> None:
        self.config, self.store, self.wanted = config, store, wanted
        self.run, self.said = folder / "run", folder / "said"
        folder.mkdir()

    def kill(self, at: int) -> bool:
        """Whether the run came so far; it died there."""
        return session(self.config, self.run, said=self.said, kill_at=at) == signal.SIGKILL

    def faults(self) -> list[str]:
        """What of the resumed run is not as it was undisturbed."""
        status = session(self.config, self.run, said=self.said)
        if status != 0:
            return [f"ended with {status}: {self.said.read_text()[:300]}"]
        found = outcome(self.run)
        faults = [key for key, value in self.wanted.items() if found[key] != value]
        if any(len(mixtures) > 1 for mixtures in mixtures_by_fold(self.run).values()):
            faults.append("a fold judged two mixtures")
        return faults

    def at(self, files: Files) -> list[str]:
        """Faults after one kill."""
        lay_out(files, self.store, self.run)
        return self.faults()

    def after_sigkill(self, k: int, files: Files) -> list[str]:
        """Faults after a kill that was none of our making, what it left included."""
        shutil.rmtree(self.run, ignore_errors=True)
        assert self.kill(k)
        left = [str(p.relative_to(self.run)) for p in self.run.rglob("*") if p.is_file()]
        mine = [name for name in shape(left) if not name.startswith("study.db")]
        kept = [name for name in shape(files) if not name.startswith("study.db")]
        other = sorted({*mine} ^ {*kept})
        return (
            [f"it left other files than were kept: {other[:9]}"] if other else []
        ) + self.faults()

    def at_pair(self, files: Files, second: int) -> list[str]:
        """Faults after a kill and another in the session that resumes."""
        lay_out(files, self.store, self.run)
        self.kill(second)
        return self.faults()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take each n-th operation only")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--real", type=int, default=50, help="SIGKILLs at random operations")
    parser.add_argument("--camera", action="store_true", help="choose one too: twice the time")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        os.environ.setdefault("GAPCLOSE_CACHE", str(folder / "cache"))
        os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1] / "support")
        config, said = world(folder, camera=options.camera), folder / "said"
        store = folder / "store"
        # Warm: what is compiled and cached here is inherited by every fork.
        tune(load_config(config, [f"tune.trials={FIRST}"]), out=folder / "warm")
        run = folder / "undisturbed"
        assert session(config, run, said=said, store=store) == 0, said.read_text()
        wanted, kept = outcome(run), read_snapshots(store)
        events = list(read_journal(run / "journal.jsonl"))
        last = len(kept)
        verdicts = [
            verdict.confirmed
            for event in events
            if event.kind == "verdicts_reached"
            for verdict in event.verdicts.values()
        ]
        print(f"{last} operations, {len(events)} events, confirmed: {verdicts}", flush=True)
        chance = random.Random(0)
        points = range(1, last + 1, options.every)
        # What two operations leave alike is resumed once: the same files, the same process.
        first_like: dict[str, int] = {}
        for k in points:
            first_like.setdefault(json.dumps(kept[k - 1], sort_keys=True), k)
        cases: list[tuple[str, int, int]] = [("k", k, 0) for k in first_like.values()]
        cases += [("SIGKILL", chance.randint(1, last), 0) for _ in range(options.real)]
        for _ in range(options.pairs):
            k = chance.randint(1, last)
            cases.append(("pair", k, chance.randint(1, max(1, last - k))))
        chance.shuffle(cases)
        bad, start = 0, time.perf_counter()
        workers = []
        for job in range(options.jobs):
            worker = os.fork()
            if worker:
                workers.append(worker)
                continue
            trial = Trial(config, folder / f"job{job}", store, wanted)
            for number, (what, k, second) in enumerate(cases[job :: options.jobs], start=1):
                files = kept[k - 1]
                if what == "k":
                    faults = trial.at(files)
                elif what == "SIGKILL":
                    faults = trial.after_sigkill(k, files)
                else:
                    faults = trial.at_pair(files, second)
                bad += bool(faults)
                if faults:
                    print(f"{what} {k} {second or ''}: {', '.join(faults)}", flush=True)
                if number % 50 == 0:
                    spent = time.perf_counter() - start
                    print(f"job {job}: {number} done, {bad} faults, {spent:.0f} s", flush=True)
            os._exit(min(bad, 255))
        bad = sum(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers)
        print(
            f"k = 1..{last} by {options.every} ({len(first_like)} states of the folder), "
            f"{options.real} SIGKILLs, {options.pairs} pairs: {bad} faults"
        )
    raise SystemExit(bad > 0)


if __name__ == "__main__":
    main()
