"""Image rows: the embeddings of a class's images, appended to without being copied each time.

`kernel_means` keeps those that new ones are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.kernel import Kernel

_ROOM = 256  # images that the first buffer holds
_GROWTH = 2  # memory that is not written to costs nothing


class ImageRows:
    """Embeddings with the seed, the source and the atom of each, in order, and their pairs."""

    def __init__(self, width: int) -> None:
        """Start empty; `width` is that of an embedding."""
        self._count = 0
        self._embeddings = np.empty((_ROOM, width), dtype=np.float32)
        self._seeds = np.empty(_ROOM, dtype=np.int64)
        self._sources = np.empty(_ROOM, dtype=np.int64)
        self._atoms = np.empty(_ROOM, dtype=np.int64)
        self._of_seed: dict[int, list[int]] = {}

    def __len__(self) -> int:
        """Number of images."""
        return self._count

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """(n, d) unit rows."""
        return self._embeddings[: self._count]

    @property
    def seeds(self) -> NDArray[np.int64]:
        """(n,)."""
        return self._seeds[: self._count]

    @property
    def sources(self) -> NDArray[np.int64]:
        """(n,) as `Images` has them."""
        return self._sources[: self._count]

    @property
    def atoms(self) -> NDArray[np.int64]:
        """(n,) numbers."""
        return self._atoms[: self._count]

    def append(
        self,
        embeddings: NDArray[np.float32],
        seeds: Sequence[int],
        atom: int,
        sources: Sequence[int] = (),
    ) -> None:
        """Append images of one atom.

        Args:
            embeddings: (m, d) unit rows.
            seeds: (m,).
            atom: Its number.
            sources: (m,) as `Images` has them; empty of images without any.

        Raises:
            ValueError: The atom has two images of one seed.
        """
        taken = any(self._atoms[row] == atom for seed in seeds for row in self.of_seed(seed))
        if taken or len({*seeds}) < len(embeddings):
            raise ValueError("an atom's images need a seed each")
        end = self._count + len(embeddings)
        if end > len(self._seeds):
            room = max(end, _GROWTH * len(self._seeds))
            self._embeddings = _grown(self.embeddings, room)
            self._seeds, self._atoms = _grown(self.seeds, room), _grown(self.atoms, room)
            self._sources = _grown(self.sources, room)
        self._embeddings[self._count : end] = embeddings
        self._seeds[self._count : end] = seeds
        self._sources[self._count : end] = sources if len(sources) else -1
        self._atoms[self._count : end] = atom
        for row, seed in enumerate(seeds, start=self._count):
            self._of_seed.setdefault(int(seed), []).append(row)
        self._count = end

    def at(self, rows: NDArray[np.int64]) -> ImageRows:
        """Return some of the images, in the order of their places."""
        found = ImageRows(self._embeddings.shape[1])
        found._count = len(rows)
        found._embeddings = _grown(self.embeddings[rows], max(_ROOM, len(rows)))
        found._seeds = _grown(self.seeds[rows], len(found._embeddings))
        found._sources = _grown(self.sources[rows], len(found._embeddings))
        found._atoms = _grown(self.atoms[rows], len(found._embeddings))
        for row, seed in enumerate(found.seeds.tolist()):
            found._of_seed.setdefault(seed, []).append(row)
        return found

    def pairs(self, *, since: int, atoms: int) -> NDArray[np.float64]:
        """Count the pairs of an atom's last images with those of all atoms, one seed's pairs out.

        Pairs with an older image of the atom count in both orders, as do those among the last.

        Args:
            since: Place of the first of the last images; all of them are of one atom.
            atoms: How many there are.
        """
        number, last = self.atoms[-1], self.seeds[since:]
        found = len(last) * np.bincount(self.atoms, minlength=atoms).astype(np.float64)
        found[number] += len(last) * np.count_nonzero(self.atoms[:since] == number)
        for seed in last:
            for row in self.of_seed(seed):
                found[self.atoms[row]] -= 1.0
        return found

    def sums(self, kernel: Kernel, *, since: int, atoms: int) -> NDArray[np.float64]:
        """Sum the kernel over those pairs; their rows of it alone are computed."""
        number = self.atoms[-1]
        gram = kernel.gram(self.embeddings[since:], self.embeddings)
        for at, seed in enumerate(self.seeds[since:]):
            gram[at, self.of_seed(seed)] = 0.0
        found = np.bincount(self.atoms, weights=gram.sum(0), minlength=atoms).astype(np.float64)
        found[number] += float(gram[:, :since][:, self.atoms[:since] == number].sum())
        return found

    def mean_with(
        self,
        kernel: Kernel,
        embeddings: NDArray[np.float32],
        seeds: NDArray[np.int64],
        *,
        shares: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return (m,) mean kernel values of images with these, one seed's pairs out.

        Args:
            kernel: To compare with.
            embeddings: (m, d) unit rows.
            seeds: (m,).
            shares: (n,) >= 0, what each of these counts.
        """
        used = np.flatnonzero(shares)
        apart = seeds[:, None] != self.seeds[used][None, :]
        gram = kernel.gram(embeddings, self.embeddings[used]) * apart
        return np.asarray((gram @ shares[used]) / (apart @ shares[used]))

    def of_seed(self, seed: int) -> list[int]:
        """Return the places of a seed's images: one under each recipe that it was generated by."""
        return self._of_seed.get(int(seed), [])


def _grown(array: NDArray[Any], room: int) -> NDArray[Any]:
    out = np.empty((room, *array.shape[1:]), dtype=array.dtype)
    out[: len(array)] = array
    return out
