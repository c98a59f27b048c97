"""The lock: one process at a time writes a run folder.

It is a flock on RUN/lock, so it dies with its process, however that ends. Readers take none.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from gapclose.loop.errors import ConfigError, RunBusyError
from gapclose.loop.run.files import cut_torn_line, kept, own_file
from gapclose.loop.run.folder import RunDir

__all__ = ["lock"]


@contextlib.contextmanager
def lock(run: RunDir, *, elsewhere: bool = False) -> Iterator[None]:
    """Hold RUN/lock; on entry, cut what a killed writer left of a line.

    Args:
        run: The run.
        elsewhere: Whether somebody who is refused may name another folder instead.

    Raises:
        RunBusyError: At once, if another process (or another `lock` of this one) has it.
        ConfigError: The file system keeps no locks.
        UnwritableError: The folder is gone, or cannot be written.
    """
    path = run.file("lock")
    with kept(path):
        handle = own_file(str(path), os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunBusyError(run.path, elsewhere=elsewhere) from None
        except OSError as error:  # of a network drive, or a file system that knows no flock
            raise ConfigError(
                f"cannot be locked ({error.strerror}), so that two processes could write one run; "
                "name a folder on another file system with --out",
                where=path,
            ) from None
        cut_torn_line(run.journal_path)
        cut_torn_line(run.trials_path)
        yield
    finally:
        os.close(handle)  # releases the lock, too
