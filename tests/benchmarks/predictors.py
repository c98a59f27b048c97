"""Which figure of a class's images says how much recall a CNN that is trained on them misses.

    python tests/benchmarks/predictors.py
    python tests/benchmarks/predictors.py --measure pond=RUN photos=RUN [--seeds 2] [--keep]

The first prints the table of `predictors_kept.json`. The second measures anew, from the mixtures
of finished runs: `gapclose demo` of the pond, and a run of photo_world.py's config; --keep keeps
what it finds.

Each of the training sets of training_sets.py gives ten pairs: what embeddings of a class's images
say beside real photos, and what a CNN from scratch recalls of yet other photos after training on
the set, less what it recalls after as many real photos. The table has Spearman's rank correlation
of the two over all classes and sets, and over the classes of a set, averaged over sets. Trainings
are kept in a temporary folder, so that a measurement that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from photo_world import world
from scipy.stats import spearmanr
from training_sets import CLASSES, REAL, ROUGH, WAYS, Images, Pixels

from gapclose.analysis.downstream.classifier import make_classifier
from gapclose.analysis.embedding import make_embedder
from gapclose.analysis.gap import audit_embeddings
from gapclose.analysis.patches import PatchFeatures
from gapclose.analysis.recall_shortfall import recall_shortfalls

KEPT: Final = Path(__file__).resolve().with_name("predictors_kept.json")
TRAININGS: Final = ROUGH / "recalls.jsonl"
TESTED: Final = 500  # photos of a class that a CNN is tested on
WORKERS: Final = 2
NEAREST: Final = 5
EMBEDDERS: Final = {
    "pond": {"": "pond", "judge: ": "pond-judge"},
    "photos": {"": world().embedder},
}
PATCHES: Final = "patches: "

Rows = NDArray[np.float32]
By = dict[str, float]  # class -> value
Table = NDArray[np.float64]  # (ways, classes)


def recalls(job: tuple[str, Path, str, int]) -> dict[str, Any]:
    """Train a CNN on a set, or on real photos, and test it: recall by class."""
    name, run, way, seed = job
    torch.set_num_threads(1)  # one job a core
    start, images = time.process_time(), images_of(name, run)
    if way == "real":
        parts = [images.real(cls, "real", n=images.each, draw=seed) for cls in CLASSES]
    else:
        parts = [images.synthetic(cls)[list(WAYS).index(way)] for cls in CLASSES]
    labels = np.repeat(np.arange(len(CLASSES)), images.each)
    cnn = make_classifier("cnn", side=32, device="cpu")
    predict = cnn.fit(np.concatenate(parts), labels, classes=len(CLASSES), seed=seed)
    right = predict(tested(name, run)).argmax(axis=1).reshape(len(CLASSES), TESTED)
    recall = (right == np.arange(len(CLASSES))[:, None]).mean(axis=1)
    spent = time.process_time() - start
    print(f"{name}, {way} {seed}: {recall.mean():.1%}, {spent:.0f} s of a core", flush=True)
    return {"world": name, "way": way, "seed": seed, "recall": recall.round(4).tolist()}


@cache
def images_of(name: str, run: Path) -> Images:
    """One a process."""
    return Images(name, run)


@cache
def tested(name: str, run: Path) -> Pixels:
    """Photos that a CNN is tested on, class by class."""
    images = images_of(name, run)
    return np.concatenate([images.real(cls, "test", n=TESTED) for cls in CLASSES])


def generated(job: tuple[str, Path, str]) -> None:
    """Generate all of a class."""
    torch.set_num_threads(1)
    images_of(*job[:2]).synthetic(job[2])


def trained(runs: Mapping[str, Path], seeds: int) -> list[dict[str, Any]]:
    """Generate and train what was not yet."""
    known = TRAININGS.read_text().splitlines() if TRAININGS.is_file() else []
    rows = [json.loads(line) for line in known]
    done = {(row["world"], row["way"], row["seed"]) for row in rows}
    jobs = [
        (name, run, way, seed)
        for seed, way, (name, run) in product(range(seeds), ("real", *WAYS), runs.items())
        if (name, way, seed) not in done
    ]
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        pool.map(generated, [(*run, cls) for run in runs.items() for cls in CLASSES], chunksize=1)
        for row in pool.imap_unordered(recalls, jobs):
            rows.append(row)
            with TRAININGS.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return rows


def embedded(embed: Callable[[Sequence[Pixels]], Rows], images: Pixels) -> Rows:
    """Embed each image that is there several times once: (..., 32, 32, 3) -> (..., d)."""
    flat = images.reshape(-1, *images.shape[-3:])
    _, first, number = np.unique(
        flat.reshape(len(flat), -1), axis=0, return_index=True, return_inverse=True
    )
    rows = embed(list(flat[first]))[number.ravel()]
    return rows.reshape(*images.shape[:-3], -1)


def audited(real: Mapping[str, Rows], synthetic: Mapping[str, Rows]) -> dict[str, By]:
    """What an audit says of a class; higher is worse."""
    found: dict[str, By] = {}
    for cls in CLASSES:
        row = audit_embeddings(
            real=real[cls], synthetic=synthetic[cls], permutations=19, splits=200
        )
        assert row.reference is not None
        assert row.coverage is not None
        assert row.recall is not None
        of_class = {
            "effect": row.effect,
            "ratio to the floor": row.ratio,
            "KID": row.reference["kid"],
            "FID": row.reference["fid"],
            "AUC": row.auc,
            "coverage": -row.coverage,
            "recall (prdc)": -row.recall,
        }
        for title, value in of_class.items():
            found.setdefault(title, {})[cls] = float(value or 0.0)
    return found


def shortfalls(real: Mapping[str, Rows], synthetic: Mapping[str, Rows]) -> dict[str, By]:
    """What two classifiers on embeddings tell less of real photos after synthetic ones.

    The probe is what we print. `reached` counts a photo only if a synthetic image of its class is
    as near to it as the fifth of as many real ones.
    """
    probe = recall_shortfalls(real=real, synthetic=synthetic)
    reached = {cls: np.mean(probe[cls].told & _near(real[cls], synthetic[cls])) for cls in CLASSES}
    half = {cls: len(rows) // 2 for cls, rows in real.items()}
    asked = {cls: rows[: half[cls]] for cls, rows in real.items()}
    other = {cls: real[cls][half[cls] :][: len(synthetic[cls])] for cls in CLASSES}
    knn = [_told_by_neighbours(asked, base) for base in (other, synthetic)]
    return {
        "kNN recall shortfall": {cls: knn[0][cls] - knn[1][cls] for cls in CLASSES},
        "probe recall shortfall": {cls: probe[cls].value for cls in CLASSES},
        "probe recall shortfall, reached": {
            cls: probe[cls].real - float(reached[cls]) for cls in CLASSES
        },
    }


def _near(real: Rows, synthetic: Rows) -> NDArray[np.bool_]:
    others = real @ real.T
    np.fill_diagonal(others, -np.inf)
    chosen = np.random.default_rng(0).permutation(len(real))[: len(synthetic)]
    reach = np.sort(others[:, chosen], axis=1)[:, -NEAREST]
    return np.asarray((real @ synthetic.T).max(axis=1) >= reach)


def _told_by_neighbours(asked: Mapping[str, Rows], base: Mapping[str, Rows]) -> By:
    labels = np.repeat(np.arange(len(CLASSES)), [len(base[cls]) for cls in CLASSES])
    rows = np.concatenate([base[cls] for cls in CLASSES])
    found = {}
    for label, cls in enumerate(CLASSES):
        near = np.argsort(-asked[cls] @ rows.T, axis=1)[:, :NEAREST]
        votes = (labels[near][:, :, None] == np.arange(len(CLASSES))).sum(axis=1).astype(float)
        votes[np.arange(len(near)), labels[near[:, 0]]] += 0.5  # the nearest decides a tie
        found[cls] = float((votes.argmax(axis=1) == label).mean())
    return found


def figures(job: tuple[str, Path]) -> dict[str, list[list[float]]]:
    """All figures of a world's sets: title -> (ways, classes)."""
    torch.set_num_threads(1)
    name, _ = job
    images = images_of(*job)
    photos = {cls: images.real(cls, "reference", n=REAL) for cls in CLASSES}
    encoders: dict[str, Callable[[Sequence[Pixels]], Rows]] = {
        label: make_embedder(named).embed for label, named in EMBEDDERS[name].items()
    }
    encoders[PATCHES] = PatchFeatures.fit([*np.concatenate([*photos.values()])]).embed
    found: dict[str, list[list[float]]] = {}
    for label, embed in encoders.items():
        real = {cls: embedded(embed, own) for cls, own in photos.items()}
        synthetic = {cls: embedded(embed, images.synthetic(cls)) for cls in CLASSES}
        for number in range(len(WAYS)):
            one = {cls: rows[number] for cls, rows in synthetic.items()}
            said = shortfalls(real, one) | ({} if label else audited(real, one))
            for title, by_class in said.items():
                found.setdefault(label + title, []).append(
                    [round(by_class[c], 5) for c in CLASSES]
                )
        print(f"{name}, {label or 'tuning embedder'}: all sets", flush=True)
    return found


