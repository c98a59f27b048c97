"""What captions of the real photos save: images to 1 floor, beside a search over words alone.

    python tests/benchmarks/captions.py [--worlds two six photos] [--seeds 3] [--workers 2]

`two`: frogs of the pond that are brown on water or gray on a road, and nothing else; `six`: six
such pairs. The search over words orders its prompts by the product of each slot's shares, as if
colour and place knew nothing of each other; `words` puts captions together from the words that
the text encoder sees in each photo; `text` has the true captions. `photos`: the world of
photo_world.py, whose encoder reads no words, with captions that name the true colour of 70 % of
the photos and any other of the rest.

A search counts as there with the first trial after which 600 fresh images of its mixture (1,200
of photos) are within 1 floor of photos that it has not seen. The untouched recipe's 100 images
come first in all of them; what is drawn after these is compared. Exit 1 if captions of the pond
take more than half of what words alone do, in the median of the seeds.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import photo_world
import sample_cost
from numpy.typing import NDArray
from photo_generator import COLOURS, colour

from gapclose.generators.conditioning import FromPhotos
from gapclose.generators.pond import renderer as pond
from gapclose.loop.config.reading import load_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.photo_groups import PhotoGroup, keep_group
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Mixture
from gapclose.loop.work.photo_groups import captions_by_words, group_photos
from gapclose.loop.work.photo_source import PhotoSource
from gapclose.loop.work.real_data import Fold

PAIRS: Final = {
    "two": (("brown", "water"), ("gray", "road")),
    "six": (("brown", "water"), ("gray", "road"), ("red", "sand"), ("white", "grass"),
            ("yellow", "clay"), ("black", "snow")),
}  # fmt: skip
WAYS: Final = {"two": ("alone", "words", "text"), "six": ("alone", "words", "text")}
PHOTO_WAYS: Final = ("alone", "text")
CLASSES: Final = ("frog", "ship", "horse", "truck")
TARGET: Final = 0.5  # of the images that words alone take
WRONG: Final = 0.3  # of the photos' captions
MOST: Final = 1000  # images
FAR: Final = 2.0  # floors, of 300 images: of 600 it is not 1
NAMES: Final = {
    "alone": "words alone",
    "words": "captions of words",
    "text": "captions that are given",
}
Job = tuple[str, str, str, int]  # world, class, way, seed


class Pairs(sample_cost.Bench):
    """Frogs whose colour and place go together."""

    def __init__(self, world: str, *, seed: int) -> None:
        self._pairs, self.truth = PAIRS[world], list[tuple[str, str]]()
        super().__init__("frog", seed=seed, photos=sample_cost.PHOTOS)

    def photos(self, numbers: range) -> list[NDArray[np.uint8]]:
        """Photos of the pairs, one as often as the other."""
        found = []
        for number in numbers:
            drawn = np.random.default_rng([number, 77]).integers(len(self._pairs))
            color, place = self._pairs[drawn]
            scene = pond.Scene(cls="frog", color=color, background=place)
            found.append(pond.expose(scene, number * len(pond.CLASSES)))
            self.truth.append((color, place))
        return found


def conditioned(
    bench: Any, config: RunConfig, captions: Sequence[str], folder: str
) -> tuple[PhotoGroup, ...]:
    """Give a bench's recipes the captions of its photos, as a session does."""
    n = len(bench.tune)
    tune = Fold(
        paths=tuple(Path(f"{i}.png") for i in range(n)),
        photos=tuple(f"{i:016x}" for i in range(n)),
        rows=bench.tune,
    )
    reporter = SilentReporter()
    groups = group_photos(bench.cls, tune, captions, seed=bench.seed, reporter=reporter)
    run = RunDir(folder)
    for group in groups:
        keep_group(run, group)
    space = Space.of(config, bench.cls, groups={group.name: group.digest for group in groups})
    own = bench.space
    bench.space = replace(space, camera=own.camera, baseline=own.baseline)
    bench.generator = FromPhotos(bench.generator, PhotoSource(run, dict))
    return groups


