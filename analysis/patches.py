"""Patches: what a network sees before it has learned anything.

Random whitened patches of real images are filters, without labels (Coates, Ng and Lee 2011, "An
analysis of single-layer networks in unsupervised feature learning"). A linear probe on what they
answer ranks what a CNN from scratch will miss better than one on an encoder's embeddings, which
know the classes already: `tests/benchmarks/predictors.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gapclose.analysis.downstream.squares import to_squares
from gapclose.analysis.embedding import unit_rows

__all__ = ["PatchFeatures"]

SIDE: Final = 32  # pixels of the squares that are looked at
_PATCH: Final = 6  # pixels
_STRIDE: Final = 2
_FILTERS: Final = 128
_SAMPLED: Final = 20_000  # patches that the filters are whitened by
_DEAD: Final = 0.5  # standard deviations that a filter answers nothing below
_RIDGE: Final = 1e-3  # of the largest eigenvalue: colours that never occur are no noise to enlarge
_AT_ONCE: Final = 200  # images

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchFeatures:
    """Filters, and how strongly real images answer them.

    Attributes:
        filters: (128, 108) of flat patches.
        offsets: (128,) what the mean patch answers.
        mean: (1024,) of real images.
        spread: (1024,) their standard deviations.
    """

    filters: Rows
    offsets: Rows
    mean: Rows
    spread: Rows

    @classmethod
    def fit(cls, real: Sequence[NDArray[np.uint8]], *, seed: int = 0) -> Self:
        """Take filters from real images, and scale by what they answer.

        Single patches are not normalized, as they are in the paper: a CNN sees colours.

        Args:
            real: (h, w, 3) each, at least two.
            seed: Of the patches.
        """
        squares = to_squares(real, side=SIDE)
        rng = np.random.default_rng(seed)
        views = _patches(squares)
        places = tuple(rng.integers(0, size, _SAMPLED) for size in views.shape[:3])
        rows = views[places].reshape(_SAMPLED, -1).astype(np.float64)
        centre = rows.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(rows.T))
        whiten = (vectors / np.sqrt(values + _RIDGE * max(values.max(), 1e-12))) @ vectors.T
        filters = (rows[:_FILTERS] - centre) @ whiten
        filters /= np.maximum(np.linalg.norm(filters, axis=1, keepdims=True), 1e-12)
        filters = filters @ whiten
        filters /= max(((rows - centre) @ filters.T).std(), 1e-12)
        offsets = (filters @ centre).astype(np.float32)
        filters = filters.astype(np.float32)
        answers = _answers(squares, filters, offsets)
        return cls(
            filters=filters,
            offsets=offsets,
            mean=answers.mean(axis=0),
            spread=answers.std(axis=0) + 1e-6,
        )

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Rows:
        """Return (n, 1024) rows of length 1 of images of any sizes."""
        answers = _answers(to_squares(images, side=SIDE), self.filters, self.offsets)
        return unit_rows((answers - self.mean) / self.spread)


def _answers(squares: NDArray[np.uint8], filters: Rows, offsets: Rows) -> Rows:
    """Average, over each quarter, what exceeds the threshold on either side."""
    found = np.empty((len(squares), 8 * _FILTERS), dtype=np.float32)
    for start in range(0, len(squares), _AT_ONCE):
        part = _patches(squares[start : start + _AT_ONCE])
        n, height, width = part.shape[:3]
        seen = part.reshape(n * height * width, -1) @ filters.T - offsets
        both = np.concatenate([np.maximum(seen - _DEAD, 0), np.maximum(-seen - _DEAD, 0)], 1)
        grid = both.reshape(n, 2, height // 2, 2, width // 2, 2 * _FILTERS)
        found[start : start + n] = grid.mean(axis=(2, 4)).reshape(n, -1)
    return found


def _patches(squares: NDArray[np.uint8]) -> NDArray[np.float32]:
    """View squares, (n, 32, 32, 3), as patches: (n, 14, 14, 3, 6, 6) in [0, 1].

    Made flat, they are nine times as large.
    """
    scaled = squares.astype(np.float32) / np.float32(255)
    return sliding_window_view(scaled, (_PATCH, _PATCH), axis=(1, 2))[:, ::_STRIDE, ::_STRIDE]
