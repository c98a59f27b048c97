"""The part folder: where a data set grows, hidden beside OUT, and takes its place once whole.

One process at a time holds it. What a killed export has left in it, the next one of the same key
resumes, and any other removes. It follows no link, and removes only what bears its own names.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gapclose.generators.recipe import Recipe
from gapclose.loop.errors import ConfigError, RunDamagedError, unwritable
from gapclose.loop.run.faults import machines_fault
from gapclose.loop.run.files import (
    append_line,
    cut_torn_line,
    kept,
    own_file,
    read_lines,
    remove,
    remove_all,
    to_json,
)

__all__ = ["ImageLog", "PartFolder", "part_folder", "take_away"]

_LOCK: Final = "lock"
_OLD: Final = "old"  # the data set that is replaced
_OURS: Final = re.compile(rf"[0-9a-f]{{16}}(\.jsonl)?|{_OLD}")  # a key, and its log
_IMAGE: Final = re.compile(r"\d{5,}\.png")


@dataclass(slots=True)
class ImageLog:
    """Which images of an export are on the disk: what came of each call of the generator.

    A call is known by its recipe, its first seed and how many it asked for: the seeds of an export
    follow from its key.

    Attributes:
        path: Its file, a line for each call.
    """

    path: Path
    _known: dict[tuple[str, int, int], dict[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read what a killed export has written; of what is damaged, nothing."""
        cut_torn_line(self.path)
        try:
            for row in read_lines(self.path):
                call = str(row["recipe"]), int(row["first"]), int(row["asked"])
                self._known[call] = {int(seed): int(digest) for seed, digest in row["drawn"]}
        except (RunDamagedError, KeyError, TypeError, ValueError):
            self._known.clear()
            remove(self.path)

    def drawn(self, recipe: Recipe, asked: Sequence[int]) -> Mapping[int, int] | None:
        """Return the `pixel_digest` of each valid image of a call, by seed; None of no call."""
        known = self._known.get((recipe.fingerprint(), asked[0], len(asked)))
        return known if known is not None and known.keys() <= {*asked} else None

    def add(self, recipe: Recipe, asked: Sequence[int], drawn: Mapping[int, int]) -> None:
        """Note that the valid images of a call are on the disk."""
        row = {
            "recipe": recipe.fingerprint(),
            "first": asked[0],
            "asked": len(asked),
            "drawn": [[seed, digest] for seed, digest in drawn.items()],
        }
        append_line(self.path, to_json(row).encode(), durable=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFolder:
    """A data set that grows.

    Attributes:
        data: Its folder, which becomes OUT.
        log: The images in it that are whole.
    """

    data: Path
    log: ImageLog


@contextlib.contextmanager
def part_folder(out: Path, *, key: str) -> Iterator[PartFolder]:
    """Yield the folder to fill, which takes the place of `out` once it is whole.

    An interrupted export, and one that the machine fails, stay as far as they are; of one that
    fails otherwise nothing is left.

    Args:
        out: Where to; missing or an empty folder.
        key: 16 hex digits, equal for exports of which each file is equal.

    Raises:
        ConfigError: `out` cannot be made, or another process exports to it.
        UnwritableError: The system does not let it be written.
    """
    with _held(out) as folder:
        data, log = folder / key, folder / f"{key}.jsonl"
        with kept(out):
            for path in folder.iterdir():
                if path not in (data, log) and _OURS.fullmatch(path.name):
                    remove_all(path)
            _clear(data)
            part = PartFolder(data=data, log=ImageLog(log))
        try:
            with kept(out):
                yield part
                data.chmod(0o755)  # whatever the umask: the owner's group reads it
                if out.is_dir():
                    out.rmdir()
                data.rename(out)
        except BaseException as error:
            if machines_fault(error) is None and not isinstance(error, KeyboardInterrupt):
                remove_all(data)
                remove(log)
            raise
        remove(log)


def take_away(out: Path) -> None:
    """Remove a data set; a kill leaves no half of it under its name.

    Raises:
        ConfigError: An export to it is under way.
        UnwritableError: The system does not let it be removed.
    """
    with _held(out) as folder, kept(out):
        remove_all(folder / _OLD)
        out.rename(folder / _OLD)
        remove_all(folder / _OLD)


def _clear(data: Path) -> None:
    """Make the folder, or take out of it all but images, which are checked where they are used."""
    if data.is_symlink() or not data.is_dir():
        remove_all(data)
        data.mkdir()
    for path in data.iterdir():
        if path.is_symlink() or not path.is_dir():
            remove_all(path)
            continue
        for file in path.iterdir():
            if file.is_symlink() or not file.is_file() or not _IMAGE.fullmatch(file.name):
                remove_all(file)


@contextlib.contextmanager
def _held(out: Path) -> Iterator[Path]:
    """Hold OUT's part folder; remove it at the end, unless something is left in it."""
    folder = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle = _locked(folder)
    except OSError as error:
        raise unwritable(out, error, "name another folder") from None
    if handle is None:
        said = "another export is writing there; wait for it to end, or name another folder"
        raise ConfigError(said, where=out)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            if [path.name for path in folder.iterdir()] == [_LOCK]:
                remove(folder / _LOCK)
                folder.rmdir()
        os.close(handle)  # releases the lock, too


def _locked(folder: Path) -> int | None:
    """Return an open file that is locked; None where another process has it."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise ConfigError("is no folder, where an export is to grow; remove it", where=folder)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            said = "is open to others, where an export is to grow; remove it"
            raise ConfigError(said, where=folder)
        try:
            handle = own_file(str(folder / _LOCK), os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # whoever held it has just removed it
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), (folder / _LOCK).lstat()):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
