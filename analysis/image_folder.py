"""Image folders: which files of a folder are images, of which class, and how they are split.

The controller and audits call it for either side. Whether a file is an image is told by its first
bytes and not by its name, and what is passed over is listed. It decodes nothing and never writes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

from gapclose.analysis.decode import MAX_BYTES, PREFIX, sniff
from gapclose.analysis.errors import RealDataError
from gapclose.analysis.unseen import one_line

IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp"}
    | {".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2"}
)
"""Of a file that calls itself an image it is told why it cannot be read; of another, that it is
none."""
METADATA: Final = "metadata.jsonl"
ONE_CLASS: Final = "all"
_CAPTION: Final = 2000  # characters
_LONGEST_CLASS: Final = 200  # bytes: a file that is named after it takes some more, of 255
_LONGEST_LINE: Final = 2**20  # characters of a `metadata.jsonl`
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

# What data sets call their splits, and where detection sets keep images and boxes.
_SPLITS: Final = frozenset(
    {"train", "training", "test", "testing", "val", "valid", "validation"}
    | {"dev", "eval", "holdout"}
)
_IMAGES: Final = frozenset({"images", "image", "imgs", "jpegimages"})
_BOXES: Final = frozenset({"labels", "label", "annotations", "annotation"})

Layout = Literal["classes", "flat", "cifake"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """One file and the class it belongs to.

    Attributes:
        group: What a `metadata.jsonl` says it belongs to: images of one group count as one.
        text: Its caption in a `metadata.jsonl`, as `caption_of` gives it.
    """

    path: Path
    cls: str
    group: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherFile:
    """One file that was passed over, and why."""

    path: Path
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """The images of one side, sorted by class and path.

    Attributes:
        root: The folder that was scanned.
        files: Every image; whether it can be read is not known yet.
        layout: How classes were told: by folders, not at all, or by CIFAKE's file names.
        others: Every other file, sorted by path: no image, hidden, or of no class.
    """

    root: Path
    files: tuple[ImageFile, ...]
    layout: Layout = "classes"
    others: tuple[OtherFile, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(sorted({file.cls for file in self.files}))

    def of(self, cls: str) -> tuple[Path, ...]:
        """Return the files of one class, sorted; empty for a class that is not there."""
        return tuple(file.path for file in self.files if file.cls == cls)

    def groups(self) -> dict[Path, str]:
        """Return the group of each file that a `metadata.jsonl` names one for."""
        return {file.path: file.group for file in self.files if file.group is not None}

    def texts(self) -> dict[Path, str]:
        """Return the caption of each file that a `metadata.jsonl` gives one for."""
        return {file.path: file.text for file in self.files if file.text is not None}


def scan(folder: Path, *, links: bool = True) -> ImageSet:
    """List the images of one side.

    Class folders at the top, images at any depth below them; or images and no class folder with
    images: one class, `all`; or one side of CIFAKE. A `metadata.jsonl` beside images may name the
    `class` and the `group` of each and give its `text`, the caption. Hidden files, files that are
    no images and images beside class folders are passed over, and listed.

    Args:
        folder: The folder.
        links: Follow links, also out of the folder; else they are passed over, too.

    Raises:
        RealDataError: If the folder is missing, no folder, not readable, without images, of
            splits or of a detection data set; if the name of an image is no text; or if a
            `metadata.jsonl` is damaged.
    """
    folder = folder.expanduser()
    if not folder.exists():
        raise RealDataError(
            "no such folder; give a folder of class folders of images", path=folder
        )
    if not folder.is_dir():
        raise RealDataError("is a file; give the folder that holds the images", path=folder)
    try:
        top = _Listing.of(folder, links=links)
        above = {root := folder.resolve(), *root.parents}  # a link to one of them leads back
        below = {path.name: list(_walk(path, {*above}, links=links)) for path in top.folders}
    except OSError as error:
        raise RealDataError(
            f"{error.strerror}; make the folder readable",
            path=error.filename or folder,
        ) from error
    _check_layout(folder, below)
    listings = [top, *(listing for listings in below.values() for listing in listings)]
    told = _read_metadata([p for listing in listings for p in listing.metadata])
    others = [other for listing in listings for other in listing.others]
    files = [
        _image_file(path, name, told)
        for name, listings in below.items()
        for listing in listings
        for path in listing.images
    ]
    layout: Layout = "classes"
    if files:
        named = [_image_file(path, "", told) for path in top.images]
        files += [file for file in named if file.cls]
        beside = "an image beside the class folders, not in one"
        others += [OtherFile(path=file.path, why=beside) for file in named if not file.cls]
    else:
        layout = "cifake" if _is_cifake(top.images) else "flat"
        files = [_image_file(path, _flat_class(path, layout), told) for path in top.images]
    if not files:
        seen = f"; {others[0].path.name}: {others[0].why}" if others else ""
        raise RealDataError(f"no images found{seen}; put images into class folders", path=folder)
    files.sort(key=lambda file: (file.cls, str(file.path)))
    for file in files:
        if _is_mangled(name := str(file.path)):
            raise RealDataError(f"{name!a}: the name is not valid UTF-8; rename it")
    _check_classes(files, told)
    others.sort(key=lambda other: str(other.path))
    return ImageSet(root=folder, files=tuple(files), layout=layout, others=tuple(others))


def _check_classes(files: Sequence[ImageFile], told: Mapping[Path, Mapping[str, Any]]) -> None:
    """Refuse a class after which no file of a run can be named.

    Raises:
        RealDataError: It names the class, and where it is said.
    """
    for cls, file in {file.cls: file for file in files}.items():
        length = len(cls.encode())
        if length > _LONGEST_CLASS:
            problem = f"has {length} bytes, {_LONGEST_CLASS} at most can name files"
        elif cls in (".", "..") or re.search(r"[/\\\0]", cls):
            problem = "cannot name a folder"
        else:
            continue
        said = told.get(Path(os.path.normpath(file.path)), {}).get("class")
        where = file.path.parent if said in (None, "") else file.path.parent / METADATA
        raise RealDataError(f"the class {cls[:40]!r} {problem}; rename it", path=where)


def _image_file(path: Path, cls: str, told: Mapping[Path, Mapping[str, Any]]) -> ImageFile:
    row = told.get(Path(os.path.normpath(path)), {})
    named, group = row.get("class"), row.get("group")
    return ImageFile(
        path=path,
        cls=unicodedata.normalize("NFC", cls if named in (None, "") else str(named)),
        group=None if group is None else str(group),
        text=caption_of(row.get("text")),
    )


def caption_of(text: object) -> str | None:
    """Collapse the white space of a caption; None if nothing is left, or if it is no text.

    What is beyond 2,000 characters is cut off: a `text` may have been written for something else,
    which is no reason to refuse the photos, and text encoders stop reading at 77 tokens (CLIP) or
    512 (T5, about 2,000 characters) anyway. What cannot be seen is left out.
    """
    if not isinstance(text, str):
        return None
    return " ".join(one_line(text).split())[:_CAPTION].rstrip() or None


def _read_metadata(files: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """Read what each image's line says; a name that leads out of the folder is ignored."""
    told: dict[Path, dict[str, Any]] = {}
    for file in files:
        for _, row in read_rows(file):
            name = row.get("file_name")
            if name is not None:  # other tools name other files: image_file_name ...
                told[Path(os.path.normpath(file.parent / name))] = row
    return told


