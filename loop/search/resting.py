"""Resting: which atoms are put aside when there are too many, and which come back.

`atom_bank` calls it after a fit that has left its room. All atoms are held against the mixture as
it is by then, those that rest too, so none is lost for good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.loop.search.aside import Block
from gapclose.loop.search.kernel_means import RECALLED, Compute, KernelMeans
from gapclose.loop.search.room import Room

Floats = NDArray[np.float64]

_AT_ONCE: Final = 128  # resting atoms that are scored: all together would fill the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How all atoms of a class stand to its mixture.

    Attributes:
        weights: (n,) of the mixture.
        scores: (n,) Frank-Wolfe scores; of atoms that rest as they were known last.
        near: Returns the mean kernel values (m,) of images with the real ones.
        sizes: (n,) images of each, at hand or not.
        without: (n,) atoms that get no weight.
    """

    weights: Floats
    scores: Floats
    near: Callable[[Block], Floats]
    sizes: NDArray[np.int64]
    without: NDArray[np.bool_] | None


def choose(means: KernelMeans, room: Room, standing: Standing, compute: Compute) -> Floats:
    """Put aside what helps a mixture least, and take up what helps it more.

    Args:
        means: Changed so.
        room: That there is.
        standing: Of all atoms.
        compute: Computes numbers, or knows them.

    Returns:
        (n,) scores, computed anew of the atoms that rested.
    """
    n, weights = len(standing.weights), standing.weights
    most = room.most_of_each(standing.sizes[weights > 0.0])
    means.keep(means.active, most)
    resting = np.setdiff1d(np.arange(n), means.active)
    scores = compute(n, lambda: _rescored(means, standing, resting))
    staying = np.minimum(standing.sizes, most)
    staying[resting] = np.minimum(staying[resting], RECALLED)
    chosen = room.chosen(weights, scores, staying, standing.without)
    means.keep(chosen, most)
    means.wake(np.intersect1d(chosen, resting).tolist(), compute)
    return scores


def _rescored(means: KernelMeans, standing: Standing, resting: NDArray[np.int64]) -> Floats:
    scores = standing.scores.copy()
    for start in range(0, len(resting), _AT_ONCE):
        some = resting[start : start + _AT_ONCE]
        blocks = [means.last_of(atom) for atom in some.tolist()]
        towards = means.towards(
            standing.weights,
            np.concatenate([block.embeddings for block in blocks]),
            np.concatenate([block.seeds for block in blocks]),
        )
        sizes = np.array([*map(len, blocks)])
        # Of the same images on both sides: what an image has in common with all then cancels.
        slopes = towards - np.concatenate([standing.near(block) for block in blocks])
        scores[some] = np.add.reduceat(slopes, np.cumsum(sizes) - sizes) / sizes
    return scores
