"""Training sets of ten classes, made in sixteen ways, on the pond and of real photos.

predictors.py measures them: the tuned mixture, the plain prompt, blends of the two, few prompts,
settings and cameras that are wrong, prompts that are missing or of another class. Ways that differ
from class to class are random, by the class's name. Images are kept in a temporary folder.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from photo_generator import USUAL, PhotoGenerator
from photo_world import PHOTOS, photos_of, world

from gapclose.generators.base import generate_all
from gapclose.generators.camera import apply_camera
from gapclose.generators.pond.renderer import real_photos
from gapclose.generators.recipe import Draw, Recipe
from gapclose.generators.registry import make_generator
from gapclose.loop.config.reading import load_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.search.mixture_weights import allot
from gapclose.loop.search.optuna_record import derive_seed
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Mixture

CLASSES: Final = sorted(USUAL)
ROUGH: Final = Path(tempfile.gettempdir()) / "gapclose-predictors"
EACH: Final = {"pond": 60, "photos": 150}  # images of a class
REAL: Final = 400  # photos of a class that images are compared with
FIRST: Final = {"reference": 50_000, "test": 60_000, "real": 70_000}  # of the pond's photos
SETTINGS: Final[dict[str, dict[str, tuple[Any, ...]]]] = {  # the last are the worst
    "pond": {
        "guidance_scale": (1.0, 4.0, 8.0),
        "num_inference_steps": (12, 6, 3),
        "scheduler": ("dpmsolver++", "ddim", "euler"),
    },
    "photos": {
        "guidance_scale": (3.0, 0.0, 8.0, 14.0),
        "num_inference_steps": (30, 15, 3),
        "scheduler": ("ddim", "dpmsolver++", "euler"),
    },
}
CAMERAS: Final[dict[str, tuple[Any, ...]]] = {
    "noise": (0.0, 0.02, 0.05, 0.1),
    "saturation": (1.0, 0.4, 1.6),
    "jpeg_quality": (None, 50, 20),
}
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassWays:
    """The ways to make the images of one class."""

    cls: str
    settings: Mapping[str, tuple[Any, ...]]
    space: Space
    tuned: Mixture

    def blend(self, share: float) -> Mixture:
        """So much of the tuned mixture, and of the baseline the rest."""
        return mixture({self.space.baseline: 1.0 - share}, self._tuned(share))

    def even(self, n: int | None = None) -> Mixture:
        """Every prompt evenly at the baseline's settings, or n random ones of them."""
        base, words = self.space.baseline, self.space.prompts()
        order = self._random("even", n or 10**6).permutation(len(words))[:n]
        draws = [replace(base.draw, prompt=self.space.prompt(words[i])) for i in order]
        return mixture(dict.fromkeys((replace(base, draw=draw) for draw in draws), 1.0))

    def at_settings(self, *, own: bool) -> Mixture:
        """The tuned mixture at random settings, or at the worst."""
        rng = self._random("settings")
        chosen = {
            name: values[int(rng.integers(len(values))) if own else -1]
            for name, values in self.settings.items()
        }
        return self._changed(lambda recipe: replace(recipe, draw=replace(recipe.draw, **chosen)))

    def through_camera(self) -> Mixture:
        """The tuned mixture through a random camera."""
        rng = self._random("camera")
        chosen = {name: values[int(rng.integers(len(values)))] for name, values in CAMERAS.items()}
        return self._changed(
            lambda recipe: replace(recipe, camera=replace(recipe.camera, **chosen))
        )

    def missing(self) -> Mixture:
        """The tuned mixture without a random half of its prompts."""
        prompts = sorted({recipe.draw.prompt for recipe in self.tuned.recipes})
        order = self._random("missing").permutation(len(prompts))
        gone = {prompts[i] for i in order[: len(prompts) // 2]}
        return mixture({r: w for r, w in self._tuned().items() if r.draw.prompt not in gone})

    def mislabelled(self) -> Mixture:
        """The tuned mixture, and up to half of another class's plain prompt."""
        rng, base = self._random("mislabelled"), self.space.baseline
        other = CLASSES[(CLASSES.index(self.cls) + int(rng.integers(1, len(CLASSES)))) % 10]
        share = float(rng.uniform(0, 0.5))
        prompt = base.draw.prompt.replace(self.cls, other)
        wrong = replace(base, draw=replace(base.draw, prompt=prompt))
        return mixture(self._tuned(1 - share), {wrong: share})

    def any_way(self, number: int) -> Mixture:
        """A random one of the other ways."""
        names = [name for name in WAYS if not name.startswith("own way")]
        return WAYS[names[int(self._random("own", number).integers(len(names)))]](self)

    def _tuned(self, share: float = 1.0) -> dict[Recipe, float]:
        pairs = zip(self.tuned.recipes, self.tuned.weights, strict=True)
        return {recipe: share * weight for recipe, weight in pairs}

    def _changed(self, change: Callable[[Recipe], Recipe]) -> Mixture:
        return mixture(*({change(recipe): weight} for recipe, weight in self._tuned().items()))

    def _random(self, *parts: object) -> np.random.Generator:
        return np.random.default_rng(derive_seed(self.cls, *parts))


def mixture(*parts: Mapping[Recipe, float]) -> Mixture:
    """Recipes by what they weigh together."""
    weights: dict[Recipe, float] = {}
    for part in parts:
        for recipe, weight in part.items():
            weights[recipe] = weights.get(recipe, 0.0) + weight
    total = sum(weights.values())
    shares = {recipe: weight / total for recipe, weight in weights.items() if weight > 0}
    return Mixture(recipes=tuple(shares), weights=tuple(shares.values()), gap_tune=float("nan"))


WAYS: Final[dict[str, Callable[[ClassWays], Mixture]]] = {
    "baseline": lambda ways: ways.blend(0.0),
    "tuned": lambda ways: ways.blend(1.0),
    "even": lambda ways: ways.even(),
    "tuned 25 %": lambda ways: ways.blend(0.25),
    "tuned 50 %": lambda ways: ways.blend(0.5),
    "tuned 75 %": lambda ways: ways.blend(0.75),
    "one prompt": lambda ways: ways.even(1),
    "three prompts": lambda ways: ways.even(3),
    "own settings": lambda ways: ways.at_settings(own=True),
    "worst settings": lambda ways: ways.at_settings(own=False),
    "own cameras": lambda ways: ways.through_camera(),
    "words missing": lambda ways: ways.missing(),
    "mislabelled": lambda ways: ways.mislabelled(),
    "halves": lambda ways: ways.blend(float(CLASSES.index(ways.cls) % 2)),
    "own way 1": lambda ways: ways.any_way(1),
    "own way 2": lambda ways: ways.any_way(2),
}


class Images:
    """The images of one world, synthetic and real."""

    def __init__(self, name: str, run: Path) -> None:
        """Read a finished run's config and mixtures.

        Args:
            name: pond or photos.
            run: A run folder of that world.
        """
        self.name, self.each = name, EACH[name]
        self.config: RunConfig = load_config(run / "config.yaml") if name == "pond" else world()
        self._tuned = json.loads((run / "mixtures.json").read_text())["classes"]
        self._drawn: dict[Draw, list[Pixels]] = {}

    def synthetic(self, cls: str) -> Pixels:
        """Generate, or read, a class's images of all ways: (ways, n, 32, 32, 3)."""
        ways = ClassWays(
            cls=cls,
            settings=SETTINGS[self.name],
            space=Space.of(self.config, cls),
            tuned=Mixture.from_json(self._tuned[cls]),
        )
        mixtures = [way(ways) for way in WAYS.values()]
        digest = derive_seed(*(json.dumps(each.to_json()) for each in mixtures))
        path = ROUGH / self.name / f"{cls}-{digest}.npy"
        if not path.is_file():
            images = np.stack([np.stack(self._of(each)) for each in mixtures])
            self._drawn.clear()
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.with_suffix(".rough").open("wb") as file:
                np.save(file, images)
            path.with_suffix(".rough").rename(path)
        found: Pixels = np.load(path, mmap_mode="r")
        return found

    def real(self, cls: str, part: str, *, n: int, draw: int = 0) -> Pixels:
        """Photos of a part (a key of `FIRST`), which has none of another part's."""
        if self.name == "pond":
            first = FIRST[part] + draw * n
            return np.stack([photo for _, photo in real_photos(cls, range(first, first + n))])
        photos = photos_of("test" if part == "test" else "train", cls)
        order = np.arange(len(photos))
        if part != "test":
            order = np.random.default_rng(derive_seed("real", cls)).permutation(order)
        if part == "real":
            order = np.random.default_rng([draw, 31]).permutation(order[REAL:])
        return np.stack([photos[i] for i in order[:n]])

    def _of(self, mixture: Mixture) -> list[Pixels]:
        """Draw a set; ways that share a draw share its images."""
        counts = allot(mixture.weights, self.each)
        jobs = [(r, n) for r, n in zip(mixture.recipes, counts, strict=True) if n]
        seeds = {recipe.draw: _seeds(recipe.draw) for recipe, _ in jobs}
        lacking: dict[Draw, Sequence[int]] = {}
        for recipe, n in jobs:
            known = len(self._drawn.get(recipe.draw, ()))
            if n > max(known, known + len(lacking.get(recipe.draw, ()))):
                lacking[recipe.draw] = seeds[recipe.draw][known:n]
        made = _generator(self.name, self.config.generator.model_dump_json())
        batches = generate_all(made, list(lacking.items())) if lacking else []
        for draw, batch in zip(lacking, batches, strict=True):
            self._drawn.setdefault(draw, []).extend(batch.images)
        return [
            apply_camera(recipe.camera, image, seed=seed)
            for recipe, n in jobs
            for image, seed in zip(self._drawn[recipe.draw], seeds[recipe.draw][:n], strict=False)
        ]


def _seeds(draw: Draw) -> range:
    first = derive_seed("predictors", draw.fingerprint())
    return range(first, first + max(EACH.values()))


@cache
def _generator(name: str, spec: str) -> Any:
    return (
        PhotoGenerator(PHOTOS / "more") if name == "photos" else make_generator(json.loads(spec))
    )
