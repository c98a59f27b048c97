"""The journal: RUN/journal.jsonl, the append-only record of a run and the only truth about it.

One process at a time writes it, under the run's lock, and `state` folds what it says. A line that
has its end is whole; what follows the last one is torn, is ignored by readers, and is cut when a
writer opens the journal.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.events import (
    ConfirmationFailed,
    Event,
    FoldEvaluated,
    TrialFailed,
    TrialFinished,
    VerdictsReached,
    read_event,
)
from gapclose.loop.run.files import append_line, cut_torn_line, damaged_line
from gapclose.loop.run.state import RunState, apply

__all__ = ["Head", "Journal", "fold_journal", "read_heads", "read_journal"]

# As `append` writes them: the fields that every event has come first.
_HEAD: Final = re.compile(rb'\{"at":[^,"]+,"used":([^,"]+),"kind":"(\w+)"')
_KINDS: Final[dict[bytes, type[Event]]] = {
    kind.model_fields["kind"].default.encode(): kind for kind in get_args(get_args(Event)[0])
}


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
        RunDamagedError: A line is no event, or one of a newer version.
    """
    for number, line in _whole_lines(path):
        yield _read(path, number, line)


def fold_journal(path: Path) -> RunState:
    """Return the state after all events of a journal.

    Args:
        path: RUN/journal.jsonl; where there is none, the state is new.

    Raises:
        RunDamagedError: A line is no event, or cannot follow those before it: one is missing.
    """
    state = RunState()
    for number, event in enumerate(read_journal(path), start=1):
        if _ends_nothing(event, state):
            said = (
                "ends what no line before it begins; restore the file from a copy, or start anew"
            )
            raise RunDamagedError(path, f"{said} with --out", line=number)
        state = apply(state, event)
    return state


def _ends_nothing(event: Event, state: RunState) -> bool:
    """Return whether an event is the result of something that was never begun."""
    match event:
        case TrialFinished() | TrialFailed():
            flying = {(trial.cls, trial.number) for trial in state.in_flight}
            return (event.cls, event.number) not in flying
        case FoldEvaluated() | ConfirmationFailed():
            return state.of(event.cls).opened is None
        case VerdictsReached():
            return any(state.of(name).evaluation is None for name in event.verdicts)
        case _:
            return False


@dataclass(frozen=True, slots=True)
class Head:
    """What the first bytes of a line say of its event.

    Attributes:
        kind: Its class.
        used: Seconds of the budget used by then.
    """

    kind: type[Event]
    used: float


def read_heads(path: Path) -> Iterator[Head]:
    """Yield the heads of a journal's events in their order; none where there is no file.

    It takes 0.04 s of 20,000 events; to read them whole takes 1 s.

    Raises:
        RunDamagedError: A line does not begin as an event does.
    """
    for number, line in _whole_lines(path):
        head = _HEAD.match(line)
        if head is not None and head[2] in _KINDS:
            yield Head(_KINDS[head[2]], float(head[1]))
        else:  # as another program has written it
            event = _read(path, number, line)
            yield Head(type(event), event.used)


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file that have their end, counted from 1."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield number, line


def _read(path: Path, number: int, line: bytes) -> Event:
    try:
        return read_event(line)
    except ValueError:
        kind = _unknown_kind(line)
        if kind is None:
            raise damaged_line(path, number) from None
        said = f"tells of {kind!r}, which this gapclose does not know; go on with the newer one"
        raise RunDamagedError(path, said, line=number) from None


def _unknown_kind(line: bytes) -> str | None:
    """Return the kind of an event that no class here stands for; None of anything else."""
    try:
        kind = json.loads(line)["kind"]
    except (ValueError, TypeError, KeyError):
        return None
    return kind if isinstance(kind, str) and kind.encode() not in _KINDS else None
