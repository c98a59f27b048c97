"""Confounds: how the files of two sides are stored, and the one form that both can be put into.

Audits and confirmation call it. Codec, size and compression alone separate real from synthetic
(clean-fid, arXiv 2104.11222), and say nothing about what the images show.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from gapclose.analysis.decode import DAMAGED, open_image, orientation_of

_HEADERS: Final = 200  # files a class and side whose headers are read to compare two sides
LOSSLESS: Final = frozenset({"png", "bmp", "tiff", "gif", "ppm", "qoi"})
_LEVEL: Final = 0.01  # of calling two sides different that are not, over all that is compared
_SAME_QUALITY: Final = 2  # the quality is an estimate, by the mean of a rounded table
_CHROMAS: Final = ("4:4:4", "4:2:2", "4:2:0")  # as Pillow numbers them
_WORST: Final = 0.1  # the quality that nine in ten JPEGs of a side reach

Difference = Literal["codec", "quality", "chroma", "size", "aspect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The one form that both sides are put through before they are compared.

    Attributes:
        size: (height, width) in pixels, or None to leave sizes as they are.
        quality: JPEG quality of one round trip in memory, 1 to 95, or None for no round trip.
        chroma: Subsampling of that round trip: 4:4:4, 4:2:2 or 4:2:0.
    """

    size: tuple[int, int] | None
    quality: int | None
    chroma: str = "4:2:0"

    def fingerprint(self) -> str:
        """Name the form and its implementation in a short text, for cache keys."""
        size = "x".join(map(str, self.size)) if self.size else "any"
        return f"form2:bicubic:{size}:jpeg{self.quality}:{self.chroma}"

    def __str__(self) -> str:
        """Describe the form to a person: `32x32, JPEG quality 30`."""
        size = [f"{self.size[1]}x{self.size[0]}"] if self.size else []
        jpeg = [] if self.quality is None else [f"JPEG quality {self.quality} {self.chroma}"]
        return ", ".join([*size, *jpeg])


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """How one file is stored.

    Attributes:
        codec: jpeg, png, webp ...
        height: Pixels, upright.
        width: Pixels, upright.
        quality: Estimated, 1 to 95; None for what is no JPEG.
        chroma: Subsampling, 4:4:4, 4:2:2 or 4:2:0; None for what is no JPEG in colour.
    """

    codec: str
    height: int
    width: int
    quality: int | None = None
    chroma: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confounds:
    """How a sample of one side's files is stored, from their headers alone.

    Attributes:
        codecs: Codec of each file that could be opened: jpeg, png, webp ...
        heights: Pixels, upright.
        widths: Pixels, upright.
        qualities: Estimated quality of each JPEG.
        chromas: Chroma subsampling of each JPEG in colour.
    """

    codecs: tuple[str, ...]
    heights: tuple[int, ...]
    widths: tuple[int, ...]
    qualities: tuple[int, ...] = ()
    chromas: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Describe codecs and size to a person: `png 512x512`."""
        return self.told()

    def told(self, differs: Sequence[Difference] = ()) -> str:
        """Describe the same with the JPEGs' quality and chroma where those differ."""
        words = ["/".join(codec for codec, _ in Counter(self.codecs).most_common(3))]
        if "quality" in differs and self.qualities:
            words.append(f"quality {int(np.median(self.qualities))}")
        if "chroma" in differs and self.chromas:
            words.append(Counter(self.chromas).most_common(1)[0][0])
        sizes = Counter(zip(self.widths, self.heights, strict=True))
        (width, height), n = sizes.most_common(1)[0]
        if n >= 0.9 * len(self.codecs):
            return " ".join([*words, f"{width}x{height}"])
        (low_w, low_h), (high_w, high_h) = min(sizes, key=math.prod), max(sizes, key=math.prod)
        return " ".join([*words, f"{low_w}x{low_h} to {high_w}x{high_h}"])


