"""The line reporter: what a run says off a terminal, in lines, neither too many nor too few.

Progress arrives per image and is written every few seconds; after ten silent seconds, a small
thread writes once more what is under way. `plain_lines` and `json_lines` format the lines.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, Self, TextIO

from gapclose.loop.progress.under_way import Reported, UnderWay
from gapclose.loop.run.events import Event
from gapclose.loop.run.notices import Notice, TaskAdvanced, TaskStarted
from gapclose.loop.run.state import RunState

__all__ = ["LineReporter", "Lines"]

SILENCE: Final = 8.0  # seconds: asked every second, it keeps the promise of ten
QUICK: Final = 1.0  # seconds: the end of what took less, and was not counted, is worth no line

Lines = Callable[[Reported, RunState | None, float], Iterable[str]]
"""(event or notice, state of the run after an event, Unix time) -> lines without their ends."""


class LineReporter:
    """A reporter that writes lines to a stream; open, it also breaks a long silence."""

    def __init__(
        self,
        lines: Lines,
        *,
        stream: TextIO,
        every: float,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Write nothing yet.

        Args:
            lines: Forms them.
            stream: Flushed after each.
            every: Seconds between two lines of how far a task is.
            now: The clock that silence is measured by.
            wall: Unix time.
        """
        self._lines = lines
        self._stream = stream
        self._every = every
        self._now, self._wall = now, wall
        self._under_way = UnderWay()
        self._said_at = now()
        self._counted_at: float | None = None
        self._lock = threading.RLock()
        self._mute = False
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, event: Event, state: RunState) -> None:
        """Write what the journal was appended."""
        with self._lock:
            self._note(event)
            self._say(event, state)

    def tell(self, notice: Notice) -> None:
        """Write a notice, unless it says too little for another line."""
        with self._lock:
            fresh = self._note(notice)
            if isinstance(notice, TaskAdvanced):
                self._count(notice, fresh=fresh)
            elif fresh or not isinstance(notice, TaskStarted):  # else its event has said so
                self._say(notice)

    def beat(self) -> None:
        """Say what is under way, if nothing was said for long."""
        with self._lock:
            now = self._now()
            if now - self._said_at >= SILENCE and (still := self._under_way.still(now)):
                self._said_at = now
                self._say(still)

    def __enter__(self) -> Self:
        """Begin to listen for silence."""
        self._closing.clear()
        self._thread = threading.Thread(target=self._listen, name="reporter", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop listening."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _listen(self) -> None:
        while not self._closing.wait(1.0):
            self.beat()

    def _note(self, reported: Reported) -> bool:
        """Note an event or a notice; return whether it begins a task that was not announced."""
        before = self._under_way.task
        self._under_way.note(reported, self._now())
        after = self._under_way.task
        if after is not None and (before is None or not after.is_of(before)):
            self._counted_at = None
            return True
        return False

    def _count(self, notice: TaskAdvanced, *, fresh: bool) -> None:
        now = self._now()
        timed = self._under_way.timed(notice, now)
        counted = self._counted_at is not None
        if notice.done >= notice.total:
            # A count that was told looks stuck without its last line.
            worth = fresh or counted or now - self._under_way.began >= QUICK
            self._under_way.ended(now)
        else:
            since = self._under_way.began if self._counted_at is None else self._counted_at
            worth = fresh or now - since >= self._every
        if worth:
            self._counted_at = now
            self._say(timed)

    def _say(self, reported: Reported, state: RunState | None = None) -> None:
        lines = [*self._lines(reported, state, self._wall())]
        if self._mute or not lines:
            return
        self._said_at = self._now()
        try:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()
        except (OSError, ValueError):  # whoever listened is gone, and the work is worth more
            self._mute = True
