"""Spectrum: how much power a class's images have at each spatial frequency, side by side.

Upsampling, compression and denoising leave marks there that no eye sees and an encoder may not
see either (arXiv 2003.08685). `Spectrum` is made and cached like any embedder; audits and
confirmation compare its rows with `compare_spectra`. It says that something differs, never what
to change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.kernel import pair

__all__ = ["SPECTRUM", "Spectrum", "SpectrumGap", "compare_spectra"]

SPECTRUM = "gapclose.analysis.spectrum:Spectrum"
BINS = 23  # of 1/32 cycle per pixel, out to the corners of the Fourier plane at 0.71
PER_CYCLE = 32
CROP = 256  # pixels: of larger images the middle is taken, at their own resolution
# The variance that rounding to whole grey levels adds: below it there is nothing to measure.
ROUNDING = 1.0 / 12.0
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float64)


class Spectrum:
    """Azimuthally averaged power spectra as rows: log10 of grey levels squared per frequency.

    Attributes:
        id: `SPECTRUM`.
        width: number of bins.
    """

    id = SPECTRUM
    width = BINS

    def __init__(self, *, device: str = "auto") -> None:
        """Take a device as every embedder does; none is needed."""

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Make one row (23,) per (h, w, 3) image of any size; not of unit length."""
        rows = [self._row(image) for image in images]
        return np.stack(rows) if rows else np.zeros((0, BINS), dtype=np.float32)

    @staticmethod
    def _row(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        top, left = (max(0, (edge - CROP) // 2) for edge in image.shape[:2])
        middle = image[top : top + CROP, left : left + CROP]
        gray = middle.astype(np.float64) @ _LUMA
        window, number, counts = _grid(*gray.shape)
        power = np.abs(np.fft.fft2((gray - gray.mean()) * window)) ** 2 / (window**2).sum()
        sums = np.bincount(number.ravel(), power.ravel(), minlength=BINS)
        seen = counts > 0  # an image of under 32 pixels has no frequency in some bins
        means = np.interp(np.arange(BINS), np.flatnonzero(seen), sums[seen] / counts[seen])
        return np.log10(means + ROUNDING).astype(np.float32)


@lru_cache(maxsize=16)  # the images of a class have one size, or few
def _grid(
    height: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.int_], NDArray[np.int_]]:
    """Return the window and each frequency's bin, both (height, width), and the bins' sizes.

    The window keeps an image's edges from ringing through all frequencies.
    """
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    vertical, horizontal = np.fft.fftfreq(height), np.fft.fftfreq(width)
    radius = np.hypot(vertical[:, None], horizontal[None, :])
    number = np.minimum((radius * PER_CYCLE).astype(int), BINS - 1)
    return window, number, np.bincount(number.ravel(), minlength=BINS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrumGap:
    """Mean spectra of both sides and how far apart they are.

    Attributes:
        gap: root mean square difference of the mean log spectra over the 95th percentile of the
            same between random halves of the real images, at these sizes. For reading: 1 in 20
            equal sides is above 1.
        frequency: (23,) middle of each bin, cycles per pixel.
        real: (23,) mean log10 power.
        synthetic: (23,) mean log10 power.
    """

    gap: float | None
    frequency: tuple[float, ...]
    real: tuple[float, ...]
    synthetic: tuple[float, ...]


def compare_spectra(
    *, real: ArrayLike, synthetic: ArrayLike, splits: int = 200, seed: int = 0
) -> SpectrumGap:
    """Compare the rows that `Spectrum` made of both sides.

    Args:
        real: (n_real, 23), n_real >= 4.
        synthetic: (n_synthetic, 23).
        splits: half-splits of the floor.
        seed: of the splits.

    Raises:
        ValueError: too few images, other rows than spectra, or NaN.
    """
    left, right = pair(real, synthetic)
    if len(left) < 4:
        raise ValueError(f"real: a floor needs at least 4 images, there are {len(left)}")
    half = len(left) // 2
    random = np.random.default_rng(seed)
    floors = []
    for _ in range(splits):
        order = random.permutation(len(left))
        one, other = left[order[:half]], left[order[half : 2 * half]]
        floors.append(_distance(one, other))
    # The difference of two means scales with the root of 1/n + 1/m.
    scale = np.sqrt((1 / len(left) + 1 / len(right)) * half / 2)
    floor = float(np.quantile(floors, 0.95) * scale)
    distance = _distance(left, right)
    return SpectrumGap(
        gap=distance / floor if floor > 0 else None,
        frequency=tuple((i + 0.5) / PER_CYCLE for i in range(left.shape[1])),
        real=tuple(float(v) for v in left.mean(axis=0, dtype=np.float64)),
        synthetic=tuple(float(v) for v in right.mean(axis=0, dtype=np.float64)),
    )


def _distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    apart = a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64)
    return float(np.sqrt((apart**2).mean()))
