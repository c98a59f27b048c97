"""Mixtures: what the generated pools of a validation are generated from, class by class.

Beside the baseline and what was tuned stands what a careful person would do by hand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from gapclose.generators.recipe import Recipe
from gapclose.loop.search.optuna_record import derive_seed
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Mixture
from gapclose.loop.validation.arms import only

__all__ = ["baseline_mixture", "even_mixture", "mixtures_of"]


def mixtures_of(
    spaces: Mapping[str, Space],
    tuned: Mapping[str, Any] | None,
    *,
    seed: int,
    alone: Mapping[str, Mapping[str, Mixture]] = MappingProxyType({}),
) -> dict[str, dict[str, Mixture]]:
    """Return the mixtures of every pool, by class.

    Args:
        spaces: By class.
        tuned: By class, as in mixtures.json: a class without one has its baseline. None for a run
            that was not tuned, whose pools have no `tuned`.
        seed: Of the run.
        alone: By generator and class, what each of several comes to by itself; of a class in
            which it has nothing, its untouched recipe.
    """
    found = {"baseline": {cls: baseline_mixture(space) for cls, space in spaces.items()}}
    if tuned is not None:
        judged = {cls: Mixture.from_json(mixture) for cls, mixture in tuned.items()}
        found["tuned"] = {
            cls: judged.get(cls, baseline) for cls, baseline in found["baseline"].items()
        }
    found["even"] = {cls: even_mixture(space, seed=seed) for cls, space in spaces.items()}
    for name, by_class in alone.items():
        found[only(name)] = {
            cls: by_class.get(cls) or _untouched(space, name) for cls, space in spaces.items()
        }
    return found


def baseline_mixture(space: Space) -> Mixture:
    """Return the untouched recipe of a class."""
    return Mixture(recipes=(space.baseline,), weights=(1.0,), gap_tune=math.nan)


def _untouched(space: Space, generator: str) -> Mixture:
    part = next(part for part in space.parts if part.name == generator)
    recipe = replace(space.baseline, draw=part.base)
    return Mixture(recipes=(recipe,), weights=(1.0,), gap_tune=math.nan)


def even_mixture(
    space: Space, *, seed: int, usual: Mapping[str | None, Recipe] = MappingProxyType({})
) -> Mixture:
    """Return what a careful person would do by hand: every prompt, as often as any other.

    Where the generator has parameters, they are evenly distributed over what may be chosen; where
    there are several generators, each draws as many. The order is random, for the first are taken
    where there are fewer images than prompts.

    Args:
        space: Of the class.
        seed: Of the order.
        usual: Recipes whose settings and camera others take over, by generator; the untouched
            ones by default.
    """
    words = space.prompts()
    order = np.random.default_rng(derive_seed(seed, "even", space.cls)).permutation(len(words))
    recipes: dict[Recipe, str | None] = {}
    for i in order:
        part = space.part_of(words[i])
        base = usual.get(part.name, replace(space.baseline, draw=part.base))
        own = {**part.fixed_parameters, **part.parameters}
        recipes[replace(base, draw=space.worded(base.draw, words[i], own))] = part.name
    prompts = Counter(recipes.values())
    weights = tuple(1.0 / (len(prompts) * prompts[name]) for name in recipes.values())
    return Mixture(recipes=tuple(recipes), weights=weights, gap_tune=math.nan)
