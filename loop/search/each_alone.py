"""Each alone: what every generator of a class comes to by itself, beside all of them together.

Diagnostics ask it at the end of a run with several generators. It generates nothing: the images
of the search answer. The weights are fitted on one half of them and scored on the other, once each
way, for on the images that they are fitted to they flatter themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.mixture_weights import drop_small
from gapclose.loop.search.score import Score
from gapclose.loop.search.trial import Mixture

__all__ = ["Alone", "each_alone", "together"]

_FEWEST = 4  # images of an atom: two in each half


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What one generator comes to.

    Attributes:
        mixture: The best of its recipes; `gap_tune` is on images that it was not fitted to.
        images: That the search has drawn with it.
    """

    mixture: Mixture
    images: int


def each_alone(atoms: Atoms, generators: Sequence[str]) -> dict[str, Alone]:
    """Return the best mixture of each generator, those left out that have too few images.

    Args:
        atoms: Of the class.
        generators: Their names.
    """
    found = {}
    for name in generators:
        own = np.array([recipe.draw.generator == name for recipe in atoms.recipes], dtype=np.bool_)
        if not (own & (atoms.bank.sizes >= _FEWEST)).any():
            continue
        weights = drop_small(atoms.bank.fit(without=~own))
        pairs = sorted(zip(atoms.recipes, weights, strict=True), key=lambda pair: -pair[1])
        kept = [(recipe, float(weight)) for recipe, weight in pairs if weight > 0.0]
        mixture = Mixture(
            recipes=tuple(recipe for recipe, _ in kept),
            weights=tuple(weight for _, weight in kept),
            gap_tune=math.nan,
        )
        found[name] = Alone(
            mixture=replace(mixture, gap_tune=_held_out(atoms.bank, ~own)),
            images=int(atoms.bank.sizes[own].sum()),
        )
    return found


def together(atoms: Atoms) -> float:
    """Return the squared MMD of the best mixture of all, on images that it was not fitted to."""
    return _held_out(atoms.bank, np.zeros(len(atoms.bank), dtype=np.bool_))


def _held_out(bank: Score, without: NDArray[np.bool_]) -> float:
    """Fit on each half of every atom's images, and return the mean gap on the other; NaN of none.

    Only images that are made from words are apart: a half may hold other images of the same photo.
    """
    large = np.flatnonzero(~without & (bank.sizes >= _FEWEST))
    if not len(large):
        return math.nan
    halves = (bank.empty(), bank.empty())
    for atom in large:
        rows, seeds = bank.rows_of(int(atom))
        for start, half in enumerate(halves):
            half.add(rows[start::2], seeds[start::2].tolist())
    one, other = halves
    gaps = [other.gap(one.fit()), one.gap(other.fit())]
    return float(np.mean(gaps))
