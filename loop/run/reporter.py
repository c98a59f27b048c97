"""The reporter: what receives the events and notices of a run while it works.

It keeps no truth: what matters is in the journal. Those that show something are in
`gapclose.loop.progress`.
"""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

from gapclose.loop.run.events import Event
from gapclose.loop.run.notices import Notice
from gapclose.loop.run.state import RunState

__all__ = ["Reporter", "SilentReporter"]


@runtime_checkable
class Reporter(Protocol):
    """The receiver of a journal's events, and of notices that no journal keeps."""

    def follow(self, event: Event, state: RunState) -> None:
        """Take an event that was appended, and where the run stands after it."""

    def tell(self, notice: Notice) -> None:
        """Take a notice; cheap enough to call per image."""


class SilentReporter:
    """A reporter that says nothing: the default in Python."""

    def follow(self, event: Event, state: RunState) -> None:
        """Drop the event."""

    def tell(self, notice: Notice) -> None:
        """Drop the notice."""

    def __enter__(self) -> Self:
        """Open nothing."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close nothing."""
