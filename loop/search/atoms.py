"""Atoms: the recipes of a class that have images, and the weights that make a mixture of them.

`class_search` puts the images of its trials in, and takes the mixture out. The bank below it knows
numbers alone; here they have recipes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.search.copies import Copies
from gapclose.loop.search.mixture_weights import allot, drop_small
from gapclose.loop.search.optuna_record import Observation
from gapclose.loop.search.score import Score
from gapclose.loop.search.space import Params, Space, takes_all_captions
from gapclose.loop.search.trial import Images, Mixture

_Name = TypeVar("_Name", bound=Hashable)


@dataclass(slots=True)
class _Atom:
    """A recipe whose images the bank holds.

    Attributes:
        params: Of the trial that tried it; None of the baseline, and of what was only screened.
    """

    recipe: Recipe
    params: Params | None = None


@dataclass(slots=True)
class Atoms:
    """The atoms of one class, in the order that they came.

    Attributes:
        bank: Their images, and the real tune split.
        copies: Of photos: an atom at whose strength there are too many gets no weight.
    """

    bank: Score
    copies: Copies = field(default_factory=Copies)
    _atoms: list[_Atom] = field(default_factory=list)
    _number: dict[Recipe, int] = field(default_factory=dict)
    _strengths: set[float | None] = field(default_factory=set)
    _whole: list[int] = field(default_factory=list)  # numbers of those that take all captions
    _weights: NDArray[np.float64] | None = None

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """(n,) of each."""
        return tuple(atom.recipe for atom in self._atoms)

    @property
    def fitted(self) -> bool:
        """Whether there are weights."""
        return self._weights is not None

    @property
    def weights(self) -> NDArray[np.float64]:
        """(n,) as they were fitted last."""
        assert self._weights is not None, "nothing has been fitted yet"
        return self._weights

    def keep(
        self,
        recipe: Recipe,
        images: Images,
        params: Params | None = None,
    ) -> int | None:
        """Put images into the bank, with those of their recipe; one of a new recipe is lost.

        Args:
            recipe: Of the images.
            images: All of them its own.
            params: Of the trial, if it tried this recipe.

        Returns:
            The atom's number; None if there is none.
        """
        known = self._number.get(recipe)
        if len(images) < (2 if known is None else 1):
            return known
        number = self.bank.add(images.embeddings, images.seeds, sources=images.sources, atom=known)
        if known is None:
            self._number[recipe] = number
            self._atoms.append(_Atom(recipe))
            self._strengths.add(recipe.draw.strength)
            if takes_all_captions(recipe.draw):
                self._whole.append(number)
        atom = self._atoms[number]
        if params is not None and atom.params is None:
            atom.params = params
        return number

    def refit(self) -> None:
        """Fit the weights to the real images, from where they are.

        The captions of all photos have the shares of whatever the photos show: they are favoured.
        """
        known: dict[str, NDArray[Any]] = {}
        if self._weights is not None:
            new = np.zeros(len(self.bank) - len(self._weights))
            known["start"] = np.concatenate([self._weights, new])
        barred = np.zeros(len(self._atoms), dtype=np.bool_)
        if any(map(self.copies.at, self._strengths)):
            barred[:] = [self.copies.at(atom.recipe.draw.strength) for atom in self._atoms]
            known["without"] = barred
        whole = np.zeros_like(barred)
        whole[self._whole] = True
        whole &= ~barred
        if whole.any():
            known["favoured"] = whole
        self._weights = self.bank.fit(**known)

    def gap(self) -> float:
        """Squared MMD of the mixture on the images that it is fitted to: it flatters itself."""
        return self.bank.gap(self.weights)

    def score(self, number: int) -> float:
        """Return an atom's Frank-Wolfe score: the lower, the more it would help."""
        return self.bank.score(self.weights, number)

    def history(self) -> list[Observation]:
        """Return the recipes that trials tried, with their scores as they stand now."""
        if not self.fitted:
            return []
        scores = self.bank.scores(self.weights)
        return [
            Observation(params=atom.params, value=float(score))
            for atom, score in zip(self._atoms, scores, strict=True)
            if atom.params is not None
        ]

    def tried(self) -> list[tuple[Params, int]]:
        """Return the parameters that trials tried, and the numbers of their atoms."""
        return [(a.params, i) for i, a in enumerate(self._atoms) if a.params is not None]

    def weight_by(self, name: Callable[[Draw], _Name]) -> dict[_Name, float]:
        """Return the weight that all draws of a name carry."""
        found: dict[_Name, float] = {}
        for atom, weight in zip(self._atoms, self.weights, strict=True):
            named = name(atom.recipe.draw)
            found[named] = found.get(named, 0.0) + float(weight)
        return found

    def mixture(self, space: Space, *, lost: Params, won: Params) -> Mixture:
        """Return the mixture of today's weights, the smallest dropped; nothing has measured it.

        Args:
            space: Of the class.
            lost: Settings that all prompts began with.
            won: Those at which prompts are to be generated that have not been.
        """
        merged: dict[Recipe, float] = {}
        for atom, weight in zip(self._atoms, drop_small(self.weights), strict=True):
            if weight > 0.0:
                recipe = self._moved(atom, space, lost=lost, won=won)
                merged[recipe] = merged.get(recipe, 0.0) + float(weight)
        found = sorted(merged.items(), key=lambda item: -item[1])
        return Mixture(
            recipes=tuple(recipe for recipe, _ in found),
            weights=tuple(weight for _, weight in found),
            gap_tune=math.nan,
        )

    def _moved(self, atom: _Atom, space: Space, *, lost: Params, won: Params) -> Recipe:
        if won == lost or atom.params is None:
            return atom.recipe
        if any(atom.params.get(name) != value for name, value in lost.items()):
            return atom.recipe
        moved = space.recipe({**atom.params, **won}, atom.recipe.draw.parameters)
        return atom.recipe if moved in self._number else moved

    def sample(self, images: int) -> list[tuple[Recipe, tuple[int, ...]]]:
        """Return images of the bank, by the weights of their recipes."""
        return [(recipe, seeds) for recipe, seeds, _ in self.shares(images)]

    def shares(self, images: int) -> list[tuple[Recipe, tuple[int, ...], int]]:
        """Allot images to the recipes by their weights: recipe, seeds that it has, how many.

        A recipe may have fewer seeds than are allotted to it.
        """
        found = []
        for number, count in enumerate(allot([*self.weights], images)):
            seeds = self.bank.rows_of(number)[1][:count].tolist()
            if seeds:
                found.append((self._atoms[number].recipe, tuple(seeds), count))
        return found

    def drawn(self) -> list[tuple[Recipe, tuple[int, ...]]]:
        """Return all that the bank holds."""
        return [
            (atom.recipe, tuple(self.bank.rows_of(number)[1].tolist()))
            for number, atom in enumerate(self._atoms)
        ]

    def under(self, camera: Camera, images: Images) -> Atoms:
        """Return the same atoms under a camera.

        Args:
            camera: Put on all images, the baseline's too.
            images: Of `drawn`, in its order, under that camera.
        """
        moved = Atoms(self.bank.empty(), self.copies)
        for job, atom in enumerate(self._atoms):
            moved.keep(replace(atom.recipe, camera=camera), images.of_job(job), atom.params)
        if moved._atoms:
            moved.refit()
        return moved