def read_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read a file as `metadata.jsonl` is written: each line's number, from 1, and its row.

    Raises:
        RealDataError: If the file cannot be read, or a line is no object whose `file_name`,
            `class` and `group` are text, where it has them.
    """
    for number, line in _lines(file):
        try:
            row = json.loads(line)
            words = [row.get(key) for key in ("class", "group")]
            is_named = isinstance(row.get("file_name"), str | None)
            if not is_named or not all(map(_is_word, words)):
                raise TypeError
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise RealDataError(
                "expected a JSON object whose file_name, class and group are text; fix or "
                "remove it",
                path=file,
                line=number,
            ) from None
        yield number, row


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, counted from 1; a line without end is refused."""
    try:
        with file.open(encoding="utf-8-sig", newline="\n") as rows:  # JSON may hold other breaks
            for number in count(1):
                line = rows.readline(_LONGEST_LINE)
                if len(line) == _LONGEST_LINE:
                    said = f"a line of more than {_LONGEST_LINE:,} characters; fix or remove it"
                    raise RealDataError(said, path=file, line=number)
                if not line:
                    return
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise RealDataError(f"cannot be read ({error}); fix or remove it", path=file) from None


def _check_layout(folder: Path, below: Mapping[str, Sequence[_Listing]]) -> None:
    """Refuse what is certainly no folder of class folders.

    Raises:
        RealDataError: It says what it is, and what to give instead.
    """
    boxes = [name for name in below if name.casefold() in _BOXES]
    pictures = [name for name in below if name.casefold() in _IMAGES and _n_images(below[name])]
    if boxes and pictures and not any(_n_images(below[name]) for name in boxes):
        raise RealDataError(
            f"looks like a detection data set ({pictures[0]}/ beside {boxes[0]}/); gaps "
            "are measured per class on whole images: crop the objects into class folders and "
            "give the folder of those",
            path=folder,
        )
    classes = [name for name in below if _n_images(below[name])]
    splits = [name for name in classes if is_split(name)]
    if not splits:
        return
    inside = {name: _class_folders(folder / name, below[name]) for name in splits}
    shared = set.intersection(*inside.values()) if len(splits) > 1 else set()
    one = len(classes) == 1 and len(inside[splits[0]]) > 1 and not below[splits[0]][0].images
    if shared or one or (len(splits) > 1 and len(splits) == len(classes)):
        said = f"{', '.join(sorted(splits)[:-1])} and {max(splits)}" if splits[1:] else splits[0]
        raise RealDataError(
            f"looks like a data set with splits ({said}), not class folders; give one of them, "
            f"such as {folder / _first_split(splits)}, or rename them if they are classes",
            path=folder,
        )


