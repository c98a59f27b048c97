"""What closing a gap costs in images: our search beside what else one would do, on the pond.

    python tests/benchmarks/sample_cost.py [--classes frog ship] [--seeds 3] [--images 4000]

All methods of a class and seed see the same real photos, and are confirmed by the same others.
The ratio is to the floor of 300 a side. One such confirmation scatters by half a floor, so there
are four times as many photos, and where a target looks four times as many fresh images: the
unbiased gap is the same in the mean. Only images that were drawn count. A run chooses its camera
once, for all classes, on images that exist; here every method has the pond's own from the start
(`SENSOR_NOISE`), the untouched recipe too. Ours ends once the gap is closed; to compare it at
equal numbers of images it is also driven on, and that row is held against the targets. Hours on
two cores: what is done is kept in `--keep`, by default in the tree, and not done again until the
code that decides it changes.

What this measures is the cost in images, so photos must not be what is scarce: the chance of 300
of them adds about 0.6 floors to a mixture that is fitted to them, of 1,200 a quarter of that
(photo_cost.py).
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from gapclose.analysis.embedding import make_embedder
from gapclose.analysis.floor import Floor
from gapclose.analysis.gap import mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.generators.base import generate_all
from gapclose.generators.camera import apply_camera
from gapclose.generators.pond import renderer as pond
from gapclose.generators.recipe import Recipe
from gapclose.generators.registry import make_generator
from gapclose.loop.config.reading import load_config
from gapclose.loop.config.schema import TuneConfig
from gapclose.loop.run.class_state import ClassState
from gapclose.loop.run.files import write_bytes
from gapclose.loop.run.photo_groups import PhotoGroup
from gapclose.loop.schedule.budget import ClassLimits, Limits, settings_trials
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.mixture_weights import allot, drop_small
from gapclose.loop.search.optuna_record import Observation, derive_seed, propose
from gapclose.loop.search.phases import Ask
from gapclose.loop.search.prior import word_prior
from gapclose.loop.search.space import Params, Space
from gapclose.loop.search.trial import Images, Mixture, Proposal

PHOTOS: Final = 1200  # that a search sees
SIDE: Final = 300  # images and unseen photos of a confirmation
PARTS: Final = 4  # times 300: the unseen photos, and the fresh images where a target looks
FRESH: Final = 700_000  # photos from here on, 10,000 a seed
SHOWN: Final = (250, 500, 1000, 2000, 4000)
TENTH, THIRD = 400, 1333  # of 4,000: where ours is compared with what others end with
FAR: Final = 2000  # images that ours is driven on to: no target looks at it later
BASELINE_IMAGES: Final = 100
TRIAL: Final = 8  # images
HEAVIEST: Final = 3  # settings of a method's mixture that the oracle tries
METHODS: Final = {
    "ours": "ours",
    "on": f"ours, driven on to {FAR:,} once it is closed",
    "tpe": "one prompt per trial, TPE, n = 64, best kept",
    "random": "random recipes, n = 64, best kept",
    "bank": "random recipes, n = 8, mixture fit",
    "even": "every prompt, equal weights, baseline settings",
    "oracle": "oracle: true shares, best settings of all",
}
Rows = NDArray[np.float32]


class Bench:
    """One class's generator, encoders and photos; counts what it draws."""

    def __init__(self, cls: str, *, seed: int, photos: int) -> None:
        """Load, render, embed."""
        torch.set_num_threads(1)  # one job a core
        self.cls, self.seed, self.drawn = cls, seed, 0
        self._shelf: dict[tuple[str, int], NDArray[np.uint8]] = {}
        config = load_config("pond", [])
        space = Space.of(config, self.cls)
        camera = replace(space.camera, noise=pond.SENSOR_NOISE)
        baseline = replace(space.baseline, camera=camera)
        self.space = replace(space, camera=camera, baseline=baseline)
        self.generator = make_generator(config.generator.as_spec())
        self.clip, self.judge = make_embedder("pond"), make_embedder("pond-judge")
        first = FRESH + 10_000 * self.seed
        taken = range(first, first + photos + PARTS * SIDE)
        real = self.photos(taken)
        self.tune = self.clip.embed(real[:photos])
        self.kernel = Kernel.fit(self.tune)
        unseen = real[photos:]
        judge_kernel = Kernel.fit(self.judge.embed(real[:photos]))
        self.unseen = (
            (self.clip.embed(unseen), self.kernel),
            (self.judge.embed(unseen), judge_kernel),
        )
        self.floors = [
            Floor.fit(rows, kernel=kernel).floor_p95(n_real=SIDE, n_synthetic=SIDE)
            for rows, kernel in self.unseen
        ]

    def photos(self, numbers: range) -> list[NDArray[np.uint8]]:
        """Real photos of the class."""
        return [photo for _, photo in pond.real_photos(self.cls, numbers)]

    def generate(self, recipe: Recipe, seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Generate what is missing, and apply the camera."""
        return self.generate_all([(recipe, seeds)])[0]

    def generate_all(
        self, jobs: Sequence[tuple[Recipe, Sequence[int]]]
    ) -> list[list[NDArray[np.uint8]]]:
        """The same for several recipes at once."""
        keys = [recipe.draw.fingerprint() for recipe, _ in jobs]
        wanted = [
            (recipe.draw, [seed for seed in seeds if (key, seed) not in self._shelf])
            for key, (recipe, seeds) in zip(keys, jobs, strict=True)
        ]
        missing = [(key, *job) for key, job in zip(keys, wanted, strict=True) if job[1]]
        batches = generate_all(self.generator, [(draw, seeds) for _, draw, seeds in missing])
        for (key, _, _), batch in zip(missing, batches, strict=True):
            self.drawn += len(batch.seeds)
            for image, seed in zip(batch.images, batch.seeds, strict=True):
                self._shelf[key, seed] = image
        return [
            [apply_camera(recipe.camera, self._shelf[key, seed], seed=seed) for seed in seeds]
            for key, (recipe, seeds) in zip(keys, jobs, strict=True)
        ]

    def gap(self, rows: Rows) -> float:
        """To the photos that a search sees."""
        return mmd2(real=self.tune, synthetic=rows, kernel=self.kernel)

    def forget(self) -> None:
        """Keep no images: the methods that draw fresh ones every time need none again."""
        self._shelf.clear()

    def confirm(self, mixture: Mixture, *, salt: str, parts: int = 1) -> tuple[float, float]:
        """Ratio to the floor of fresh images on unseen photos: tuning embedder, judge."""
        first = 100_000_000 + derive_seed(self.cls, self.seed, salt) % 1_000_000_000
        jobs = mixture.jobs(range(first, first + parts * SIDE))
        images = [image for batch in self.generate_all(jobs) for image in batch]
        self.forget()
        clip, judge = (
            mmd2(real=real, synthetic=encoder.embed(images), kernel=kernel) / floor
            for encoder, (real, kernel), floor in zip(
                (self.clip, self.judge), self.unseen, self.floors, strict=True
            )
        )
        return clip, judge


def of_one(recipe: Recipe, gap: float) -> Mixture:
    """A mixture of one recipe."""
    return Mixture(recipes=(recipe,), weights=(1.0,), gap_tune=gap)


# Each method yields (images drawn so far, its mixture now) after every trial.
Course = Iterator[tuple[int, Mixture]]


def ours(bench: Bench, images: int, *, on: bool = False) -> Course:
    """The search that ships.

    With `on` it is reopened whenever it is closed, as after a confirmation that failed.
    """
    search = new_search(bench)
    for _ in drive(bench, search, images=images, far=FAR if on else None):
        yield bench.drawn, search.mixture()


def new_search(bench: Bench, groups: Sequence[PhotoGroup] = ()) -> ClassSearch:
    """The search of the bench's class, at its start."""
    floor = Floor.fit(bench.tune, kernel=bench.kernel)
    photos = {group.name: len(group) for group in groups}
    return ClassSearch(
        space=bench.space,
        bank=AtomBank(kernel=bench.kernel, real=bench.tune),
        prior=word_prior(bench.space, bench.tune, bench.clip, photos=photos),
        floor_at=lambda n: floor.floor_p95(n_real=len(bench.tune), n_synthetic=n),
        images_per_trial=TRIAL,
        confirm_images=SIDE,
        baseline_images=BASELINE_IMAGES,
        seed=bench.seed,
    )


def drive(
    bench: Bench, search: ClassSearch, *, images: int, far: int | None
) -> Iterator[tuple[Proposal, Images]]:
    """Its trials, as the loop runs them under an image budget.

    Until it is closed or has had them; or, with `far`, whether it is closed or not until it has
    had so many.
    """
    limits = Limits(
        tune=TuneConfig(budget=None, images=images),
        confirm_images=SIDE,
        classes={search.space.cls: ClassLimits(floor=search.floor, folds=1)},
    )
    most = images if far is None else far
    while (left := most - bench.drawn) >= TRIAL:
        now = ClassState(
            trials=search.number, progress=search.progress(), reopened=search.reopened
        )
        if limits.stopped(search.space.cls, now) is not None:
            if far is None:
                return
            search.reopen()
        trials = settings_trials(now, limits, time=math.inf, trial_seconds=1.0, open_classes=1)
        proposal = search.propose(Ask(settings_trials=trials, batch=left))
        search.begin(proposal)
        batches = bench.generate_all(proposal.jobs)
        taken = Images(
            embeddings=bench.clip.embed([image for batch in batches for image in batch]),
            recipes=tuple(i for i, (_, seeds) in enumerate(proposal.jobs) for _ in seeds),
            seeds=tuple(seed for _, seeds in proposal.jobs for seed in seeds),
        )
        search.absorb(proposal, taken)
        yield proposal, taken


def best_kept(
    bench: Bench, ask: Callable[[list[Observation], int], Params], n: int = 64
) -> Course:
    """Score whole recipes by n images each and keep the best."""
    past: list[Observation] = []
    best = of_one(bench.space.baseline, float("inf"))
    for trial in range(10_000):
        params = ask(past, trial)
        recipe = bench.space.recipe(params)
        rows = bench.clip.embed(bench.generate(recipe, range(trial * n, (trial + 1) * n)))
        bench.forget()
        past.append(Observation(params=params, value=bench.gap(rows)))
        if past[-1].value < best.gap_tune:
            best = of_one(recipe, past[-1].value)
        yield bench.drawn, best


def tpe(bench: Bench, images: int) -> Course:
    """The obvious design: Optuna proposes one recipe, n images are scored, repeat."""

    def ask(past: list[Observation], trial: int) -> Params:
        seed = derive_seed("tpe", bench.cls, bench.seed, trial)
        return propose(bench.space.distributions, past, seed=seed, startup=10)

    return best_kept(bench, ask)


def random(bench: Bench, images: int) -> Course:
    """Recipes at random, the best kept."""

    def ask(past: list[Observation], trial: int) -> Params:
        return propose(
            bench.space.distributions, [], seed=derive_seed("random", bench.cls, bench.seed, trial)
        )

    return best_kept(bench, ask)


def bank(bench: Bench, images: int, n: int = TRIAL) -> Course:
    """Recipes at random, eight images each, and the mixture of all that fits best."""
    pool = AtomBank(kernel=bench.kernel, real=bench.tune)
    recipes: list[Recipe] = []
    for trial in range(10_000):
        seed = derive_seed("bank", bench.cls, bench.seed, trial)
        params = propose(bench.space.distributions, [], seed=seed)
        recipe, seeds = bench.space.recipe(params), range(trial * n, (trial + 1) * n)
        pool.add(bench.clip.embed(bench.generate(recipe, seeds)), seeds)
        bench.forget()
        recipes.append(recipe)
        at = bench.drawn
        if at < images and not any(at <= mark < at + n for mark in SHOWN):
            continue  # nobody looks at the mixture now
        weights = drop_small(pool.fit())
        kept = np.flatnonzero(weights)
        mixture = Mixture(
            recipes=tuple(recipes[i] for i in kept),
            weights=tuple(float(weights[i]) for i in kept),
            gap_tune=pool.gap(weights),
        )
        yield at, mixture


COURSES: Final = {
    "ours": ours,
    "on": partial(ours, on=True),
    "tpe": tpe,
    "random": random,
    "bank": bank,
}


def kept(folder: Path, cls: str, seed: int, method: str, images: int) -> Path:
    """The file that holds what a method reached."""
    return folder / f"{cls}-{seed}-{method}-{images}.json"


def is_done(path: Path) -> bool:
    """Whether the file holds what this code reaches."""
    return path.is_file() and json.loads(path.read_text())["code"] == code()


def settings_of(mixture: Mixture, space: Space) -> list[Params]:
    """The settings that carry most of a mixture."""
    carried: dict[str, float] = {}
    for recipe, weight in zip(mixture.recipes, mixture.weights, strict=True):
        draw = recipe.draw.to_json()
        settings = {name: draw[name] for name in space.settings}
        text = json.dumps(settings, sort_keys=True)
        carried[text] = carried.get(text, 0.0) + weight
    return [json.loads(text) for text in sorted(carried, key=lambda t: -carried[t])[:HEAVIEST]]


@cache
def code() -> str:
    """A digest of what decides the figures."""
    here = Path(__file__).resolve()
    top = here.parents[2]
    files = sorted((top / "loop" / "search").glob("*.py"))
    files.append(top / "loop" / "schedule" / "budget.py")
    names: tuple[str, ...] = ("gap", "floor", "kernel", "clip", "vision", "embedding", "inference")
    files += [top / "analysis" / f"{name}.py" for name in names]
    names = ("diffusion", "pipeline", "camera", "recipe", "schedulers", "pond/renderer")
    files += [top / "generators" / f"{name}.py" for name in names]
    found = hashlib.sha256(load_config("pond", []).to_yaml().encode())
    for file in [here, *files]:
        found.update(bare(file.read_text()).encode())
    for file in sorted(top.glob("*/pond/**/*.safetensors")):
        found.update(file.read_bytes())
    return found.hexdigest()[:12]


def bare(source: str) -> str:
    """A module without comments, docstrings and layout, which decide nothing."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                part for part in body
                if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]  # fmt: skip
    return ast.unparse(tree)


def keep(path: Path, result: dict[str, Any]) -> None:
    """Whole or not at all."""
    write_bytes(path, json.dumps(result | {"code": code()}).encode())


def follow(job: tuple[str, str, int, int, int, Path]) -> None:
    """Run one method on one class and seed, and keep what it reached at each mark."""
    method, cls, seed, photos, images, folder = job
    bench = Bench(cls, seed=seed, photos=photos)
    marks = sorted({*SHOWN, TENTH, THIRD} if method in ("ours", "on") else SHOWN)
    marks = [mark for mark in marks if mark <= images]
    # Where a target compares what differs by less than a floor.
    looked_at = {"on": {TENTH, THIRD, FAR}, "bank": {marks[-1]}}.get(method, set())
    at: dict[int, Mixture] = {}
    drawn, last = 0, of_one(bench.space.baseline, float("nan"))
    for drawn, mixture in COURSES[method](bench, images):
        for mark in marks:
            if drawn > mark:
                at.setdefault(mark, last)  # what it had before this trial
        last = mixture
        if drawn >= images:
            break
    for mark in marks:
        at.setdefault(mark, last)
    reached: dict[str, Any] = {}
    known: dict[str, tuple[float, float]] = {}
    for mark in sorted(marks, key=lambda mark: mark not in looked_at):
        text = json.dumps(at[mark].to_json()["recipes"])
        if text not in known:
            parts = PARTS if mark in looked_at else 1
            known[text] = bench.confirm(at[mark], salt=f"{method}{mark}", parts=parts)
        reached[str(mark)] = known[text]
    result = {
        "reached": reached,
        "drawn": drawn,
        "tune": at[marks[-1]].gap_tune / bench.floors[0],
        "settings": settings_of(last, bench.space),
    }
    keep(kept(folder, cls, seed, method, images), result)
    print(f"{cls} seed {seed} {method}: {drawn} images, {reached}", flush=True)


def by_hand(job: tuple[str, int, int, int, Path]) -> None:
    """The two mixtures that nobody searches for: every prompt evenly, and the true shares."""
    cls, seed, photos, images, folder = job
    bench = Bench(cls, seed=seed, photos=photos)
    space = bench.space

    def mixed(settings: Params, shares: dict[str, float]) -> Mixture:
        plain = space.recipe(settings) if settings else space.baseline
        recipes = [replace(plain, draw=replace(plain.draw, prompt=text)) for text in shares]
        return Mixture(recipes=tuple(recipes), weights=tuple(shares.values()), gap_tune=0.0)

    prompts = [space.prompt(words) for words in space.prompts()]
    even = bench.confirm(mixed({}, dict.fromkeys(prompts, 1 / len(prompts))), salt="even")
    habitat = pond.REAL[cls]
    truth = {
        space.prompt({"color": color, "place": f" on {place}"}): a * b
        for color, a in habitat.colors.items()
        for place, b in habitat.backgrounds.items()
    }
    found = [json.loads(kept(folder, cls, seed, m, images).read_text()) for m in COURSES]
    asked = [settings for result in found for settings in result["settings"]]

    def seen_gap(settings: Params, n: int) -> float:
        """The same seeds to the same prompts, whatever the settings."""
        mixture, first, jobs = mixed(settings, truth), 0, []
        for recipe, count in zip(mixture.recipes, allot(mixture.weights, n), strict=True):
            jobs += [(recipe, range(first, first + count))] if count else []
            first += count
        batches = bench.generate_all(jobs)
        return bench.gap(bench.clip.embed([image for batch in batches for image in batch]))

    best = sorted(asked, key=lambda settings: seen_gap(settings, 160))[:HEAVIEST]
    best = sorted(best, key=lambda settings: seen_gap(settings, 640))
    oracle = bench.confirm(mixed(best[0], truth), salt="oracle", parts=PARTS)
    result = {"even": even, "oracle": oracle, "settings": best[0]}
    keep(kept(folder, cls, seed, "hand", images), result)
    print(f"{cls} seed {seed}: even {even}, oracle {oracle} by {best[0]}", flush=True)


def say(folder: Path, classes: Sequence[str], *, seeds: int, photos: int, images: int) -> bool:
    """Print the tables and whether each target is met."""
    met = True
    marks = [mark for mark in SHOWN if mark <= images]

    def read(cls: str, seed: int, method: str) -> dict[str, Any]:
        text = kept(folder, cls, seed, method, images).read_text()
        loaded: dict[str, Any] = json.loads(text)
        return loaded

    def median(cls: str, method: str, mark: int, which: int) -> float:
        reached = [read(cls, seed, method)["reached"][str(mark)] for seed in range(seeds)]
        return float(np.median([pair[which] for pair in reached]))

    for cls in classes:
        hands = [read(cls, seed, "hand") for seed in range(seeds)]
        by_hand_medians = {
            name: [float(np.median([hand[name][which] for hand in hands])) for which in (0, 1)]
            for name in ("even", "oracle")
        }
        print(f"\n{cls}: ratio on unseen photos (judge's), median of {seeds} seeds; "
              f"a search sees {photos:,} photos")  # fmt: skip
        print(f"| {'method':<48} |" + "".join(f" {mark:>13,} |" for mark in marks) + " optimism |")
        print(f"|{'-' * 50}|" + f"{'-' * 15}|" * len(marks) + "----------|")
        for method, title in METHODS.items():
            if method in COURSES:
                cells = [
                    f"{median(cls, method, m, 0):.1f} ({median(cls, method, m, 1):.1f})"
                    for m in marks
                ]
                runs = [read(cls, seed, method) for seed in range(seeds)]
                optimism = np.median([r["reached"][str(marks[-1])][0] - r["tune"] for r in runs])
                last = f"{optimism:.2f}"
                if method == "ours":
                    title += f" (ends after {np.median([r['drawn'] for r in runs]):,.0f})"
            else:
                a, b = by_hand_medians[method]
                cells = [f"{a:.1f} ({b:.1f})"] + [""] * (len(marks) - 1)
                last = ""
            print(f"| {title:<48} |" + "".join(f" {c:>13} |" for c in cells) + f" {last:>8} |")
        end = marks[-1]
        if end != SHOWN[-1]:
            print(f"the targets are for {SHOWN[-1]:,} images: none is looked at")
            continue
        floor = by_hand_medians["oracle"][0]
        goals = [
            (TENTH, "obvious design at 4,000", median(cls, "tpe", end, 0)),
            (TENTH, "random, best kept, at 4,000", median(cls, "random", end, 0)),
            (THIRD, "random + mixture at 4,000", median(cls, "bank", end, 0)),
            (2000, "oracle + 25 % or 0.5 floors", max(1.25 * floor, floor + 0.5)),
        ]
        for mark, what, goal in goals:
            value, ended = median(cls, "on", mark, 0), median(cls, "ours", mark, 0)
            met &= value <= goal
            print(f"ours, driven on, at {mark:,}: {value:.2f} (where it ends: {ended:.2f}); "
                  f"{what}: {goal:.2f}: {'met' if value <= goal else 'NOT MET'}")  # fmt: skip
    return met


def run_all(function: Callable[[Any], None], jobs: Sequence[Any], workers: int) -> None:
    """Each job in a process of its own; `spawn`, as torch's threads do not survive a fork."""
    if jobs:
        with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
            pool.map(function, jobs, chunksize=1)


def main() -> None:
    """Run what is not kept yet, print; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", nargs="+", default=["frog", "ship"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--photos", type=int, default=PHOTOS, help="that a search sees")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path(__file__).parent / "sample_cost_kept")
    parser.add_argument("--kept", action="store_true", help="measure nothing: say what is missing")
    options = parser.parse_args()
    photos, images = options.photos, options.images
    if images < SHOWN[0]:
        parser.error(f"--images: {SHOWN[0]} at least")
    folder = options.keep / f"{photos}-photos"
    folder.mkdir(parents=True, exist_ok=True)
    cells = [(cls, seed) for seed in range(options.seeds) for cls in options.classes]
    wanted = [(m, *c) for c in cells for m in COURSES if not is_done(kept(folder, *c, m, images))]
    hands = [c for c in cells if not is_done(kept(folder, *c, "hand", images))]
    missing = [*wanted, *(("hand", *cell) for cell in hands)]
    total = len(cells) * (len(COURSES) + 1)
    print(f"{total - len(missing)} of {total} cells are kept from this code")
    for method, cls, seed in missing:
        print(f"    to measure: {cls}, seed {seed}, {method}")
    if options.kept and missing:
        raise SystemExit(1)
    run_all(follow, [(*job, photos, images, folder) for job in wanted], options.workers)
    run_all(by_hand, [(*cell, photos, images, folder) for cell in hands], options.workers)
    options_said = {"seeds": options.seeds, "photos": photos, "images": images}
    raise SystemExit(0 if say(folder, options.classes, **options_said) else 1)


if __name__ == "__main__":
    main()
