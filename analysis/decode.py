"""Decoding: one image file of any mode and format -> 8-bit RGB.

Whoever reads an image of the user's calls it. It refuses to guess: an unreadable file is an error
with a reason, never a grey square.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

_ORIENTATION: Final = 0x0112  # EXIF tag
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
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,  # where the process turns warnings into errors
)


class UnreadableImageError(ValueError):
    """One file is no image that can be read; it is listed and skipped.

    Attributes:
        path: The file.
        why: The reason, in a few words and without the path.
    """

    def __init__(self, path: Path, why: str) -> None:
        """Remember the file and the reason."""
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image of any mode as 8-bit RGB, (h, w, 3).

    Alpha is laid on white, 16-bit grey is scaled from 0..65535, EXIF orientation is applied, of
    several frames the first is taken.

    Raises:
        UnreadableImageError: If the file is damaged, cut off, no image, gone, or so large that it
            may be a decompression bomb.
    """
    try:
        with open_image(path) as image:
            image.load()
            return np.array(_upright(_to_rgb(image), image), dtype=np.uint8)
    except DAMAGED as error:
        raise UnreadableImageError(path, _reason(error)) from error


def open_image(path: Path) -> Image.Image:
    """Open a file without decoding it; what `DAMAGED` names may be raised."""
    # warnings.catch_warnings would swap a global of the process, and files are opened from several
    # threads: so Pillow's warning may be seen on stderr, and the limit is looked at here.
    image = Image.open(path)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise Image.DecompressionBombError
    return image


def _reason(error: BaseException) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels; may be a decompression bomb"
    if isinstance(error, FileNotFoundError):
        return "the file is gone"
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def _upright(rgb: Image.Image, opened: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a damaged EXIF block does not make the pixels unreadable."""
    turn = orientation_of(opened)
    if turn == 1:
        return rgb
    exif = Image.Exif()
    exif[_ORIENTATION] = turn
    rgb.info["exif"] = exif.tobytes()
    return ImageOps.exif_transpose(rgb)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or a damaged one."""
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except DAMAGED:
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return Image.fromarray(_grey8(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode == "LAB":
        to_srgb = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        turned = ImageCms.applyTransform(image, to_srgb)
        if turned is None:
            raise ValueError("CIELab pixels cannot be turned into RGB")
        return turned
    return Image.Image.copy(image) if image.mode == "RGB" else image.convert("RGB")


def _grey8(image: Image.Image) -> NDArray[np.uint8]:
    """Grey of more than 8 bits, scaled to 0..255 by its type's range."""
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