def is_split(name: str) -> bool:
    """Tell whether a folder is called as data sets call their splits."""
    return name.casefold().rstrip("0123456789_-") in _SPLITS  # COCO has train2017


def _first_split(splits: Sequence[str]) -> str:
    return min(splits, key=lambda name: (not name.casefold().startswith("train"), name))


def _n_images(listings: Sequence[_Listing]) -> int:
    return sum(len(listing.images) for listing in listings)


def _class_folders(folder: Path, listings: Sequence[_Listing]) -> set[str]:
    """Name the folders directly in one that hold images at any depth."""
    depth = len(folder.parts)
    return {
        listing.folder.parts[depth]
        for listing in listings
        if listing.images and len(listing.folder.parts) > depth
    }


def _is_word(value: object) -> bool:
    """Tell whether a `metadata.jsonl` may give this as a class, a group or a caption."""
    return isinstance(value, str | int | None) and not _is_mangled(str(value))


def _is_mangled(name: str) -> bool:
    """Tell whether a name holds bytes that are no text: no JSON or page could name it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False


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
    """Return the same files as one class, `all`."""
    files = sorted(images.files, key=lambda file: str(file.path))
    return replace(
        images, files=tuple(replace(file, cls=ONE_CLASS) for file in files), layout="flat"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """What lies directly in one folder."""

    folder: Path
    images: list[Path]
    folders: list[Path]
    metadata: list[Path]
    others: list[OtherFile]

    @classmethod
    def of(cls, folder: Path, *, links: bool) -> _Listing:
        """Read every entry, and the first bytes of every file."""
        found = cls(folder=folder, images=[], folders=[], metadata=[], others=[])
        with os.scandir(folder) as entries:
            for entry in entries:
                path = folder / entry.name
                why = _passed_over(entry, links=links)
                if why is not None:
                    found.others.append(OtherFile(path=path, why=why))
                elif entry.is_dir():
                    found.folders.append(path)
                elif entry.name == METADATA:
                    found.metadata.append(path)
                elif _is_image(path):
                    found.images.append(path)
                else:
                    said = "not an image in a supported format"
                    found.others.append(OtherFile(path=path, why=said))
        return found


def _passed_over(entry: os.DirEntry[str], *, links: bool) -> str | None:
    """Say why an entry is neither walked into nor opened; None where it is."""
    if entry.name.startswith("."):
        return "hidden"
    if not links and entry.is_symlink():
        return "a link"
    try:
        if entry.is_dir():
            return None
        if not entry.is_file():
            return "not a regular file, or a broken link"
        large = entry.stat().st_size > MAX_BYTES
    except OSError:  # a link to itself
        return "not a regular file, or a broken link"
    return f"larger than {MAX_BYTES >> 20:,} MiB" if large else None


def _is_image(path: Path) -> bool:
    """Tell whether a file is an image or named as one; why it cannot be read is said later."""
    if os.path.splitext(path.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
        return True
    try:
        with path.open("rb") as stream:
            return sniff(stream.read(PREFIX)) is not None
    except OSError:
        return False


def _walk(folder: Path, known: set[Path], *, links: bool) -> Iterator[_Listing]:
    """Walk a folder and those below it at any depth, each once, whatever links lead to it.

    Args:
        folder: The folder.
        known: Folders that are not walked; those that are join them.
        links: Follow links.
    """
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            if (real := here.resolve()) in known:
                continue
            known.add(real)
            listing = _Listing.of(here, links=links)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            why = "nested too deeply to be opened"
            others = [OtherFile(path=here, why=why)]
            listing = _Listing(folder=here, images=[], folders=[], metadata=[], others=others)
        yield listing
        waiting += sorted(listing.folders, reverse=True)


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
    """Hash a file's bytes by sha256: 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        uniform_bytes = hashlib.sha256(f"{seed}:{digest(path)}".encode()).digest()
        uniform = int.from_bytes(uniform_bytes[:8], "big") / 2**64
        (confirm if uniform < confirm_share else tune).append(path)
    return tuple(tune), tuple(confirm)
