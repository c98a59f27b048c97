"""Status: where a run stands, read from its folder alone, while it runs or long after.

`gapclose status` shows it. It loads no model and reads state.json, which is held against the
journal and says what the verdicts are; only of a run without a journal it reads gap.json too. A
run in another process is never disturbed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapclose.analysis.unseen import one_line
from gapclose.loop.report.class_table import class_table
from gapclose.loop.report.projections import open_run, read_gap, read_state
from gapclose.loop.report.spoken_time import spoken_seconds
from gapclose.loop.report.text import verdict, was_tuned
from gapclose.loop.report.worth import read_worth
from gapclose.loop.report.worth_text import accuracy_lines
from gapclose.loop.run.folder import RunDir

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["ClassStatus", "Status", "gap_table", "read_status", "render_status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassStatus:
    """One class so far; None is not known yet.

    Attributes:
        gap: of the best mixture on the tune split; after confirming, on the confirm split.
        ratio: gap over its floor's 95th percentile.
        trials: finished ones, failed ones included.
        failed: of these, those without a score.
        images: generated for the class.
        verdict: in the report's words; empty while it is not known.
    """

    name: str
    gap: float | None
    ratio: float | None
    floor_p95: float | None
    trials: int
    failed: int
    images: int
    closed: bool | None
    confirmed: bool | None
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A run at one moment.

    Attributes:
        kind: tune or audit: the command that made it.
        stage: start, tune, confirm or done, of an audit baseline, report or done; `new` before the
            first.
        running: whether a process holds the run; None where the system does not say.
        seconds_used: over all sessions.
        seconds_left: of the budget, running time since the last write taken off; None without one.
        given: the run or file whose mixtures it began with; None without one.
        accuracies: of a run that was validated as it stands, by classifier and training images.
    """

    path: Path
    kind: str
    stage: str
    running: bool | None
    seconds_used: float
    seconds_left: float | None
    stopped_because: str | None
    classes: tuple[ClassStatus, ...]
    accuracies: Mapping[str, Mapping[str, float]]
    given: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether there is more to come: it is not done, and nothing says that nobody runs it."""
        return self.stage != "done" and self.running is not False

    def to_json(self) -> dict[str, Any]:
        """Return the same as plain values."""
        plain = {**asdict(self), "path": str(self.path)}
        if self.given is None:
            del plain["given"]
        return plain


def read_status(path: Path | str) -> Status:
    """Read a run's status.

    Raises:
        ConfigError: If there is no run.
        RunDamagedError: If one of its files cannot be read.
    """
    run = open_run(path, verdicts=False)
    state = read_state(run)
    facts: dict[str, dict[str, Any]] = dict(state.get("classes") or {})
    tuned = state.get("kind") != "audit"
    with_journal = run.journal_path.is_file()
    if state.get("stage") == "done" and not with_journal and run.has("gap.json"):
        rows = read_gap(run)["classes"]
        facts |= {row["name"]: facts.get(row["name"], {}) | row for row in rows}
        tuned = was_tuned(rows)
    counts = {} if with_journal else _counts(run)
    running = _is_running(run.path / "lock")
    used = float(state.get("seconds_used") or 0.0)
    worth, problem = read_worth(run)
    return Status(
        path=run.path,
        kind=str(state.get("kind") or "tune"),
        stage=str(state.get("stage") or "new"),
        running=running,
        seconds_used=used,
        seconds_left=_seconds_left(run, state, used, running=bool(running)),
        stopped_because=state.get("stopped_because"),
        classes=tuple(
            _class_status(name, facts.get(name, {}), counts.get(name, {}), tuned=tuned)
            for name in dict.fromkeys((*facts, *counts))
        ),
        accuracies={} if worth is None or problem is not None else worth.accuracies,
        given=state.get("given"),
    )


def _counts(run: RunDir) -> dict[str, dict[str, Any]]:
    """Count by class the trials and images of a run whose state.json does not."""
    counts: dict[str, dict[str, Any]] = {}
    for trial in run.trials():
        count = counts.setdefault(str(trial["class"]), {"trials": 0, "failed": 0, "images": 0})
        count["trials"] += 1
        count["failed"] += trial.get("state") == "fail"
        count["images"] = max(count["images"], int(trial.get("images_total") or 0))
        if trial.get("mixture_gap") is not None:
            count["gap"] = float(trial["mixture_gap"])
    return counts


def render_status(status: Status) -> RenderableType:
    """Lay out the status as a rich table with a line above it."""
    from rich.console import Group
    from rich.text import Text

    words = [status.stage]
    if status.running is not None and status.stage != "done":
        words.append(
            "running" if status.running else f"not running; `{status.kind}` again to go on"
        )
    words.append(f"{spoken_seconds(status.seconds_used)} used")
    if status.seconds_left is not None and status.stage != "done":
        words.append(f"{spoken_seconds(status.seconds_left)} left")
    failed = sum(row.failed for row in status.classes)
    if failed:
        words.append(f"{failed} failed trials")
    if status.given is not None:
        words.append(f"begun with the mixtures of {status.given}")
    if status.stopped_because:
        words.append(f"stopped: {status.stopped_because}")
    head = Text(one_line(f"{status.path.name}: {' · '.join(words)}"))
    if not status.classes:
        return head
    worth = [Text(one_line(line)) for line in accuracy_lines(status.accuracies)]
    return Group(head, class_table({row.name: asdict(row) for row in status.classes}), *worth)


def gap_table(gap: Mapping[str, Any]) -> RenderableType:
    """Lay out gap.json as a table for the terminal, largest effect first.

    Args:
        gap: the parsed file, schema 1.
    """
    from rich.table import Table
    from rich.text import Text

    from gapclose.loop.report.panel import agreement  # numpy, which `status` need not wait for

    rows = sorted(gap["classes"], key=lambda row: -(_float(row.get("effect")) or 0.0))
    tuned = was_tuned(rows)
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    columns = ("before", "ratio", "optimism") if tuned else ("ratio",)
    judge = "judges agree" if any(map(agreement, rows)) else "judge"
    for name in (*columns, "effect", "q", judge):
        table.add_column(name, justify="right")
    table.add_column("")
    for row in rows:
        cells = [_shown((row.get("before") or {}).get("ratio"), "z.1f")] if tuned else []
        cells += [
            _shown(row.get("ratio"), "z.1f"),
            *([_shown(row.get("optimism"), "+z.1f")] if tuned else []),
            _shown(row.get("effect"), "z.3f"),
            _shown(row.get("q_value"), ".3g"),
            agreement(row) or _shown((row.get("judge") or {}).get("ratio"), "z.1f"),
        ]
        table.add_row(Text(one_line(str(row["name"]))), *cells, verdict(row, tuned=tuned))
    return table


def _class_status(
    name: str, facts: Mapping[str, Any], count: Mapping[str, Any], *, tuned: bool
) -> ClassStatus:
    return ClassStatus(
        name=name,
        gap=_float(facts.get("gap", count.get("gap"))),
        ratio=_float(facts.get("ratio")),
        floor_p95=_float(facts.get("floor_p95")),
        trials=int(count.get("trials", facts.get("trials") or 0)),
        failed=int(count.get("failed", facts.get("failed") or 0)),
        images=max(int(count.get("images", 0)), int(facts.get("images") or 0)),
        closed=facts.get("closed"),
        confirmed=facts.get("confirmed"),
        verdict=verdict(facts, tuned=tuned),
    )


def _seconds_left(
    run: RunDir, state: Mapping[str, Any], used: float, *, running: bool
) -> float | None:
    budget = _float(state.get("budget_seconds"))
    if budget is None:
        return None
    path = run.path / "state.json"
    since = time.time() - path.stat().st_mtime if running and path.is_file() else 0.0
    return max(0.0, budget - used - max(0.0, since))


def _is_running(lock: Path) -> bool | None:
    """Return whether somebody holds the lock, seen without touching it (Linux; else None)."""
    try:
        held = Path("/proc/locks").read_text()
        inode = lock.stat().st_ino
    except FileNotFoundError:
        return False if Path("/proc/locks").exists() else None
    except OSError:
        return None
    # A line is `1: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> 0 EOF`.
    return any(
        "FLOCK" in line and line.split()[-3].rpartition(":")[2] == str(inode)
        for line in held.splitlines()
    )


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _shown(value: Any, form: str) -> str:
    return "-" if value is None else format(float(value), form)
