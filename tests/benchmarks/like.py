"""What beginning with another run's mixture saves: images to 1 floor, `tune --like` beside cold.

    python tests/benchmarks/like.py [--classes frog ship] [--seeds 3] [--workers 2]

A search of the pond with seed 0 goes on until it is closed, or has had 1,000 images. The YAML of
its mixture is given to searches with other seeds and other real photos. A search counts as there
once 600 fresh images of its mixture are within 1 floor of photos that it has not seen, which is
looked at every 40 images, a batch of a mixture; the untouched recipe's 100 images count, for both
have to make them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from captions import MOST, unseen
from sample_cost import PHOTOS, Bench, drive, new_search

from gapclose.loop.config.mixtures import ClassMixture, MixturesFile

EVERY: Final = 40  # images
TARGET: Final = 0.5  # of the images that a cold search takes
Job = tuple[str, str, int]  # class, way, seed


def first(cls: str, file: Path) -> str:
    """Tune a class, write its mixture, and say what came of it."""
    bench = Bench(cls, seed=0, photos=PHOTOS)
    search = new_search(bench)
    for _ in drive(bench, search, images=MOST, far=None):
        pass
    drawn, mixture = bench.drawn, search.mixture()
    ratio = unseen(bench, mixture, "first")
    said = ClassMixture.of(mixture.to_json(), {"ratio": ratio})
    given = MixturesFile.model_validate({"schema": 1, "run": "first", "classes": {cls: said}})
    file.write_text(given.to_yaml(), encoding="utf-8")
    return f"{cls}: {drawn} images, {len(mixture.recipes)} recipes, {ratio:.2f} floors"


def follow(job: tuple[Job, Path]) -> tuple[Job, int | None, float]:
    """Search until 1 floor: the images that it took, and the ratio there or at the end."""
    (cls, way, seed), file = job
    bench = Bench(cls, seed=seed, photos=PHOTOS)
    search = new_search(bench)
    if way == "warm":
        search.state.give(MixturesFile.read(file).rows()[cls])
    ratio, there, looked = float("nan"), None, 0
    for _ in drive(bench, search, images=MOST, far=MOST):
        if bench.drawn < min(looked + EVERY, MOST):
            continue
        looked = bench.drawn
        ratio = unseen(bench, search.mixture(), f"{way}{bench.drawn}")
        if ratio <= 1.0:
            there = bench.drawn
            break
    print(f"{cls} {way} {seed}: {there} images, {ratio:.2f}", flush=True)
    return (cls, way, seed), there, ratio


def main() -> None:
    """Run and print; exit 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", nargs="+", default=["frog", "ship"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    seeds = range(1, options.seeds + 1)
    found: dict[Job, tuple[int | None, float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("spawn").Pool(options.workers) as pool,
    ):
        files = [Path(folder) / f"{cls}.yaml" for cls in options.classes]
        for said in pool.starmap(first, zip(options.classes, files, strict=True)):
            print(said, flush=True)
        jobs: list[Any] = [
            ((cls, way, seed), file)
            for seed in seeds
            for cls, file in zip(options.classes, files, strict=True)
            for way in ("warm", "cold")
        ]
        for job, there, ratio in pool.imap_unordered(follow, jobs):
            found[job] = there, ratio
    print("\nimages to 1 floor, seed by seed (the ratio at the end if never)")
    met = True
    for cls in options.classes:
        middle = {}
        for way in ("cold", "warm"):
            cells = [found[cls, way, seed] for seed in seeds]
            middle[way] = float(np.median([MOST if t is None else t for t, _ in cells]))
            told = ", ".join(f"never ({r:.1f})" if t is None else str(t) for t, r in cells)
            print(f"| {cls:<5} | {way} | {told:<40} | {middle[way] / middle['cold']:>5.2f} |")
        met &= middle["warm"] <= TARGET * middle["cold"]
    print(f"at most half: {'met' if met else 'NOT MET'}")
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
