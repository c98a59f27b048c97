"""Balance: what the real photos of a class lack, and the images that make it up.

`export --balance` asks it. A class is filled up with synthetic images to a number of real and
synthetic ones together, and so is a group of it, frogs that are red, where that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from gapclose.analysis.embedding import Embedder
from gapclose.generators.recipe import Recipe
from gapclose.loop.exporting.plan import ClassPlan, Order
from gapclose.loop.search.mixture_weights import allot
from gapclose.loop.search.prior import word_hits
from gapclose.loop.search.shares import readings
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Mixture
from gapclose.loop.work.sides import Side

__all__ = ["SHOWN", "Lack", "group_orders", "lacks_of"]

SHOWN: Final = 2
"""Photos that a text encoder must read as a group's before it is filled up: one may be misread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What a class lacks.

    Attributes:
        n_real: Its photos that can be read; repeats count once.
        images: What it lacks to its target, >= 0.
        groups: Slot and word -> what the group lacks to its own, >= 1.
    """

    n_real: int
    images: int
    groups: Mapping[tuple[str, str], int]


def lacks_of(
    side: Side,
    spaces: Mapping[str, Space],
    *,
    per_class: int | None,
    per_group: int | None,
    embedder: Embedder,
) -> dict[str, Lack]:
    """Count what each class lacks.

    Args:
        side: The real photos.
        spaces: Of the classes; their slots' words are the groups.
        per_class: Real and synthetic images of a class together; the photos of the largest by
            default.
        per_group: The same of a group that real photos show; None fills none.
        embedder: Of the side's rows; its text side reads the groups.
    """
    counts = {name: len(side.paths[name]) for name in spaces}
    target = max(counts.values()) if per_class is None else per_class
    lacks = {}
    for name, space in spaces.items():
        groups = {} if per_group is None else _rare(side, space, per_group, embedder)
        n_real = counts[name]
        lacks[name] = Lack(n_real=n_real, images=max(0, target - n_real), groups=groups)
    return lacks


def _rare(
    side: Side, space: Space, per_group: int, embedder: Embedder
) -> dict[tuple[str, str], int]:
    """Find the groups that photos of a class show, and fewer than wanted; what each lacks."""
    rows = [side.rows[path] for path in side.paths[space.cls]]
    if not rows:
        return {}
    found = {}
    for slot in space.words:
        hits = word_hits(space, slot, np.stack(rows), embedder) or {}
        for word, n in hits.items():
            if SHOWN <= n < per_group:
                found[slot, word] = per_group - n
    return found


def group_orders(
    plan: ClassPlan, lack: Lack, space: Space, *, even: Mixture | None
) -> list[Order]:
    """Order what the groups of a class lack; an image counts for every word of its prompt.

    Args:
        plan: Of the class. Recipes of its mixture come first, in its shares.
        lack: Of the class.
        space: Of the class.
        even: All prompts of the class, for words that no recipe of the mixture says.
    """
    said: dict[str, list[dict[str, str]]] = {}

    def says(recipe: Recipe, slot: str, word: str) -> bool:
        prompt = recipe.draw.prompt
        if prompt not in said:
            said[prompt] = readings(space, prompt)
        return any(way.get(slot) == word for way in said[prompt])

    orders: list[Order] = []
    mixtures = [plan.mixture] if even is None else [plan.mixture, even]
    for (slot, word), missing in lack.groups.items():
        there = sum(order.images for order in orders if says(order.recipe, slot, word))
        for mixture in mixtures:
            shares = {
                recipe: weight
                for recipe, weight in zip(mixture.recipes, mixture.weights, strict=True)
                if says(recipe, slot, word)
            }
            if shares:
                orders += _shared(shares, max(0, missing - there))
                break
    return orders


def _shared(shares: Mapping[Recipe, float], images: int) -> list[Order]:
    counts = zip(shares, allot([*shares.values()], images), strict=True)
    return [Order(recipe=recipe, images=count) for recipe, count in counts if count]
