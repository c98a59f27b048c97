"""What is found of several generators at the end of a run: each alone, and all together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gapclose.generators.base import Generator
from gapclose.generators.several import each_of
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.each_alone import each_alone, together
from gapclose.loop.search.trial import Mixture

__all__ = ["class_generators", "described"]


def described(generator: Generator, prices: Mapping[str, float]) -> list[dict[str, Any]]:
    """Describe each generator for gap.json; the only one of a run has no name.

    Args:
        generator: Of the run.
        prices: Seconds of an image by generator, as far as they are known.
    """
    return [
        {
            "name": name,
            "id": its.id,
            "revision": its.revision,
            "license": its.license,
            "seconds_per_image": prices.get(name or ""),
        }
        for name, its in each_of(generator).items()
    ]


def class_generators(search: ClassSearch, judged: Mixture) -> dict[str, Any] | None:
    """Say what each generator comes to in a class; None where there is one.

    Args:
        search: Of the class.
        judged: The mixture that its last fold judged.
    """
    names = [part.name for part in search.space.parts if part.name is not None]
    if not names or not search.state.atoms.fitted:
        return None
    atoms = search.state.atoms
    weights = dict.fromkeys(names, 0.0)
    for recipe, weight in zip(judged.recipes, judged.weights, strict=True):
        weights[recipe.draw.generator or names[0]] += weight
    alone = each_alone(atoms, names)
    return {
        "floor_p95": search.floor,
        "together": _finite(together(atoms)),
        "alone": [
            {
                "name": name,
                "weight": weights[name],
                "images": alone[name].images if name in alone else 0,
                "gap": _finite(alone[name].mixture.gap_tune) if name in alone else None,
                "mixture": alone[name].mixture.to_json() if name in alone else None,
            }
            for name in names
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
