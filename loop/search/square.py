"""Square: a symmetric matrix that grows by a row and a column, without being copied each time.

`kernel_means` keeps what it sums over pairs of atoms in two of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Square:
    """A symmetric matrix with room to grow."""

    def __init__(self) -> None:
        """Start empty."""
        self._size, self._all = 0, np.zeros((8, 8))

    @property
    def values(self) -> Floats:
        """(n, n)."""
        return self._all[: self._size, : self._size]

    def grow(self) -> None:
        """Add one more row and column of zeros."""
        if self._size == len(self._all):
            wider = np.zeros((2 * self._size, 2 * self._size))
            wider[: self._size, : self._size] = self._all
            self._all = wider
        self._size += 1

    def add(self, number: int, column: Floats) -> None:
        """Add to one row, and to the column that mirrors it."""
        self.values[number] += column
        self.values[:, number] = self.values[number]

    def keep(self, numbers: NDArray[np.int64]) -> None:
        """Drop all rows and columns but these."""
        kept = self.values[np.ix_(numbers, numbers)]
        self._size = len(numbers)
        self._all = np.zeros((max(8, self._size), max(8, self._size)))
        self._all[: self._size, : self._size] = kept
