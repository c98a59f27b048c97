"""Image folders: what is in them, read as 8-bit RGB, split and compared.

The controller and audits call it for either side, and for nothing that is not a file. It refuses
to guess (an unreadable file is an error with a reason, never a grey square) and it never writes.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import struct
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
ONE_CLASS: Final = "all"
CIFAKE_CLASSES: Final = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)  # CIFAKE writes classes 2 to 10 as "NNNN (k).jpg" and the first without a suffix
_CIFAKE_NAME: Final = re.compile(r"\d{4}(?: \((10|[2-9])\))?\.jpg", re.IGNORECASE)
_HEADERS: Final = 200  # files a side whose headers are read to compare two sides
LOSSLESS: Final = frozenset({"png", "bmp", "tiff"})
_ORIENTATION: Final = 0x0112  # EXIF tag
# What Pillow's decoders are known to raise on damaged files, besides its own errors.
_DAMAGED: Final = (
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

Layout = Literal["classes", "flat", "cifake"]


class RealDataError(ValueError):
    """A folder of images cannot be used: fix the folder (exit code 2)."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """One file and the class it belongs to."""

    path: Path
    cls: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """The images of one side, sorted by class and path.

    Attributes:
        root: The folder that was scanned.
        files: Every image; whether it can be read is not known yet.
        layout: How classes were told: by folders, not at all, or by CIFAKE's file names.
    """

    root: Path
    files: tuple[ImageFile, ...]
    layout: Layout = "classes"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(sorted({file.cls for file in self.files}))

    def of(self, cls: str) -> tuple[Path, ...]:
        """Files of one class, sorted; empty for a class that is not there."""
        return tuple(file.path for file in self.files if file.cls == cls)


# ---------------------------------------------------------------- finding


def scan(folder: Path) -> ImageSet:
    """List the images of one side.

    Class folders at the top, images at any depth below them; or images and no class folder with
    images: one class, `all`; or one side of CIFAKE. Hidden files and folders are passed over, and
    so are images beside class folders. Links are followed, also out of the folder.

    Raises:
        RealDataError: If the folder is missing, no folder, not readable or without images, or
            if the name of one is no text.
    """
    folder = folder.expanduser()
    if not folder.exists():
        raise RealDataError(f"{folder}: no such folder; give a folder of class folders of images")
    if not folder.is_dir():
        raise RealDataError(f"{folder}: a file; give the folder that holds the images")
    try:
        top, below = _listing(folder)
        classes = {path.name: list(_images_below(path, (folder.resolve(),))) for path in below}
    except OSError as error:
        raise RealDataError(
            f"{error.filename or folder}: {error.strerror}; make the folder readable"
        ) from error
    files = [
        ImageFile(path=path, cls=unicodedata.normalize("NFC", name))
        for name, paths in classes.items()
        for path in paths
    ]
    layout: Layout = "classes"
    if not files:
        layout = "cifake" if _is_cifake(top) else "flat"
        files = [ImageFile(path=path, cls=_flat_class(path, layout)) for path in top]
    if not files:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise RealDataError(f"{folder}: no image in it; put images ({known}) into class folders")
    files.sort(key=lambda file: (file.cls, str(file.path)))
    for file in files:
        if _is_mangled(name := str(file.path)):
            raise RealDataError(f"{name!a}: its name is no UTF-8; rename it")
    return ImageSet(root=folder, files=tuple(files), layout=layout)


def _is_mangled(name: str) -> bool:
    """Whether a file's name holds bytes that are no text: no JSON or page could name it."""
    return any("\udc80" <= character <= "\udcff" for character in name)


def scan_sides(*, real: Path, synthetic: Path) -> tuple[ImageSet, ImageSet]:
    """Scan both sides; CIFAKE's names tell classes only where both sides have them.

    Returns:
        (real, synthetic).

    Raises:
        RealDataError: As `scan` does, for either side.
    """
    both = scan(real), scan(synthetic)
    if {side.layout for side in both} == {"cifake", "flat"}:
        return one_class(both[0]), one_class(both[1])
    return both


