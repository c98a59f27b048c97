"""Confounds: how the files of two sides are stored, and the one form that both can be put into.

Audits and confirmation call it. Codec, size and compression alone separate real from synthetic
(clean-fid, arXiv 2104.11222), and say nothing about what the images show.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis.decode import DAMAGED, open_image, orientation_of
from gapclose.analysis.image_folder import ImageSet

_HEADERS: Final = 200  # files a side whose headers are read to compare two sides
LOSSLESS: Final = frozenset({"png", "bmp", "tiff"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The one form that both sides are put through before they are compared.

    Attributes:
        size: (height, width) in pixels, or None to leave sizes as they are.
        quality: JPEG quality of one round trip in memory, 1 to 95, or None for no round trip.
    """

    size: tuple[int, int] | None
    quality: int | None

    def fingerprint(self) -> str:
        """Short text that names the form and its implementation, for cache keys."""
        size = "x".join(map(str, self.size)) if self.size else "any"
        return f"form1:bicubic:{size}:jpeg{self.quality}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confounds:
    """How a sample of one side's files is stored, from their headers alone.

    Attributes:
        codecs: Codec of each file that could be opened: jpeg, png, webp ...
        heights: Pixels, upright.
        widths: Pixels, upright.
        qualities: Estimated quality of each JPEG.
    """

    codecs: tuple[str, ...]
    heights: tuple[int, ...]
    widths: tuple[int, ...]
    qualities: tuple[int, ...]

    def __str__(self) -> str:
        """Codecs and size as a person reads them: `png 512x512`."""
        codecs = "/".join(codec for codec, _ in Counter(self.codecs).most_common(3))
        sizes = Counter(zip(self.widths, self.heights, strict=True))
        (width, height), n = sizes.most_common(1)[0]
        if n >= 0.9 * len(self.codecs):
            return f"{codecs} {width}x{height}"
        (low_w, low_h), (high_w, high_h) = min(sizes, key=math.prod), max(sizes, key=math.prod)
        return f"{codecs} {low_w}x{low_h} to {high_w}x{high_h}"


def read_confounds(images: ImageSet) -> Confounds:
    """Read the headers of at most 200 files, spread evenly; unreadable ones drop out."""
    n = len(images.files)
    step = max(n / _HEADERS, 1.0)
    codecs, heights, widths, qualities = [], [], [], []
    for index in range(min(n, _HEADERS)):
        try:
            with open_image(images.files[int(index * step)].path) as image:
                width, height = image.size
                if orientation_of(image) >= 5:
                    width, height = height, width
                codec = {"mpo": "jpeg"}.get(str(image.format).lower(), str(image.format).lower())
                if codec == "jpeg":
                    qualities.append(_jpeg_quality(image))
        except DAMAGED:
            continue
        codecs.append(codec)
        heights.append(height)
        widths.append(width)
    return Confounds(
        codecs=tuple(codecs),
        heights=tuple(heights),
        widths=tuple(widths),
        qualities=tuple(qualities),
    )


def describe_confounds(real: Confounds, synthetic: Confounds) -> list[str]:
    """One line if the sides differ in codec, size or aspect, else nothing.

    Two samples of one folder differ a little by chance, so a difference counts when it exceeds
    the two-sample Kolmogorov-Smirnov bound at level 0.01.

    Returns:
        `["synthetic: png 512x512, real: jpeg 32x32"]` or `[]`.
    """
    differs = any(_differences(real, synthetic))
    return [f"synthetic: {synthetic}, real: {real}"] if differs else []


def common_form(real: Confounds, synthetic: Confounds) -> Form | None:
    """The form that removes what `describe_confounds` names; None if it names nothing.

    The size is the smaller of both sides' median heights and widths, so that detail only one side
    has is removed and none is made up. The JPEG quality is the median of the side that has JPEGs:
    compressing its own images again at their own quality changes them least.
    """
    codec, shape = _differences(real, synthetic)
    if not codec and not shape:
        return None
    size = quality = None
    if shape:
        size = (
            int(min(np.median(real.heights), np.median(synthetic.heights))),
            int(min(np.median(real.widths), np.median(synthetic.widths))),
        )
    if codec and not set(real.codecs) | set(synthetic.codecs) <= LOSSLESS:
        qualities = real.qualities + synthetic.qualities
        quality = int(np.median(qualities)) if qualities else 90
    return Form(size=size, quality=quality)


def equalize(
    image: NDArray[np.uint8], *, size: tuple[int, int] | None, quality: int | None
) -> NDArray[np.uint8]:
    """Put one image into the form that both sides get.

    The middle of the image is cut to the aspect asked for, resized with Pillow's antialiased
    bicubic kernel (clean-fid, arXiv 2104.11222), and sent once through JPEG.

    Args:
        image: (h, w, 3).
        size: (height, width), or None.
        quality: JPEG quality, or None.

    Returns:
        (height, width, 3).
    """
    if size is not None and image.shape[:2] != size:
        image = resize(image, size=size)
    if quality is None:
        return image
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as decoded:
        return np.array(decoded.convert("RGB"), dtype=np.uint8)


def resize(image: NDArray[np.uint8], *, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut the middle to the aspect of `size` (height, width) and resize it, antialiased."""
    height, width = image.shape[:2]
    scale = min(height / size[0], width / size[1])
    cut_h, cut_w = size[0] * scale, size[1] * scale
    left, top = (width - cut_w) / 2, (height - cut_h) / 2
    resized = Image.fromarray(image).resize(
        (size[1], size[0]),
        Image.Resampling.BICUBIC,
        box=(left, top, min(left + cut_w, width), min(top + cut_h, height)),
    )
    return np.array(resized, dtype=np.uint8)


def _differences(ours: Confounds, theirs: Confounds) -> tuple[bool, bool]:
    """Whether codecs differ, and whether sizes or aspects do."""
    n, m = len(ours.codecs), len(theirs.codecs)
    if not n or not m:
        return False, False
    bound = min(1.63 * math.sqrt((n + m) / (n * m)), 0.9)
    shares = Counter(ours.codecs), Counter(theirs.codecs)
    codec = 0.5 * sum(abs(shares[0][k] / n - shares[1][k] / m) for k in set(shares[0] + shares[1]))
    sides = [
        (np.asarray(side.heights, dtype=np.float64), np.asarray(side.widths, dtype=np.float64))
        for side in (ours, theirs)
    ]
    area = _ks_distance(*(h * w for h, w in sides))
    aspect = _ks_distance(*(w / h for h, w in sides))
    return codec > bound, max(area, aspect) > bound


def _ks_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    at = np.union1d(a, b)
    below_a = np.searchsorted(np.sort(a), at, side="right") / a.size
    below_b = np.searchsorted(np.sort(b), at, side="right") / b.size
    return float(np.abs(below_a - below_b).max())


def _jpeg_quality(image: Any) -> int:
    """Quality that would have given an opened JPEG's luminance table, as libjpeg scales it."""
    table = next(iter(getattr(image, "quantization", {}).values()), None)
    if not table:
        return 90
    percent = 100.0 * float(np.mean(table)) / 57.625  # mean of ITU T.81 table K.1
    quality = 5000.0 / percent if percent > 100 else (200.0 - percent) / 2
    return int(np.clip(round(quality), 1, 95))
