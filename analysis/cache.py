"""Embeddings of image files, made once: the shared cache that runs and audits read first.

The controller and audits call `embed_files`. A row is kept under the file's content, the form it
was put into and the embedder's identity, so a moved or renamed file costs nothing, and where
every row is there no model is loaded. A cache that cannot be written is only slower.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import platformdirs
from numpy.typing import NDArray

from gapclose.analysis.confounds import Form, equalize
from gapclose.analysis.decode import decoder_release, read_rgb
from gapclose.analysis.embedding import Embedder, finite_rows, identity, make_embedder
from gapclose.analysis.errors import EmbedderError, InvalidImageError, UnreadableImageError
from gapclose.analysis.image_folder import digest
from gapclose.analysis.shards import Table

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_SHARD_ROWS: Final = 4096  # what an interruption costs at most
# Raised when `read_rgb` gives other pixels for the same file, so that no old row is reused.
_READING: Final = b"srgb2"
_NOT_FINITE: Final = "the embedder returned non-finite features"
_FEW_NOT_FINITE: Final = 2  # and at most a twentieth: above that it is no accident
_FIRST: Final = 16  # images of the first batch, whose sizes are not known
_BATCH_BYTES: Final = 2**29
_READERS: Final = 4  # threads that decode the next batch
# Two writes within the clock's grain leave the same time; a file this old has a settled one.
_SETTLED_SECONDS: Final = 2.0
_TABLES: dict[Path, Table] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Embeddings of those files that could be read.

    Attributes:
        embeddings: (n, width), rows of length 1, in the order of `paths`.
        paths: The n files, in the order given.
        digests: sha256 of each of them.
        unreadable: (file, reason) of the damaged ones, in the order given.
        invalid: (file, reason) of those that show nothing, or have no finite features.
        n_new: Different images that were embedded now, because the cache had no row.
    """

    embeddings: NDArray[np.float32]
    paths: tuple[Path, ...]
    digests: tuple[bytes, ...]
    unreadable: tuple[tuple[Path, str], ...]
    invalid: tuple[tuple[Path, str], ...]
    n_new: int


