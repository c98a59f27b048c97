"""Faults: whose an error is, the recipe's or the machine's, told in one place.

Whatever catches errors of all kinds asks it. A recipe's fault fails a trial, and three in a row,
the generator's, stop a class; the machine's ends the session in one line, and the next one does
the same work again. It handles nothing itself.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gapclose.analysis.errors import EmbedderError
from gapclose.analysis.unseen import one_line
from gapclose.generators.errors import MemoryOutError
from gapclose.loop.errors import REMEDIES, GapcloseError, MachineError, UnwritableError

__all__ = [
    "is_device_lost",
    "is_embedders",
    "is_machines_fault",
    "is_memory_out",
    "machines_fault",
    "machines_fault_raised",
    "released",
    "told",
]

_SYSTEM: Final = {
    **REMEDIES,
    errno.EROFS: "make it writable",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs",
}
_OF_READING_TOO: Final = (errno.EIO, errno.EMFILE, errno.ENFILE)  # the others are of writing alone
# Of torch and its libraries: after one of these mostly no later call of the process succeeds, or
# memory is out. Their classes are known by name, for importing torch takes seconds.
_LOST: Final = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "CUDA driver", "HIP error")
_NO_ROOM: Final = ("ALLOC_FAILED", "out of memory")
LONGEST: Final = 2000  # characters that are kept of an error


def is_machines_fault(error: BaseException) -> bool:
    """Return whether a disk, the system or a device is to blame, whatever wraps what it raised."""
    return is_device_lost(error) or any(
        isinstance(cause, OSError)
        and (isinstance(cause, UnwritableError) or cause.errno in _SYSTEM)
        for cause in _causes(error)
    )


def is_embedders(error: BaseException) -> bool:
    """Return whether an embedder raised it, or what it returned is no rows."""
    return any(isinstance(cause, EmbedderError) for cause in _causes(error))


def is_memory_out(error: BaseException) -> bool:
    """Return whether memory is out, the machine's or a device's, whatever wraps the error."""
    return any(
        isinstance(cause, MemoryError | MemoryOutError)
        or type(cause).__name__ == "OutOfMemoryError"
        or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM)
        or (_is_of_torch(cause) and any(word in told(cause) for word in _NO_ROOM))
        for cause in _causes(error)
    )


def is_device_lost(error: BaseException) -> bool:
    """Return whether a GPU or its driver has failed: mostly it serves this process no more."""
    return not is_memory_out(error) and any(
        type(cause).__name__ == "AcceleratorError"
        or (_is_of_torch(cause) and any(word in told(cause) for word in _LOST))
        for cause in _causes(error)
    )


def machines_fault(error: BaseException) -> GapcloseError | None:
    """Return the error of ours for what the machine is to blame for; None if it is not."""
    for cause in _causes(error):
        if isinstance(cause, UnwritableError | MachineError):
            return cause
        if isinstance(cause, OSError) and cause.errno in _OF_READING_TOO:
            place = f"{cause.filename}: " if cause.filename else ""
            return MachineError(f"{place}{cause.strerror}; {_SYSTEM[cause.errno]}")
        if isinstance(cause, OSError) and cause.errno in _SYSTEM:
            return UnwritableError(cause.errno, cause.strerror, str(cause.filename or "a file"))
    if is_memory_out(error):
        own = [str(cause) for cause in _causes(error) if isinstance(cause, MemoryOutError)]
        said = next(iter(own), "memory is out; ask for smaller images or batches")
        return MachineError(f"{said}, or free some")
    if is_device_lost(error):
        return MachineError(f"a device is lost ({told(error)[:200]}); see to it or its driver")
    return None


@contextmanager
def machines_fault_raised() -> Iterator[None]:
    """Raise an error of ours, from a library's, where the machine is to blame.

    Raises:
        UnwritableError, MachineError: As `machines_fault` returns them.
    """
    try:
        yield
    except Exception as error:
        fault = machines_fault(error)
        if fault is None or fault is error:
            raise
        raise fault from error


def told(error: BaseException) -> str:
    """Return in a line what an error says, whatever its own class does when it is asked."""
    try:
        said = f"{type(error).__name__}: {str(error)[: 4 * LONGEST]}"
    except BaseException:  # noqa: BLE001 - it may be of somebody's own class, and ask to exit
        said = type(error).__name__
    return " ".join(one_line(said).split())[:LONGEST]


def released(error: BaseException) -> None:
    """Let go of what the frames of an error hold: memory that is out stays out with them."""
    for cause in _causes(error):
        traceback.clear_frames(cause.__traceback__)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and what it was raised from, the outermost first."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        hidden = cause.__suppress_context__
        cause = cause.__cause__ or (None if hidden else cause.__context__)


def _is_of_torch(error: BaseException) -> bool:
    """Return whether it is of the one class that torch has for most of what goes wrong."""
    return isinstance(error, RuntimeError) and type(error).__module__ in ("builtins", "torch")
