"""What closing a gap costs in images on real photos: our search beside what else one would do.

    python tests/benchmarks/photo_world.py [--classes frog ship horse truck] [--seeds 3]

The generator gives real photos (photo_generator.py), so that the images of one recipe are as
unlike each other as photos are. Half of 1,000 photos a class (`train/`) is searched on, half held
out. Those of `test/` are others still, but the encoder was trained on the former: it takes `test/`
for other photos by up to two floors, so both are printed. Ratios are to the floor of 500 photos
and 200 images; each is of 1,200 fresh images. A search ends when its class is closed; it is also
driven on, as after a confirmation that failed.

What the commit before did is kept in `photo_world_kept`: its code is no longer here. What a CNN
learns of the exports is printed by photo_cnn.py.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from photo_generator import COLOURS, PhotoGenerator, colour, read

from gapclose.analysis.embedding import make_embedder
from gapclose.analysis.floor import Floor
from gapclose.analysis.gap import mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.generators.base import Generator, generate_all
from gapclose.generators.camera import apply_camera
from gapclose.generators.recipe import Recipe
from gapclose.loop.config.reading import load_config
from gapclose.loop.config.schema import RunConfig, TuneConfig
from gapclose.loop.run.class_state import ClassState
from gapclose.loop.run.photo_groups import PhotoGroup
from gapclose.loop.schedule.budget import ClassLimits, Limits, settings_trials
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.mixture_weights import drop_small
from gapclose.loop.search.optuna_record import Observation, derive_seed, propose
from gapclose.loop.search.phases import Ask
from gapclose.loop.search.prior import word_prior
from gapclose.loop.search.space import Params, Space
from gapclose.loop.search.trial import Images, Mixture, Proposal

HERE: Final = Path(__file__).resolve().parent
SHARED: Final = Path(os.environ.get("GAPCLOSE_SHARED", HERE.parents[1].parent / "shared"))
PHOTOS: Final = SHARED / "data" / "cifar10"
MARKS: Final = (200, 400, 600, 1000)
BASELINE_IMAGES: Final = 100
LOOK: Final = 200  # images of a confirmation, which the floor is of
FRESH: Final = 1200  # images that a mixture is measured with
TRIAL: Final = 8  # images
FORTY: Final = 40
BEST: Final[Params] = {"guidance_scale": 3.0, "num_inference_steps": 30, "scheduler": "ddim"}
METHODS: Final = {
    "search": "this commit",
    "on": "this commit, driven on where it would end",
    "before": "the commit before",
    "tpe": "one prompt per trial, TPE, n = 64, best kept",
    "bank": "random recipes, n = 8, mixture fit",
    "even": "every word evenly",
    "forty": "every word equally often, weights fitted",
    "oracle": "oracle: right shares, best settings",
}
Rows = NDArray[np.float32]


def world(*overrides: str) -> RunConfig:
    """The config of the world, with the places of its files."""
    onnx = f"onnx:{SHARED / 'encoders' / 'cifar-resnet56.onnx'}"
    places = [f"real.path={PHOTOS / 'train'}", f"generator.path={PHOTOS / 'more'}"]
    return load_config(HERE / "photo_world.yaml", [*places, f"embedder={onnx}", *overrides])


def photos_of(split: str, cls: str) -> list[NDArray[np.uint8]]:
    """Of one class."""
    return [read(path) for path in sorted((PHOTOS / split / cls).iterdir())]


class Bench:
    """One class's generator, encoder and photos; counts what it draws."""

    def __init__(self, cls: str, *, seed: int) -> None:
        """Read and embed."""
        torch.set_num_threads(1)  # one job a core
        config = world()
        self.cls, self.seed, self.drawn = cls, seed, 0
        self.space = Space.of(config, cls)
        self.words = PhotoGenerator(PHOTOS / "more")
        self.generator: Generator = self.words
        self.embedder = make_embedder(config.embedder)
        photos = photos_of("train", cls)
        order = np.random.default_rng([seed, 23]).permutation(len(photos))
        rows = self.embedder.embed(photos)[order]
        half = len(rows) // 2
        self.tune, self.held = rows[:half], rows[half:]
        self.tuned = [photos[number] for number in order[:half]]
        self.test = self.embedder.embed(photos_of("test", cls))
        counts = Counter(colour(photo) for photo in photos)
        self.shares = {word: counts[word] / len(photos) for word in COLOURS if counts[word]}
        self.kernel = Kernel.fit(self.tune)
        self.floor = Floor.fit(self.tune, kernel=self.kernel)
        self.unit = self.floor.floor_p95(n_real=half, n_synthetic=LOOK)
        self._known: dict[tuple[str, int], Rows] = {}

    def generate(self, recipe: Recipe, seeds: Sequence[int]) -> Rows:
        """Embeddings of images, drawn unless they were."""
        key = recipe.fingerprint()
        missing = [seed for seed in seeds if (key, seed) not in self._known]
        if missing:
            (batch,) = generate_all(self.generator, [(recipe.draw, missing)])
            images = [
                apply_camera(recipe.camera, image, seed=seed)
                for image, seed in zip(batch.images, batch.seeds, strict=True)
            ]
            for seed, row in zip(missing, self.embedder.embed(images), strict=True):
                self._known[key, seed] = row
            self.drawn += len(missing)
        return np.stack([self._known[key, seed] for seed in seeds])

    def take(self, proposal: Proposal) -> Images:
        """The images of a trial."""
        batches = [self.generate(recipe, seeds) for recipe, seeds in proposal.jobs]
        return Images(
            embeddings=np.concatenate(batches),
            recipes=tuple(i for i, (_, seeds) in enumerate(proposal.jobs) for _ in seeds),
            seeds=tuple(seed for _, seeds in proposal.jobs for seed in seeds),
        )

    def measure(self, mixture: Mixture, *, salt: str) -> dict[str, float]:
        """Ratios of fresh images: to photos held out, to `test/`, and to those searched on."""
        first = 100_000_000 + derive_seed(self.cls, self.seed, salt) % 1_000_000_000
        drawn = self.drawn
        jobs = mixture.jobs(range(first, first + FRESH))
        rows = np.concatenate([self.generate(recipe, seeds) for recipe, seeds in jobs])
        self.drawn = drawn
        sides = {"held": self.held, "test": self.test, "seen": self.tune}
        ratios = {
            name: mmd2(real=real, synthetic=rows, kernel=self.kernel) / self.unit
            for name, real in sides.items()
        }
        return ratios | {
            "tune": mixture.gap_tune / self.unit,
            "off": self.off(mixture),
            "recipes": mixture.effective,
        }

    def off(self, mixture: Mixture) -> float:
        """Total variation between a mixture's colours and the photos'."""
        found = dict.fromkeys(COLOURS, 0.0)
        for recipe, weight in zip(mixture.recipes, mixture.weights, strict=True):
            word = next(
                (w for w in COLOURS if w in recipe.draw.prompt.replace(",", "").split()), None
            )
            for name, share in self.words.colours(self.cls, word).items():
                found[name] += weight * share
        return 0.5 * sum(abs(found[word] - self.shares.get(word, 0.0)) for word in COLOURS)

    def mixed(self, shares: dict[str, float], settings: Params | None = None) -> Mixture:
        """Words in shares, at these settings or the baseline's."""
        space = self.space
        plain = space.recipe(settings) if settings else space.baseline
        prompts = [space.prompt({"color": word}) if word else plain.draw.prompt for word in shares]
        recipes = [replace(plain, draw=replace(plain.draw, prompt=text)) for text in prompts]
        nan = float("nan")
        return Mixture(recipes=tuple(recipes), weights=tuple(shares.values()), gap_tune=nan)


