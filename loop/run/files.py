"""Files: how anything of ours is written, so that a crash loses nothing and tears nothing.

A file is replaced whole or appended to line by line, and is on the disk when the call returns,
unless it is written with `durable=False`: a power cut may take that away, or leave zeros in its
place. What the system refuses is an `UnwritableError` that names the file. Only regular files are
opened: a link may lead elsewhere, a pipe is waited for, and a device has no end.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from gapclose.loop.errors import RunDamagedError, UnwritableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "append_line",
    "count_lines",
    "cut_torn_line",
    "damaged",
    "kept",
    "opened",
    "own_file",
    "parse_json",
    "plain",
    "read_arrays",
    "read_bytes",
    "read_lines",
    "remove",
    "remove_all",
    "sync_folder",
    "to_json",
    "whole_lines",
    "write_bytes",
    "write_text",
]

_CHUNK: Final = 2**20  # bytes
_LONGEST: Final = 2**28  # bytes of a line: what a million photos were called takes a tenth of it
_LARGEST: Final = 2**30  # bytes of a file that is read whole
UNFIT: Final = "is a link or not a regular file; put the file itself in its place, or remove it"


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
    """Open a file of a run, for `open`; where it is made, it is made as a regular one.

    Raises:
        RunDamagedError: It is a link, a folder, a pipe or a device.
        OSError: It cannot be opened.
    """
    try:
        # A pipe without its other end would be waited for, or is an error to write to.
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise RunDamagedError(Path(path), UNFIT) from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise RunDamagedError(Path(path), UNFIT)
    return handle


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file of a run to read it.

    Raises:
        FileNotFoundError: There is none.
        RunDamagedError: It is a link or not a regular file, or cannot be read.
    """
    try:
        with open(path, "rb", opener=own_file) as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        why = f"cannot be read: {error.strerror or error}; make it readable"
        raise RunDamagedError(path, why) from None


def read_bytes(path: Path) -> bytes:
    """Read a file of a run whole.

    Raises:
        FileNotFoundError: There is none.
        RunDamagedError: It is a link or not a regular file, or larger than any of a run is.
    """
    with opened(path) as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise RunDamagedError(path, f"is larger than {_LARGEST >> 20:,} MiB; remove it")
    return data


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
        RunDamagedError: It is a link or not a regular file.
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


def whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file that have their end, counted from 1; none where there is no file.

    What follows the last newline is torn.

    Raises:
        RunDamagedError: It is a link or not a regular file, or a line has no end in sight.
    """
    try:
        with opened(path) as file:
            for number in count(1):
                line = file.readline(_LONGEST)
                if not line.endswith(b"\n"):
                    if len(line) == _LONGEST:
                        raise damaged(path, line=number)
                    return
                yield number, line
    except FileNotFoundError:
        return


def parse_json(data: bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: It is none, or holds half a character, which no file and no page can.
        RecursionError: It is nested too deeply.
    """
    value = json.loads(data)
    if b"\\ud" in data.lower():  # escapes of surrogates: pairs are read as one character
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("an escape of half a character") from None
    return value


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a safetensors file of a run.

    Raises:
        FileNotFoundError: There is none.
        RunDamagedError: It is none, or as `read_bytes`.
    """
    from safetensors import SafetensorError  # with numpy, which `status` need not wait for
    from safetensors.numpy import load

    try:
        return load(read_bytes(path))
    except (SafetensorError, KeyError, ValueError) as error:
        if isinstance(error, RunDamagedError):
            raise
        raise damaged(path, str(error)) from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the JSON objects of a file, a line each; none where there is no file.

    Raises:
        RunDamagedError: A line is no JSON object, or as `whole_lines`.
    """
    rows: list[dict[str, Any]] = []
    for number, line in whole_lines(path):
        try:
            row = parse_json(line)
        except (ValueError, RecursionError):  # too many digits, nested too deeply
            row = None
        if not isinstance(row, dict):
            raise damaged(path, line=number)
        rows.append(row)
    return rows


def count_lines(path: Path) -> int | None:
    """Count the whole lines of a text file, a tenth of the time it takes to read them.

    Returns:
        None where it is no text: a power cut has left zeros in it, or something else lies in its
        place. Of no file, 0.
    """
    found = 0
    try:
        with opened(path) as file:
            while data := file.read(_CHUNK):
                if b"\0" in data:
                    return None
                found += data.count(b"\n")
    except FileNotFoundError:
        return 0
    except RunDamagedError:
        return None
    return found


def damaged(path: Path, problem: str = "", *, line: int | None = None) -> RunDamagedError:
    """Return the error of a file, or of a line of it, that is not what it should be."""
    why = f" ({problem})" if problem else ""
    said = f"is damaged{why}; restore the file from a copy, or start anew with --out"
    return RunDamagedError(path, said, line=line)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    path.unlink(missing_ok=True)


def remove_all(path: Path) -> None:
    """Remove a folder with all in it, a file, or a link itself."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        remove(path)


def cut_torn_line(path: Path) -> None:
    """Take away what a killed writer left of a line.

    Raises:
        UnwritableError: The system does not let it be cut.
        RunDamagedError: It is a link or not a regular file.
    """
    with kept(path):
        try:
            file = open(path, "r+b", opener=own_file)  # noqa: SIM115 - closed below
        except FileNotFoundError:
            return
        with file:
            end = size = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - _CHUNK)
                file.seek(start)
                if (newline := file.read(end - start).rfind(b"\n")) >= 0:
                    end = start + newline + 1
                    break
                end = start
            if end < size:
                file.truncate(end)
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
