"""What is under way: since when, how far, and how fast. It holds no clock and writes nothing.

Reporters note here all that they receive, so that they know what to say in a long silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gapclose.loop.run.events import (
    CameraChosen,
    ConfirmationFailed,
    Event,
    FoldEvaluated,
    FoldOpened,
    RoundStarted,
    SessionStarted,
    TrialFailed,
    TrialFinished,
    TrialProposed,
    VerdictsReached,
)
from gapclose.loop.run.notices import Notice, StillWorking, Task, TaskAdvanced, TaskStarted

__all__ = ["Reported", "UnderWay"]

Reported = Event | Notice

_ENDS = (
    *(SessionStarted, RoundStarted, CameraChosen, TrialFinished, TrialFailed),
    *(FoldEvaluated, ConfirmationFailed, VerdictsReached),
)
_PREPARING = TaskStarted(task=Task.PREPARING)


@dataclass(slots=True)
class UnderWay:
    """The task that a run is at.

    Attributes:
        task: As it was last reported.
        began: When it was first reported, in monotonic seconds.
    """

    task: TaskStarted | TaskAdvanced | None = None
    began: float = 0.0
    _counted: tuple[float, int] | None = field(default=None)  # when, and how far it was then

    def note(self, reported: Reported, now: float) -> None:
        """Follow what a run does."""
        task = _task_of(reported)
        if task is None:
            return
        if self.task is None or not task.is_of(self.task):
            self.began, self._counted = now, None
        if isinstance(task, TaskAdvanced) and self._counted is None:
            self._counted = now, task.done
        self.task = task

    def timed(self, advanced: TaskAdvanced, now: float) -> TaskAdvanced:
        """Return the same with its times; `advanced` was noted.

        What was done when the task was first reported, as from a cache, says nothing of its rate.
        """
        left = None
        if self._counted is not None:
            since, before = self._counted
            made = advanced.done - before
            if made > 0 and now > since:
                left = (advanced.total - advanced.done) * (now - since) / made
        return advanced.model_copy(update={"seconds": now - self.began, "left": left})

    def still(self, now: float) -> StillWorking | None:
        """Return what to say after a long silence; None before the first task."""
        if self.task is None:
            return None
        return StillWorking(
            **self.task.model_dump(exclude={"kind", "seconds", "left"}), seconds=now - self.began
        )

    def ended(self, now: float) -> None:
        """Note that the task is done; the next one has not begun."""
        self.note(_PREPARING, now)


def _task_of(reported: Reported) -> TaskStarted | TaskAdvanced | None:
    match reported:
        case TaskStarted() | TaskAdvanced():
            return reported
        case TrialProposed():
            return TaskStarted(task=Task.TRIAL, cls=reported.cls, number=reported.number)
        case FoldOpened():
            return TaskStarted(task=Task.CONFIRMING, cls=reported.cls, number=reported.fold)
        case _:
            return _PREPARING if isinstance(reported, _ENDS) else None
