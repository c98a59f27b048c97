"""Captions of photos: read from a file that a person names, or written by a captioner.

The controller calls it for the photos of the tune split; those of a `metadata.jsonl` beside the
photos are image_folder.py's. A photo without a caption is simply absent. It puts no captions
together out of attribute words, and refuses a path that leads out of the folder of photos.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from gapclose.analysis.cache import cache_folder, digest_files
from gapclose.analysis.caption_cache import CaptionCache
from gapclose.analysis.captioner import (
    BATCH,
    Captioner,
    Pixels,
    captioner_identity,
    make_captioner,
)
from gapclose.analysis.decode import MAX_BYTES, read_within
from gapclose.analysis.errors import RealDataError, UnreadableImageError
from gapclose.analysis.image_folder import caption_of, read_rows

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_SHOWN: Final = 80  # characters of a name
_COLUMNS: Final = ("file_name", "text")
# A model that chats reads a photo of 12 million pixels as 15,000 tokens, and writes no better.
_LARGEST: Final = 1 << 20  # pixels
# Raised when `_pixels` gives other pixels for the same file, so that no old caption is reused.
_READING: Final = "srgb2"


def read_captions(path: Path, photos: Sequence[Path], root: Path) -> dict[Path, str]:
    """Read captions from a `.jsonl` or `.csv` file of `file_name` and `text`.

    Args:
        path: The file, in UTF-8; a CSV file begins with a line that names its columns. Others than
            these two are ignored. Of two captions of one photo the last counts.
        photos: All photos that it may name, below `root`.
        root: The folder of photos, to which its names are relative.

    Returns:
        Captions as `caption_of` gives them, in the order of `photos`; no photo without one.

    Raises:
        RealDataError: If the file cannot be read, a line is damaged or names a path out of `root`,
            or no photo has a caption in it.
    """
    path = path.expanduser()
    top = os.path.abspath(root.expanduser())  # noqa: PTH100  a link would lead out of the folder
    told: dict[str, str] = {}
    first: str | None = None
    for number, name, text in _rows(path):
        place = _place(top, name)
        if place is None:
            raise RealDataError(
                f"{_short(name)} leads out of {root}; give file_name relative to that folder",
                path=path,
                line=number,
            )
        first = name if first is None else first
        told[place] = text or ""
    places = ((photo, _place(top, os.path.abspath(photo))) for photo in photos)  # noqa: PTH100
    named = {photo: told[place] for photo, place in places if place in told}
    if not named:
        raise RealDataError(_names_none(first, photos, top), path=path)
    captions = {photo: caption for photo, text in named.items() if (caption := caption_of(text))}
    if not captions:
        raise RealDataError(
            f"names {len(named)} photos and has no text for them; put their captions under `text`",
            path=path,
        )
    return captions


def _rows(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """Yield the line, the file name and the text of each row that names a file."""
    if not path.is_file():
        raise RealDataError("no such file; give a .jsonl or .csv file of captions", path=path)
    if path.stat().st_size > MAX_BYTES:
        raise RealDataError(f"is larger than {MAX_BYTES >> 20:,} MiB; cut it", path=path)
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        for number, row in read_rows(path):
            if row.get("file_name"):
                yield number, row["file_name"], caption_of(row.get("text"))
    elif suffix == ".csv":
        yield from _csv_rows(path)
    else:
        raise RealDataError(
            f"captions are read from .jsonl and .csv files, and this is {suffix or 'neither'}",
            path=path,
        )


def _csv_rows(path: Path) -> Iterator[tuple[int, str, str | None]]:
    number = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = reader.fieldnames or ()
            if missing := [column for column in _COLUMNS if column not in columns]:
                raise RealDataError(
                    f"has no column {' and no column '.join(missing)}; its first line must be "
                    f"{','.join(_COLUMNS)}",
                    path=path,
                    line=1,
                )
            if twice := [column for column in _COLUMNS if columns.count(column) > 1]:
                raise RealDataError(
                    f"has the column {twice[0]} twice; rename one", path=path, line=1
                )
            for row in reader:
                number = reader.line_num
                if None in row or None in row.values():
                    raise RealDataError(
                        f"expected {len(columns)} columns; put a text that holds a comma in "
                        'double quotes, "..."',
                        path=path,
                        line=number,
                    )
                if row["file_name"]:
                    yield number, row["file_name"], row["text"]
    except csv.Error as error:
        raise RealDataError(f"no CSV ({error}); fix it", path=path, line=number + 1) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RealDataError(f"cannot be read ({error}); fix or remove it", path=path) from None


def _place(top: str, name: str) -> str | None:
    """Return where a file lies below a folder, as text alone tells it; None if it lies out of it.

    macOS writes an accented letter as two characters where others write one.
    """
    place = os.path.normpath(os.path.join(top, name))  # noqa: PTH118
    below = place.startswith(os.path.join(top, ""))  # noqa: PTH118
    return unicodedata.normalize("NFC", place) if below else None


def _names_none(first: str | None, photos: Sequence[Path], top: str) -> str:
    if first is None:
        return "names no photo; give each line a file_name and a text"
    example = f", where a photo is {os.path.relpath(photos[0], top)!r}" if photos else ""
    return (
        f"names none of the {len(photos)} photos (its first: {_short(first)}{example}); give "
        f"file_name relative to {top}"
    )


def _short(name: str) -> str:
    """Quote a name that may be anything on a line of its own."""
    return repr(name if len(name) <= _SHOWN else f"{name[: _SHOWN - 3]}...")


def captions_of(
    photos: Sequence[Path],
    name: str,
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[Path, str]:
    """Caption photos by a captioner, from the cache where it has them.

    Each batch is in the cache before `progress` hears of it, so an interruption costs one batch.
    Where the cache has every photo, no model is loaded.

    Args:
        photos: Files, in any order; equal files are captioned once.
        name: As `make_captioner` takes it.
        device: Where to caption what the cache lacks.
        progress: Called with (files done, files in all), first with those that were cached.

    Returns:
        Captions as `caption_of` gives them, in the order of `photos`. A photo that cannot be read
        or shows nothing, or of which the captioner says nothing, is left out.

    Raises:
        CaptionerError: If the name is wrong, or what it names does not run here.
    """
    made_by = f"{_READING}:{_LARGEST}:{captioner_identity(name)}"
    key = hashlib.sha256(made_by.encode()).hexdigest()[:32]
    folder = cache_folder()
    cache = CaptionCache(folder / "captions" / f"{key}.jsonl")
    digests, _ = digest_files(photos, folder)
    known = cache.read()
    todo = {digest: photo for photo, digest in digests.items() if digest not in known}
    n_known = len(photos) - len(todo)
    if progress:
        progress(n_known, len(photos))
    if todo:
        for done, made in _caption(todo, lambda: make_captioner(name, device=device)):
            cache.append(made)
            known.update(made)
            if progress:
                progress(n_known + done, len(photos))
    texts = {photo: known.get(digests.get(photo, b"")) for photo in photos}
    return {photo: caption for photo, text in texts.items() if (caption := caption_of(text))}


def _caption(
    todo: Mapping[bytes, Path], make: Callable[[], Captioner]
) -> Iterator[tuple[int, dict[bytes, str]]]:
    """Caption photos, reading the next batch meanwhile; yield how many are done, and the last."""
    items = list(todo.items())
    batches = [items[at : at + BATCH] for at in range(0, len(items), BATCH)]
    done, captioner = 0, None
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(_read, batches[0])
        for number, batch in enumerate(batches, start=1):
            images = ahead.result()
            if number < len(batches):
                ahead = pool.submit(_read, batches[number])
            if images and captioner is None:  # not for photos that cannot be read
                captioner = make()
            texts = captioner.caption([*images.values()]) if captioner and images else []
            done += len(batch)
            yield done, dict(zip(images, texts, strict=True))


def _read(batch: Sequence[tuple[bytes, Path]]) -> dict[bytes, Pixels]:
    """Read those photos of a batch that can be read."""
    images: dict[bytes, Pixels] = {}
    for digest, photo in batch:
        try:
            images[digest] = read_within(photo, _LARGEST)
        except UnreadableImageError as error:
            log.warning("%s; it gets no caption", error)
    return images
