"""The reporter: whoever is told what a run does, while it does it.

It keeps no truth: what matters is in the journal. Those that show something are in
`gapclose.loop.report.progress`.
"""

from __future__ import annotations

from typing import Any, Protocol, Self, runtime_checkable

from gapclose.loop.run.events import Event
from gapclose.loop.run.state import RunState

__all__ = ["Reporter", "SilentReporter"]


@runtime_checkable
class Reporter(Protocol):
    """Receives events.

    Kinds and fields that the terminal knows (others are shown as text, and logged alike):
        `stage`: name ("render", "embed", "baseline", "tune", "confirm", "report", "export")
        `class`: cls, and any of gap, ratio, floor_p95, trials, images, closed, confirmed
        `trial`: cls, number, and the fields of `class`; images is the class's total so far
        `progress`: done, total, what, within a stage
        `budget`: seconds_used, budget_seconds
        `warning`: message
        `done`: message
    """

    def event(self, kind: str, **fields: Any) -> None:
        """Tells one event; cheap enough to call per batch."""

    def follow(self, event: Event, state: RunState) -> None:
        """Tells an event of the journal, and where the run stands after it."""


class SilentReporter:
    """Says nothing: the default in Python."""

    def event(self, kind: str, **fields: Any) -> None:
        """Drops the event."""

    def follow(self, event: Event, state: RunState) -> None:
        """Drops the event."""

    def __enter__(self) -> Self:
        """Nothing to open."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to close."""
