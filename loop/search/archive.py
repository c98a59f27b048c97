"""An archive: the images of a class that new ones are no longer compared with.

`kernel_means` puts them there and takes some back. Nothing is computed of them meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Images of one atom, in the order that they came.

    Attributes:
        embeddings: (n, d) unit rows.
        seeds: (n,).
        sources: (n,) as `Images` has them, -1 of none.
    """

    embeddings: NDArray[np.float32]
    seeds: NDArray[np.int64]
    sources: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.seeds)

    def at(self, rows: slice) -> Block:
        """Return some of the images."""
        return Block(
            embeddings=self.embeddings[rows], seeds=self.seeds[rows], sources=self.sources[rows]
        )


class Archive:
    """Images by the number of their atom."""

    def __init__(self, width: int) -> None:
        """Start empty; `width` is that of an embedding."""
        none = np.empty(0, np.int64)
        self._none = Block(embeddings=np.empty((0, width), np.float32), seeds=none, sources=none)
        self._blocks: dict[int, list[Block]] = {}
        self._seeds: dict[int, set[int]] = {}

    def put(self, atom: int, block: Block) -> None:
        """Put images of an atom after those that it has here."""
        if len(block):
            self._blocks.setdefault(atom, []).append(block)
            self._seeds.setdefault(atom, set()).update(block.seeds.tolist())

    def of(self, atom: int) -> Block:
        """Return an atom's images."""
        blocks = [self._none, *self._blocks.get(atom, ())]
        return Block(
            embeddings=np.concatenate([block.embeddings for block in blocks]),
            seeds=np.concatenate([block.seeds for block in blocks]),
            sources=np.concatenate([block.sources for block in blocks]),
        )

    def take(self, atom: int, most: int) -> Block:
        """Take out an atom's last images.

        Args:
            atom: Its number.
            most: Images, >= 1.
        """
        block = self.of(atom)
        self._blocks.pop(atom, None)
        self._seeds.pop(atom, None)
        self.put(atom, block.at(slice(None, -most)))
        return block.at(slice(-most, None))

    def holds_one(self, atom: int, seeds: Sequence[int]) -> bool:
        """Return whether an atom has an image of one of some seeds here."""
        return not self._seeds.get(atom, set()).isdisjoint(seeds)
