"""Low-level features: what pixels and file say of how an image was made, not of what it shows.

`shortcuts` asks how well they tell the classes of a training set. Each belongs to one group:
noise, spectrum, codec, size or color. None is quite free of content: grass is greener and rougher
than sky in photos, too. So nobody should compare them but with the same of real images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.confounds import LOSSLESS, Header, read_header
from gapclose.analysis.decode import DAMAGED, read_rgb
from gapclose.analysis.errors import UnreadableImageError
from gapclose.analysis.spectrum import Spectrum

__all__ = [
    "FEATURES",
    "GROUPS",
    "UNCOMPRESSED",
    "Feature",
    "jpeg_history",
    "measure",
    "measure_files",
    "noise_deviation",
]


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of an image.

    Attributes:
        group: What is tested together.
        more: What a class is whose images have more of it.
        less: What a class is whose images have less of it.
    """

    group: str
    more: str
    less: str


_BANDS: Final = {  # bins of `Spectrum`, and the frequencies at their middle
    (1, 3): "1/16 cycle per pixel",
    (3, 6): "1/8 cycle per pixel",
    (6, 10): "1/4 cycle per pixel",
    (10, 14): "3/8 cycle per pixel",
    (14, 18): "1/2 cycle per pixel",
    (18, 23): "the highest frequencies",
}

FEATURES: Final = (
    Feature("noise", "noisier", "less noisy"),
    Feature("noise", "noisier in chroma", "less noisy in chroma"),
    Feature("noise", "of coarser noise", "smoother"),
    *(Feature("spectrum", f"stronger at {at}", f"weaker at {at}") for at in _BANDS.values()),
    Feature("codec", "more often JPEG", "less often JPEG"),
    Feature("codec", "more often lossy", "less often lossy"),
    Feature("codec", "of higher JPEG quality", "of lower JPEG quality"),
    Feature("codec", "of coarser chroma", "of finer chroma"),
    Feature("codec", "less compressed", "more compressed"),
    Feature("size", "larger", "smaller"),
    Feature("size", "wider", "narrower"),
    Feature("color", "bluer", "yellower"),
    Feature("color", "redder", "greener"),
    Feature("color", "more saturated", "less saturated"),
    Feature("color", "brighter", "darker"),
    Feature("color", "of lighter shadows", "of darker shadows"),
    Feature("color", "of lighter highlights", "of darker highlights"),
)
"""What `measure` gives, in its order."""

GROUPS: Final = tuple(dict.fromkeys(feature.group for feature in FEATURES))
UNCOMPRESSED: Final = 100

_CROP: Final = 128  # pixels: of larger images the middle is measured, at its own resolution
_ROUNDING: Final = math.sqrt(1 / 12)  # grey levels: the deviation that rounding to whole ones adds
_MIDDLE: Final = 0.6934  # mean of the middle half of a standard normal variable's absolute value
_CHROMAS: Final = {"4:4:4": 0.0, "4:2:2": 1.0, "4:2:0": 2.0}
_TO_YCBCR: Final = np.array(  # ITU-T T.871
    [[0.299, -0.168736, 0.5], [0.587, -0.331264, -0.418688], [0.114, 0.5, -0.081312]]
)

