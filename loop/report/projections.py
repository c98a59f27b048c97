"""Projections: the files of a run that are written from its journal, for people and programs.

`trials.jsonl`, `mixtures.json`, `state.json` and `gap.json` say nothing that the journal does not,
are never read back as facts, and come back when they are deleted. The loop follows the journal
with `Projections`; readers open a run by `open_run`, which restores what is missing.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from gapclose.generators.recipe import Recipe
from gapclose.loop.errors import ConfigError, RunBusyError, RunDamagedError
from gapclose.loop.report.text import effect_sort_key, in_short, stopped_text
from gapclose.loop.run.events import (
    Event,
    RunFinished,
    Stopped,
    StopReason,
    TrialFailed,
    TrialFinished,
    TrialProposed,
    VerdictsReached,
)
from gapclose.loop.run.files import to_json
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import holds, read_journal
from gapclose.loop.run.lock import lock
from gapclose.loop.run.state import ClassState, RunState, fold

TRIALS: Final = "trials.jsonl"
STATE: Final = "state.json"
MIXTURES: Final = "mixtures.json"
GAP: Final = "gap.json"
_ALL_CLOSED: Final = "every class is closed and confirmed"


@dataclass(slots=True)
class Projections:
    """The projections of a run whose lock is held; they follow its journal.

    Attributes:
        rundir: The run.
    """

    rundir: RunDir
    _rows: TrialRows = field(default_factory=lambda: TrialRows())

    def restore(self, state: RunState) -> list[dict[str, Any]]:
        """Bring all files where the journal stands, whatever became of them.

        Returns:
            The rows of trials.jsonl.
        """
        rows = [row for e in read_journal(self.rundir.journal_path) if (row := self._rows.of(e))]
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
            self.rundir.append_line(TRIALS, row)
        if isinstance(event, VerdictsReached | RunFinished):
            self.write_verdicts(state)
        if not isinstance(event, TrialProposed | RunFinished):
            self.write_state(state)
        return row

    def write_verdicts(self, state: RunState) -> None:
        """Write mixtures.json and gap.json, once there are verdicts or the run has ended."""
        due = files_of(state)
        # The same mixtures stay: an export is outdated once they are younger than it is.
        if MIXTURES in due and _stored(self.rundir, MIXTURES) != (
            mixtures := mixtures_json(state)
        ):
            self.rundir.write_json(MIXTURES, mixtures)
        if GAP in due:
            self.rundir.write_json(GAP, gap_json(state, self.rundir))

    def write_state(self, state: RunState) -> None:
        """Write state.json."""
        self.rundir.write_json(STATE, state_json(state))


def open_run(path: Path | str, *, verdicts: bool = True) -> RunDir:
    """Open a run for reading, its projections restored.

    Args:
        path: The run folder.
        verdicts: Hold mixtures.json and gap.json against the journal, which takes 1 s of 20,000
            events; else they are only restored where they are missing.

    Raises:
        ConfigError: There is none.
        RunDamagedError: Its journal cannot be read.
    """
    run = RunDir.open(path)
    restore(run, verdicts=verdicts)
    return run


def read_verdicts(rundir: RunDir) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read gap.json and mixtures.json as one: verdicts, and the mixtures that they are of.

    A kill may have come between the two files, so where there is a journal it is asked.
    """
    if rundir.journal_path.is_file():
        state = fold(read_journal(rundir.journal_path))
        gap = gap_json(state, rundir) if GAP in files_of(state) else {"classes": []}
        return _as_stored(gap), _as_stored(mixtures_json(state))
    return (
        rundir.read_json(GAP) if rundir.has(GAP) else {"classes": []},
        rundir.read_json(MIXTURES) if rundir.has(MIXTURES) else {"classes": {}},
    )


def read_gap(rundir: RunDir) -> dict[str, Any]:
    """Read gap.json.

    Raises:
        ConfigError: Nothing was measured yet.
        UnwritableError: It is lost, and the folder is read-only.
        RunBusyError: It is lost, and another process is writing the run.
    """
    if not rundir.has(GAP):
        _write_lost(rundir)  # what prevents that is raised
    if not rundir.has(GAP):
        raise ConfigError(
            "nothing was measured yet (no gap.json); let `gapclose tune` go on, or look at "
            "`gapclose status`",
            where=rundir.path,
        )
    value: dict[str, Any] = rundir.read_json(GAP)
    return value


