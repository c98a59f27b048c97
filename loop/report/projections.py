"""Projections: the files of a run that are written from its journal, for people and programs.

`trials.jsonl`, `mixtures.json`, `state.json` and `gap.json` say nothing that the journal does not,
are never read back as facts, and come back when they are lost: deleted, or left empty, torn or
behind the journal by a power cut, for what is written at every event does not wait for the disk.
The loop follows the journal with `Projections`; readers open a run by `open_run`.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gapclose.loop.errors import ConfigError, RunBusyError, RunDamagedError
from gapclose.loop.report.contents import (
    GAP,
    MIXTURES,
    STATE,
    TRIALS,
    TrialRows,
    gap_json,
    mixtures_json,
    own_verdicts,
    state_json,
    verdict_files,
)
from gapclose.loop.run.events import (
    Event,
    RunFinished,
    SessionStarted,
    TrialFailed,
    TrialFinished,
    TrialProposed,
    VerdictsReached,
)
from gapclose.loop.run.files import count_lines, damaged, to_json
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import Head, fold_run, last_verdicts, read_heads, read_journal
from gapclose.loop.run.lock import lock
from gapclose.loop.run.shapes import GapFile, MixturesFile, StateFile, mismatch
from gapclose.loop.run.state import RunState

_SHAPES: Final = {GAP: GapFile, MIXTURES: MixturesFile, STATE: StateFile}
# state.json is not written of them: a trial under way is no news, and "done" promises the page.
_UNSHOWN: Final = (TrialProposed, RunFinished)


@dataclass(slots=True)
class Projections:
    """The projections of a run whose lock is held; they follow its journal.

    Attributes:
        rundir: The run.
    """

    rundir: RunDir
    _rows: TrialRows = field(default_factory=TrialRows)

    def restore(self, state: RunState) -> list[dict[str, Any]]:
        """Bring all files but state.json where the journal stands, whatever became of them.

        Returns:
            The rows of trials.jsonl.
        """
        rows = self._rows.of_all(read_journal(self.rundir.journal_path))
        if _stored_rows(self.rundir) != rows:
            self.rundir.write_lines(TRIALS, rows)
        self.write_verdicts(state)
        return rows

    def follow(self, event: Event, state: RunState) -> dict[str, Any] | None:
        """Follow the latest event.

        Args:
            event: That was appended.
            state: After it.

        Returns:
            The row of a trial that it ends.
        """
        row = self._rows.of(event)
        if row is not None:
            self.rundir.append_line(TRIALS, row, durable=False)
        if isinstance(event, VerdictsReached | RunFinished):
            self.write_verdicts(state)
        if not isinstance(event, _UNSHOWN):
            self.write_state(state)
        return row

    def write_verdicts(self, state: RunState) -> None:
        """Write mixtures.json and gap.json, once there are verdicts or the run has ended."""
        due = verdict_files(state)
        # The same mixtures stay: an export is outdated once they are younger than it is.
        if MIXTURES in due and _stored(self.rundir, MIXTURES) != (
            mixtures := mixtures_json(state)
        ):
            self.rundir.write_json(MIXTURES, mixtures)
        if GAP in due:
            self.rundir.write_json(GAP, gap_json(state, self.rundir))

    def write_state(self, state: RunState) -> None:
        """Write state.json."""
        self.rundir.write_json(STATE, state_json(state), durable=False)


def open_run(path: Path | str, *, verdicts: bool = True) -> RunDir:
    """Open a run for reading, what it has lost of its projections restored.

    Nothing is written where another process writes the run, or the folder is read-only.

    Args:
        path: The run folder.
        verdicts: Hold mixtures.json and gap.json against the journal, which takes 1 s of 20,000
            events; else they are only restored where they are missing.

    Raises:
        ConfigError: There is none.
        RunDamagedError: Its journal cannot be read.
    """
    run = RunDir.open(path)
    with contextlib.suppress(RunBusyError, OSError):
        _restore(run)
    if verdicts and run.journal_path.is_file():
        read_verdicts(run)
    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What gap.json and mixtures.json say as one: verdicts, and the mixtures that they are of.

    Attributes:
        run: The run folder.
        files: By name, what those hold that the run has where it stands.
    """

    run: Path
    files: Mapping[str, dict[str, Any]]

    @property
    def gap(self) -> dict[str, Any]:
        """As gap.json.

        Raises:
            ConfigError: Nothing was measured yet.
        """
        return self._file(GAP)

    @property
    def mixtures(self) -> dict[str, Any]:
        """As mixtures.json.

        Raises:
            ConfigError: No class has a verdict yet.
        """
        return self._file(MIXTURES)

    def _file(self, name: str) -> dict[str, Any]:
        if name not in self.files:
            raise ConfigError(
                f"nothing was measured yet (no {name}); let `gapclose tune` go on, or look at "
                "`gapclose status`",
                where=self.run,
            )
        return self.files[name]


def read_verdicts(rundir: RunDir) -> Verdicts:
    """Read what the verdicts of a run are: where there is a journal, what it says.

    A kill may have come between the two files, and an audit may have left its own: they are
    written anew where they say otherwise, and are not believed where they cannot be.

    Raises:
        RunDamagedError: The journal cannot be read, or a file of a run that has none.
    """
    if not rundir.journal_path.is_file():
        files = {name: _object(rundir, name) for name in (GAP, MIXTURES) if rundir.has(name)}
        if GAP in files and any(row["confirmed"] for row in files[GAP]["classes"]):
            mixtures = files.get(MIXTURES, {}).get("classes", {})
            files[GAP] = own_verdicts(files[GAP], mixtures, _confirmed_with(rundir))
        return Verdicts(run=rundir.path, files=files)
    state = fold_run(rundir)
    due = verdict_files(state)
    said = {}
    if GAP in due:
        said[GAP] = _as_stored(gap_json(state, rundir))
    if MIXTURES in due:
        said[MIXTURES] = _as_stored(mixtures_json(state))
    for name, value in said.items():
        if problem := mismatch(_SHAPES[name], value):
            raise damaged(rundir.journal_path, problem)
    if any(_stored(rundir, name) != value for name, value in said.items()):
        with contextlib.suppress(RunBusyError, OSError):
            _write_anew(rundir)
    return Verdicts(run=rundir.path, files=said)


