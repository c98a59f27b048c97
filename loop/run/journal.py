"""The journal: RUN/journal.jsonl, the append-only record of a run and the only truth about it.

One process at a time writes it, under the run's lock, and `state` folds what it says. A line that
has its end is whole; what follows the last one is torn, is ignored by readers, and is cut when a
writer opens the journal.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from pydantic import ValidationError

from gapclose.loop.config.identity import measured_as
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.events import (
    ClassVerdict,
    ConfirmationFailed,
    Event,
    FoldEvaluated,
    FoldOpened,
    MixturesGiven,
    RecallsMeasured,
    RunFinished,
    TrialFailed,
    TrialFinished,
    TrialProposed,
    VerdictsReached,
    read_event,
)
from gapclose.loop.run.files import append_line, cut_torn_line, damaged, whole_lines
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.shapes import mixture_key
from gapclose.loop.run.state import RunState, apply

__all__ = [
    "Head",
    "Journal",
    "fold_journal",
    "fold_run",
    "last_verdicts",
    "read_heads",
    "read_journal",
]

# As `append` writes them: the fields that every event has come first.
_NUMBER: Final = rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_HEAD: Final = re.compile(rb'\{"at":%b,"used":(%b),"kind":"(\w+)"' % (_NUMBER, _NUMBER))
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
        self._process = os.getpid()
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
        if os.getpid() != self._process:  # a fork that a generator forgot is not the run
            os._exit(1)
        stamped = event.model_copy(update={"at": round(time.time(), 3), "used": used})
        line = stamped.model_dump_json().encode()
        read = read_event(line)  # what could not be read would damage the journal
        append_line(self._path, line)
        return read


def read_journal(path: Path) -> Iterator[Event]:
    """Yield the events of a journal in their order; none where there is no file.

    Raises:
        RunDamagedError: A line is no event, or one of a newer version.
    """
    for number, line in whole_lines(path):
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
        if not _follows(event, state):
            raise RunDamagedError(
                path,
                "does not follow from the lines before it; restore the file from a copy, or start "
                "anew with --out",
                line=number,
            )
        state = apply(state, event)
    return state


def fold_run(run: RunDir) -> RunState:
    """Return the state of a run, after all events of its journal.

    Raises:
        RunDamagedError: As `fold_journal`, or the journal is of another config.
    """
    state = fold_journal(run.journal_path)
    if state.config is not None and state.config != measured_as(run.config()):
        raise RunDamagedError(
            run.journal_path,
            "is of another config than config.yaml; restore the one that it was begun with from a "
            "copy, or start anew with --out",
        )
    return state


def _follows(event: Event, state: RunState) -> bool:
    """Return whether an event may come next: lines may be lost, doubled, or from elsewhere."""
    match event:
        case TrialProposed():
            return bool(event.jobs) and event.number == state.of(event.cls).proposed
        case TrialFinished() | TrialFailed():  # in the order proposed
            flying = [trial.number for trial in state.in_flight if trial.cls == event.cls]
            return flying[:1] == [event.number]
        case FoldOpened():
            return event.fold == state.of(event.cls).next_fold()
        case FoldEvaluated() | ConfirmationFailed():
            opened = state.of(event.cls).opened
            if isinstance(event, FoldEvaluated) and not _is_row_of(event):
                return False
            return opened is not None and event.fold == opened.fold
        case VerdictsReached():
            judged = {name: state.of(name).evaluation for name in event.verdicts}
            return all(
                one is not None and _is_of(event.verdicts[name], one.result)
                for name, one in judged.items()
            )
        case MixturesGiven():  # once, before any trial
            tried = any(cls.proposed for cls in state.classes.values())
            return state.given is None and not tried
        case RecallsMeasured():
            return all(state.of(name).has_baseline for name in event.recalls)
        case RunFinished():
            return {*state.names} <= event.stopped.keys()
        case _:
            return True


def _is_row_of(evaluated: FoldEvaluated) -> bool:
    """Return whether its rows of gap.json bear the name of its class."""
    return {row["name"] for row in (evaluated.before, evaluated.after)} == {evaluated.cls}


def _is_of(verdict: ClassVerdict, evaluated: FoldEvaluated) -> bool:
    """Return whether a verdict is one of this fold and of this mixture."""
    own = verdict.mixture is None or verdict.mixture == mixture_key(evaluated.mixture)
    return own and verdict.fold == evaluated.fold


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
    for number, line in whole_lines(path):
        head = _HEAD.match(line)
        if head is not None and head[2] in _KINDS:
            yield Head(_KINDS[head[2]], float(head[1]))
        else:  # as another program has written it
            event = _read(path, number, line)
            yield Head(type(event), event.used)


def last_verdicts(path: Path) -> VerdictsReached | None:
    """Return the verdicts that a journal's classes have, of which the last are of all; or None.

    Raises:
        RunDamagedError: Their line is no event.
    """
    last = None
    for number, line in whole_lines(path):
        head = _HEAD.match(line)
        if head is not None and _KINDS.get(head[2]) is VerdictsReached:
            last = number, line
    if last is None:
        return None
    event = _read(path, *last)
    assert isinstance(event, VerdictsReached), "its head says so"
    return event


def _read(path: Path, number: int, line: bytes) -> Event:
    try:
        return read_event(line)
    except ValidationError as error:
        word = _unknown_word(error)
        if word is None:
            raise damaged(path, line=number) from None
        said = f"tells of {word!r}, which this gapclose does not know; go on with the newer one"
        raise RunDamagedError(path, said, line=number) from None


def _unknown_word(error: ValidationError) -> str | None:
    """Return a kind of event, or a word in it, that only a newer version has; else None."""
    for problem in error.errors(include_url=False):
        match problem["type"]:
            case "union_tag_invalid":
                return str(problem["ctx"]["tag"])
            case "enum" | "literal_error" if isinstance(problem["input"], str):
                return problem["input"]
    return None
