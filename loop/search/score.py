"""The score: what the images and mixtures of one class are held to be worth, as a Protocol.

A search asks nothing else of what it generates. `atom_bank.AtomBank` scores by the squared MMD to
the real tune split; another score is another class that keeps this Protocol, given to `tune` as
`scored_by`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gapclose.loop.search.recording import Recorder, Recording

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]


class Score(Protocol):
    """All scored images of a class, by atom: the images of one recipe; the lower, the better.

    It is convex in a mixture's weights, and 0 for images that cannot be told from the real ones.
    Its unit is its own: it is compared with what a fold sees, a squared MMD, in floors alone.
    """

    @property
    def n_real(self) -> int:
        """Number of real images that it compares with."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(n,) images per atom."""

    def __len__(self) -> int:
        """Number of atoms."""

    def empty(self) -> Score:
        """Return another one without images, against the same real ones."""

    def add(
        self,
        embeddings: Rows,
        seeds: Sequence[int],
        *,
        sources: Sequence[int] = (),
        atom: int | None = None,
    ) -> int:
        """Add an atom, or images to one; return its number.

        Args:
            embeddings: (m, d) unit rows; m >= 2 for a new atom.
            seeds: (m,) all different.
            sources: As in `Images`: an image is not to be compared with its own.
            atom: Whose images they are; a new atom's if not given.
        """

    def rows_of(self, atom: int) -> tuple[Rows, NDArray[np.int64]]:
        """Return an atom's images and their seeds, in the order that they came."""

    def fit(
        self,
        *,
        start: Floats | None = None,
        without: NDArray[np.bool_] | None = None,
        favoured: NDArray[np.bool_] | None = None,
    ) -> Floats:
        """Return (n,) weights, >= 0 with sum 1, of the mixture with the least score.

        Args:
            start: (n,) where to begin.
            without: (n,) atoms that get none, where images are made from pictures; never all.
            favoured: (n,) atoms that are known to have the right shares, one at least; they carry
                the whole weight until there are images enough to do better.
        """

    def gap(self, weights: Floats) -> float:
        """Return what a mixture of the atoms scores; optimistic for fitted weights."""

    def gap_of(self, embeddings: Rows, *, sources: Sequence[int] = ()) -> float:
        """Return what (m, d) images score, held by an atom or not; m >= 2."""

    def scores(self, weights: Floats) -> Floats:
        """Return (n,) Frank-Wolfe scores: slopes of a mixture's gap towards each atom."""

    def score(self, weights: Floats, atom: int) -> float:
        """Return the Frank-Wolfe score of one atom."""

    def promise(
        self,
        weights: Floats,
        embeddings: Rows,
        seeds: Sequence[int],
        *,
        sources: Sequence[int] = (),
    ) -> float:
        """Estimate what a mixture gains by (m, d) fresh images of one recipe; m >= 4."""

    def change(
        self,
        weights: Floats,
        before: Rows,
        after: Rows,
        seeds: Sequence[int],
        *,
        sources: Sequence[int] = (),
    ) -> float:
        """Estimate what happens to a mixture's score when its images change as (m, d) pairs do."""

    def products(self, atoms: Sequence[int]) -> tuple[Floats, Floats]:
        """Return what the score of any weighting of single images is made of.

        Args:
            atoms: Whose images, in their order.

        Returns:
            (n, n) products of pairs, 0 where two images are one or have one seed; and (n,) mean
            products with the real images.
        """

    def noting(self, known: Recording | None = None) -> AbstractContextManager[Recorder]:
        """Note what is computed meanwhile, or take it from what was noted before."""