def one_class(images: ImageSet) -> ImageSet:
    """The same files as one class, `all`."""
    files = sorted((file.path for file in images.files), key=str)
    return replace(
        images,
        files=tuple(ImageFile(path=path, cls=ONE_CLASS) for path in files),
        layout="flat",
    )


def _listing(folder: Path) -> tuple[list[Path], list[Path]]:
    """Images and folders directly in a folder, hidden ones left out."""
    images, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(folder / entry.name)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
                images.append(folder / entry.name)
    return images, folders


def _images_below(folder: Path, parents: tuple[Path, ...]) -> Iterator[Path]:
    """Images at any depth; a link back to a parent is passed over."""
    here = folder.resolve()
    if here in parents:
        return
    images, folders = _listing(folder)
    yield from images
    for below in folders:
        yield from _images_below(below, (*parents, here))


def _is_cifake(paths: Sequence[Path]) -> bool:
    matches = [_CIFAKE_NAME.fullmatch(path.name) for path in paths]
    if not matches or None in matches:
        return False
    suffixes = {match.group(1) for match in matches if match is not None}
    return suffixes >= {str(k) for k in range(2, 11)}


def _flat_class(path: Path, layout: Layout) -> str:
    match = _CIFAKE_NAME.fullmatch(path.name) if layout == "cifake" else None
    return CIFAKE_CLASSES[int(match.group(1) or 1) - 1] if match else ONE_CLASS


# ---------------------------------------------------------------- identity and splits


def digest(path: Path) -> str:
    """sha256 of a file's bytes, 64 hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def split(
    paths: Sequence[Path], *, confirm_share: float, seed: int
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Cut files into a tune and a confirm split, by their content alone.

    Equal files always fall on one side, and a file's side depends on no other file, so adding or
    removing images moves none. The share is therefore met on average: sides differ from it by
    about sqrt(n share (1 - share)) files.

    Args:
        paths: Files of one class.
        confirm_share: Expected share of the confirm split, in [0, 1].
        seed: Another seed, another cut.

    Returns:
        (tune, confirm), each in the order given.
    """
    if not 0 <= confirm_share <= 1:
        raise ValueError(f"confirm_share is {confirm_share}; give a share between 0 and 1")
    tune: list[Path] = []
    confirm: list[Path] = []
    for path in paths:
        drawn = hashlib.sha256(f"{seed}:{digest(path)}".encode()).digest()
        uniform = int.from_bytes(drawn[:8], "big") / 2**64
        (confirm if uniform < confirm_share else tune).append(path)
    return tuple(tune), tuple(confirm)


# ---------------------------------------------------------------- reading


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image of any mode as 8-bit RGB, (h, w, 3).

    Alpha is laid on white, 16-bit grey is scaled from 0..65535, EXIF orientation is applied, of
    several frames the first is taken.

    Raises:
        UnreadableImageError: If the file is damaged, cut off, no image, gone, or so large that it
            may be a decompression bomb.
    """
    try:
        with _open(path) as image:
            image.load()
            return np.array(_upright(_to_rgb(image), image), dtype=np.uint8)
    except _DAMAGED as error:
        raise UnreadableImageError(path, _reason(error)) from error


def _open(path: Path) -> Image.Image:
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
    turn = _orientation(opened)
    if turn == 1:
        return rgb
    exif = Image.Exif()
    exif[_ORIENTATION] = turn
    rgb.info["exif"] = exif.tobytes()
    return ImageOps.exif_transpose(rgb)


def _orientation(image: Image.Image) -> int:
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGED:
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


# ---------------------------------------------------------------- confounds


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
            with _open(images.files[int(index * step)].path) as image:
                width, height = image.size
                if _orientation(image) >= 5:
                    width, height = height, width
                codec = {"mpo": "jpeg"}.get(str(image.format).lower(), str(image.format).lower())
                if codec == "jpeg":
                    qualities.append(_jpeg_quality(image))
        except _DAMAGED:
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
