"""The objective: what there is to gain in a class, and when it needs no more trials.

`Limits` and `decide` ask it which class comes first and when one rests; only baselines and
prioritized prompts come before.
Another objective is another class that keeps the Protocol, given to `tune`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from gapclose.loop.run.class_state import ClassState
from gapclose.loop.run.events import Stopped, StopReason
from gapclose.loop.run.state import RunState


class Objective(Protocol):
    """What the classes of a run are searched for.

    It is asked of classes that have their baseline. `floor` is what real images score at the size
    of a confirmation, 95th percentile, in the units of `progress`. A reason of its own is
    `Stopped(reason=StopReason.OBJECTIVE, detail="in its own words")`.
    """

    def gain(self, cls: ClassState, *, floor: float) -> float:
        """Return what there is to gain in a class, >= 0.

        The class with the most is tried next, confirmed last, and reopened first. `unseen_gap`,
        what a fold saw, is given in the units of `progress` here.
        """

    def stopped(self, cls: ClassState, *, floor: float) -> Stopped | None:
        """Return why the search of a class has ended, if it has; it is confirmed next.

        Failures end a search, and a prioritized prompt continues it, under every
        objective: this is not asked then.
        """

    def reached(self, cls: ClassState, *, floor: float) -> bool:
        """Return whether a class may be confirmed while others are still searched.

        It is asked of one whose search has ended; one that goes on would have to be confirmed
        again.
        """

    def settled(self, cls: ClassState, *, floor: float) -> Stopped | None:
        """Return why a class that was evaluated is not searched again, if so.

        One that is not settled is searched on while there are time and folds: `stopped` is None
        for it once it is `reopened`, or if nothing but its baseline was tried.
        """

    def wants_recalls(self, state: RunState, *, searching: bool) -> bool:
        """Return whether the classes' recalls are to be measured next.

        It is asked once every class that may have a baseline has one.

        Args:
            state: Of the run; trials in flight are waited for first.
            searching: Whether a class wants a trial, and there is time for one.
        """


@dataclass(frozen=True, slots=True)
class GapObjective:
    """The gap in floors: on the tune split, or on the last fold where that saw more."""

    def gain(self, cls: ClassState, *, floor: float) -> float:
        """Return the gain, as `Objective.gain`."""
        expected = cls.progress.expected
        return max(0.0 if expected is None else expected, cls.unseen_gap, 0.0) / floor

    def stopped(self, cls: ClassState, *, floor: float) -> Stopped | None:
        """Return why it needs no more trials before it is confirmed: no gap to the tune split."""
        if cls.progress.closed_from_start and not cls.reopened:
            return Stopped(reason=StopReason.CLOSED_FROM_START)
        return Stopped(reason=StopReason.CLOSED_ON_TUNE_SPLIT) if cls.progress.closed else None

    def reached(self, cls: ClassState, *, floor: float) -> bool:
        """Return whether its gap is closed, or below the floor."""
        gap = cls.progress.gap
        closed = self.stopped(cls, floor=floor) is not None
        return closed or (gap is not None and gap <= floor)

    def settled(self, cls: ClassState, *, floor: float) -> Stopped | None:
        """Return that it is confirmed, once it is."""
        confirmed = cls.evaluation is not None and cls.evaluation.confirmed
        return Stopped(reason=StopReason.CONFIRMED) if confirmed else None

    def wants_recalls(self, state: RunState, *, searching: bool) -> bool:
        """Return that they are not needed."""
        return False


OBJECTIVE: Final[Objective] = GapObjective()
"""Of a run that is given no other."""
