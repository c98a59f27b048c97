"""What a small CNN makes of the images that each way of choosing recipes gives.

    python tests/benchmarks/photo_cnn.py [--seeds 3] [--images 600] [--before DIR] [--after DIR]

Ten classes of the world of photo_world.py, 300 images of each, the network of cnn.py from scratch,
tested on the 5,000 photos of `test/`, which nothing has seen. All images are drawn by largest
remainder, as `gapclose export` draws them, with seeds that no search drew; every seed of the table
has images and a network of its own. A search or a fit sees half of `train/`; the shares of words
and the real photos are those of all of it.

`--before` and `--after` are run folders. Without them, the commit before is what
`photo_world_kept` holds of it, for its code is no longer here, and this commit tunes the ten
classes anew.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from cnn import accuracy
from numpy.typing import NDArray
from photo_generator import COLOURS, USUAL, PhotoGenerator
from photo_world import FORTY, HERE, PHOTOS, Bench, forty, photos_of, world

from gapclose.generators.camera import apply_camera
from gapclose.loop.report.run_view import Run
from gapclose.loop.search.mixture_weights import allot
from gapclose.loop.search.trial import Mixture
from gapclose.loop.tuning import tune

CLASSES: Final = sorted(USUAL)
EACH: Final = 300  # images a class
FIRST: Final = 1_500_000_000  # seeds from here on: no search, fit or measurement comes so far
WORKERS: Final = 2
KEPT: Final = HERE / "photo_world_kept" / "before_mixtures.json"
ARMS: Final = {
    "plain": "the plain prompt",
    "even": "every word evenly",
    "forty": f"every word {FORTY} times, weights fitted",
    "before": "the commit before",
    "after": "this commit",
    "right": "the photos' own shares of words",
    "real": "real photos",
}
By = dict[str, dict[str, Any]]  # class -> mixture, as in mixtures.json
Pixels = NDArray[np.uint8]


def known(cls: str) -> dict[str, dict[str, Any]]:
    """The mixtures of one class that need no search: arm -> mixture."""
    bench = Bench(cls, seed=0)
    found = {
        "plain": bench.mixed({"": 1.0}),
        "even": bench.mixed(dict.fromkeys(COLOURS, 1 / len(COLOURS))),
        "forty": next(m for drawn, m in forty(bench, 0) if drawn == FORTY * len(COLOURS)),
        "right": bench.mixed(bench.shares),
    }
    return {arm: mixture.to_json() for arm, mixture in found.items()}


def of_run(folder: Path) -> By:
    """The mixtures of a run folder."""
    found: By = Run.open(folder).mixtures["classes"]
    return found


def tuned(images: int) -> By:
    """What this commit comes to.

    Args:
        images: The limit, a class.
    """
    with tempfile.TemporaryDirectory() as folder:
        return of_run(tune(world(f"tune.images={images}"), out=Path(folder) / "run").path)


@cache
def generator() -> PhotoGenerator:
    """One a process: it keeps the photos that it has read."""
    return PhotoGenerator(PHOTOS / "more")


@cache
def unseen() -> Pixels:
    """The photos of `test/`, class by class."""
    return np.stack([photo for cls in CLASSES for photo in photos_of("test", cls)])


def images_of(mixture: Mixture, first: int) -> list[Pixels]:
    """Draw a class's images.

    Args:
        mixture: Of the class.
        first: The seed of the first image; the others count up from it.
    """
    images: list[Pixels] = []
    for recipe, count in zip(mixture.recipes, allot(mixture.weights, EACH), strict=True):
        seeds = range(first + len(images), first + len(images) + count)
        batch = generator().generate(recipe.draw, seeds)
        images += [
            apply_camera(recipe.camera, image, seed=seed)
            for image, seed in zip(batch.images, batch.seeds, strict=True)
        ]
    return images


def some_photos(cls: str, seed: int) -> list[Pixels]:
    """Of `train/`."""
    photos = photos_of("train", cls)
    chosen = np.random.default_rng([seed, 29]).permutation(len(photos))[:EACH]
    return [photos[i] for i in chosen]


def taught(job: tuple[str, int, By | None]) -> tuple[str, int, float]:
    """Draw, train and test: (arm, seed, share of the photos of `test/` that is told right)."""
    arm, seed, mixtures = job
    torch.set_num_threads(1)  # one job a core
    start = time.process_time()
    images: list[Pixels] = []
    for cls in CLASSES:
        if mixtures is None:
            images += some_photos(cls, seed)
        else:
            images += images_of(Mixture.from_json(mixtures[cls]), FIRST + EACH * seed)
    drawn = time.process_time()
    share = accuracy(
        np.stack(images),
        np.repeat(np.arange(len(CLASSES)), EACH),
        unseen(),
        np.repeat(np.arange(len(CLASSES)), len(unseen()) // len(CLASSES)),
        seed=seed,
    )
    spent = time.process_time() - drawn
    told = f"{drawn - start:.0f} s of a core to draw, {spent:.0f} s to train and test"
    print(f"{arm} {seed}: {share:.1%}, {told}", flush=True)
    return arm, seed, share


def say(found: Mapping[str, Sequence[float]], seeds: int) -> None:
    """Print the table."""
    print(f"\n| {f'{EACH} images a class, {seeds} seeds':<38} | accuracy, %   |")
    print(f"|{'-' * 40}|---------------|")
    for arm, title in ARMS.items():
        if arm in found:
            shares = 100 * np.asarray(found[arm])
            spread = shares.std(ddof=1) if len(shares) > 1 else 0.0
            print(f"| {title:<38} | {shares.mean():>6.1f} +- {spread:.1f} |")


def main() -> None:
    """Tune, draw, train and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=600, help="limit a class, where tuned here")
    parser.add_argument("--before", type=Path, help="run folder of the commit before")
    parser.add_argument("--after", type=Path, help="run folder of this commit")
    options = parser.parse_args()
    torch.set_num_threads(1)
    arms: dict[str, By | None] = {"real": None}
    if "before" in options.arms:
        arms["before"] = of_run(options.before) if options.before else json.loads(KEPT.read_text())
    if "after" in options.arms:
        arms["after"] = of_run(options.after) if options.after else tuned(options.images)
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        by_class = pool.map(known, CLASSES, chunksize=1)
        for arm in by_class[0]:
            arms[arm] = dict(zip(CLASSES, (row[arm] for row in by_class), strict=True))
        jobs = [(arm, seed, arms[arm]) for seed in range(options.seeds) for arm in options.arms]
        found: dict[str, list[float]] = {}
        for arm, _, share in pool.imap(taught, jobs, chunksize=1):
            found.setdefault(arm, []).append(share)
    say(found, options.seeds)


if __name__ == "__main__":
    main()
