"""The live table: what a run says on a terminal, one row per class, redrawn while it works."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gapclose.loop.progress.narration import narrate, task_words
from gapclose.loop.progress.under_way import UnderWay
from gapclose.loop.report.class_table import class_table
from gapclose.loop.report.spoken_time import spoken_seconds
from gapclose.loop.report.text import verdict
from gapclose.loop.run.events import (
    Event,
    FoldEvaluated,
    TrialFailed,
    TrialFinished,
    VerdictsReached,
)
from gapclose.loop.run.notices import Notice, StillWorking, TaskAdvanced, TaskStarted
from gapclose.loop.run.state import RunState

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["LiveTable"]


class LiveTable:
    """A table of the classes; below it what is under way, images per second and the time left."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to `console`, default standard error so that output can be piped."""
        from rich.console import Console
        from rich.live import Live

        self._console = console if console is not None else Console(stderr=True)
        self._classes: dict[str, dict[str, Any]] = {}
        self._under_way = UnderWay()
        self._budget: tuple[float, float] | None = None  # what was left of it, and when
        self._began = time.monotonic()
        self._images_at_first: int | None = None
        self._first_image_at = self._began
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=4,
            transient=False,
        )

    def __enter__(self) -> Self:
        """Start the display."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the last table standing."""
        self._live.stop()

    def follow(self, event: Event, state: RunState) -> None:
        """Update the table."""
        now = time.monotonic()
        self._under_way.note(event, now)
        if isinstance(event, TrialFinished | TrialFailed):
            self._row(event.cls, _tried(event, state))
        elif isinstance(event, VerdictsReached):
            for name, its in event.verdicts.items():
                self._row(name, its.model_dump(exclude={"fold", "q_value"}))
        if isinstance(event, TrialFinished | TrialFailed | FoldEvaluated):
            left = None if state.budget is None else state.budget - state.used
            self._budget = None if left is None else (left, now)

    def tell(self, notice: Notice) -> None:
        """Show what is under way below the table, and print the rest above it."""
        if isinstance(notice, TaskStarted | TaskAdvanced | StillWorking):
            self._under_way.note(notice, time.monotonic())
            return
        for line in narrate(notice):
            self._console.print(line, markup=False, highlight=False)

    def _row(self, name: str, fields: Mapping[str, Any]) -> None:
        row = self._classes.setdefault(name, {})
        row.update(fields)
        row["verdict"] = verdict(row, tuned=True)  # an audit reports no class before its table
        if self._images_at_first is None and "images" in fields:
            self._images_at_first, self._first_image_at = self._images(), time.monotonic()

    def _images(self) -> int:
        return sum(int(row.get("images") or 0) for row in self._classes.values())

    def _progress(self) -> str:
        parts = []
        if (task := self._under_way.task) is not None:
            parts.append(task_words(task))
            if isinstance(task, TaskAdvanced):
                parts[0] += f": {task.done:,} of {task.total:,}"
        now = time.monotonic()
        made = self._images() - (self._images_at_first or 0)
        if made > 0 and now > self._first_image_at:
            parts.append(f"{made / (now - self._first_image_at):.1f} images/s")
        parts.append(f"{spoken_seconds(now - self._began)} so far")
        if self._budget is not None:
            left = self._budget[0] - (now - self._budget[1])
            parts.append(f"{spoken_seconds(max(0.0, left))} left")
        return " · ".join(parts)

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        progress = Text(self._progress(), style="dim")
        return Group(class_table(self._classes), progress) if self._classes else progress


def _tried(event: TrialFinished | TrialFailed, state: RunState) -> dict[str, Any]:
    """Return the cells of a row after a trial."""
    cls, gap, floor = state.of(event.cls), event.progress.gap, event.progress.floor
    return {
        "gap": gap,
        "ratio": gap / floor if gap is not None and floor else None,
        "floor_p95": floor,
        "trials": cls.trials,
        "images": cls.images,
    }
