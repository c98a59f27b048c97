"""The parameters of a class's generator: how they are distributed, fitted to what was made so far.

`phases` asks it for the next trial, `absorbing` puts the images into the bank. The first trial
draws uniformly at random from what may be chosen; each later one draws from what the images so far
say, and some images from what is nearly as likely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from gapclose.generators.distributions import Categorical, Distribution, TruncatedNormal
from gapclose.generators.parameters import Parameter, Parameters
from gapclose.generators.recipe import Draw, Recipe
from gapclose.generators.values import Value
from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.generator_part import GeneratorPart
from gapclose.loop.search.optuna_record import Observation, derive_seed
from gapclose.loop.search.parameter_fit import (
    Distributions,
    Evidence,
    Fit,
    fit_distributions,
    widened,
)
from gapclose.loop.search.trial import Mixture

__all__ = ["ParameterStage"]

EVEN: Final = 12  # trials' images that are drawn uniformly
FITTED: Final = 4  # trials' images that a fit is followed by
OTHER: Final = 2  # and of what else may be
AVERAGED: Final = 4  # fits, at most, that a mixture has
ROUNDS: Final = 7  # before prompts and settings are looked at; the even one is the first
FEWEST: Final = 16  # images that something is fitted to
MOST: Final = 600  # images that a fit looks at, the last: its cost grows as their square


@dataclass(slots=True)
class ParameterStage:
    """The fits of one class's parameters of one generator.

    Attributes:
        part: Of the generator.
        cls: The class.
        seed: Of the run.
        shared: What recipes have of each parameter that is searched; the baseline's until then.
        rounds: Trials so far, failed ones too.
        over: Whether what comes next has begun.
        fits: In their order.
    """

    part: GeneratorPart
    cls: str
    seed: int
    shared: Mapping[str, Parameter] = field(default_factory=dict)
    rounds: int = 0
    over: bool = False
    fits: list[dict[str, Distribution]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with the baseline's; where nothing is searched it is over."""
        own = self.part.base.parameters
        self.shared = {name: own[name] for name in self.part.parameters}
        self.over = not self.part.parameters

    def is_due(self, trials: int) -> bool:
        """Whether its trials come before all others.

        Args:
            trials: That there are for what all prompts share; an even one and a fit are made
                however few.
        """
        return not self.over and self.rounds < min(ROUNDS, max(trials, 2))

    def begin(self) -> None:
        """Note a trial under way."""
        self.rounds += 1

    def absorb(self, recipe: Recipe) -> None:
        """Take in that a trial, which is of this recipe first, has brought images."""
        own = _distributions(self._of(recipe))
        if own != self.part.parameters:
            self.fits.append(own)
            self.shared = own
        elif not self.over:  # until something is known
            self.shared = own

    def end_with(self, recipe: Recipe) -> None:
        """Go on with the parameters of a recipe that was given."""
        self.over, self.shared = True, self._of(recipe)
        if self._varies(recipe):
            self.fits.append(_distributions(self.shared))

    def _of(self, recipe: Recipe) -> dict[str, Parameter]:
        return {name: recipe.draw.parameters[name] for name in self.part.parameters}

    def next(self, recipe: Recipe, atoms: Atoms) -> list[tuple[Recipe, int]]:
        """Return what to make images of, and how many trials' images of each.

        Args:
            recipe: At the words and settings that all share.
            atoms: Of the class.
        """
        found = self._fitted(recipe, atoms) if self.rounds or self.over else None
        if found is None:
            return [(_with(recipe, self.part.parameters), EVEN)]
        at, fit = found
        other = widened(fit.best if fit.other is None else fit.other)
        return [(_with(at, fit.best), FITTED), (_with(at, other), OTHER)]

    def settled(self, mixture: Mixture) -> Mixture:
        """Return a mixture whose recipes have the parameters of the last fits, in equal shares.

        Each fit has seen all images before it, so the last know more than the weights do, which
        compare atoms of few images; and their mean errs less than each (Polyak and Juditsky 1992).
        """
        last = self.fits[-min(max(len(self.fits) // 2, 1), AVERAGED) :]
        if not last:
            return mixture
        weights: dict[Recipe, float] = {}
        for recipe, weight in zip(mixture.recipes, mixture.weights, strict=True):
            moved = [_with(recipe, own) for own in last] if self._varies(recipe) else [recipe]
            for its in moved:
                weights[its] = weights.get(its, 0.0) + weight / len(moved)
        return replace(mixture, recipes=tuple(weights), weights=tuple(weights.values()))

    def observed(self, atoms: Atoms) -> list[Observation]:
        """Return the images whose parameters were drawn evenly, and how unlike real ones each is.

        Parameters have their prefix.
        """
        even = [
            number
            for number, its in enumerate(atoms.recipes)
            if self._draws(its) and self.part.parameters.items() <= its.draw.parameters.items()
        ]
        if not even or not self.part.parameters:
            return []
        evidence = self._evidence(even, atoms)
        return [
            Observation(
                params={self.part.parameter(name): its[name] for name in self.part.parameters},
                value=-float(near),
            )
            for its, near in zip(evidence.values, evidence.near, strict=True)
        ]

    def _fitted(self, recipe: Recipe, atoms: Atoms) -> tuple[Recipe, Fit] | None:
        """Fit where most of the weight is; None where there is too little to fit on.

        Returns:
            A recipe there, and the fit.
        """
        groups: dict[Draw, list[int]] = {}
        recipes = atoms.recipes
        for number, its in enumerate(recipes):
            if self._varies(its):
                groups.setdefault(_apart(its.draw), []).append(number)
        sizes, weights = atoms.bank.sizes, atoms.weights
        usable = [its for its in groups.values() if sizes[its].sum() >= FEWEST]
        if not usable:
            return None
        here = _apart(recipe.draw)

        def favour(its: list[int]) -> tuple[float, bool]:
            return float(weights[its].sum()), _apart(recipes[its[0]].draw) == here

        chosen = max(usable, key=favour)
        evidence = self._evidence(chosen, atoms)
        fitted = fit_distributions(
            self.part.parameters,
            evidence,
            last=self.fits[-1] if self.fits else None,
            seed=derive_seed(self.seed, self.cls, *self._named, self.rounds),
        )
        return recipes[chosen[-1]], fitted

    def _varies(self, recipe: Recipe) -> bool:
        """Whether every parameter that is searched was drawn from what may be chosen."""
        own = recipe.draw.parameters
        return (
            bool(self.part.parameters)
            and self._draws(recipe)
            and all(_is_of(own.get(name), even) for name, even in self.part.parameters.items())
        )

    @property
    def _named(self) -> tuple[str, ...]:
        return ("parameters", *([] if self.part.name is None else [self.part.name]))

    def _draws(self, recipe: Recipe) -> bool:
        return recipe.draw.generator == self.part.name

    def _evidence(self, numbers: Sequence[int], atoms: Atoms) -> Evidence:
        values: list[Mapping[str, Value]] = []
        drawn_from: list[tuple[Distributions, int]] = []
        kept: list[bool] = []
        left = MOST
        for number in reversed(numbers):
            recipe = atoms.recipes[number]
            seeds = atoms.bank.rows_of(number)[1].tolist()
            last = seeds[max(len(seeds) - left, 0) :] if left else []
            left -= len(last)
            values[:0] = [_values(recipe.draw.of_seed(seed)) for seed in last]
            kept[:0] = [False] * (len(seeds) - len(last)) + [True] * len(last)
            if last:
                drawn_from.append((_distributions(self._of(recipe)), len(last)))
        kernel, near = atoms.bank.products(numbers)
        rows = np.flatnonzero(kept)
        return Evidence(
            values=values,
            drawn_from=drawn_from,
            kernel=kernel[np.ix_(rows, rows)],
            near=near[rows],
        )


def _values(draw: Draw) -> dict[str, Value]:
    return {name: its for name, its in draw.parameters.items() if isinstance(its, Value)}


def _distributions(own: Mapping[str, Parameter]) -> dict[str, Distribution]:
    return {name: its for name, its in own.items() if isinstance(its, Distribution)}


def _apart(draw: Draw) -> Draw:
    """Return a draw without its parameters."""
    return replace(draw, parameters=Parameters())


def _with(recipe: Recipe, own: Mapping[str, Distribution]) -> Recipe:
    parameters = Parameters({**recipe.draw.parameters, **own})
    return replace(recipe, draw=replace(recipe.draw, parameters=parameters))


def _is_of(own: object, even: Distribution) -> bool:
    """Return whether a distribution is over the same values as an even one."""
    if isinstance(own, Categorical):  # of choices, or of whole numbers that are fitted one by one
        return own.choices == even.counted
    return isinstance(own, TruncatedNormal) and replace(own, mean=None, sd=None) == even
