"""Inactive atoms: which are archived when there are too many, and which are reactivated.

`atom_bank` calls it after a fit that exceeds its limits. All atoms are held against the mixture as
it is by then, the inactive ones too, so none is lost for good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.loop.search.archive import Block
from gapclose.loop.search.bank_limits import BankLimits
from gapclose.loop.search.kernel_means import RECALLED, Compute, KernelMeans

Floats = NDArray[np.float64]

_AT_ONCE: Final = 128  # inactive atoms that are scored: all together would fill the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class AtomStates:
    """All atoms of a class, and what each would do for its mixture.

    Attributes:
        weights: (n,) of the mixture.
        scores: (n,) Frank-Wolfe scores; of inactive atoms as they were computed last.
        near: Returns the mean kernel values (m,) of images with the real ones.
        sizes: (n,) images of each, at hand or not.
        without: (n,) atoms that get no weight.
    """

    weights: Floats
    scores: Floats
    near: Callable[[Block], Floats]
    sizes: NDArray[np.int64]
    without: NDArray[np.bool_] | None


def choose(means: KernelMeans, limits: BankLimits, states: AtomStates, compute: Compute) -> Floats:
    """Archive the atoms that help a mixture least, and reactivate those that would help it more.

    Args:
        means: Changed so.
        limits: Of the bank.
        states: Of all atoms.
        compute: Computes numbers, or knows them.

    Returns:
        (n,) scores, computed anew of the inactive atoms.
    """
    n, weights = len(states.weights), states.weights
    most = limits.most_of_each(states.sizes[weights > 0.0])
    means.keep(means.active, most)
    inactive = np.setdiff1d(np.arange(n), means.active)
    scores = compute(n, lambda: _rescored(means, states, inactive))
    staying = np.minimum(states.sizes, most)
    staying[inactive] = np.minimum(staying[inactive], RECALLED)
    chosen = limits.chosen(weights, scores, staying, states.without)
    means.keep(chosen, most)
    means.reactivate(np.intersect1d(chosen, inactive).tolist(), compute)
    return scores


def _rescored(means: KernelMeans, states: AtomStates, inactive: NDArray[np.int64]) -> Floats:
    scores = states.scores.copy()
    for start in range(0, len(inactive), _AT_ONCE):
        some = inactive[start : start + _AT_ONCE]
        blocks = [means.last_of(atom) for atom in some.tolist()]
        towards = means.towards(
            states.weights,
            np.concatenate([block.embeddings for block in blocks]),
            np.concatenate([block.seeds for block in blocks]),
        )
        sizes = np.array([*map(len, blocks)])
        # Of the same images on both sides: what an image has in common with all then cancels.
        slopes = towards - np.concatenate([states.near(block) for block in blocks])
        scores[some] = np.add.reduceat(slopes, np.cumsum(sizes) - sizes) / sizes
    return scores
