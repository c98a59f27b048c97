"""A rare class: what synthetic images add to a class of few photos, and cost the other classes.

    python tests/benchmarks/rare_class.py --run RUN [--few 10] [--photos 200] [--seeds 3]

RUN is a finished run on the pond, such as the demo's; it is copied. Frogs have few photos, the
other classes many. The frogs are filled up with the baseline's images, and as `export --balance`
does; a CNN and a probe of the judge's features are trained on each set and tested on fresh photos.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.downstream.classifier import Classifier, make_classifier
from gapclose.analysis.downstream.scores import ArmScore
from gapclose.analysis.downstream.worth import Arm, Worth
from gapclose.analysis.embedding import make_embedder
from gapclose.analysis.significance import LEVEL
from gapclose.generators.base import generate_all
from gapclose.generators.camera import apply_camera
from gapclose.generators.pond.renderer import CLASSES, write_real
from gapclose.generators.registry import make_generator
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.export import export
from gapclose.loop.run.folder import RunDir
from gapclose.loop.search.space import Space

RARE: Final = "frog"
DRAWS: Final = 2
PHOTOS: Final = 50  # seed of the photos to train on, far from any run's
TESTED: Final = 90  # and of those to test on
FEW: Final = 70  # and of the few frogs
ALONE: Final = "real alone"
CEILING: Final = "as many real frogs"
Images = list[NDArray[np.uint8]]


def images_in(folder: Path) -> Images:
    """All images of a folder, in the order of their names."""
    return [read_rgb(path) for path in sorted(folder.glob("*.png"))]


def rendered(folder: Path, *, seed: int, per_class: int, classes: Sequence[str]) -> None:
    """Render photos, once."""
    if not folder.exists():
        write_real(folder, per_class=per_class, seed=seed, classes=tuple(classes))


def balanced(run: Path, real: Path, out: Path, *, purpose: str) -> Images:
    """What `gapclose export --balance` makes of the rare class; nothing of any other."""
    export(run, out, balance=True, real=real, purpose=purpose)
    assert [path.name for path in out.iterdir() if path.is_dir()] == [RARE]
    return images_in(out / RARE)


def baselines(config: RunConfig, n: int) -> Images:
    """Images of the rare class's untouched recipe."""
    recipe = Space.of(config, RARE).baseline
    generator = make_generator(config.generator.as_spec())
    batch = generate_all(generator, [(recipe.draw, range(900_000_000, 900_000_000 + n))])[0]
    return [
        apply_camera(recipe.camera, image, seed=seed)
        for image, seed in zip(batch.images, batch.seeds, strict=True)
    ]


def added_images(work: Path, config: RunConfig, real: Path, n: int) -> dict[str, Images]:
    """What joins the few frogs, by arm: enough for all draws."""
    run = work / "run"
    return {
        ALONE: [],
        "+ baseline": baselines(config, n),
        "+ tuned (--balance)": balanced(run, real, work / "probe", purpose="probe"),
        "+ --balance --for scratch": balanced(run, real, work / "scratch", purpose="scratch"),
        CEILING: images_in(work / "more" / RARE),
    }


def training_set(
    photos: Mapping[str, Images], few: Images, added: Images, draw: int
) -> tuple[Images, NDArray[np.int64]]:
    """The images of one draw, and their labels: every second image of each kind."""
    images: Images = []
    counts = []
    for name in CLASSES:
        mine = few[draw::DRAWS] + added[draw::DRAWS] if name == RARE else photos[name][draw::DRAWS]
        images += mine
        counts.append(len(mine))
    return images, np.repeat(np.arange(len(CLASSES)), counts)


def f1(score: ArmScore, cls: str) -> float:
    """The F1 of one class, over all draws and seeds."""
    table = np.array(score.confusion)
    i = CLASSES.index(cls)
    return float(2 * table[i, i] / (table[i].sum() + table[:, i].sum()))