def restore(rundir: RunDir, *, verdicts: bool = True) -> None:
    """Bring back the projections that a run lacks, if it has a journal and nobody writes it.

    Args:
        rundir: The run.
        verdicts: Write mixtures.json and gap.json anew where the journal says otherwise, too.
    """
    # The writer writes them; a read-only folder stays as it is.
    with contextlib.suppress(RunBusyError, OSError):
        _write_lost(rundir, verdicts=verdicts)


def _write_lost(rundir: RunDir, *, verdicts: bool = False) -> None:
    # A lock that is not needed might refuse whoever starts the run.
    if not rundir.journal_path.is_file() or not _lost(rundir, verdicts=verdicts):
        return
    with lock(rundir):
        lost = _lost(rundir, verdicts=verdicts)  # anew: who wrote it may just have ended
        state = fold(read_journal(rundir.journal_path))
        projections = Projections(rundir)
        if TRIALS in lost:
            projections.restore(state)
        if {MIXTURES, GAP} & {*lost}:
            projections.write_verdicts(state)
        if STATE in lost:
            projections.write_state(state)


def _lost(rundir: RunDir, *, verdicts: bool) -> list[str]:
    """Return the files that a run should have by now and does not, or has from before."""
    missing = [name for name in (TRIALS, STATE, MIXTURES, GAP) if not rundir.has(name)]
    if (
        STATE not in missing
        and TRIALS not in missing
        and not holds(rundir.journal_path, VerdictsReached, RunFinished)
    ):
        return []  # what is missing is not due before one of these
    if not missing and not verdicts:
        return []
    state = fold(read_journal(rundir.journal_path))
    due = files_of(state)
    lost = [name for name in missing if name in due]
    if verdicts:
        if MIXTURES in due and _stored(rundir, MIXTURES) != _as_stored(mixtures_json(state)):
            lost.append(MIXTURES)
        if GAP in due and _stored(rundir, GAP) != _as_stored(gap_json(state, rundir)):
            lost.append(GAP)
    return lost


def _stored_rows(rundir: RunDir) -> list[dict[str, Any]] | None:
    """Read trials.jsonl: no rows where it is missing, None where it is damaged."""
    try:
        return rundir.trials()
    except RunDamagedError:
        return None


def _stored(rundir: RunDir, name: str) -> Any:
    """Read a file; None where it is gone or damaged."""
    try:
        return rundir.read_json(name)
    except (FileNotFoundError, RunDamagedError):
        return None


def _as_stored(value: dict[str, Any]) -> dict[str, Any]:
    """Return what a file of this value holds."""
    stored: dict[str, Any] = json.loads(to_json(value))
    return stored


def files_of(state: RunState) -> set[str]:
    """Return the projections that a run has where it stands."""
    judged = any(state.of(name).judged is not None for name in state.names)
    files = {STATE} if state.sessions else set()
    if any(cls.trials for cls in state.classes.values()):
        files.add(TRIALS)
    if judged:
        files.add(MIXTURES)
    if judged or state.finished is not None:
        files.add(GAP)
    return files


@dataclass(slots=True)
class TrialRows:
    """The rows of trials.jsonl, made from the events of a journal in their order."""

    _proposed: dict[str, TrialProposed] = field(default_factory=dict)
    _images: dict[str, int] = field(default_factory=dict)

    def of(self, event: Event) -> dict[str, Any] | None:
        """Return the row that an event completes."""
        if isinstance(event, TrialProposed):
            self._proposed[event.cls] = event
        if not isinstance(event, TrialFinished | TrialFailed):
            return None
        proposed, done = self._proposed.pop(event.cls), isinstance(event, TrialFinished)
        self._images[event.cls] = self._images.get(event.cls, 0) + event.images
        recipe = Recipe.from_json(proposed.jobs[0].recipe)
        return {
            "class": event.cls,
            "number": event.number,
            "stage": proposed.stage,
            "params": proposed.params,
            "recipe": proposed.jobs[0].recipe,
            "fingerprint": recipe.fingerprint(),
            "draw": recipe.draw.fingerprint(),
            "seeds": [seed for job in proposed.jobs for seed in job.seeds],
            "jobs": [{"recipe": job.recipe, "seeds": list(job.seeds)} for job in proposed.jobs],
            "state": "complete" if done else "fail",
            "error": None if isinstance(event, TrialFinished) else event.error,
            "invalid": event.invalid,
            "gap": event.gap if isinstance(event, TrialFinished) else None,
            "mixture_gap": event.mixture_gap if isinstance(event, TrialFinished) else None,
            "value": event.value if isinstance(event, TrialFinished) else None,
            "images_total": self._images[event.cls],
            "seconds": event.seconds,
        }