def read_header(path: Path) -> Header:
    """Read how one file is stored, without decoding it; what `DAMAGED` names may be raised."""
    with open_image(path) as image:
        width, height = image.size
        if orientation_of(image) >= 5:
            width, height = height, width
        codec = {"mpo": "jpeg"}.get(str(image.format).lower(), str(image.format).lower())
        quality = chroma = None
        if codec == "jpeg":
            quality, sampling = _jpeg_quality(image), get_sampling(image)
            chroma = _CHROMAS[sampling] if sampling >= 0 and image.mode != "L" else None
    return Header(codec=codec, height=height, width=width, quality=quality, chroma=chroma)


def read_confounds(paths: Sequence[Path]) -> Confounds:
    """Read the headers of at most 200 files, spread evenly; unreadable ones drop out."""
    n = len(paths)
    step = max(n / _HEADERS, 1.0)
    headers = []
    for index in range(min(n, _HEADERS)):
        with suppress(*DAMAGED):
            headers.append(read_header(paths[int(index * step)]))
    return Confounds(
        codecs=tuple(h.codec for h in headers),
        heights=tuple(h.height for h in headers),
        widths=tuple(h.width for h in headers),
        qualities=tuple(h.quality for h in headers if h.quality is not None),
        chromas=tuple(h.chroma for h in headers if h.chroma is not None),
    )


def differences(
    real: Confounds, synthetic: Confounds, *, compared: int = 1
) -> tuple[Difference, ...]:
    """List how two sides are stored differently: codec, JPEG quality, chroma, size, aspect.

    Two samples of one folder differ a little by chance, so a difference counts when it exceeds
    the two-sample Kolmogorov-Smirnov bound, at level 0.01 over all that is compared.

    Args:
        real: Of a class.
        synthetic: Of the same class.
        compared: How many classes are compared in this audit.
    """
    if not real.codecs or not synthetic.codecs:
        return ()
    found: dict[Difference, float] = {
        "codec": _total_variation(*([_kind(c) for c in s.codecs] for s in (real, synthetic))),
        "quality": min(
            _ks_distance(np.add(real.qualities, shift), np.asarray(synthetic.qualities))
            for shift in range(-_SAME_QUALITY, _SAME_QUALITY + 1)
        ),
        "chroma": _total_variation(real.chromas, synthetic.chromas),
        "size": _ks_distance(
            np.multiply(real.heights, real.widths),
            np.multiply(synthetic.heights, synthetic.widths),
        ),
        "aspect": _ks_distance(
            np.divide(real.widths, real.heights),
            np.divide(synthetic.widths, synthetic.heights),
        ),
    }
    sizes = {
        "quality": (len(real.qualities), len(synthetic.qualities)),
        "chroma": (len(real.chromas), len(synthetic.chromas)),
    }
    both = len(real.codecs), len(synthetic.codecs)
    level = _LEVEL / (len(found) * compared)
    return tuple(
        key for key, distance in found.items() if distance > _bound(*sizes.get(key, both), level)
    )


def describe_confounds(
    real: Mapping[str, Confounds], synthetic: Mapping[str, Confounds]
) -> list[str]:
    """Describe each way in which classes are stored differently, a line each.

    Args:
        real: By class.
        synthetic: Of the same classes.

    Returns:
        `["synthetic: png 512x512, real: jpeg 32x32"]` if it is so in every class, else with the
        classes before it.
    """
    lines: dict[str, list[str]] = {}
    for name, ours in real.items():
        theirs = synthetic[name]
        if differs := differences(ours, theirs, compared=len(real)):
            line = f"synthetic: {theirs.told(differs)}, real: {ours.told(differs)}"
            lines.setdefault(line, []).append(name)
    return [
        line if len(names) == len(real) else f"{', '.join(names)}: {line}"
        for line, names in lines.items()
    ]