def cache_folder() -> Path:
    """Return `$GAPCLOSE_CACHE`, or the platform's own cache folder."""
    chosen = os.environ.get("GAPCLOSE_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("gapclose"))


def embed_files(
    paths: Sequence[Path],
    embedder_name: str,
    *,
    device: str = "auto",
    progress: Progress | None = None,
    batch_size: int = 64,
    form: Form | None = None,
    loaded: dict[str, Embedder] | None = None,
) -> Embedded:
    """Embed image files, from the cache where it has them.

    Args:
        paths: Files, in any order; equal files are embedded once.
        embedder_name: As `make_embedder` takes it.
        device: Where to embed what the cache lacks.
        progress: Called with (files done, files in all), first with those that were cached.
        batch_size: Images per call of the embedder.
        form: What both sides are put through first, if they differ in codec, size or aspect.
        loaded: Embedders by name that need not be loaded again; what is loaded joins them.

    Raises:
        EmbedderError: If the name is wrong, or what it names gives numbers that are not finite
            for more than a few images.
    """
    folder = cache_folder()
    named = hashlib.sha256(identity(embedder_name).encode()).hexdigest()[:32]
    table = _table(folder / "embeddings" / named)
    asked = _Request.of(paths, form, table, *digest_files(paths, folder))
    todo = asked.missing()
    if progress:
        progress(len(paths) - len(todo), len(paths))
    if not todo:
        return asked.answer(width=0, n_new=0)
    loaded = {} if loaded is None else loaded
    if embedder_name not in loaded:
        loaded[embedder_name] = make_embedder(embedder_name, device=device)
    embedder = loaded[embedder_name]
    work = _Work(
        embedder=embedder, form=form, batch_size=batch_size, table=table, total=len(paths)
    )
    for done in work.run(todo):
        if progress:
            progress(len(paths) - len(todo) + done, len(paths))
    asked.rows.update(work.rows)
    asked.notes.update(work.notes)
    return asked.answer(width=embedder.width, n_new=len(work.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """The files of one call, and what is known of each.

    Attributes:
        paths: The files, in the order given.
        digests: sha256 of those that could be read.
        gone: Why there is none of the others.
        keys: The cache's key of each path; None without a digest.
        rows: Embeddings by key.
        notes: Why an image has no row, by key.
    """

    paths: Sequence[Path]
    digests: Mapping[Path, bytes]
    gone: Mapping[Path, str]
    keys: Sequence[bytes | None]
    rows: dict[bytes, NDArray[np.float32]]
    notes: dict[bytes, _Note]

    @classmethod
    def of(
        cls,
        paths: Sequence[Path],
        form: Form | None,
        table: Table,
        digests: Mapping[Path, bytes],
        gone: Mapping[Path, str],
    ) -> _Request:
        """Find what the cache has of some files in a form."""
        keys = [_key(digests.get(path), form) for path in paths]
        return cls(
            paths=paths,
            digests=digests,
            gone=gone,
            keys=keys,
            rows=table.rows(list({key for key in keys if key})),
            notes={key: why for key in keys if key and (why := _remembered(table, key))},
        )

    def missing(self) -> dict[bytes, Path]:
        """Return a file of each key of which nothing is known yet."""
        return {
            key: path
            for path, key in zip(self.paths, self.keys, strict=True)
            if key and key not in self.rows and key not in self.notes
        }

    def answer(self, *, width: int, n_new: int) -> Embedded:
        """Put together what is known; `width` is that of no rows."""
        kept: list[tuple[Path, NDArray[np.float32]]] = []
        lost: list[tuple[Path, _Note]] = []
        for path, key in zip(self.paths, self.keys, strict=True):
            if key in self.rows:
                kept.append((path, self.rows[key]))
            elif path in self.gone:
                lost.append((path, ("damaged", self.gone[path])))
            else:
                lost.append((path, self.notes[key or b""]))
        return Embedded(
            embeddings=np.stack([row for _, row in kept]).astype(np.float32, copy=False)
            if kept
            else np.zeros((0, width), dtype=np.float32),
            paths=tuple(path for path, _ in kept),
            digests=tuple(self.digests[path] for path, _ in kept),
            unreadable=tuple((path, why) for path, (fault, why) in lost if fault == "damaged"),
            invalid=tuple((path, why) for path, (fault, why) in lost if fault == "invalid"),
            n_new=n_new,
        )


class _Work:
    """The embedding of what the cache lacks, stored as it goes."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        form: Form | None,
        batch_size: int,
        table: Table,
        total: int,
    ) -> None:
        self.rows: dict[bytes, NDArray[np.float32]] = {}
        self.notes: dict[bytes, _Note] = {}
        self._n_not_finite = 0
        self._largest = 0  # bytes of an image so far
        self._embedder = embedder
        self._form = form
        self._batch_size = batch_size
        self._table = table
        self._total = total
        self._unsaved: dict[bytes, NDArray[np.float32]] = {}
        self._unsaved_notes: dict[bytes, str] = {}

    def run(self, todo: Mapping[bytes, Path]) -> Iterator[int]:
        """Embed all files, reading the next batch meanwhile; yield how many are done."""
        items = list(todo.items())
        done = 0
        with ThreadPoolExecutor(_READERS) as pool:
            try:
                now = self._read(pool, items[: self._fitting(len(items))])
                while now:
                    start = done + len(now)
                    ahead = self._read(pool, items[start : start + self._fitting(len(items))])
                    self._embed(now)
                    self._check_finite()
                    done, now = start, ahead
                    yield done
            finally:  # what is embedded is kept, also when the rest is interrupted
                pool.shutdown(wait=False, cancel_futures=True)
                self._save()

    def _fitting(self, most: int) -> int:
        """Size the next batch: smaller for large images, as two batches are in memory."""
        if not self._largest:
            return min(_FIRST, self._batch_size, most)
        return max(1, min(self._batch_size, _BATCH_BYTES // self._largest))

    def _read(self, pool: ThreadPoolExecutor, items: Sequence[tuple[bytes, Path]]) -> _Reading:
        return [(key, pool.submit(_pixels, path, self._form)) for key, path in items]

    def _embed(self, reading: _Reading) -> None:
        images: dict[bytes, NDArray[np.uint8]] = {}
        for key, future in reading:
            try:
                images[key] = future.result()
            except UnreadableImageError as error:
                fault: _Fault = "invalid" if isinstance(error, InvalidImageError) else "damaged"
                self.notes[key] = fault, error.why
                if not _passing(error.__cause__):
                    self._unsaved_notes[key] = f"{decoder_release()} {fault} {error.why}"
        self._largest = max([self._largest, *(image.nbytes for image in images.values())])
        if images:
            rows = self._embedder.embed(list(images.values()))
            finite = finite_rows(rows)
            fresh = {}
            for key, row, is_finite in zip(images, rows, finite, strict=True):
                if is_finite:
                    fresh[key] = row
                else:  # not kept in the cache: another device may do better
                    self.notes[key] = "invalid", _NOT_FINITE
            self._n_not_finite += int((~finite).sum())
            self.rows.update(fresh)
            self._unsaved.update(fresh)
        if len(self._unsaved) >= _SHARD_ROWS:
            self._save()

    def _check_finite(self) -> None:
        """Refuse an encoder that gives rows that are not finite for too many of the images."""
        bad = self._n_not_finite
        if bad > max(_FEW_NOT_FINITE, 0.05 * self._total):
            raise EmbedderError(
                f"returned non-finite features for {bad} of "
                f"{self._total} images and more may follow; use another one, or another device",
                name=self._embedder.id,
            )

    def _save(self) -> None:
        _append(self._table, self._unsaved, self._unsaved_notes)
        self._unsaved, self._unsaved_notes = {}, {}


_Fault = Literal["damaged", "invalid"]
_Note = tuple[_Fault, str]
_Reading = list[tuple[bytes, "Future[NDArray[np.uint8]]"]]


def _pixels(path: Path, form: Form | None) -> NDArray[np.uint8]:
    image = read_rgb(path)
    return image if form is None else equalize(image, form)


def _passing(cause: BaseException | None) -> bool:
    """Tell whether a file may be readable another time: no memory, a network drive ..."""
    return isinstance(cause, MemoryError) or (isinstance(cause, OSError) and bool(cause.errno))


def _remembered(table: Table, key: bytes) -> _Note | None:
    """Return why these decoders could not read an image; others try again."""
    release, _, told = (table.note(key) or "").partition(" ")
    fault, _, why = told.partition(" ")
    if release != decoder_release():
        return None
    return ("invalid" if fault == "invalid" else "damaged"), why


def _key(file_digest: bytes | None, form: Form | None) -> bytes | None:
    if file_digest is None:
        return None
    made = _READING + (b"" if form is None else form.fingerprint().encode())
    return hashlib.sha256(file_digest + made).digest()


def digest_files(paths: Sequence[Path], folder: Path) -> tuple[dict[Path, bytes], dict[Path, str]]:
    """Hash each file by sha256, and say why there is no digest of the others.

    As git does, a file whose place, size, times and inode are those of an earlier call is taken
    to be the same file and not read again (10,000 small files: 1 s), unless it had been written
    so shortly before that call that a second write could bear the same time. What is known of
    earlier calls lies in `folder`, the cache's.
    """
    table = _table(folder / "digests")
    stats: dict[Path, bytes] = {}
    settled: set[Path] = set()
    gone: dict[Path, str] = {}
    latest = time.time_ns() - int(_SETTLED_SECONDS * 1e9)
    for path in paths:
        try:
            stat = os.stat(path)  # noqa: PTH116  twice as fast as Path.stat here
        except OSError as error:
            gone[path] = _why(error)
            continue
        seen = (os.path.abspath(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)  # noqa: PTH100
        stats[path] = hashlib.sha256(repr((*seen, stat.st_ino, stat.st_dev)).encode()).digest()
        if max(stat.st_mtime_ns, stat.st_ctime_ns) < latest:
            settled.add(path)
    known = table.rows(list(set(stats.values())))
    digests: dict[Path, bytes] = {}
    fresh: dict[bytes, NDArray[np.uint8]] = {}
    for path, stat_key in stats.items():
        if stat_key in known:
            digests[path] = known[stat_key].tobytes()
            continue
        try:
            digests[path] = bytes.fromhex(digest(path))
        except OSError as error:
            gone[path] = _why(error)
            continue
        if path in settled:
            fresh[stat_key] = np.frombuffer(digests[path], dtype=np.uint8)
    _append(table, fresh, {})
    return digests, gone


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file is gone"
    return (error.strerror or str(error)).lower()


def _append(table: Table, rows: Mapping[bytes, NDArray[Any]], notes: Mapping[bytes, str]) -> None:
    try:
        table.append(rows, notes)
    except OSError as error:
        log.warning("%s: cannot be written (%s); nothing is cached", table.folder, error)


def _table(folder: Path) -> Table:
    """Open the table of a folder as it is now; its index is kept for the next call."""
    if folder in _TABLES:
        _TABLES[folder].refresh()
    else:
        _TABLES[folder] = Table(folder)
    return _TABLES[folder]