def missed(trainings: Mapping[str, Sequence[Sequence[float]]]) -> Table:
    """The CNN's recall shortfall, averaged over seeds."""
    ceiling = np.mean(trainings["real"], axis=0)
    ways = [way for way in WAYS if way in trainings]
    return np.stack([ceiling - np.mean(trainings[way], axis=0) for way in ways])


def ranked(figure: Table, truth: Table) -> tuple[float, float]:
    """Spearman over all, and over the classes of a set where both sides differ."""
    within = [
        spearmanr(left, right).statistic
        for left, right in zip(figure, truth, strict=True)
        if np.ptp(left) > 0 and np.ptp(right) > 0
    ]
    return float(spearmanr(figure.ravel(), truth.ravel()).statistic), float(np.mean(within))


def say(kept: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table."""
    columns: dict[str, dict[str, tuple[float, float]]] = {}
    for name, of_world in kept.items():
        truth = missed(of_world["recalls"])
        tables = {title: np.asarray(rows) for title, rows in of_world["figures"].items()}
        probe = "probe recall shortfall"
        tables["mean of the probe's on embedder and patches"] = (
            tables[probe] + tables[PATCHES + probe]
        )
        for title, table in tables.items():
            columns.setdefault(title, {})[name] = ranked(table, truth)
        again = {way: rows[:2] for way, rows in of_world["recalls"].items() if len(rows) > 1}
        if len(again) > 1:
            sides = [missed({way: rows[i : i + 1] for way, rows in again.items()}) for i in (0, 1)]
            columns.setdefault("the CNN with another seed", {})[name] = ranked(*sides)
        print(
            f"{name}: {truth.size} pairs, shortfalls from {truth.min():.2f} to {truth.max():.2f}"
        )
    names = list(kept)
    print("\n| predictor |" + "".join(f" {n}, over all | {n}, within a set |" for n in names))
    print("|---|" + "---|---|" * len(names))
    for title, by_world in columns.items():
        pairs = [by_world.get(name) for name in names]
        cells = [f"{pair[0]:.2f} | {pair[1]:.2f}" if pair else "- | -" for pair in pairs]
        print(f"| {title} | " + " | ".join(cells) + " |")


def main() -> None:
    """Measure, keep and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs="+", metavar="WORLD=RUN", help="pond=..., photos=...")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of a set")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    if options.measure is None:
        say(json.loads(KEPT.read_text()))
        return
    runs = {name: Path(run) for name, _, run in (m.partition("=") for m in options.measure)}
    rows = trained(runs, options.seeds)
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        found = pool.map(figures, runs.items(), chunksize=1)
    kept: dict[str, dict[str, Any]] = {}
    for name, of_world in zip(runs, found, strict=True):
        own = sorted((row for row in rows if row["world"] == name), key=lambda row: row["seed"])
        by_way = {way: [row["recall"] for row in own if row["way"] == way]
                  for way in ("real", *WAYS)}  # fmt: skip
        kept[name] = {"recalls": by_way, "figures": of_world}
    if options.keep:
        KEPT.write_text(json.dumps(kept) + "\n")
    say(kept)


if __name__ == "__main__":
    main()
