"""A run of 10,000 finished trials: what a trial costs, and to resume, to append and to look at it.

    python tests/benchmarks/long_journal.py [--trials 10000] [--classes 10] [--run FOLDER]

The run is made by the session that ships: it decides, proposes, absorbs and appends, and its
evidence lies where a run's lies. Only images are left out: the embedding of a recipe and a seed is
drawn from a known distribution of width 512 (words are modes, guidance moves all of them), and
the photos have a part that no word draws, so no class is ever closed. To make it takes half an
hour; with `--run` it is kept, and one that is there is measured as it is. There are two cases: ten
classes (the default) share the trials, as in most runs, or one class (`--classes 1`) has them all,
which is the hard case: 280,000 images are of it.

What a trial costs is all that this program does for it: to decide, to propose, to absorb, to
append and to project, but not to draw. It is the processor's time, which a busy machine changes
least, in the mean of 200 trials: kinds of trials take turns.

Resuming is what `tune` does before it decides anything: read the journal, bring the searches where
it stands, and restore the projections and the Optuna studies. It must end where the uninterrupted
session stood, to the last digit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gapclose.analysis.kernel import Kernel
from gapclose.generators.recipe import Recipe
from gapclose.loop.config.reading import parse_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.report.charts import chart_data
from gapclose.loop.report.page import write_report
from gapclose.loop.report.projections import Projections, read_trials
from gapclose.loop.report.status import read_status
from gapclose.loop.report.thumbnails import Samples
from gapclose.loop.run.events import (
    Event,
    PhotosListed,
    RunFinished,
    Stopped,
    StopReason,
    TrialProposed,
)
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.journal import Journal, read_journal
from gapclose.loop.run.lock import lock
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.run.state import RunState, apply, fold
from gapclose.loop.schedule.budget import ClassLimits, Limits
from gapclose.loop.search.phases import Ask
from gapclose.loop.session import Session, Stopwatch
from gapclose.loop.work.diagnostics import Diagnostics
from gapclose.loop.work.evidence import Evidence
from gapclose.loop.work.kept_images import KeptImages
from gapclose.loop.work.real_data import ClassReference, Fold
from gapclose.loop.work.source_copies import SourceCopies
from gapclose.loop.work.synthesis import SampleBatch, Synthesis
from gapclose.loop.work.trials import Trials, by_gap, make_searches

Rows = NDArray[np.float32]

WIDTH: Final = 512  # of CLIP ViT-B-32
PHOTOS: Final = 300  # in the tune split of a class
CLASSES: Final = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                  "truck")  # fmt: skip
COLOURS: Final = ("red", "green", "blue", "brown", "gray", "white", "black", "yellow")
PLACES: Final = ("", " on a leaf", " on mud", " in water", " at night", " in snow")
APPENDED: Final = 200  # trials whose events are timed
AROUND: Final = (500, 1_000, 2_000, 5_000, 10_000)  # trials, where their cost is shown
COSTS: Final = "costs.json"  # seconds of each trial, and the memory, of the session that made it
MARK: Final = "stands.json"  # where the session that made the run stood at its end

_passed = True


def say(what: str, target: str, value: float, met: bool | None, unit: str) -> None:
    """Print one row of the table."""
    global _passed
    _passed &= met is not False
    mark = {True: "yes", False: "NO", None: ""}[met]
    print(f"| {what:<54} | {target:>9} | {value:>9.3f} {unit:<4} | {mark:>3} |", flush=True)


def config_of(trials: int, classes: Sequence[str]) -> RunConfig:
    """Words, guidance and steps to search."""
    return parse_config(
        {
            "real": {"path": "/photos"},
            "classes": [*classes],
            "generator": {"kind": "long_journal:Drawn"},
            "embedder": "pond",
            "judge": None,
            "space": {
                "prompt": "a {color} {class}{place}",
                "slots": {"color": [*COLOURS], "place": [*PLACES]},
                "guidance_scale": [1.0, 9.0],
                "num_inference_steps": [10, 40],
            },
            "baseline": {"prompt": "a green {class}", "guidance_scale": 7.5},
            "tune": {"budget": None, "trials": -(-trials // len(classes)), "images_per_trial": 8},
        }
    )


@cache
def direction(name: str) -> NDArray[np.float32]:
    """Return the unit direction (WIDTH,) that a word stands for."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    drawn = np.random.default_rng(seed).standard_normal(WIDTH, dtype=np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn), dtype=np.float32)


