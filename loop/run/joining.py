"""Joining: a run folder is made, or the run that is there goes on.

Whatever speaks against it is raised before anything is changed: other things in the folder,
another config, an earlier version, another process.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gapclose.loop.config.identity import changed_keys
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.errors import ConfigError, RunMismatchError, RunOutdatedError, unwritable
from gapclose.loop.run.environment import environment
from gapclose.loop.run.files import remove_all, write_text
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.lock import lock
from gapclose.loop.run.trust import made_here, origin, recorded_marks

__all__ = ["appears", "check_config", "check_version", "create_run", "joined_run"]

_SCHEMA: Final = 1  # of environment.json


def create_run(path: Path | str, config: RunConfig) -> RunDir:
    """Make the folder, or join the run that is there if the config agrees with it.

    Limits, device, batch size and storage may change on resume; RUN/config.yaml then says the
    new ones.

    Raises:
        ConfigError: If the folder holds something else than a run, or cannot be written.
        RunMismatchError: If it was made by another config; nothing is changed.
        RunBusyError: If another process is writing it; nothing is changed.
        UnwritableError: If the disk is full, or the like.
    """
    run = RunDir(path)
    if run.path.exists() and not run.path.is_dir():
        raise ConfigError("is a file; name a folder with --out", where=run.path)
    new = not run.config_path.is_file()
    if not new:
        check_config(run, config)
    elif run.path.is_dir() and not _is_unfinished(run.path):
        said = "holds other things than a run; name an empty or new folder with --out"
        raise ConfigError(said, where=run.path)
    try:
        _write_config(run, config)
    except OSError as error:
        remedy = "name another folder with --out, or with GAPCLOSE_CACHE"
        if not new:
            remedy = "make it writable, then the same command goes on"
        raise unwritable(error.filename or run.path, error, remedy) from None
    return run


@contextlib.contextmanager
def joined_run(path: Path | str, config: RunConfig) -> Iterator[RunDir]:
    """Hold the lock of a run that `create_run` made or joined.

    A new one is deleted if validation fails: the folder would refuse the corrected config. Once
    an image was generated it stays.

    Raises:
        ConfigError, RunMismatchError, RunBusyError, UnwritableError: As `create_run`.
    """
    new = not RunDir(path).config_path.is_file()
    run = create_run(path, config)
    with lock(run, elsewhere=True):
        _sweep(run)
        try:
            yield run
        except ValueError:  # what the user can fix
            if new and not (run.has("trials.jsonl") or run.holds_images):
                shutil.rmtree(run.path, ignore_errors=True)
            raise


def check_config(run: RunDir, config: RunConfig) -> None:
    """Refuse to go on with a run under a config that is not its own.

    Raises:
        RunMismatchError: The keys that differ are named.
    """
    keys = changed_keys(run.config(), config)
    if keys:
        raise RunMismatchError(run.path, keys)


def check_version(run: RunDir) -> None:
    """Refuse to resume what an earlier version tuned, which kept no journal.

    Raises:
        RunOutdatedError: It did.
    """
    if run.holds_tuning and not run.journal_path.is_file():
        raise RunOutdatedError(run.path)


def appears(path: Path) -> bool:
    """Return whether a run is there; False while it is only being made, or nobody has begun.

    Raises:
        ConfigError: Something else lies in its place.
    """
    run = RunDir(path)
    made = run.config_path.is_file()
    making = run.path.is_dir() and _is_unfinished(run.path)
    if run.path.exists() and not (made or making):
        RunDir.open(path)
    return made


def _write_config(run: RunDir, config: RunConfig) -> None:
    mark = origin(config)  # before the folder: its secret may have nowhere to lie
    run.path.mkdir(parents=True, exist_ok=True)
    with lock(run, elsewhere=True):
        if run.config_path.is_file():
            check_config(run, config)
            if made_here(run) and not {*mark.split()} <= {*recorded_marks(run)}:
                made = run.read_json("environment.json")
                both = origin(config, before=run)  # a kill may come between the two files
                run.write_json("environment.json", made | {"origin": both})
            if run.config() != config:
                write_text(run.config_path, config.to_yaml())
        else:
            # The config comes last: a folder without one is not yet a run.
            made = {"schema": _SCHEMA, **environment(), "origin": mark}
            run.write_json("environment.json", made)
            write_text(run.config_path, config.to_yaml())


def _is_unfinished(folder: Path) -> bool:
    """Return whether a folder holds only what one that was killed in the making may hold."""
    return all(
        path.name in ("lock", "environment.json")
        or (path.name[0] == "." and path.name.endswith(".tmp"))
        for path in folder.iterdir()
    )


def _sweep(run: RunDir) -> None:
    """Remove the halves of files that a killed writer left."""
    halves = [
        *run.path.glob(".*.tmp"),
        *run.folder("embeddings").glob(".*.tmp"),
        *run.folder("images").rglob(".*.part"),
    ]
    for half in halves:
        remove_all(half)
