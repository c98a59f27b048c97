"""Turns: which of a class's generators draws next, where its prompts are no longer in order.

Each gets time in proportion to the weight that its images carry, and a part of it whatever they
carry: a generator that draws ten times as fast gets ten times as many images for its weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.generator_part import GeneratorPart

__all__ = ["EVEN_SHARE", "whose_turn"]

EVEN_SHARE: Final = 0.2
"""Of the time is spread evenly: weights of few images err, and a generator may yet improve."""


def whose_turn(
    parts: Sequence[GeneratorPart], atoms: Atoms, prices: Mapping[str, float]
) -> GeneratorPart | None:
    """Return the generator that has had least for its weight; None of none.

    Args:
        parts: To choose from; of equals the first.
        atoms: Of the class.
        prices: Seconds of an image, by generator; where one is not known, all cost the same, and
            images are shared out rather than time.
    """
    if len(parts) < 2:
        return next(iter(parts), None)
    weights = atoms.weight_by(lambda draw: draw.generator)
    images = Counter[str | None]()
    for recipe, size in zip(atoms.recipes, atoms.bank.sizes.tolist(), strict=True):
        images[recipe.draw.generator] += size
    priced = all((part.name or "") in prices for part in parts)

    def due(part: GeneratorPart) -> float:
        price = prices[part.name or ""] if priced else 1.0
        share = (1 - EVEN_SHARE) * weights.get(part.name, 0.0) + EVEN_SHARE / len(parts)
        return share / ((images[part.name] + 1) * max(price, 1e-9))

    return max(parts, key=due)