def rows_of(centre: Rows, noise: Rows) -> Rows:
    """Return unit rows round a centre."""
    rows = centre + 0.7 * noise / np.float32(np.sqrt(WIDTH))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def centre_of(cls: str, words: Sequence[str]) -> Rows:
    """Return what the words of a class have in common."""
    parts = [0.4 * direction(word) for word in words]
    return np.asarray(direction(cls) + np.sum(parts, axis=0), dtype=np.float32)


def photos_of(cls: str, n: int, *, seed: int) -> Rows:
    """Return photos (n, WIDTH): some colours and places, and a part that no word draws."""
    rng = np.random.default_rng([seed, CLASSES.index(cls)])
    colours = rng.choice(COLOURS, n, p=rng.dirichlet(np.ones(len(COLOURS))))
    places = rng.choice(PLACES, n, p=rng.dirichlet(np.ones(len(PLACES))))
    centres = [centre_of(cls, (c, p, "photo")) for c, p in zip(colours, places, strict=True)]
    return rows_of(np.stack(centres), rng.standard_normal((n, WIDTH), dtype=np.float32))


class Reader:
    """An embedder whose texts lie where the images of their words do."""

    id = "reader"
    width = WIDTH

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Rows:
        """Refuse: there are no images here."""
        raise AssertionError(f"{len(images)} images: none should be embedded")

    def embed_text(self, texts: Sequence[str]) -> Rows:
        """Return (n, WIDTH) unit rows."""
        named = [[w for w in (*COLOURS, *PLACES) if w and w in text] for text in texts]
        rows = np.stack([np.sum([direction(w) for w in words], axis=0) for words in named])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


class Drawn(Synthesis):
    """A synthesis that draws embeddings, and no images."""

    def generate(
        self, cls: str, jobs: Sequence[tuple[Recipe, Sequence[int]]], *, partly: bool = False
    ) -> SampleBatch:
        """Return the embeddings of recipes and seeds; one seed has one noise under each recipe."""
        start = time.process_time()
        rows, recipes, seeds = [], [], []
        for number, (recipe, wanted) in enumerate(jobs):
            prompt, guidance = recipe.draw.prompt, recipe.draw.guidance_scale
            words = [w for w in (*COLOURS, *PLACES) if w and w in prompt]
            centre = centre_of(cls, words) + 0.05 * abs(guidance - 3.0) * direction("guidance")
            noise = [np.random.default_rng(s).standard_normal(WIDTH, np.float32) for s in wanted]
            rows.append(rows_of(centre, np.stack(noise)))
            recipes += [number] * len(wanted)
            seeds += wanted
        self.generated += len(seeds)
        self.generate_seconds += time.process_time() - start
        return SampleBatch(
            images=(),
            embeddings=np.concatenate(rows),
            recipes=tuple(recipes),
            seeds=tuple(seeds),
            invalid=0,
            generated=len(seeds),
            drawn=tuple(seeds),  # a number each, as digests of pixels are
        )


def real_of(cls: str) -> ClassReference:
    """Return the photos of a class."""
    rows = photos_of(cls, PHOTOS, seed=1)
    names = tuple(f"{cls}-{i}" for i in range(PHOTOS))
    part = Fold(paths=tuple(map(Path, names)), photos=names, rows=rows)
    return ClassReference(name=cls, tune=part, folds=(part,), kernel=Kernel.fit(rows))


@dataclass(slots=True)
class Opened:
    """A session of the run, and what it took to bring it where the journal stands."""

    session: Session
    seconds: dict[str, float]


def open_session(config: RunConfig, rundir: RunDir, real: dict[str, ClassReference]) -> Opened:
    """Do what `tune` does before its session decides anything, models and photos left out."""
    start = time.perf_counter()
    journal = Journal(rundir.journal_path)
    state = fold(read_journal(rundir.journal_path))
    folded = time.perf_counter()
    synthesis = Drawn(generator=None, embedder=Reader(), rundir=rundir)  # type: ignore[arg-type]
    evidence = Evidence(rundir)
    kept = KeptImages(synthesis=synthesis, evidence=evidence)
    searches = make_searches(config, real, synthesis.embedder, kept, scored_by=by_gap)
    limits = Limits(
        tune=config.tune,
        confirm_images=config.confirm.images,
        classes={name: ClassLimits(floor=s.floor, folds=1) for name, s in searches.items()},
    )
    trials = Trials(
        synthesis=synthesis,
        evidence=evidence,
        searches=searches,
        copies=SourceCopies(generator=synthesis.generator, real=real),
        real=real,
        seed=config.tune.seed,
        by_clock=limits.by_clock,
    )
    absent: Any = None  # nothing is confirmed here
    session = Session(
        config=config,
        rundir=rundir,
        journal=journal,
        state=state,
        limits=limits,
        watch=Stopwatch(used_before=state.used),
        reporter=SilentReporter(),
        synthesis=synthesis,
        trials=trials,
        confirmation=absent,
        recalls=absent,
        proposals=absent,
        diagnostics=Diagnostics(
            config=config,
            synthesis=synthesis,
            evidence=evidence,
            real=real,
            searches=searches,
            nouns={},
            groups={},
        ),
        projections=Projections(rundir),
        _drawable=True,
    )
    made = time.perf_counter()
    listed = PhotosListed(tune={name: reference.tune.photos for name, reference in real.items()})
    session.begin(listed, None)
    done = time.perf_counter()
    return Opened(
        session, {"fold": folded - start, "searches": made - folded, "begin": done - made}
    )