_BLOCK: Final = 8  # pixels
_DCT: Final = np.array(
    [
        [
            math.sqrt((2 if row else 1) / _BLOCK)
            * math.cos(math.pi * row * (2 * column + 1) / (2 * _BLOCK))
            for column in range(_BLOCK)
        ]
        for row in range(_BLOCK)
    ]
)
_LUMINANCE: Final = np.array(  # ITU-T T.81, table K.1: quantization at quality 50
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_QUALITIES: Final = np.arange(30, UNCOMPRESSED)
_PERCENT: Final = np.where(_QUALITIES < 50, 5000 // _QUALITIES, 200 - 2 * _QUALITIES)
# Steps as libjpeg scales them, (qualities, 64).
_STEPS: Final = np.clip((_LUMINANCE.ravel() * _PERCENT[:, None] + 50) // 100, 1, 255).astype(
    np.float32
)
_FINEST: Final = 3  # grey levels: rounding to whole ones blurs smaller steps
_SEEN: Final = 3.5  # standard deviations: the best quality of photos in PNG reached 2.6
_HISTORY: Final = 64  # pixels: so much is looked at for traces of JPEG

_SPECTRUM: Final = Spectrum()


def measure(image: NDArray[np.uint8], header: Header | None = None) -> NDArray[np.float64]:
    """Measure one image.

    Args:
        image: (h, w, 3), as decoded: grey and alpha are the loader's matter.
        header: Of its file; None for an image that was never stored, which counts as lossless.

    Returns:
        (len(FEATURES),), finite.
    """
    height, width = image.shape[:2]
    # From a corner of the grid of JPEG's blocks, which starts at the image's own.
    top, left = (max(0, (edge - _CROP) // 2) // _BLOCK * _BLOCK for edge in (height, width))
    middle = image[top : top + _CROP, left : left + _CROP]
    ycc = _ycc(middle)
    thinned = image[:: -(-height // _CROP), :: -(-width // _CROP)]
    if header is not None:
        height, width = header.height, header.width
    return np.array(
        [
            *_noise(middle.astype(np.float64), ycc),
            *_spectrum_shape(middle),
            *_storage(header),
            float(jpeg_history(ycc[:_HISTORY, :_HISTORY, 0])),
            math.log2(height * width),
            math.log2(width / height),
            *_colors(_ycc(thinned)),
        ]
    )


def measure_files(paths: Sequence[Path]) -> NDArray[np.float64]:
    """Measure image files: (n, len(FEATURES)); what cannot be read drops out."""
    rows = []
    for path in paths:
        with suppress(UnreadableImageError, *DAMAGED):
            rows.append(measure(read_rgb(path), read_header(path)))
    return np.array(rows).reshape(-1, len(FEATURES))


def noise_deviation(channel: NDArray[np.float64]) -> float:
    """Estimate the standard deviation of white noise, in the channel's units.

    By the size of the finest diagonal Haar wavelet at every position (Donoho and Johnstone,
    Biometrika 81:425, 1994), which does not see ramps and upright edges: by the Laplacian
    (Immerkaer, CVIU 64:300, 1996) noise-free scenes of the pond told their classes better. The
    mean of the middle half replaces the median, which only takes whole and half grey levels.

    Args:
        channel: (h, w); 0 for one of a single row or column.
    """
    if min(channel.shape) < 2:
        return 0.0
    across = channel[:, 1:] - channel[:, :-1]
    diagonal = (across[1:] - across[:-1]) / 2
    sizes = np.sort(np.abs(diagonal), axis=None)
    quarter = len(sizes) // 4
    return float(sizes[quarter : len(sizes) - quarter].mean()) / _MIDDLE


def jpeg_history(luma: NDArray[np.float64]) -> int:
    """Find the quality at which an image went through JPEG, whatever its file is now.

    Its DCT coefficients then lie near multiples of that quality's steps (Fan and de Queiroz, IEEE
    TIP 12:230, 2003). What is shown and how noisily hardly matters: 32 x 32 pixels are enough.

    Args:
        luma: (h, w) in 0..255, its corner on the grid of blocks.

    Returns:
        The nearest of 30, 32 ... 98, the last JPEG's if there were several; `UNCOMPRESSED` if none
        is seen. Only the steps of ITU-T T.81, as libjpeg scales them, are known.
    """
    rows, columns = (edge // _BLOCK for edge in luma.shape)
    whole = luma[: rows * _BLOCK, : columns * _BLOCK] - 128.0
    blocks = whole.reshape(rows, _BLOCK, columns, _BLOCK).transpose(0, 2, 1, 3)
    coefficients = (_DCT @ blocks @ _DCT.T).reshape(-1, _BLOCK**2)
    # What JPEG has made zero tells nothing, and neither does everything that is small. In smooth
    # images one block is like the next: what they share counts once.
    told = np.abs(coefficients) > _FINEST / 2
    level = np.rint(coefficients[told]) * _BLOCK**2 + np.nonzero(told)[1]
    level, at = np.unique(level, return_index=True)
    frequency = level.astype(int) % _BLOCK**2
    steps = _STEPS[:, frequency]
    multiples = coefficients[told][at].astype(np.float32) / steps
    tells = (np.abs(multiples) > 0.5) & (steps >= _FINEST)
    phases = np.cos(2 * np.pi * multiples) * tells
    sums = phases.sum(axis=1)
    # Without a grid the phases are uniform, and a cosine has a variance of 1/2.
    best = int((sums / np.sqrt(np.maximum(tells.sum(axis=1), 1))).argmax())
    seen = sums[best] / math.sqrt(max(1, tells[best].sum()) / 2)
    return int(_QUALITIES[best]) if seen > _SEEN else UNCOMPRESSED


def _ycc(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(image.astype(np.float64) @ _TO_YCBCR)


def _noise(pixels: NDArray[np.float64], ycc: NDArray[np.float64]) -> tuple[float, ...]:
    """Measure the noise of RGB, of chroma, and of luma at half the resolution, as logarithms."""
    fine = np.mean([noise_deviation(pixels[..., channel]) for channel in range(3)])
    chroma = np.mean([noise_deviation(ycc[..., channel]) for channel in (1, 2)])
    height, width = (edge // 2 * 2 for edge in ycc.shape[:2])
    pairs = ycc[:height:2, :width, 0] + ycc[1:height:2, :width, 0]
    coarse = noise_deviation((pairs[:, ::2] + pairs[:, 1::2]) / 4)
    return tuple(math.log2(value + _ROUNDING) for value in (fine, chroma, coarse))


def _spectrum_shape(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Measure each band's log power, less their mean: the strength of contrast drops out."""
    (row,) = _SPECTRUM.embed([image])
    bands = np.array([row[low:high].mean(dtype=np.float64) for low, high in _BANDS])
    return np.asarray(bands - bands.mean())


def _storage(header: Header | None) -> tuple[float, float, float, float]:
    if header is None or header.codec in LOSSLESS:
        return 0.0, 0.0, float(UNCOMPRESSED), 0.0
    quality = UNCOMPRESSED if header.quality is None else header.quality
    return float(header.codec == "jpeg"), 1.0, float(quality), _CHROMAS.get(header.chroma or "", 0)


def _colors(ycc: NDArray[np.float64]) -> tuple[float, ...]:
    luma, cb, cr = np.moveaxis(ycc, -1, 0)
    black, white = np.quantile(luma, (0.02, 0.98))
    means = (cb.mean(), cr.mean(), np.hypot(cb, cr).mean(), luma.mean(), black, white)
    return tuple(float(value) for value in means)
