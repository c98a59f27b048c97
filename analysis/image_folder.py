"""Image folders: which files of a folder are images, of which class, and how they are split.

The controller and audits call it for either side, and for nothing that is not a file. It opens no
image and never writes.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

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

Layout = Literal["classes", "flat", "cifake"]


class RealDataError(ValueError):
    """A folder of images cannot be used: fix the folder (exit code 2)."""


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