def finished(state: RunState) -> int:
    """Return how many trials have ended."""
    return sum(cls.trials for cls in state.classes.values())


def drive(session: Session, trials: int) -> list[float]:
    """Go on until so many trials have ended; return the seconds of the processor for each."""
    said, spent = time.perf_counter(), []
    start = time.process_time()
    while finished(session.state) < trials:
        session.perform(session.decide())
        if finished(session.state) > len(spent):
            now, drawn = time.process_time(), session.synthesis.generate_seconds
            spent.append(now - start - drawn)
            start, session.synthesis.generate_seconds = now, 0.0
        if time.perf_counter() - said > 30:
            said = time.perf_counter()
            print(f"{finished(session.state):,} trials", file=sys.stderr, flush=True)
    return spent


def stand_of(session: Session) -> dict[str, Any]:
    """Return where the searches stand, to the last digit, and what each would do next."""
    told = {}
    for name, search in session.trials.searches.items():
        following = search.propose(Ask(settings_trials=8))
        told[name] = [
            hashlib.sha256(search.weights.tobytes()).hexdigest(),
            search.mixture().to_json(),
            search.progress().model_dump(),
            following.params,
            [[recipe.fingerprint(), list(seeds)] for recipe, seeds in following.jobs],
        ]
    value: dict[str, Any] = json.loads(json.dumps(told))
    return value


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def append_times(config: RunConfig, rundir: RunDir, scratch: Path) -> NDArray[np.float64]:
    """Append the last events of a run once more to a copy of its journal.

    Args:
        config: Of the run.
        rundir: The run.
        scratch: Where the copy is made.

    Returns:
        (n, 3) seconds of each event, appended, applied to the state, and followed by the
        projections: by the clock, of the processor, and in `fsync`, where the two overlap. A
        busy machine takes the rest.
    """
    copy = create_run(scratch, config)
    for path in (rundir.journal_path, rundir.path / "trials.jsonl"):
        shutil.copyfile(path, scratch / path.name)
    state = fold(read_journal(copy.journal_path))
    taken: list[tuple[float, float, float]] = []
    waited, fsync = 0.0, os.fsync

    def timed_fsync(handle: int) -> None:
        nonlocal waited
        waited += timed(lambda: fsync(handle))

    with lock(copy), patch.object(os, "fsync", timed_fsync):
        journal, projections = Journal(copy.journal_path), Projections(copy)
        projections.restore(state)
        for event in _last_trials(rundir):
            start = time.perf_counter(), time.process_time(), waited
            event = journal.append(event, used=0.0)
            state = apply(state, event)
            projections.follow(event, state)
            end = time.perf_counter(), time.process_time(), waited
            taken.append((end[0] - start[0], end[1] - start[1], end[2] - start[2]))
    return np.asarray(taken)


def _last_trials(rundir: RunDir) -> list[Event]:
    """Return the events of the last trials, each proposed and finished."""
    events = deque(read_journal(rundir.journal_path), maxlen=2 * APPENDED + 2)
    proposed = next(i for i, e in enumerate(events) if isinstance(e, TrialProposed))
    return [*events][proposed : proposed + 2 * APPENDED]


def make(config: RunConfig, folder: Path, trials: int) -> None:
    """Make the run, or what it lacks."""
    rundir = create_run(folder, config)
    if rundir.has(MARK):
        return
    real = {name: real_of(name) for name in config.classes}
    with lock(rundir), threadpool_limits(1, user_api="blas"):
        session = open_session(config, rundir, real).session
        spent: list[float] = []
        took = timed(lambda: spent.extend(drive(session, trials)))
        print(f"made in {took:.0f} s", file=sys.stderr)
        session.close()
        gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rundir.write_json(COSTS, {"seconds": spent, "gib": gib})
        rundir.write_json(MARK, stand_of(session))