# Each method yields (images drawn so far, its mixture now) after every trial.
Course = Iterator[tuple[int, Mixture]]


def new_search(bench: Bench, groups: Sequence[PhotoGroup] = ()) -> ClassSearch:
    """The search of the bench's class, at its start; its encoder reads no words."""
    fitted = bench.floor
    photos = {group.name: len(group) for group in groups}
    return ClassSearch(
        space=bench.space,
        bank=AtomBank(kernel=bench.kernel, real=bench.tune),
        prior=word_prior(bench.space, bench.tune, bench.embedder, photos=photos),
        floor_at=lambda n: fitted.floor_p95(n_real=len(bench.tune), n_synthetic=n),
        images_per_trial=TRIAL,
        confirm_images=LOOK,
        baseline_images=BASELINE_IMAGES,
        seed=bench.seed,
    )


def searched(
    bench: Bench, images: int, *, on: bool = False, groups: Sequence[PhotoGroup] = ()
) -> Course:
    """The search that ships, as the loop runs it under an image budget."""
    search = new_search(bench, groups)
    limits = Limits(
        tune=TuneConfig(budget=None, images=images),
        confirm_images=LOOK,
        classes={search.space.cls: ClassLimits(floor=search.floor, folds=1)},
    )

    def stand() -> ClassState:
        return ClassState(
            trials=search.number,
            proposed=search.number,
            images=bench.drawn,
            progress=search.progress(),
            reopened=search.reopened,
        )

    while not limits.spent(stand()):
        if limits.stopped(search.space.cls, stand()) is not None:
            if not on:
                return
            search.reopen()
        trials = settings_trials(stand(), limits, time=math.inf, trial_seconds=1.0, open_classes=1)
        proposal = search.propose(Ask(settings_trials=trials))
        search.begin(proposal)
        taken = bench.take(proposal)
        search.absorb(proposal, taken)
        yield bench.drawn, search.mixture()


