"""How often the guard against shortcuts sees one, and how often it cries wolf.

    python tests/benchmarks/shortcuts.py [--shared DIR] [--only time|pond|photos|level|photo-level]

Scenes of the pond, and photos of DIR/data/cifar10, go through cameras of their class, or through
one wrong camera that all classes share, and are held against real ones; halves of either are held
against each other. Seeds are 0, 1, 2 ... and no others.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.low_level import measure, measure_files
from gapclose.analysis.shortcuts import ShortcutProbe, probe_shortcuts
from gapclose.generators.camera import apply_camera
from gapclose.generators.pond.renderer import CLASSES, SENSOR_NOISE, quantize, real_scene, render
from gapclose.generators.recipe import Camera

HERE: Final = Path(__file__).resolve()
SIZES: Final = (50, 200)  # images a class
EACH: Final = 400  # images of a class that went through a camera, of which sets are drawn
SETS: Final = 20  # for each row of cameras
HALVES: Final = 200
PERMUTATIONS: Final = 199
Side = dict[str, NDArray[np.float64]]
Cameras = Mapping[str, Camera]

EVERY: Final = "every class"
SHORTCUTS: Final[dict[str, Cameras]] = {
    "a camera a class": {  # as a tuning run once chose them
        "frog": Camera(noise=0.0375),
        "airplane": Camera(noise=0.019),
        "deer": Camera(),
        "ship": Camera(),
    },
    "frog: noise .0375": {"frog": Camera(noise=0.0375)},
    "frog: noise .024": {"frog": Camera(noise=0.024)},
    "frog: JPEG 75": {"frog": Camera(noise=SENSOR_NOISE, jpeg_quality=75)},
    "JPEG 95, but frog 75": {
        EVERY: Camera(noise=SENSOR_NOISE, jpeg_quality=95),
        "frog": Camera(noise=SENSOR_NOISE, jpeg_quality=75),
    },
    "frog: saturation 1.4": {"frog": Camera(noise=SENSOR_NOISE, saturation=1.4)},
}
SHARED: Final[dict[str, Cameras]] = {
    f"{EVERY}: {name}": {EVERY: camera}
    for name, camera in {
        "noise .0375": Camera(noise=0.0375),
        "no noise": Camera(),
        "JPEG 75": Camera(noise=SENSOR_NOISE, jpeg_quality=75),
        "JPEG 95": Camera(noise=SENSOR_NOISE, jpeg_quality=95),
        "saturation .6": Camera(noise=SENSOR_NOISE, saturation=0.6),
        "saturation 1.4": Camera(noise=SENSOR_NOISE, saturation=1.4),
    }.items()
}
# On photos, which have a camera of their own: what is put on top of it.
ON_PHOTOS: Final[dict[str, Cameras]] = {
    "a camera a class": SHORTCUTS["a camera a class"],
    "frog: noise .01": {"frog": Camera(noise=0.01)},
    "frog: saturation 1.4": {"frog": Camera(saturation=1.4)},
    f"{EVERY}: noise .0375": {EVERY: Camera(noise=0.0375)},
    f"{EVERY}: JPEG 50": {EVERY: Camera(jpeg_quality=50)},
    f"{EVERY}: saturation 1.4": {EVERY: Camera(saturation=1.4)},
}


def scene(cls: str, number: int, camera: Camera) -> NDArray[np.uint8]:
    """One scene of the pond through a camera."""
    seed = number * len(CLASSES) + CLASSES.index(cls)
    return apply_camera(camera, quantize(render(real_scene(cls, number), seed)), seed=seed)


def scenes(cameras: Cameras, start: int, n: int = EACH) -> Side:
    """Measured scenes; classes that no camera is named for have the real one."""
    real = cameras.get(EVERY, Camera(noise=SENSOR_NOISE))
    return {
        cls: np.stack([measure(scene(cls, start + i, cameras.get(cls, real))) for i in range(n)])
        for cls in CLASSES
    }


@cache
def photos(shared: Path) -> Side:
    """Measured photos of `train` and `test`."""
    root = shared / "data" / "cifar10"
    return {
        cls: measure_files(
            [p for side in ("train", "test") for p in (root / side / cls).iterdir()]
        )
        for cls in CLASSES
    }


def photos_through(cameras: Cameras, shared: Path) -> Side:
    """Measured photos of `more`, through cameras."""
    found = {}
    for cls in CLASSES:
        paths = sorted((shared / "data" / "cifar10" / "more" / cls).iterdir())[:EACH]
        camera = cameras.get(cls, cameras.get(EVERY, Camera()))
        images = [apply_camera(camera, read_rgb(p), seed=i) for i, p in enumerate(paths)]
        found[cls] = np.stack([measure(image) for image in images])
    return found


def drawn(rows: Side, n: int, seed: int) -> Side:
    """A random set of n a class."""
    random = np.random.default_rng(seed)
    return {cls: own[random.permutation(len(own))[:n]] for cls, own in rows.items()}


def halves(rows: Side, n: int, seed: int) -> tuple[Side, Side]:
    """Two disjoint random sets of n a class."""
    both = drawn(rows, 2 * n, seed)
    return {c: own[:n] for c, own in both.items()}, {c: own[n:] for c, own in both.items()}


def head() -> None:
    """The table's head; scores are those of the feature with the largest excess."""
    print("| what | N | sets | flagged | of these by | most | real | synthetic | by real rule |")
    print("|---|---|---|---|---|---|---|---|---|")


