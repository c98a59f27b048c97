"""Mixtures: what the generated pools of a validation are generated from, class by class.

Beside the baseline and what was tuned stands what a careful person would do by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gapclose.loop.search.optuna_record import derive_seed
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Mixture

__all__ = ["baseline_mixture", "even_mixture", "mixtures_of"]


def mixtures_of(
    spaces: Mapping[str, Space], tuned: Mapping[str, Any] | None, *, seed: int
) -> dict[str, dict[str, Mixture]]:
    """Return the mixtures of every pool, by class.

    Args:
        spaces: By class.
        tuned: By class, as in mixtures.json: a class without one has its baseline. None for a run
            that was not tuned, whose pools have no `tuned`.
        seed: Of the run.
    """
    found = {"baseline": {cls: baseline_mixture(space) for cls, space in spaces.items()}}
    if tuned is not None:
        judged = {cls: Mixture.from_json(mixture) for cls, mixture in tuned.items()}
        found["tuned"] = {
            cls: judged.get(cls, baseline) for cls, baseline in found["baseline"].items()
        }
    found["even"] = {cls: even_mixture(space, seed=seed) for cls, space in spaces.items()}
    return found


def baseline_mixture(space: Space) -> Mixture:
    """Return the untouched recipe of a class."""
    return Mixture(recipes=(space.baseline,), weights=(1.0,), gap_tune=math.nan)


def even_mixture(space: Space, *, seed: int) -> Mixture:
    """Return what a careful person would do by hand: every prompt, as often as any other.

    Where the generator has parameters, they are evenly distributed over what may be chosen. The
    order is random, for the first are taken where there are fewer images than prompts.

    Args:
        space: Of the class.
        seed: Of the order.
    """
    base, words = space.baseline, space.prompts()
    order = np.random.default_rng(derive_seed(seed, "even", space.cls)).permutation(len(words))
    own = {**space.fixed_parameters, **space.parameters}
    recipes = dict.fromkeys(
        replace(base, draw=space.worded(base.draw, words[i], own)) for i in order
    )
    share = 1.0 / len(recipes)
    return Mixture(recipes=tuple(recipes), weights=(share,) * len(recipes), gap_tune=math.nan)