def tpe(bench: Bench, images: int, n: int = 64) -> Course:
    """The obvious design: Optuna proposes one recipe, n images are scored, the best is kept."""
    past: list[Observation] = []
    best = bench.mixed({"": 1.0})
    for trial in range(images):
        seed = derive_seed("tpe", bench.cls, bench.seed, trial)
        params = propose(bench.space.distributions, past, seed=seed, startup=10)
        recipe = bench.space.recipe(params)
        rows = bench.generate(recipe, range(trial * n, (trial + 1) * n))
        gap = mmd2(real=bench.tune, synthetic=rows, kernel=bench.kernel)
        if all(gap < known.value for known in past):
            best = Mixture(recipes=(recipe,), weights=(1.0,), gap_tune=gap)
        past.append(Observation(params=params, value=gap))
        yield bench.drawn, best


def bank(bench: Bench, images: int) -> Course:
    """Recipes at random, eight images each, and the mixture of all that fits best."""
    pool = AtomBank(kernel=bench.kernel, real=bench.tune)
    recipes: list[Recipe] = []
    for trial in range(images):
        seed = derive_seed("bank", bench.cls, bench.seed, trial)
        params = propose(bench.space.distributions, [], seed=seed)
        recipe, seeds = bench.space.recipe(params), range(trial * TRIAL, (trial + 1) * TRIAL)
        pool.add(bench.generate(recipe, seeds), list(seeds))
        recipes.append(recipe)
        yield bench.drawn, fitted_mixture(pool, recipes)


