"""The storage of Optuna studies: a run's own SQLite file, or what a config names.

optuna_record.py and `tune` open it. A file of the run's own that cannot be used is set aside and
made anew, for it holds no facts; one that a person named is left as it is, and refused in a line.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import optuna
from optuna.exceptions import StorageInternalError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from gapclose.loop.config.storage_url import masked
from gapclose.loop.errors import ConfigError, UnwritableError
from gapclose.loop.run.files import kept

optuna.logging.set_verbosity(optuna.logging.ERROR)  # what it cannot read is said in our words

log = logging.getLogger(__name__)

Storage = optuna.storages.BaseStorage

# What of SQLite's errors is the disk's fault, in the system's own numbers.
_DISK: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_IOERR: errno.EIO,
}
_LOCKED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# Of what is missing, wrong or not reachable; a RuntimeError is Optuna's of another schema.
FAULTS: Final = (ImportError, RuntimeError, SQLAlchemyError, StorageInternalError)
# To wait for another process that writes: a trial takes 20 ms, and Optuna tries five times.
_SECONDS: Final = 1.0
_BESIDE: Final = ("-journal", "-wal", "-shm")  # what SQLite would take for a new file's own


def open_study_file(path: Path) -> Storage:
    """Open a run's own storage; a damaged one is set aside, and filled anew.

    Raises:
        UnwritableError: The system does not let it be written.
        Exception: Of SQLite, SQLAlchemy or Optuna: it is locked, or of another schema.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        set_aside(path, "is no file")
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_SECONDS)) as database:
            whole = database.execute("pragma quick_check").fetchone() == ("ok",)
    except sqlite3.OperationalError as error:
        if is_locked(error):
            raise
        whole = True  # not to be written: raised when it is opened
    except sqlite3.DatabaseError:
        whole = False
    if not whole:
        set_aside(path, "is damaged")
    return _opened(sqlite_url(path))


def set_aside(path: Path, why: str) -> None:
    """Move a run's own storage aside, with what SQLite keeps beside it, and say why.

    Raises:
        UnwritableError: The system does not let it be moved.
    """
    names = (f"{path.name}.damaged{number or ''}" for number in itertools.count())
    aside = next(
        place
        for place in (path.with_name(name) for name in names)
        if not (place.exists() or place.is_symlink())
    )
    log.warning("%s: %s; kept as %s, and made anew", path, why, aside.name)
    with kept(path):
        for suffix in ("", *_BESIDE):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))


def sqlite_url(path: Path) -> URL:
    """Return the URL of a SQLite file, whatever characters its path has."""
    return URL.create("sqlite", database=str(path))


def open_storage(url: str | URL) -> Storage:
    """Open an Optuna storage; SQLite waits for a lock rather than failing at once.

    Raises:
        ConfigError: It cannot be opened.
        UnwritableError: It is a SQLite file, and the disk is full or does not let itself be
            written.
    """
    try:
        return _opened(make_url(url))
    except FAULTS as error:
        raise refused(url, error) from None


def refused(url: str | URL, error: Exception) -> ConfigError:
    """Return the error for a storage that a person named and that cannot be used: one line."""
    named = f"storage: {masked(str(url))}"
    if is_locked(error):
        return ConfigError(f"{named} is locked by another process; end it, or write null")
    why = " ".join(str(error).split())[:200]
    return ConfigError(
        f"{named} cannot be opened ({why}); give an SQLAlchemy URL whose driver is installed, or "
        "null"
    )


def _opened(url: URL) -> Storage:
    sqlite = url.get_backend_name() == "sqlite"
    options = {"connect_args": {"timeout": _SECONDS}} if sqlite else {}
    # Quoted: Optuna takes a brace for a slot of a template, and a ? ends a path.
    text = url.render_as_string(hide_password=False)
    with written(url):
        return optuna.storages.RDBStorage(text, engine_kwargs=options)


def of_sqlite(error: BaseException) -> sqlite3.Error | None:
    """Return SQLite's own error, whatever wraps it; None if it is none of its."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, sqlite3.Error):
        cause = getattr(cause, "orig", None) or cause.__cause__
    return cause


def _code(error: BaseException) -> int:
    """Return SQLite's primary error code; 0 if there is none."""
    return (getattr(of_sqlite(error), "sqlite_errorcode", None) or 0) & 0xFF


def is_locked(error: BaseException) -> bool:
    """Return whether another process has a SQLite file locked, whatever wraps its error."""
    return _code(error) in _LOCKED


@contextlib.contextmanager
def written(storage: Storage | URL) -> Iterator[None]:
    """Raise UnwritableError where it is the disk of a SQLite file that refuses."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        number = _DISK.get(_code(error))
        if number is None:
            raise
        url = (
            storage if isinstance(storage, URL) else make_url(getattr(storage, "url", "sqlite://"))
        )
        raise UnwritableError(number, os.strerror(number), url.database) from error
