"""A judge of one's own: the power spectrum of an image, which no encoder was trained for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.embedding import unit_rows
from gapclose.analysis.spectrum import BINS, Spectrum

SPECTRAL: Final = f"{Path(__file__).resolve()}:Spectral"
"""As a config names it."""


class Spectral:
    """`Spectrum` with rows of length 1, as every embedder's are."""

    id = "spectral"
    width = BINS

    def __init__(self, *, device: str = "auto") -> None:
        """Take a device as every embedder does; none is needed."""

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed (h, w, 3) images: (n, width)."""
        return unit_rows(Spectrum().embed(images))
