"""Decoding: one image file of any mode and format -> 8-bit sRGB.

Whoever reads an image of the user's calls it. The format is told by content, never by name, and
only those of a list are opened. It refuses to guess: an unreadable file is an error with a reason,
never a grey square, and an image of one colour is no picture.
"""

from __future__ import annotations

import io
import math
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from gapclose.analysis.errors import InvalidImageError, UnreadableImageError
from gapclose.analysis.rationed_file import RationedFile

__all__ = [
    "DAMAGED",
    "FORMATS",
    "MAX_BYTES",
    "PREFIX",
    "decoder_release",
    "open_image",
    "orientation_of",
    "read_rgb",
    "read_within",
    "sniff",
]

FORMATS: Final = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "AVIF",
    "JPEG2000",
    "PPM",
    "QOI",
    "HEIF",
)
"""What is opened, by Pillow's names. PostScript and its like are not: Pillow runs a program."""
PREFIX: Final = 64
"""Bytes of a file that `sniff` wants."""

MAX_BYTES: Final = 2**30
"""Of a file that is opened."""

MAX_PIXELS: Final = 256_000_000  # phones have 200 million; Pillow's own limit is 89 million
_MAX_BY_PYTHON: Final = 13_000_000  # pixels that Pillow decodes in Python, a second a million
_PER_PIXEL: Final = 8  # bytes there, at most
_PER_READ: Final = 4  # pixels of other files a read, at least
_LARGE: Final = 32_000_000  # pixels: more are reduced while they are decoded, one image at a time
_REDUCIBLE: Final = frozenset({"L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F"})
_FLAT: Final = 2  # grey levels: a blank picture wobbles by a rounding step, one of snow by more
_SLOW: Final = frozenset({"qoi", "bmp_rle", "ppm"})  # Pillow's names of decoders
_IN_WORDS: Final = (b"P1", b"P2", b"P3")  # PPM in digits: Pillow's time grows as their square
_ORIENTATION: Final = 0x0112  # EXIF tag
_HEIF_BRANDS: Final = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_ONE_AT_A_TIME: Final = threading.Lock()
# What Pillow's decoders are known to raise on damaged files, besides its own errors.
DAMAGED: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    MemoryError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,  # where the process turns warnings into errors
)


@cache
def decoder_release() -> str:
    """Name the decoders in one word: what they cannot read, others may."""
    heif = f"+heif{version('pillow-heif')}" if "HEIF" in _openers() else ""
    return f"{PIL.__version__}{heif}"


def sniff(prefix: bytes) -> str | None:
    """Tell an image's format by the first `PREFIX` bytes of its file.

    Returns:
        A word of `FORMATS`, also where nothing installed can decode it; None for anything else.
    """
    if prefix[:2] in _IN_WORDS:
        return None
    for name, (_, accepts) in _openers().items():
        if accepts(prefix) is True:  # a text says why this Pillow cannot, though it is one
            return name
    heif = prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS
    return "HEIF" if heif else None


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open a file without decoding it; what `DAMAGED` names may be raised, also by decoding it."""
    # Not by `Image.open`: its limit on pixels is a global of the process, it warns below that, and
    # it tries every format that any package has registered.
    with RationedFile(path, most=MAX_BYTES) as stream:
        name = sniff(stream.read(PREFIX))
        if name is None:
            raise UnidentifiedImageError
        if name not in _openers():
            raise ValueError("HEIF, which pip install gapclose[heif] reads")
        stream.seek(0)
        factory, _ = _openers()[name]
        with cast("Image.Image", factory(stream, os.fspath(path))) as image:
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                raise Image.DecompressionBombError
            if not _by_python(image):
                stream.allow(pixels // _PER_READ)
            elif pixels > _MAX_BY_PYTHON:
                raise ValueError(f"more than {_MAX_BY_PYTHON:,} pixels, for a {name} of its kind")
            else:
                stream.allow_all(most=pixels * _PER_PIXEL)
            yield image


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image of any mode as 8-bit sRGB, (h, w, 3).

    Alpha is laid on white, 16-bit grey is scaled from 0..65535, a colour profile is converted, the
    EXIF orientation is applied, of several frames the first is taken. Above 32 million pixels an
    image comes at a half, a third ... of its size: no encoder sees the difference.

    Raises:
        InvalidImageError: If the image is of one colour.
        UnreadableImageError: If the file is damaged, cut off, no image, gone, or so large that it
            may be a decompression bomb.
    """
    try:
        with open_image(path) as image:
            if image.width * image.height <= _LARGE:
                pixels = _pixels(image)
            else:  # bounds the memory, whatever number of threads reads
                with _ONE_AT_A_TIME:
                    pixels = _pixels(image)
    except DAMAGED as error:
        raise UnreadableImageError(path, _reason(error)) from error
    if _is_blank(pixels):
        raise InvalidImageError(path, "one colour")
    return pixels