def tell(what: str, n: int, found: Sequence[tuple[ShortcutProbe, ...]]) -> None:
    """One row; a shortcut counts only where there is an objection."""
    flagged = [{probe.feature for probe in probes if probe.objection()} for probes in found]
    by = {probe.feature: sum(probe.feature in one for one in flagged) for probe in found[0]}
    groups = ", ".join(f"{group} {times}" for group, times in by.items() if times)
    most = int(
        np.argmax([np.mean([p.excess for p in of_one]) for of_one in zip(*found, strict=True)])
    )
    shares = [[p.real, p.synthetic, p.by_real_rule] for probes in found for p in [probes[most]]]
    scores = " | ".join(f"{score:.3f}" for score in np.mean(shares, axis=0))
    share = np.mean([bool(one) for one in flagged])
    most_of = found[0][most].feature
    print(f"| {what} | {n} | {len(found)} | {share:.1%} | {groups} | {most_of} | {scores} |")


def compare(real: Side, worlds: Mapping[str, Callable[[], Side]]) -> None:
    """What is flagged of each world."""
    head()
    for what, make in worlds.items():
        synthetic = make()
        for n in SIZES:
            found = [
                probe_shortcuts(
                    real=drawn(real, n, 2 * seed),
                    synthetic=drawn(synthetic, n, 2 * seed + 1),
                    permutations=PERMUTATIONS,
                    seed=seed,
                )
                for seed in range(SETS)
            ]
            tell(what, n, found)
        for probe in found[-1]:
            if said := probe.objection():
                print(f"|   {said} ||||||||", flush=True)


def level(rows: Side, what: str) -> None:
    """How often halves are flagged."""
    head()
    for n in SIZES:
        found = []
        for seed in range(HALVES):
            real, synthetic = halves(rows, n, seed)
            found.append(
                probe_shortcuts(
                    real=real, synthetic=synthetic, permutations=PERMUTATIONS, seed=seed
                )
            )
        tell(what, n, found)


def timing() -> None:
    """CPU seconds for a set of 2,000 images a side, in one thread."""
    camera = Camera(noise=SENSOR_NOISE)
    small = [scene(cls, number, camera) for cls in CLASSES for number in range(50)]
    large = [np.kron(image, np.ones((16, 16, 1), dtype=np.uint8)) for image in small[:20]]
    for what, images in (("32 px", small), ("512 px", large)):
        start = time.process_time()
        rows = np.stack([measure(image) for image in images])
        each = (time.process_time() - start) / len(images)
        print(f"measure 2,000 images of {what}: {2000 * each:.1f} s")
        if len(images) == 500:
            side = {cls: np.tile(rows[i::10], (4, 1)) for i, cls in enumerate(CLASSES)}
    start = time.process_time()
    probe_shortcuts(real=side, synthetic=side)
    print(f"probe 2 x 2,000 images: {time.process_time() - start:.1f} s", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(os.environ.get("GAPCLOSE_SHARED", HERE.parents[2].parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--only", choices=("time", "pond", "photos", "level", "photo-level"))
    args = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "time": timing,
        "pond": lambda: compare(
            scenes({}, 0),
            {
                what: lambda cameras=cameras, number=number: scenes(cameras, number * 10_000)
                for number, (what, cameras) in enumerate((SHORTCUTS | SHARED).items(), start=1)
            },
        ),
        "photos": lambda: compare(
            photos(args.shared),
            {
                what: lambda cameras=cameras: photos_through(cameras, args.shared)
                for what, cameras in ON_PHOTOS.items()
            },
        ),
        "level": lambda: level(scenes({}, 0, n=1_000), "halves of real scenes"),
        "photo-level": lambda: level(photos(args.shared), "halves of real photos"),
    }
    for part, run in parts.items():
        if args.only in (None, part):
            run()
            print()


if __name__ == "__main__":
    main()
