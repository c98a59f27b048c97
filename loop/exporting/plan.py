"""The plan of an export: the recipes of each class, and which images there are already.

It reads the run folder only, and generates nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gapclose.generators.recipe import Recipe
from gapclose.loop.app.refresh import refresh_tags
from gapclose.loop.errors import ConfigError
from gapclose.loop.report.contents import GAP, MIXTURES
from gapclose.loop.report.projections import Verdicts, read_trials, read_verdicts
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.tags import REJECT, tagged_images
from gapclose.loop.run.trust import ShownFiles
from gapclose.loop.search.mixture_weights import allot
from gapclose.loop.search.trial import Mixture

__all__ = ["ClassPlan", "Order", "class_plans", "seeds_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Images of one recipe that are to be exported.

    Attributes:
        recipe: What makes them.
        images: How many, at least 1.
        confirmed: Whether they stand for a mixture that was confirmed, in its shares.
        shown: Seeds and files of images of it that exist already, as in `ClassPlan.shown`.
    """

    recipe: Recipe
    images: int
    confirmed: bool = False
    shown: Sequence[tuple[int, Path | None]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPlan:
    """A class to export: its recipes with weights, and what the run says of it.

    Attributes:
        shown: By a recipe's fingerprint, the images of it that confirmed the class: seed and file,
            None for one that a person rejected or that is not the run's.
    """

    name: str
    recipes: tuple[Recipe, ...]
    weights: tuple[float, ...]
    confirmed: bool
    row: Mapping[str, Any]
    shown: Mapping[str, Sequence[tuple[int, Path | None]]]

    @property
    def mixture(self) -> Mixture:
        """The recipes with their weights."""
        return Mixture(recipes=self.recipes, weights=self.weights, gap_tune=math.nan)

    def orders(
        self, images: int, *, even: Mixture | None = None, share: float = 0.0
    ) -> list[Order]:
        """Share images out to recipes by largest remainder.

        Args:
            images: How many, >= 0.
            even: What takes a share of them from the mixture; its images confirm nothing.
            share: That share, in [0, 1].
        """
        own, others = allot((1.0 - share, share), images) if even is not None else (images, 0)
        orders = [
            Order(
                recipe=recipe,
                images=count,
                confirmed=self.confirmed,
                shown=self.shown.get(recipe.fingerprint(), ()),
            )
            for recipe, count in zip(self.recipes, allot(self.weights, own), strict=True)
        ]
        if even is not None:
            counts = allot(even.weights, others)
            orders += [
                Order(recipe=recipe, images=count)
                for recipe, count in zip(even.recipes, counts, strict=True)
            ]
        return [order for order in orders if order.images]


def class_plans(
    run: RunDir, *, only_confirmed: bool, verdicts: Verdicts | None = None
) -> list[ClassPlan]:
    """Plan every class of a run, or those that are confirmed.

    Args:
        run: The run.
        only_confirmed: Leave out the others.
        verdicts: Of the run, where they have been read already.

    Raises:
        ConfigError: There is none.
    """
    refresh_tags(run)
    rejected = tagged_images(run, REJECT)
    said = (verdicts or read_verdicts(run)).files
    mixtures = said.get(MIXTURES, {}).get("classes", {})
    rows = {row["name"]: row for row in said.get(GAP, {}).get("classes", ())}
    names = list(dict.fromkeys([*rows, *mixtures]))
    if not names:
        raise ConfigError(
            "has no classes to export yet; let `gapclose tune` finish first",
            where=run.path,
        )
    plans = []
    trials = read_trials(run)
    shown = _shown(run, trials, rejected)
    for name in names:
        confirmed = rows.get(name, {}).get("confirmed") is True
        if only_confirmed and not confirmed:
            continue
        recipes, weights = _mixture(run, trials, name, mixtures.get(name))
        plans.append(
            ClassPlan(
                name=name,
                recipes=recipes,
                weights=weights,
                confirmed=confirmed,
                row=rows.get(name, {}),
                shown=shown.get(name, {}),
            )
        )
    if not plans:
        raise ConfigError("no class is confirmed; export without --only-confirmed", where=run.path)
    return plans


def _shown(
    run: RunDir, trials: Sequence[Mapping[str, Any]], rejected: set[str]
) -> dict[str, dict[str, list[tuple[int, Path | None]]]]:
    """Return what confirmed the mixtures, by class and recipe, without the images of trials."""
    tried: dict[str, set[int]] = {}
    for trial in trials:
        tried.setdefault(trial["class"], set()).update(seeds_in(trial))
    shown: dict[str, dict[str, list[tuple[int, Path | None]]]] = {}
    own = ShownFiles(run=run, folders=())  # a run from elsewhere may name others
    for row in run.samples():
        cls = row["class"]
        seed, recipe = row.get("seed"), row.get("recipe")
        if row["stage"] != "tuned" or seed is None or recipe is None:
            continue
        if seed not in tried.get(cls, ()):
            path = None if row["path"] in rejected else own.find(row["path"])
            shown.setdefault(cls, {}).setdefault(recipe, []).append((seed, path))
    return shown


def _mixture(
    run: RunDir,
    trials: Sequence[Mapping[str, Any]],
    name: str,
    mixture: Mapping[str, Any] | None,
) -> tuple[tuple[Recipe, ...], tuple[float, ...]]:
    rows = [row for row in (mixture or {}).get("recipes", ()) if row["weight"] > 0]
    if rows:
        recipes = tuple(Recipe.from_json(row["recipe"]) for row in rows)
        return recipes, tuple(float(row["weight"]) for row in rows)
    return (_baseline(run, trials, name),), (1.0,)


def _baseline(run: RunDir, trials: Sequence[Mapping[str, Any]], name: str) -> Recipe:
    """Return the recipe of trial 0, or what the config says trial 0 would have been."""
    for trial in trials:
        if trial["class"] == name and trial["stage"] == "baseline":
            if "recipe" in trial:
                return Recipe.from_json(trial["recipe"])
            if trial.get("jobs"):
                return Recipe.from_json(trial["jobs"][0]["recipe"])
    from gapclose.loop.search.space import Space

    return Space.of(run.config(), name).baseline


def seeds_in(value: Any) -> Iterator[int]:
    """Yield every seed of a trial's line, whichever shape its lists have."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            if key == "seeds":
                yield from below
            else:
                yield from seeds_in(below)
    elif isinstance(value, list):
        for below in value:
            yield from seeds_in(below)