def report(worth: Worth, arms: Sequence[str], classifier: str) -> None:
    """Print a row for each arm; losses are in recall, beside real alone, Holm over classes."""
    print(f"\n{classifier}\n{'':28s}{'F1':>6s}{'recall':>8s}{'accuracy':>10s}  the others")
    for arm in arms:
        score = worth.score(arm)
        said = ""
        if arm != ALONE:
            others = [row for row in worth.shortfalls(arm, real=ALONE) if row.cls != RARE]
            worst = max(others, key=lambda row: row.recall.value)
            beyond = [row.cls for row in others if row.adjusted_p_value <= LEVEL]
            said = (
                f"worst {worst.cls} {-worst.recall.value:+.3f} "
                f"[{-worst.recall.high:+.3f}, {-worst.recall.low:+.3f}], "
                f"beyond chance: {', '.join(beyond) or 'none'}"
            )
        print(
            f"{arm:28s}{f1(score, RARE):6.3f}{score.recall[RARE]:8.3f}"
            f"{score.accuracy.value:10.3f}  {said}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keeps what was made, to go on with")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="rare-"))
    few, many = DRAWS * arguments.few, DRAWS * arguments.photos
    if not (work / "run").exists():
        shutil.copytree(arguments.run, work / "run")
    for folder in ("probe", "scratch"):
        shutil.rmtree(work / folder, ignore_errors=True)
    rendered(
        work / "photos", seed=PHOTOS, per_class=many, classes=[c for c in CLASSES if c != RARE]
    )
    rendered(work / "few", seed=FEW, per_class=few, classes=[RARE])
    rendered(work / "more", seed=FEW + 1, per_class=many - few, classes=[RARE])
    rendered(work / "test", seed=TESTED, per_class=arguments.test, classes=CLASSES)
    if not (work / "real").exists():
        shutil.copytree(work / "photos", work / "real")
        shutil.copytree(work / "few" / RARE, work / "real" / RARE)
    config = RunDir.open(work / "run").config()
    added = added_images(work, config, work / "real", many - few)
    for name, images in added.items():
        print(f"{name}: {len(images) // DRAWS} {RARE}s beside {arguments.few} real ones")
    if (work / "run" / "tempering.json").exists():
        chosen = json.loads((work / "run" / "tempering.json").read_text())
        told = {row["share"]: round(row["accuracy"], 4) for row in chosen["accuracies"]}
        print(f"share of even prompts: {chosen['share']}, of {told}; lost: {chosen['lost']}")
    photos = {name: images_in(work / "photos" / name) for name in CLASSES if name != RARE}
    test = [image for name in CLASSES for image in images_in(work / "test" / name)]
    truth = np.repeat(np.arange(len(CLASSES)), arguments.test)
    judge = make_embedder(next(iter(config.judge), config.embedder))
    few_frogs = images_in(work / "few" / RARE)
    for classifier in (
        make_classifier("linear", embedder=judge),
        make_classifier("cnn", side=32, device="cpu"),
    ):
        start = time.perf_counter()
        arms = []
        for name, images in added.items():
            sets = [training_set(photos, few_frogs, images, draw) for draw in range(DRAWS)]
            labels = predicted(
                classifier, sets, test, seeds=arguments.seeds, kept=work / "predicted"
            )
            arms.append(Arm(name=name, n_per_class=arguments.photos, predicted=labels))
        worth = Worth(arms, truth, classes=CLASSES, classifier=classifier.id)
        report(worth, [*added], classifier.id)
        print(f"{time.perf_counter() - start:.0f} s")


def predicted(
    classifier: Classifier,
    sets: Sequence[tuple[Images, NDArray[np.int64]]],
    test: Images,
    *,
    seeds: int,
    kept: Path,
) -> NDArray[np.int64]:
    """Labels of the test photos, (draws, seeds, m), kept in a folder as they come."""
    kept.mkdir(exist_ok=True)
    rows = classifier.prepare(test)
    seeds = seeds if classifier.seeded else 1
    told = np.empty((len(sets), seeds, len(test)), dtype=np.int64)
    for draw, (images, labels) in enumerate(sets):
        x = classifier.prepare(images)
        key = hashlib.sha256(x.tobytes() + labels.tobytes() + rows.tobytes()).hexdigest()[:16]
        for seed in range(seeds):
            file = kept / f"{key}-{seed}.npy"  # two arms may be of the same images
            if not file.exists():
                predict = classifier.fit(x, labels, classes=len(CLASSES), seed=seed)
                np.save(file, predict(rows).argmax(axis=1))
            told[draw, seed] = np.load(file)
    return told


if __name__ == "__main__":
    main()
