"""Plain lines: what a log says of a run, each with the time of day before it."""

from __future__ import annotations

from collections.abc import Iterator

from gapclose.loop.progress.narration import narrate
from gapclose.loop.progress.under_way import Reported
from gapclose.loop.report.spoken_time import clock_time
from gapclose.loop.run.state import RunState

__all__ = ["plain_lines"]


def plain_lines(reported: Reported, state: RunState | None, at: float) -> Iterator[str]:
    """Form the lines, as `19:02 embedding real photos: 2,000 of 5,000, 0:41 left`.

    Args:
        reported: An event of the journal or a notice.
        state: Where the run stands after an event.
        at: Unix time.
    """
    for words in narrate(reported, state):
        yield f"{clock_time(at)} {words}"
