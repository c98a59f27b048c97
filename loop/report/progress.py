"""Reporters: how a running job tells a person, or a log, what happens.

The controller calls `event`; cli.py picks the reporter: a live table on a terminal, one JSON
line per event off one. A reporter keeps no truth: what matters is in the run folder.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from gapclose.loop.report.text import verdict
from gapclose.loop.run.events import (
    Event,
    FoldEvaluated,
    FoldOpened,
    TrialFailed,
    TrialFinished,
    TrialProposed,
    VerdictsReached,
)
from gapclose.loop.run.files import plain
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.run.state import RunState

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = [
    "JsonReporter",
    "TerminalReporter",
    "class_table",
    "make_reporter",
    "spoken_seconds",
]


class JsonReporter:
    """One JSON object per line and event, for logs and pipes.

    Progress comes per image, and is written once a second and when it ends.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """Writes to `stream`, default standard output."""
        self._stream = stream if stream is not None else sys.stdout
        self._progressed_at = float("-inf")

    def follow(self, event: Event, state: RunState) -> None:
        """Tells what of the journal is of interest while it is written."""
        for kind, fields in _told(event, state):
            self.event(kind, **fields)

    def event(self, kind: str, **fields: Any) -> None:
        """Writes the event with its time (Unix seconds) and flushes."""
        if kind == "progress" and fields.get("done") != fields.get("total"):
            now = time.monotonic()
            if now - self._progressed_at < 1.0:
                return
            self._progressed_at = now
        row = {"event": kind, "time": round(time.time(), 3), **fields}
        self._stream.write(json.dumps(plain(row), ensure_ascii=False) + "\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        """Nothing to open."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to close."""


class TerminalReporter:
    """A live table: one row per class, the stage, the pace and the time left below it."""

    def __init__(self, console: Console | None = None) -> None:
        """Draws on `console`, default standard error so that output can be piped."""
        from rich.console import Console
        from rich.live import Live

        self._console = console if console is not None else Console(stderr=True)
        self._classes: dict[str, dict[str, Any]] = {}
        self._stage = ""
        self._within = ""
        self._budget: tuple[float, float | None] | None = None
        self._budget_at = 0.0
        self._began = time.monotonic()
        self._images_at_first: int | None = None
        self._first_image_at = self._began
        self._live = Live(
            console=self._console, get_renderable=self._draw, refresh_per_second=4, transient=False
        )

    def __enter__(self) -> Self:
        """Starts drawing."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the last table standing."""
        self._live.stop()

    def follow(self, event: Event, state: RunState) -> None:
        """Tells what of the journal is of interest while it is written."""
        for kind, fields in _told(event, state):
            self.event(kind, **fields)

    def event(self, kind: str, **fields: Any) -> None:
        """Updates the table; warnings and unknown kinds are printed above it."""
        if kind == "stage":
            self._stage, self._within = str(fields.get("name", "")), ""
        elif kind in ("class", "trial") and "cls" in fields:
            self._row(fields)
        elif kind == "progress":
            total = f" of {fields['total']}" if fields.get("total") is not None else ""
            self._within = f"{fields.get('what', '')} {fields.get('done', '')}{total}".strip()
        elif kind == "budget":
            limit = fields.get("budget_seconds")
            used = float(fields.get("seconds_used", 0.0))
            self._budget = (used, None if limit is None else float(limit))
            self._budget_at = time.monotonic()
        else:
            said = fields.pop("message", None) or " ".join(f"{k}={v}" for k, v in fields.items())
            prefix = "" if kind == "done" else f"{kind}: "
            self._console.print(f"{prefix}{said}", markup=False, highlight=False)

    def _row(self, fields: dict[str, Any]) -> None:
        row = self._classes.setdefault(str(fields["cls"]), {})
        row.update({key: value for key, value in fields.items() if key != "cls"})
        if "number" in fields and "trials" not in fields:
            row["trials"] = int(fields["number"]) + 1
        row["verdict"] = verdict(row, tuned=True)  # an audit tells no class before its table
        if self._images_at_first is None and "images" in fields:
            self._images_at_first, self._first_image_at = self._images(), time.monotonic()

    def _images(self) -> int:
        return sum(int(row.get("images") or 0) for row in self._classes.values())

    def _pace(self) -> str:
        parts = [part for part in (self._stage, self._within) if part]
        now = time.monotonic()
        made = self._images() - (self._images_at_first or 0)
        if made > 0 and now > self._first_image_at:
            parts.append(f"{made / (now - self._first_image_at):.1f} images/s")
        parts.append(f"{spoken_seconds(now - self._began)} so far")
        if self._budget is not None and self._budget[1] is not None:
            left = self._budget[1] - self._budget[0] - (now - self._budget_at)
            parts.append(f"{spoken_seconds(max(0.0, left))} left")
        return " · ".join(parts)

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        pace = Text(self._pace(), style="dim")
        return Group(class_table(self._classes), pace) if self._classes else pace


def _told(event: Event, state: RunState) -> Iterator[tuple[str, dict[str, Any]]]:
    """What reporters say of an event of the journal."""
    if isinstance(event, TrialProposed):
        yield "stage", {"name": "tune"}
    elif isinstance(event, FoldOpened):
        yield "stage", {"name": "confirm"}
    elif isinstance(event, TrialFinished | TrialFailed):
        cls, progress = state.of(event.cls), event.progress
        gap, floor = progress.gap, progress.floor
        yield (
            "trial",
            {
                "cls": event.cls,
                "number": event.number,
                "gap": gap,
                "ratio": gap / floor if gap is not None and floor else None,
                "floor_p95": floor,
                "trials": cls.trials,
                "images": cls.images,
            },
        )
    elif isinstance(event, VerdictsReached):
        for name, verdict in event.verdicts.items():
            yield "class", {"cls": name, **verdict.model_dump(exclude={"fold", "q_value"})}
    elif isinstance(event, FoldEvaluated):
        done = sum(cls.evaluation is not None for cls in state.classes.values())
        yield "progress", {"done": done, "total": len(state.names), "what": "confirming"}
    if isinstance(event, TrialFinished | TrialFailed | FoldEvaluated):
        yield "budget", {"seconds_used": state.used, "budget_seconds": state.budget}


def make_reporter(*, quiet: bool = False) -> SilentReporter | JsonReporter | TerminalReporter:
    """The reporter for this process: a live table if both streams are terminals."""
    if quiet:
        return SilentReporter()
    if sys.stdout.isatty() and sys.stderr.isatty():
        return TerminalReporter()
    return JsonReporter()


def class_table(classes: dict[str, dict[str, Any]]) -> RenderableType:
    """A rich table of the classes: gap, ratio, trials, images, and what is known of closing.

    Args:
        classes: per class any of gap, ratio, trials, images, verdict.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for name in ("gap", "ratio", "trials", "images"):
        table.add_column(name, justify="right")
    table.add_column("")
    for name, row in classes.items():
        table.add_row(
            Text(name),
            _number(row.get("gap"), ".4f"),
            _number(row.get("ratio"), ".1f"),
            _number(row.get("trials"), "d"),
            _number(row.get("images"), "d"),
            row.get("verdict", ""),
        )
    return table


def spoken_seconds(seconds: float) -> str:
    """A time span for people: `48s`, `5m 03s`, `7h 12m`."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def _number(value: Any, form: str) -> str:
    if not isinstance(value, int | float):
        return "-"
    return format(int(value) if form == "d" else float(value), form)