def _confirmed_with(rundir: RunDir) -> dict[str, Counter[str]]:
    """Count the images that confirmed a run's classes, by class and their recipe's fingerprint."""
    recipes: dict[str, Counter[str]] = {}
    for row in rundir.samples():
        if row["stage"] == "tuned" and row.get("recipe"):
            recipes.setdefault(row["class"], Counter())[row["recipe"]] += 1
    return recipes


def read_gap(rundir: RunDir) -> dict[str, Any]:
    """Read what gap.json says.

    Raises:
        ConfigError: Nothing was measured yet.
        RunDamagedError: As `read_verdicts`.
    """
    return read_verdicts(rundir).gap


def read_state(rundir: RunDir) -> dict[str, Any]:
    """Read state.json; where it is gone, damaged or old, what the journal says; else {}."""
    if not rundir.journal_path.is_file():
        return _object(rundir, STATE) if rundir.has(STATE) else {}
    stored = _stored(rundir, STATE)
    heads = [*read_heads(rundir.journal_path)]
    if stored is None or not _follows(stored, heads) or not _agrees(rundir, stored):
        return _as_stored(state_json(fold_run(rundir)))
    return stored


def _agrees(rundir: RunDir, state: Mapping[str, Any]) -> bool:
    """Return whether state.json calls classes closed and confirmed as the last verdicts do."""
    told = last_verdicts(rundir.journal_path)
    verdicts = {} if told is None else told.verdicts
    classes: Mapping[str, Mapping[str, Any]] = state.get("classes", {})
    return {*verdicts} <= {*classes} and all(
        (row.get("closed"), row.get("confirmed"))
        == (
            (None, None)
            if name not in verdicts
            else (verdicts[name].closed, verdicts[name].confirmed)
        )
        for name, row in classes.items()
    )


def read_trials(rundir: RunDir) -> list[dict[str, Any]]:
    """Read trials.jsonl; where it is damaged or behind the journal, what the journal says."""
    if not rundir.journal_path.is_file():
        return rundir.trials()
    ended = _trials_in(Counter(head.kind for head in read_heads(rundir.journal_path)))
    rows = _stored_rows(rundir)
    if rows is None or len(rows) != ended:
        return TrialRows().of_all(read_journal(rundir.journal_path))
    return rows


def _restore(rundir: RunDir) -> None:
    """Write what a run has lost; an error of the lock or of the disk is let through."""
    # A lock that is not needed might refuse whoever starts the run.
    if rundir.journal_path.is_file() and _lost(rundir):
        _write_anew(rundir)


def _write_anew(rundir: RunDir) -> None:
    with lock(rundir):
        # Read under the lock: whoever wrote the run may just have ended.
        state = fold_run(rundir)
        projections = Projections(rundir)
        projections.restore(state)
        # One that follows stays: the run may have ended without its page, and is not "done" then.
        if not _state_follows(rundir, [*read_heads(rundir.journal_path)]):
            projections.write_state(state)


def _lost(rundir: RunDir) -> bool:
    """Return whether a file that a run should have by now is gone, damaged or out of step.

    Of the journal only the heads are read, so what the verdicts say is not compared.
    """
    heads = [*read_heads(rundir.journal_path)]
    kinds = Counter(head.kind for head in heads)
    if count_lines(rundir.trials_path) != _trials_in(kinds):
        return True
    if kinds[SessionStarted] and not _state_follows(rundir, heads):
        return True
    if not kinds[VerdictsReached] and not kinds[RunFinished]:
        return False  # what is missing is not due before one of these
    missing = {name for name in (MIXTURES, GAP) if not rundir.has(name)}
    return bool(missing and missing & verdict_files(fold_run(rundir)))


def _trials_in(kinds: Counter[type[Event]]) -> int:
    return kinds[TrialFinished] + kinds[TrialFailed]


def _state_follows(rundir: RunDir, heads: Sequence[Head]) -> bool:
    """Return whether state.json is of the last event that it shows, or of a later one."""
    stored = _stored(rundir, STATE)
    return stored is not None and _follows(stored, heads)


def _follows(state: Mapping[str, Any], heads: Sequence[Head]) -> bool:
    seconds = state.get("seconds_used")
    shown = [head.used for head in heads if head.kind not in _UNSHOWN]
    if not shown or not isinstance(seconds, int | float):
        return False
    return bool(shown[-1] <= seconds <= heads[-1].used)


def _stored_rows(rundir: RunDir) -> list[dict[str, Any]] | None:
    """Read trials.jsonl: no rows where it is missing, None where it is damaged."""
    try:
        return rundir.trials()
    except RunDamagedError:
        return None


def _stored(rundir: RunDir, name: str) -> dict[str, Any] | None:
    """Read a file; None where it is gone or damaged."""
    try:
        return _object(rundir, name)
    except (FileNotFoundError, RunDamagedError):
        return None


def _object(rundir: RunDir, name: str) -> dict[str, Any]:
    value: dict[str, Any] = rundir.read_json(name, _SHAPES[name])
    return value


def _as_stored(value: dict[str, Any]) -> dict[str, Any]:
    """Return what a file of this value holds."""
    stored: dict[str, Any] = json.loads(to_json(value))
    return stored