def common_form(real: Confounds, synthetic: Confounds, *, compared: int = 1) -> Form | None:
    """Choose the form that removes what `differences` names; None if it names nothing.

    The size is the smaller of both sides' median heights and widths, so that detail only one side
    has is removed and none is made up. The JPEG quality and chroma are those of the side that has
    JPEGs, or the coarser of both, that of their worst tenth: compressing images again at their own
    quality changes them least.
    """
    differs = differences(real, synthetic, compared=compared)
    if not differs:
        return None
    size = quality = None
    if "size" in differs or "aspect" in differs:
        size = (
            int(min(np.median(real.heights), np.median(synthetic.heights))),
            int(min(np.median(real.widths), np.median(synthetic.widths))),
        )
    codecs = set(real.codecs) | set(synthetic.codecs)
    if {"codec", "quality", "chroma"} & {*differs} and not codecs <= LOSSLESS:
        worst = [
            np.quantile(side.qualities, _WORST)
            for side in (real, synthetic)
            if len(side.qualities) > len(side.codecs) / 2
        ]
        quality = int(min(worst, default=90))
    usual = [Counter(s.chromas).most_common(1)[0][0] for s in (real, synthetic) if s.chromas]
    return Form(size=size, quality=quality, chroma=max(usual, key=_CHROMAS.index, default="4:2:0"))


def equalize(image: NDArray[np.uint8], form: Form) -> NDArray[np.uint8]:
    """Put one image into the form that both sides get.

    The middle of the image is cut to the aspect asked for, resized with Pillow's antialiased
    bicubic kernel (clean-fid, arXiv 2104.11222), and sent once through JPEG.

    Args:
        image: (h, w, 3).
        form: What it is put through.

    Returns:
        (height, width, 3).
    """
    if form.size is not None and image.shape[:2] != form.size:
        image = resize(image, size=form.size)
    if form.quality is None:
        return image
    stream = io.BytesIO()
    sampling = _CHROMAS.index(form.chroma)
    Image.fromarray(image).save(stream, "JPEG", quality=form.quality, subsampling=sampling)
    with Image.open(stream) as decoded:
        return np.array(decoded.convert("RGB"), dtype=np.uint8)


def resize(
    image: NDArray[np.uint8],
    *,
    size: tuple[int, int],
    kernel: Image.Resampling = Image.Resampling.BICUBIC,
) -> NDArray[np.uint8]:
    """Cut the middle to the aspect of `size` (height, width) and resize it, antialiased."""
    height, width = image.shape[:2]
    scale = min(height / size[0], width / size[1])
    cut_h, cut_w = size[0] * scale, size[1] * scale
    left, top = (width - cut_w) / 2, (height - cut_h) / 2
    resized = Image.fromarray(image).resize(
        (size[1], size[0]),
        kernel,
        box=(left, top, min(left + cut_w, width), min(top + cut_h, height)),
    )
    return np.array(resized, dtype=np.uint8)


def _bound(n: int, m: int, level: float) -> float:
    """Bound the Kolmogorov-Smirnov distance of two samples of one distribution."""
    if not n or not m:
        return 1.0
    return math.sqrt(-0.5 * math.log(level / 2) * (n + m) / (n * m))


def _kind(codec: str) -> str:
    """Name a codec; lossless ones count as one, for pixels do not tell them apart."""
    return "lossless" if codec in LOSSLESS else codec


def _total_variation(a: Sequence[str], b: Sequence[str]) -> float:
    if not a or not b:
        return 0.0
    shares = Counter(a), Counter(b)
    apart = (abs(shares[0][k] / len(a) - shares[1][k] / len(b)) for k in {*a, *b})
    return 0.5 * sum(apart)


def _ks_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    if not len(a) or not len(b):
        return 0.0
    at = np.union1d(a, b)
    below_a = np.searchsorted(np.sort(a), at, side="right") / a.size
    below_b = np.searchsorted(np.sort(b), at, side="right") / b.size
    return float(np.abs(below_a - below_b).max())


def _jpeg_quality(image: Any) -> int:
    """Read the quality off an opened JPEG's luminance table, as libjpeg scales it."""
    table = next(iter(getattr(image, "quantization", {}).values()), None)
    if not table:
        return 90
    percent = 100.0 * float(np.mean(table)) / 57.625  # mean of ITU T.81 table K.1
    quality = 5000.0 / percent if percent > 100 else (200.0 - percent) / 2
    return int(np.clip(round(quality), 1, 95))