def mixtures_json(state: RunState) -> dict[str, Any]:
    """Return mixtures.json: the mixtures that the last verdicts are of."""
    judged = {name: e for name in state.names if (e := state.of(name).judged) is not None}
    return {"schema": 1, "classes": {name: e.result.mixture for name, e in judged.items()}}


def state_json(state: RunState) -> dict[str, Any]:
    """Return state.json: where the run stands."""
    value: dict[str, Any] = {
        "id": state.run,
        "started": state.started,
        "stage": state.stage,
        "seconds_used": state.used,
        "budget_seconds": state.budget,
        "images": state.images,
        "classes": {name: _class_json(state.of(name)) for name in state.names},
        "camera": None if state.camera is None else state.camera.camera,
    }
    if state.finished is not None:
        value["stopped_because"] = stopped_because(state)
    return value


def _class_json(cls: ClassState) -> dict[str, Any]:
    progress, floor = cls.progress, cls.progress.floor
    row: dict[str, Any] = {
        "gap": progress.gap,
        "ratio": None if progress.gap is None or not floor else progress.gap / floor,
        "floor_p95": floor,
        "trials": cls.trials,
        "failed": cls.failed,
        "images": cls.images,
    }
    if cls.judged is not None and cls.judged.verdict is not None:
        verdict = cls.judged.verdict.model_dump(exclude={"fold", "q_value"})
        if cls.trials > cls.judged.opened.trials:  # it has gone on since
            verdict = {key: verdict[key] for key in ("effect", "closed", "confirmed")}
        row |= verdict
    return row


def gap_json(state: RunState, rundir: RunDir) -> dict[str, Any]:
    """Return gap.json, schema 1; of a run that has not ended, without the diagnostics."""
    from gapclose.loop.run.verdicts import judge  # scipy, which `status` need not wait for

    config = rundir.config()
    found: dict[str, Any] = {} if state.finished is None else dict(state.finished.findings)
    own: dict[str, dict[str, Any]] = found.pop("rows", {})
    judged = {name: e for name in state.names if (e := state.of(name).judged) is not None}
    rows = []
    for name, row in judge({name: e.result for name, e in judged.items()}).items():
        extra = dict(own.get(name, {}))
        row = replace(row, stored=extra.pop("stored", None))
        thought = judged[name].result.mixture["gap_tune"]
        optimism = None if thought is None else (row.gap - thought) / max(row.floor_p95, 1e-9)
        rows.append(row.to_json() | {"optimism": optimism} | extra)
    stopped = {name: _stopped(state, name) for name in state.names}
    none = "no image of it was made"
    return {
        "schema": 1,
        "embedder": config.embedder,
        "judge": config.judge,
        "confounds": found.pop("confounds", []),
        "equalized": False,
        "camera": None if state.camera is None else state.camera.camera,
        "classes": sorted(rows, key=effect_sort_key, reverse=True),
        "clusters": found.pop("clusters", []),
        **state.left_out,
        "skipped": [
            {"class": name, "why": stopped_text(stopped[name]) if state.of(name).trials else none}
            for name in state.names
            if name not in judged
        ],
        "stopped": {name: stopped_text(why) for name, why in stopped.items()},
        "stop_reasons": {name: str(why.reason) for name, why in stopped.items()},
        **found,
    }


def _stopped(state: RunState, name: str) -> Stopped:
    if state.finished is not None:
        return state.finished.stopped[name]
    evaluation = state.of(name).evaluation
    confirmed = evaluation is not None and evaluation.confirmed
    return Stopped(reason=StopReason.CONFIRMED if confirmed else StopReason.INTERRUPTED)


def stopped_because(state: RunState) -> str:
    """Say why a run ended, in a few words."""
    judged = {name: state.of(name).judged for name in state.names}
    left = [name for name, e in judged.items() if e is None or not e.confirmed]
    if not left:
        return _ALL_CLOSED
    return in_short({name: stopped_text(_stopped(state, name)) for name in left})
