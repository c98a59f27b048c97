"""Favoured atoms: whether the weight stays with those that are known to have the right shares.

`atom_bank` asks it where something is known of the atoms before they have images. Fitted to a few
images of each, weights are mostly chance: they are fitted to the favoured atoms alone until all
atoms together do better on images that they were not fitted to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.loop.search.image_rows import ImageRows
from gapclose.loop.search.score import Score

Mask = NDArray[np.bool_]

SPLITS: Final = 4  # into halves at random: of one the luck decides
ENOUGH: Final = 200  # images, of which fitted weights are good whatever was known before
FEWEST: Final = 4  # images of an atom that can be halved: a gap needs two


def left_out(
    favoured: Mask | None, without: Mask | None, images: ImageRows, make: Callable[[], Score]
) -> Mask | None:
    """Return the atoms that get no weight: as long as favoured ones suffice, all others too.

    Args:
        favoured: (n,) atoms, of which one at least is not among those without weight.
        without: (n,) atoms that get no weight in any case.
        images: Of all atoms.
        make: Makes a score without images.
    """
    if favoured is None:
        return without
    barred = np.zeros(len(favoured), dtype=np.bool_) if without is None else without
    return barred | ~favoured if suffice(favoured, barred, images, make) else without


def suffice(favoured: Mask, barred: Mask, images: ImageRows, make: Callable[[], Score]) -> bool:
    """Return whether favoured atoms alone have the smaller gap, by cross-validation.

    Weights are fitted to one half of each atom's images, and compared on the other half.
    Arguments are those of `left_out`.
    """
    if len(images) > ENOUGH:
        return False
    sizes = np.bincount(images.atoms, minlength=len(favoured))
    barred = barred | (sizes < FEWEST)
    others = barred | ~favoured
    if others.all():
        return True  # too few images to say anything
    rng, gain = np.random.default_rng(0), 0.0
    for _ in range(SPLITS):
        halves = _halves(images, sizes, make, rng)
        for seen, unseen in (halves, halves[::-1]):
            narrow, wide = seen.fit(without=others), seen.fit(without=barred)
            gain += unseen.gap(narrow) - unseen.gap(wide)
    return gain <= 0.0


def _halves(
    images: ImageRows,
    sizes: NDArray[np.int64],
    make: Callable[[], Score],
    rng: np.random.Generator,
) -> tuple[Score, Score]:
    """Share the images of each atom out to two scores; those that are too few go to both."""
    both = make(), make()
    for atom, size in enumerate(sizes.tolist()):
        order = rng.permutation(np.flatnonzero(images.atoms == atom))
        parts = (order, order) if size < FEWEST else (order[::2], order[1::2])
        for half, rows in zip(both, parts, strict=True):
            half.add(
                images.embeddings[rows],
                images.seeds[rows].tolist(),
                sources=images.sources[rows].tolist(),
            )
    return both