def on_the_pond(bench: Pairs, way: str, folder: str) -> Iterator[tuple[int, Mixture]]:
    """The search's mixture after every trial."""
    groups: tuple[PhotoGroup, ...] = ()
    if way != "alone":
        config = load_config("pond", ["space.captions=words"])
        if way == "words":
            captions = captions_by_words(Space.of(config, "frog"), bench.tune, bench.clip)
        else:
            said = bench.truth[: len(bench.tune)]
            captions = [f"a photo of a {color} frog on {place}" for color, place in said]
        groups = conditioned(bench, config, captions, folder)
    search = sample_cost.new_search(bench, groups)
    for _ in sample_cost.drive(bench, search, images=MOST, far=MOST):
        yield bench.drawn, search.mixture()


def on_photos(bench: photo_world.Bench, way: str, folder: str) -> Iterator[tuple[int, Mixture]]:
    """The same on photos."""
    groups: tuple[PhotoGroup, ...] = ()
    if way != "alone":
        rng = np.random.default_rng([bench.seed, 41])
        captions = []
        for photo in bench.tuned:
            word = colour(photo)
            if rng.random() < WRONG:
                word = str(rng.choice([other for other in COLOURS if other != word]))
            captions.append(f"a photo of a {bench.cls}, {word} behind")
        # Any source does: what it would give is given here.
        config = photo_world.world("space.captions=words")
        groups = conditioned(bench, config, captions, folder)
    yield from photo_world.searched(bench, MOST, on=True, groups=groups)


def follow(job: Job) -> tuple[Job, int | None, float]:
    """Search until 1 floor: the images that it took, and the ratio there or at the end."""
    world, cls, way, seed = job
    with tempfile.TemporaryDirectory() as folder:
        if world == "photos":
            bench: Any = photo_world.Bench(cls, seed=seed)
            course = on_photos(bench, way, folder)
            measure = functools.partial(_held, bench)
        else:
            bench = Pairs(world, seed=seed)
            course = on_the_pond(bench, way, folder)
            measure = functools.partial(unseen, bench)
        ratio, there = float("nan"), None
        for drawn, mixture in course:
            ratio = measure(mixture, f"{way}{drawn}")
            if ratio <= 1.0:
                there = drawn - sample_cost.BASELINE_IMAGES
                break
    print(f"{world} {cls} {way} {seed}: {there} images, {ratio:.2f}", flush=True)
    return job, there, ratio


def _held(bench: photo_world.Bench, mixture: Mixture, salt: str) -> float:
    return bench.measure(mixture, salt=salt)["held"]


def unseen(bench: sample_cost.Bench, mixture: Mixture, salt: str) -> float:
    """Ratio to the floor of fresh images on unseen photos; those images do not count."""
    drawn = bench.drawn
    ratio, _ = bench.confirm(mixture, salt=salt)
    if ratio <= FAR:  # else the other half of the images would change nothing
        ratio, _ = bench.confirm(mixture, salt=salt, parts=2)
    bench.drawn = drawn
    return ratio


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", nargs="+", default=["two", "six", "photos"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    jobs: list[Job] = []
    for seed in range(options.seeds):
        for world in options.worlds:
            if world == "photos":
                jobs += [(world, cls, way, seed) for cls in CLASSES for way in PHOTO_WAYS]
            else:
                jobs += [(world, "frog", way, seed) for way in WAYS[world]]
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        found = {job: (there, ratio) for job, there, ratio in pool.imap_unordered(follow, jobs)}
    print("\nimages after the baseline's to 1 floor, seed by seed (ratio at the end if never)")
    missed = False
    for world in options.worlds:
        classes = CLASSES if world == "photos" else ("frog",)
        for cls in classes:
            middle = {}
            for way in PHOTO_WAYS if world == "photos" else WAYS[world]:
                cells = [found[world, cls, way, seed] for seed in range(options.seeds)]
                counts = [MOST if there is None else there for there, _ in cells]
                middle[way] = float(np.median(counts))
                told = ", ".join(f"never ({r:.1f})" if t is None else str(t) for t, r in cells)
                share = middle[way] / middle["alone"]
                missed |= world in PAIRS and way != "alone" and share > TARGET
                print(f"| {world:<6} | {cls:<5} | {NAMES[way]:<24} | {told:<40} | {share:>5.2f} |")
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
