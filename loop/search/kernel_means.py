"""Kernel means: the atoms of a class that are at hand, and the mean kernel value of each two.

`atom_bank` adds images, and fits weights over what is at hand. New images are compared with those
at hand alone: a mean over some of the pairs is as unbiased as one over all (an incomplete
U-statistic, Blom 1976). It knows no real images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.archive import Archive, Block
from gapclose.loop.search.image_rows import ImageRows
from gapclose.loop.search.square import Square

Floats = NDArray[np.float64]

RECALLED: Final = 64  # images of an atom that it comes back with

Compute = Callable[[int, Callable[[], Floats]], Floats]
"""Returns so many numbers, as they are computed or as they were noted before."""


class KernelMeans:
    """Atoms, their images, and what was summed over pairs of them.

    Attributes:
        images: At hand, in the order that they came there.
        active: (k,) numbers of the atoms at hand, in the order of rows and columns.
        counted: (k,) images of each that its means are over.
    """

    def __init__(self, kernel: Kernel, width: int) -> None:
        """Start empty; `width` is that of an embedding."""
        self.images = ImageRows(width)
        self.active = np.zeros(0, dtype=np.int64)
        self.counted = np.zeros(0, dtype=np.int64)
        self._kernel, self._width, self._archive = kernel, width, Archive(width)
        self._sums, self._pairs = Square(), Square()  # one seed's pairs are left out
        self._values: Floats | None = None

    @property
    def values(self) -> Floats:
        """(k, k) mean kernel values between active atoms, unbiased on the diagonal."""
        if self._values is None:
            self._values = self._sums.values / self._pairs.values
        return self._values

    def add(
        self,
        atom: int,
        embeddings: NDArray[np.float32],
        seeds: Sequence[int],
        sources: Sequence[int],
        compute: Compute,
    ) -> None:
        """Add images to an atom, which is at hand from now on.

        Args:
            atom: Its number.
            embeddings: (n, d) unit rows.
            seeds: (n,).
            sources: (n,) as `Images` has them; empty of images without any.
            compute: Has their sums computed, or knows them.

        Raises:
            ValueError: The atom has two images of one seed.
        """
        if len({*seeds}) < len(seeds) or self._archive.holds_one(atom, seeds):
            raise ValueError("an atom's images need a seed each")
        if atom not in self.active:
            self._join(atom, self._archive.take(atom, RECALLED), compute)
        its = np.asarray(sources if len(sources) else [-1] * len(seeds), dtype=np.int64)
        block = Block(embeddings=embeddings, seeds=np.asarray(seeds, np.int64), sources=its)
        self._join(atom, block, compute)

    def reactivate(self, atoms: Iterable[int], compute: Compute) -> None:
        """Compare with inactive atoms again, with the last `RECALLED` images of each."""
        for atom in atoms:
            self._join(atom, self._archive.take(atom, RECALLED), compute)

    def _join(self, atom: int, block: Block, compute: Compute) -> None:
        if not len(block):
            return
        before = len(self.images)
        self.images.append(block.embeddings, block.seeds.tolist(), atom, block.sources.tolist())
        if atom not in self.active:
            self._sums.grow()
            self._pairs.grow()
            self.active = np.append(self.active, atom)
            self.counted = np.append(self.counted, 0)
        place = int(np.flatnonzero(self.active == atom)[0])
        atoms = int(self.active.max()) + 1

        def sums() -> Floats:
            return self.images.sums(self._kernel, since=before, atoms=atoms)[self.active]

        self._sums.add(place, compute(len(self.active), sums))
        self._pairs.add(place, self.images.pairs(since=before, atoms=atoms)[self.active])
        self.counted[place] += len(block)
        self._values = None

    def keep(self, atoms: NDArray[np.int64], most: int) -> None:
        """Archive all images but the last few of some atoms.

        Args:
            atoms: Numbers of those among the active that stay so.
            most: Images of each that stay, >= 1.
        """
        stays = np.zeros(len(self.images), dtype=np.bool_)
        for atom in self.active.tolist():
            mine = np.flatnonzero(self.images.atoms == atom)
            last = mine[-most:] if atom in atoms else mine[:0]
            stays[last] = True
            self._archive.put(atom, self._block(mine[: len(mine) - len(last)]))
        kept = np.flatnonzero(stays)
        self.images = self.images.at(kept)
        places = np.flatnonzero(np.isin(self.active, atoms))
        self._sums.keep(places)
        self._pairs.keep(places)
        self.active, self.counted = self.active[places], self.counted[places]
        self._values = None

    def towards(
        self, weights: Floats, embeddings: NDArray[np.float32], seeds: NDArray[np.int64]
    ) -> Floats:
        """Return the mean kernel values of images with a mixture, by its images at hand.

        Args:
            weights: (n,) of all atoms.
            embeddings: (m, d) unit rows.
            seeds: (m,) Images at hand of an image's seed are left out for it.

        Returns:
            (m,).
        """
        here = np.bincount(self.images.atoms, minlength=len(weights))
        shares = (weights / np.maximum(here, 1))[self.images.atoms]
        return self.images.mean_with(self._kernel, embeddings, seeds, shares=shares)

    def last_of(self, atom: int) -> Block:
        """Return the last `RECALLED` images of an atom that is not at hand."""
        return self._archive.of(atom).at(slice(-RECALLED, None))

    def all_of(self, atom: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return an atom's images and their seeds, in the order that they came."""
        archived, here = self._archive.of(atom), self._block(self.images.atoms == atom)
        return (
            np.concatenate([archived.embeddings, here.embeddings]),
            np.concatenate([archived.seeds, here.seeds]),
        )

    def _block(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Block:
        return Block(
            embeddings=self.images.embeddings[rows],
            seeds=self.images.seeds[rows],
            sources=self.images.sources[rows],
        )
