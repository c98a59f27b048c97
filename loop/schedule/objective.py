"""The objective: what closing a class is worth, and when its search may rest.

The budget and `decide` ask it. Another objective is another class that keeps the Protocol, given
as `Limits.objective`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gapclose.loop.run.events import StopReason
from gapclose.loop.run.state import ClassState


class Objective(Protocol):
    """The order of the classes of a run."""

    def gain(self, cls: ClassState, *, floor: float) -> float:
        """Return what there is to gain in a class, >= 0; the class with the most is tried next.

        Args:
            cls: Where it stands.
            floor: `floor_p95` at the size of a confirmation.
        """

    def reached(self, cls: ClassState, *, floor: float) -> bool:
        """Return whether a class may be confirmed while others are still searched."""


@dataclass(frozen=True, slots=True)
class GapObjective:
    """The gap in floors: on the tune split, or on the last fold where that saw more."""

    def gain(self, cls: ClassState, *, floor: float) -> float:
        """Return the gain, as `Objective.gain`."""
        expected = cls.progress.expected
        return max(0.0 if expected is None else expected, cls.unseen_gap, 0.0) / floor

    def reached(self, cls: ClassState, *, floor: float) -> bool:
        """Return whether its search has ended and its gap is below the floor."""
        why, gap = cls.stopped(), cls.progress.gap
        closed = why in (StopReason.CLOSED_FROM_START, StopReason.CLOSED_ON_TUNE_SPLIT)
        return closed or (why is not None and gap is not None and gap <= floor)
