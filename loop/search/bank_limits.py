"""Limits of a bank: how many images and atoms new ones are compared with, and which stay there.

`atom_bank` asks them when there are too many. They know numbers alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_FEWEST = 2  # images of an atom that means can be computed of


@dataclass(frozen=True, slots=True, kw_only=True)
class BankLimits:
    """Bounds of what a trial costs, whatever came before it.

    A class gets 14,000 images and 140 atoms in 500 trials of 8 images, and 280,000 and 2,600 in
    10,000. To be compared with 20,000 takes twice as long as with 14,000: copies of so many rows
    of width 512 are fetched from the system each time. Half is cleared at a time, so that
    choosing costs little a trial.

    Attributes:
        images: That new ones are compared with.
        atoms: That weights are fitted over.
    """

    images: int = 16_000
    atoms: int = 1_000

    def is_exceeded(self, *, images: int, atoms: int) -> bool:
        """Return whether there is too much of one."""
        return images > self.images or atoms > self.atoms

    def most_of_each(self, carrying: NDArray[np.int64]) -> int:
        """Return how many images of an atom stay, so that the mixture has a quarter of them.

        Args:
            carrying: (k,) images of each atom that carries weight.
        """
        most = self.images // 4
        while most > _FEWEST and np.minimum(carrying, most).sum() > self.images // 4:
            most //= 2
        return max(most, _FEWEST)

    def chosen(
        self,
        weights: Floats,
        scores: Floats,
        sizes: NDArray[np.int64],
        without: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """Choose the atoms that stay: the mixture's, and those that would help it most.

        Args:
            weights: (n,) of the mixture.
            scores: (n,) Frank-Wolfe scores: the lower, the more an atom would help.
            sizes: (n,) images that stay of each atom that does.
            without: (n,) atoms that get no weight, which come last.

        Returns:
            Their numbers, ascending: those that carry weight, and others while they fit into
            half of the limits; one at least.
        """
        barred = np.zeros(len(scores), np.bool_) if without is None else without
        carrying = (weights > 0.0) & ~barred
        order = np.lexsort((scores, ~carrying, barred))
        fit = np.cumsum(sizes[order]) <= self.images // 2
        fit[self.atoms // 2 :] = False
        return np.sort(order[: max(np.count_nonzero(carrying), np.count_nonzero(fit), 1)])
