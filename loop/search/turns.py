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

__all__ = ["EVEN_SHARE", "most_due", "whose_turn"]

EVEN_SHARE: Final = 0.2
"""Of the time is spread evenly: weights of few images err, and a generator may yet improve."""


def whose_turn(
    parts: Sequence[GeneratorPart], atoms: Atoms, prices: Mapping[str, float]
) -> GeneratorPart | None:
    """Return the generator that has had least for its weight; None of none.

    Args:
        parts: To choose from.
        atoms: Of the class.
        prices: As `most_due` has them.
    """
    if len(parts) < 2:
        return next(iter(parts), None)
    weights = atoms.weight_by(lambda draw: draw.generator)
    images = Counter[str | None]()
    for recipe, size in zip(atoms.recipes, atoms.bank.sizes.tolist(), strict=True):
        images[recipe.draw.generator] += size
    by_name = {str(part.name): part for part in parts}
    due = most_due(
        [*by_name],
        weights={name: weights.get(name, 0.0) for name in by_name},
        images={name: images[name] for name in by_name},
        prices=prices,
    )
    return by_name[due]


def most_due(
    names: Sequence[str],
    *,
    weights: Mapping[str, float],
    images: Mapping[str, int],
    prices: Mapping[str, float],
) -> str:
    """Return the generator that has had least for its weight; of equals the first.

    Args:
        names: To choose from, at least one.
        weights: That the images of each carry.
        images: Drawn by each so far.
        prices: Seconds of an image; where one is not known, all cost the same, and images are
            shared out rather than time.
    """
    priced = all(name in prices for name in names)

    def due(name: str) -> float:
        price = prices[name] if priced else 1.0
        share = (1 - EVEN_SHARE) * weights[name] + EVEN_SHARE / len(names)
        return share / ((images[name] + 1) * max(price, 1e-9))

    return max(names, key=due)
