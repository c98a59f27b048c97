"""The journal: RUN/journal.jsonl, the append-only record of a run and the only truth about it.

One process at a time writes it, under the run's lock. A line that has its end is whole; what
follows the last one is torn, is ignored by readers, and is cut when a writer opens the journal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from gapclose.loop.run.events import Event, read_event
from gapclose.loop.run.files import append_line, cut_torn_line, damaged_line

__all__ = ["Journal", "holds", "read_journal"]


class Journal:
    """The journal of a run, open for appending."""

    def __init__(self, path: Path) -> None:
        """Open it, and cut what a killed writer left of a line.

        Args:
            path: RUN/journal.jsonl; the caller holds the run's lock.
        """
        self._path = path
        cut_torn_line(path)

    def append(self, event: Event, *, used: float) -> Event:
        """Append an event; when this returns, the line survives a power cut.

        Args:
            event: Its `at` and `used` are set here.
            used: Seconds of the budget used so far.

        Returns:
            The event as a reader of the line gets it, so that this session goes on exactly as a
            resumed one would.

        Raises:
            UnwritableError: It cannot be written; the next writer cuts what there is of the line.
        """
        stamped = event.model_copy(update={"at": round(time.time(), 3), "used": used})
        line = stamped.model_dump_json().encode()
        append_line(self._path, line)
        return read_event(line)


def read_journal(path: Path) -> Iterator[Event]:
    """Yield the events of a journal in their order; none where there is no file.

    Raises:
        RunDamagedError: A line is no event.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield read_event(line)
            except ValueError:
                raise damaged_line(path, number) from None


def holds(path: Path, *kinds: type[BaseModel]) -> bool:
    """Return whether a journal may have an event of one of some kinds.

    It is searched for their names, which takes 0.02 s of 20,000 events; to read them takes 1 s. A
    name may stand elsewhere, so True is to be verified.
    """
    data = path.read_bytes()
    names = (kind.model_fields["kind"].default for kind in kinds)
    return any(f'"{name}"'.encode() in data for name in names)