def forty(bench: Bench, images: int) -> Course:
    """Every word equally often at the baseline's settings, and the weights fitted."""
    recipes = list(bench.mixed(dict.fromkeys(COLOURS, 1 / len(COLOURS))).recipes)
    for each in sorted({mark // len(COLOURS) for mark in MARKS} | {FORTY}):
        pool = AtomBank(kernel=bench.kernel, real=bench.tune)
        for number, recipe in enumerate(recipes):
            seeds = [number * 1000 + i for i in range(each)]
            pool.add(bench.generate(recipe, seeds), seeds)
        yield bench.drawn, fitted_mixture(pool, recipes)


def fitted_mixture(pool: AtomBank, recipes: Sequence[Recipe]) -> Mixture:
    """The weights that fit a bank."""
    weights = drop_small(pool.fit())
    found = [(r, float(w)) for r, w in zip(recipes, weights, strict=True) if w > 0]
    return Mixture(
        recipes=tuple(r for r, _ in found),
        weights=tuple(w for _, w in found),
        gap_tune=pool.gap(weights),
    )


def even(bench: Bench, images: int) -> Course:
    """What a careful person does: the words evenly, at the baseline's settings."""
    yield 0, bench.mixed(dict.fromkeys(COLOURS, 1 / len(COLOURS)))


def oracle(bench: Bench, images: int) -> Course:
    """What nobody can know: the photos' own shares, and the settings that spoil nothing."""
    yield 0, bench.mixed(bench.shares, BEST)


COURSES: Final[dict[str, Callable[[Bench, int], Course]]] = {
    "search": searched,
    "on": partial(searched, on=True),
    "tpe": tpe,
    "bank": bank,
    "forty": forty,
    "even": even,
    "oracle": oracle,
}


def follow(job: tuple[str, str, int]) -> tuple[str, str, int, dict[str, Any]]:
    """Run one method on one class and seed: what it reached at each mark."""
    method, cls, seed = job
    bench = Bench(cls, seed=seed)
    at: dict[int, Mixture] = {}
    marks = sorted({*MARKS, FORTY * len(COLOURS)}) if method == "forty" else list(MARKS)
    drawn, last = 0, bench.mixed({"": 1.0})
    for drawn, mixture in COURSES[method](bench, marks[-1]):
        for mark in marks:
            if drawn > mark:
                at.setdefault(mark, last)  # what it had before this trial
        last = mixture
        if drawn >= marks[-1]:
            break
    reached: dict[str, Any] = {"drawn": drawn}
    for mark in marks:
        reached[str(mark)] = bench.measure(at.get(mark, last), salt=f"{method}{mark}")
    print(f"{cls} {seed} {method}: {drawn} images, " + ", ".join(
        f"{m}: {reached[str(m)]['held']:.2f}" for m in marks), flush=True)  # fmt: skip
    return method, cls, seed, reached


def kept(name: str) -> Path:
    """Where the commit before is kept."""
    return HERE / "photo_world_kept" / f"{name}.json"


Table = dict[str, dict[str, Any]]  # "method cls seed" -> what was reached


def say(found: Table, classes: Sequence[str], seeds: int) -> None:
    """Print the tables."""
    for cls in classes:
        print(f"\n{cls}: floors on photos held out (on those of test/), median of {seeds} seeds")
        print(f"| {'method':<44} |" + "".join(f" {m:>5,} images |" for m in MARKS) + " colours |")
        print(f"|{'-' * 46}|" + f"{'-' * 14}|" * len(MARKS) + "---------|")
        for method, title in METHODS.items():
            runs = [
                found[key] for seed in range(seeds) if (key := f"{method} {cls} {seed}") in found
            ]
            if not runs:
                continue
            cells = [
                f"{middle(runs, m, 'held'):.2f} ({middle(runs, m, 'test'):.1f})" for m in MARKS
            ]
            if method in ("even", "oracle"):
                cells = cells[:1] + [""] * (len(MARKS) - 1)
            if method in ("search", "before"):
                title += f" (ends after {np.median([run['drawn'] for run in runs]):.0f})"
            off = middle(runs, MARKS[-1], "off")
            print(f"| {title:<44} |" + "".join(f" {c:>12} |" for c in cells) + f" {off:>7.2f} |")
            if method == "forty":
                at = FORTY * len(COLOURS)
                told = f"{middle(runs, at, 'held'):.2f} ({middle(runs, at, 'test'):.1f})"
                told += f", colours {middle(runs, at, 'off'):.2f}"
                print(
                    f"| {f'    {FORTY} times each: {told}':<44} |" + f"{'':>14}|" * 4 + f"{'':9}|"
                )
    for method in ("search", "before"):
        away = np.asarray([
            run[str(mark)]["tune"] - run[str(mark)]["held"]
            for key, run in found.items() if key.startswith(f"{method} ")
            for mark in MARKS
        ])  # fmt: skip
        if len(away):
            print(f"\n{METHODS[method]}: gap_tune less the gap on photos held out, "
                  f"{len(away)} mixtures: mean {away.mean():+.2f} floors, "
                  f"within 1: {np.mean(np.abs(away) <= 1):.0%}")  # fmt: skip


def middle(runs: Sequence[dict[str, Any]], mark: int, what: str) -> float:
    """The median over seeds."""
    return float(np.median([run[str(mark)][what] for run in runs]))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", nargs="+", default=["frog", "ship", "horse", "truck"])
    parser.add_argument("--methods", nargs="+", default=list(COURSES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", help="keep what `search` reaches under this name")
    options = parser.parse_args()
    cells = [(cls, seed) for seed in range(options.seeds) for cls in options.classes]
    jobs = [(method, *cell) for cell in cells for method in options.methods]
    found: Table = {}
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for method, cls, seed, reached in pool.imap_unordered(follow, jobs):
            found[f"{method} {cls} {seed}"] = reached
    if options.keep:
        kept(options.keep).parent.mkdir(exist_ok=True)
        kept(options.keep).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    if kept("before").is_file():
        before = json.loads(kept("before").read_text())
        found |= {key.replace("search", "before", 1): run for key, run in before.items()}
    say(found, options.classes, options.seeds)


if __name__ == "__main__":
    main()