def read_within(path: Path, most: int) -> NDArray[np.uint8]:
    """Read an image as `read_rgb` does, made smaller where it has more pixels than `most`.

    Raises:
        UnreadableImageError: As `read_rgb`.
    """
    pixels = read_rgb(path)
    height, width = pixels.shape[:2]
    scale = math.sqrt(most / (height * width))
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def orientation_of(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; 1 where there is none, or a damaged one."""
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except DAMAGED:
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


@cache
def _openers() -> dict[str, tuple[Any, Any]]:
    """List, of each format decoded here, what opens a file and what knows its prefix."""
    Image.init()
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return {name: Image.OPEN[name] for name in FORMATS if name in Image.OPEN}


def _by_python(image: Image.Image) -> bool:
    """Return whether Pillow decodes it pixel by pixel: QOI, BMP of runs, odd PPM."""
    return any(tile[0] in _SLOW for tile in getattr(image, "tile", ()))


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    times = math.ceil(math.sqrt(image.width * image.height / _LARGE))
    if times > 1:  # JPEGs can be decoded at a half, a quarter ... of their size
        image.draft(None, (image.width // times, image.height // times))
    image.load()
    times = math.ceil(math.sqrt(image.width * image.height / _LARGE))
    profile = image.info.get("icc_profile")
    small = image.reduce(times) if times > 1 and image.mode in _REDUCIBLE else image
    turn = orientation_of(image)  # after decoding: Pillow turns a TIFF itself
    return np.array(_upright(_to_rgb(small, profile), turn), dtype=np.uint8)


def _is_blank(pixels: NDArray[np.uint8]) -> bool:
    flat = pixels.reshape(-1, 3)
    for some in (flat[:: max(1, len(flat) // 64)], flat):  # a few pixels tell most pictures
        if int((some.max(axis=0) - some.min(axis=0)).max()) > _FLAT:
            return False
    return True


def _reason(error: BaseException) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {MAX_PIXELS:,} pixels; may be a decompression bomb"
    if isinstance(error, FileNotFoundError):
        return "the file is gone"
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a format that is read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def _upright(rgb: Image.Image, turn: int) -> Image.Image:
    """Apply the EXIF orientation; a damaged EXIF block does not make the pixels unreadable."""
    if turn == 1:
        return rgb
    exif = Image.Exif()
    exif[_ORIENTATION] = turn
    rgb.info["exif"] = exif.tobytes()
    return ImageOps.exif_transpose(rgb)


def _to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return Image.fromarray(_grey8(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return _to_srgb(Image.alpha_composite(white, rgba).convert("RGB"), profile)
    if image.mode == "LAB":
        to_srgb = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        return _applied(to_srgb, image)
    if image.mode in {"L", "RGB", "CMYK"}:
        return _to_srgb(image, profile)
    return _to_srgb(image.convert("RGB"), profile)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert from a colour profile; without one, or with a damaged one, sRGB is meant."""
    transform = _transform(profile, image.mode) if profile else None
    if transform is not None:
        return _applied(transform, image)
    return Image.Image.copy(image) if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the transform to sRGB; None if the profile is sRGB or not of such pixels."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    turned = ImageCms.applyTransform(image, transform)
    if turned is None:
        raise ValueError("its colours cannot be turned into sRGB")
    return turned


def _grey8(image: Image.Image) -> NDArray[np.uint8]:
    """Scale grey of more than 8 bits to 0..255 by its type's range."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("pixels that are not numbers")
    top = values.max(initial=0.0)
    if image.mode == "F" and top <= 1.0:
        full = 1.0
    elif image.mode == "F" and top <= 255.0:
        full = 255.0
    else:  # 32-bit files mostly carry 16 bits
        full = 65535.0 if top <= 65535.0 else float(2**31 - 1)
    return np.rint(np.clip(values / full, 0.0, 1.0) * 255.0).astype(np.uint8)
