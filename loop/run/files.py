"""Files: how anything of ours is written, so that a crash loses nothing and tears nothing.

A file is replaced whole or appended to line by line, and is on the disk when the call returns,
unless it is written with `durable=False`: a power cut may take that away, or leave zeros in its
place. What the system refuses is an `UnwritableError` that names the file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gapclose.loop.errors import RunDamagedError, UnwritableError

__all__ = [
    "append_line",
    "count_lines",
    "cut_torn_line",
    "damaged_line",
    "kept",
    "own_file",
    "plain",
    "read_lines",
    "remove",
    "sync_folder",
    "to_json",
    "write_bytes",
    "write_text",
]


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    """Raise UnwritableError, naming `path`, where the system refuses what is written to it."""
    try:
        yield
    except UnwritableError:
        raise
    except OSError as error:
        raise UnwritableError(error.errno, error.strerror or str(error), str(path)) from error


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file whole: a reader sees the old one or the new one, never a part.

    Args:
        path: The file.
        data: All that it holds from now on.
        durable: Return once it survives a power cut, which takes two waits for the disk.

    Raises:
        UnwritableError: The system does not let it be written; the old one is as it was.
    """
    with kept(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with _opened(handle) as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            sync_folder(path.parent)


def _opened(handle: int) -> BinaryIO:
    """Open a descriptor as a file that closes it; close it at once where that fails."""
    try:
        return os.fdopen(handle, "wb")
    except BaseException:
        os.close(handle)
        raise


def own_file(path: str, flags: int) -> int:
    """Open a file of a run for writing, for `open`: a link may lead out of the run's folder.

    Raises:
        OSError: It is a link, or cannot be opened.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, "is a link; put the file itself in its place", path) from None


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace a file by UTF-8 text, as `write_bytes` does."""
    write_bytes(path, text.encode(), durable=durable)


def append_line(path: Path, line: bytes, *, durable: bool = True) -> None:
    """Append a line.

    Args:
        path: The file; made if there is none.
        line: Without its end.
        durable: Return once it survives a power cut, which takes a wait for the disk.

    Raises:
        UnwritableError: It cannot be written; `cut_torn_line` takes away what there is of it.
    """
    with kept(path):
        fresh = not path.exists()
        with open(path, "ab", opener=own_file) as file:
            file.write(line + b"\n")
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if durable and fresh:
            sync_folder(path.parent)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the JSON objects of a file, a line each; none where there is no file.

    A line counts once its newline is there; what follows the last one is torn.

    Raises:
        RunDamagedError: A line is no JSON object.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # too many digits, nested too deeply
            row = None
        if not isinstance(row, dict):
            raise damaged_line(path, number)
        rows.append(row)
    return rows


def count_lines(path: Path) -> int | None:
    """Count the whole lines of a text file, a tenth of the time it takes to read them.

    Returns:
        None where it is no text: a power cut has left zeros in it. Of no file, 0.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return 0
    return None if b"\0" in data else data.count(b"\n")


def damaged_line(path: Path, number: int) -> RunDamagedError:
    """Return the error of a line that cannot be read."""
    said = "is damaged; restore the file from a copy, or start anew with --out"
    return RunDamagedError(path, said, line=number)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    path.unlink(missing_ok=True)


def cut_torn_line(path: Path) -> None:
    """Take away what a killed writer left of a line.

    Raises:
        UnwritableError: The system does not let it be cut, or the file is a link.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with kept(path), open(path, "r+b", opener=own_file) as file:
            file.truncate(whole)
            os.fsync(file.fileno())


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Write `plain` of a value as JSON text."""
    try:  # what is plain already takes a third of the time
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError):
        return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def plain(value: Any) -> Any:
    """Return what JSON can say: numpy values become lists, paths text, non-finite numbers null."""
    if isinstance(value, Mapping):
        return {str(key): plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(below) for below in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