def page_of(config: RunConfig, rundir: RunDir, scratch: Path) -> tuple[float, float]:
    """Write the page of a copy that has ended here; return its seconds and its MB.

    Nothing was confirmed, so it has no sections of classes: what they plot is counted besides.
    """
    copy = create_run(scratch, config)
    shutil.copyfile(rundir.journal_path, copy.journal_path)
    names = [*config.classes]
    with lock(copy):
        stopped = Stopped(reason=StopReason.INTERRUPTED)
        ended = RunFinished(stopped=dict.fromkeys(names, stopped), findings={})
        Journal(copy.journal_path).append(ended, used=1e9)
    written: list[Path] = []
    took = timed(lambda: written.append(write_report(copy.path)))
    rows = [{"name": name, "floor_p95": 1e-3} for name in names]
    plotted = chart_data(rows, read_trials(copy), Samples.read(copy))
    size = written[0].stat().st_size + len(json.dumps(plotted))
    return took, size / 1e6


def show_costs(rundir: RunDir) -> None:
    """Print what trials cost, where the session that made the run has told it."""
    if not rundir.has(COSTS):
        return
    told: Any = rundir.read_json(COSTS)
    first = math.nan
    for trials in (n for n in AROUND if n <= len(told["seconds"])):
        since = min(trials + 100, len(told["seconds"])) - 200
        cost = 1000 * float(np.mean(told["seconds"][since : since + 200]))
        first = cost if trials == AROUND[0] else first
        met, target = cost <= 2 * first, f"<= {2 * first:.0f}"
        say(f"cost of a trial around {trials:,}", target, cost, met, "ms")
    say("    largest memory meanwhile", "<= 2", told["gib"], told["gib"] <= 2, "GiB")


def measure(config: RunConfig, folder: Path) -> None:
    """Print the table."""
    rundir = RunDir.open(folder)
    real = {name: real_of(name) for name in config.classes}
    size = sum(file.stat().st_size for file in (folder / "embeddings").iterdir())
    state = fold(read_journal(rundir.journal_path))
    say("finished trials", "", finished(state), None, "")
    say("journal", "", rundir.journal_path.stat().st_size / 2**20, None, "MiB")
    say("embeddings", "", size / 2**20, None, "MiB")
    show_costs(rundir)
    with lock(rundir), threadpool_limits(1, user_api="blas"):
        opened = open_session(config, rundir, real)
        session, parts = opened.session, opened.seconds
        whole = sum(parts.values())
        say("resume", "<= 60", whole, whole <= 60, "s")
        for name, took in parts.items():
            say(f"    of it {name}", "", took, None, "s")
        same = stand_of(session) == rundir.read_json(MARK)
        say("    equal to the uninterrupted session", "1", float(same), same, "")
        gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        say("    largest memory of the process", "", gib, None, "GiB")
        session.close()
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        took, size = page_of(config, rundir, Path(scratch))
        say("page", "<= 10", size, size <= 10, "MB")
        say("    to write it", "", took, None, "s")
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        times = 1000 * append_times(config, rundir, Path(scratch))
    for event, rows, most in (
        ("append an event", times, 2.0),
        ("    that proposes a trial", times[0::2], None),
        ("    that ends one", times[1::2], None),
    ):
        middle, processor, disk = map(float, np.median(rows, axis=0))
        met, target = (None, "") if most is None else (middle <= most, f"<= {most:g}")
        say(f"{event}, median", target, middle, met, "ms")
        say("        95th percentile", "", float(np.percentile(rows[:, 0], 95)), None, "ms")
        say("        of the processor, median", "", processor, None, "ms")
        say("        waiting for the disk, median", "", disk, None, "ms")
    looked = timed(lambda: read_status(folder))
    say("status", "<= 1", looked, looked <= 1, "s")
    command = [str(Path(sys.executable).with_name("gapclose")), "status", str(folder)]
    looked = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    say("    the command", "<= 1", looked, looked <= 1, "s")


def main() -> None:
    """Make the run and measure it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=len(CLASSES))
    parser.add_argument("--run", type=Path)
    given = parser.parse_args()
    config = config_of(given.trials, CLASSES[: given.classes])
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.run or Path(temporary) / "run"
        make(config, folder, given.trials)
        measure(config, folder)
    sys.exit(not _passed)


if __name__ == "__main__":
    main()
