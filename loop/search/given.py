"""A given mixture: what a class of another run ended with, tried as it is after the baseline.

`phases` measures it on fresh images of it, and `absorbing` puts the same images into the bank. It
reads what `MixturesGiven` says under the class's own space; files are `config/mixtures.py`'s
business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gapclose.generators.conditioning import captions_segment, fill_caption, takes_caption
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.run.photo_groups import ALL_PHOTOS
from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.optuna_distributions import nearest
from gapclose.loop.search.prompt_queue import CHANCES
from gapclose.loop.search.space import Params, Space
from gapclose.loop.search.trial import Images, Mixture

GivenRow = Mapping[str, Any]
"""A recipe as it was given: its weight, its prompt, and what else it says of draw and camera."""


@dataclass(slots=True)
class Given:
    """The mixture that one class was given.

    Attributes:
        mixture: Under the camera of the class's space.
        settings: Those that carry most of its weight, or the nearest that may be chosen.
        stands: Whether it is the class's mixture: until its measurement finds a gap, or another
            trial has taught something.
        failures: Trials of it that failed.
    """

    mixture: Mixture
    settings: Params
    stands: bool = False
    failures: int = 0
    _waiting: dict[Recipe, Images] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Sequence[GivenRow], space: Space) -> Given | None:
        """Read what was given under a space.

        What a recipe does not say is as in the baseline. A photo group of another run stands for
        all photos of this one; recipes with captions or pictures that the space does not take are
        left out.

        Args:
            rows: Of the class; their weights are scaled to sum to 1.
            space: Of the class.

        Returns:
            None where nothing is left, or nothing but the baseline, which trial 0 has tried.
        """
        weights: dict[Recipe, float] = {}
        for row in rows:
            draw = _draw(row, space)
            if draw is not None and row["weight"] > 0:
                recipe = Recipe(draw=draw, camera=space.camera)
                weights[recipe] = weights.get(recipe, 0.0) + float(row["weight"])
        if not {recipe.draw for recipe in weights} - {space.baseline.draw}:
            return None
        total = math.fsum(weights.values())
        mixture = Mixture(
            recipes=tuple(weights),
            weights=tuple(weight / total for weight in weights.values()),
            gap_tune=math.nan,
        )
        return cls(mixture=mixture, settings=_settings(mixture, space))

    @property
    def hopeless(self) -> bool:
        """Whether it has failed as often as a prompt may: its class starts without it."""
        return self.failures >= CHANCES

    @property
    def heaviest(self) -> Recipe:
        """The recipe with the most weight."""
        pairs = zip(self.mixture.weights, self.mixture.recipes, strict=True)
        return max(pairs, key=lambda pair: pair[0])[1]

    def keep(self, atoms: Atoms, recipe: Recipe, images: Images) -> None:
        """Put images of one of its recipes into the bank, once there are enough for an atom.

        Of a small weight a trial may draw a single image: it waits for the next.
        """
        if recipe in self._waiting:
            images = self._waiting.pop(recipe).with_more(images)
        if atoms.keep(recipe, images) is None and len(images):
            self._waiting[recipe] = images

    def weight_by(self, name: Callable[[Draw], str]) -> dict[str, float]:
        """Return the weight that all draws of a name carry."""
        found: dict[str, float] = {}
        for recipe, weight in zip(self.mixture.recipes, self.mixture.weights, strict=True):
            named = name(recipe.draw)
            found[named] = found.get(named, 0.0) + weight
        return found

    def under(self, camera: Camera) -> Given:
        """Return it under the run's camera; images that wait were made under another."""
        recipes = tuple(replace(recipe, camera=camera) for recipe in self.mixture.recipes)
        return replace(self, mixture=replace(self.mixture, recipes=recipes), _waiting={})


def starting_camera(rows: Iterable[GivenRow], space: Space) -> Camera | None:
    """Return the camera that most of the weight was given with, if a space may choose it.

    Args:
        rows: Of all classes: a run has one camera, but for classes that kept their baseline.
        space: Of any class.
    """
    weights: dict[Camera, float] = {}
    for row in rows:
        camera = Camera.from_json(row.get("camera") or {})
        weights[camera] = weights.get(camera, 0.0) + float(row["weight"])
    if not weights or not space.cameras:
        return None
    camera = max(weights, key=weights.__getitem__)
    chosen = {name: getattr(camera, name) for name in space.cameras}
    allowed = all(nearest(space.cameras[name], value) == value for name, value in chosen.items())
    return camera if allowed and replace(space.camera, **chosen) == camera else None


def has_generator(row: GivenRow, space: Space) -> bool:
    """Return whether a space has the generator that a recipe names; it has one, if none."""
    part = space.part_of(row)
    return bool(row.get("generator", part.name) == part.name)


def can_take(row: GivenRow, space: Space) -> bool:
    """Return whether a space has a recipe's generator, and what it needs of real photos."""
    if not has_generator(row, space):
        return False
    if row.get("photos") is None:
        return True
    captions = not takes_caption(row["prompt"]) or space.has_captions
    pictures = row.get("strength") is row.get("ip_adapter_scale") is None or space.has_sources
    return ALL_PHOTOS in space.groups and captions and pictures


def _draw(row: GivenRow, space: Space) -> Draw | None:
    if not can_take(row, space):
        return None
    said = {key: value for key, value in row.items() if key not in ("weight", "camera")}
    if said.get("photos") is not None:
        said["photos"] = space.groups[ALL_PHOTOS]
        said["prompt"] = fill_caption(said["prompt"], captions_segment(ALL_PHOTOS))
    base = space.part_of(row).base
    said["parameters"] = {**base.parameters, **said.get("parameters", {})}
    return Draw.from_json(base.to_json() | said)


def _settings(mixture: Mixture, space: Space) -> Params:
    found: list[tuple[Params, float]] = []
    for recipe, weight in zip(mixture.recipes, mixture.weights, strict=True):
        found.append((space.settings_of(recipe.draw), weight))
    return max(
        (params for params, _ in found),
        key=lambda params: math.fsum(weight for other, weight in found if other == params),
    )
