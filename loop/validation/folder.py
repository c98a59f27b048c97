"""The validation folder: RUN/validation, where all lies that a validation can read back.

A run folder may come from elsewhere, so a link in it is not followed: nothing outside the run is
written or deleted.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from gapclose.loop.errors import ConfigError, unwritable
from gapclose.loop.run.folder import RunDir

__all__ = ["check_folder", "sweep_folder"]

_FOLDERS: Final = (
    "validation",
    "validation/generated",
    "validation/predictions",
    "validation/test",
)


def check_folder(rundir: RunDir) -> None:
    """Refuse a run that a validation cannot write into, before hours are spent.

    Raises:
        ConfigError: A folder of the validation is a link or no folder, or it or the run cannot be
            written.
        UnwritableError: The disk is full, or fails.
    """
    folders = [rundir.path / name for name in _FOLDERS]
    for folder in folders:
        if folder.is_symlink():
            raise ConfigError("is a link; move it away", where=folder)
        if folder.exists() and not folder.is_dir():
            raise ConfigError("is no folder; move it away", where=folder)
    for folder in (rundir.path, *filter(Path.exists, folders)):
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise unwritable(folder, error, "make it writable") from None


def sweep_folder(rundir: RunDir) -> None:
    """Remove the halves of files and folders that a killed validation left."""
    folder = rundir.folder("validation")
    for half in [*folder.rglob(".*.tmp"), *folder.glob(".test.*")]:
        if half.is_dir():
            shutil.rmtree(half, ignore_errors=True)
        else:
            half.unlink(missing_ok=True)
