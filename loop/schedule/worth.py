"""The worth objective: a small gap is no end in itself, a classifier that works on photos is.

A class is searched for what it costs whoever trains on the images: its recall shortfall, measured
on the tune split now and then. The gap stays what trials are scored by and a class is
confirmed by; how large the two are together says which class comes first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from gapclose.analysis.significance import share_variance
from gapclose.loop.run.class_state import ClassState
from gapclose.loop.run.events import Recall, Stopped, StopReason
from gapclose.loop.run.state import RunState
from gapclose.loop.schedule.objective import GapObjective

__all__ = ["TOLERANCE", "WorthObjective", "costs"]

TOLERANCE: Final = 0.02
"""Of the photos of a class: a shortfall up to here is none."""
EVERY: Final = 5  # trials a class from one measurement to the next
_LEAST: Final = 0.002  # shortfall that a class counts with: what was measured as nothing may err
_GAP: Final = GapObjective()
_SURE: Final = 0.05  # error of a shortfall up to which none is seen because there is none
_COSTS_NOTHING: Final = Stopped(
    reason=StopReason.OBJECTIVE,
    detail="a classifier that is trained on its images loses nothing",
)


def costs(recall: Recall) -> bool:
    """Return whether a class falls short by more than chance and `TOLERANCE`."""
    return recall.shortfall > max(TOLERANCE, _error(recall))


def _error(recall: Recall) -> float:
    """Return the standard error of a shortfall; also where all photos are told right."""
    shares = (recall.real, recall.synthetic)
    return math.sqrt(sum(share_variance(round(s * recall.n), recall.n) for s in shares))


def _rests(cls: ClassState) -> Stopped | None:
    """Return that a class costs nothing, where enough photos say so."""
    recall = cls.recall
    if recall is None or costs(recall) or _error(recall) > _SURE:
        return None
    return _COSTS_NOTHING


@dataclass(frozen=True, slots=True)
class WorthObjective:
    """The gap in floors times the recall shortfall; before that is measured, the gap."""

    def gain(self, cls: ClassState, *, floor: float) -> float:
        """Return the gain, as `Objective.gain`."""
        gap = _GAP.gain(cls, floor=floor)
        if cls.recall is None:
            return gap
        # A closed class that costs something has something to gain, too.
        return max(gap, 1.0) * max(cls.recall.shortfall, _LEAST)

    def stopped(self, cls: ClassState, *, floor: float) -> Stopped | None:
        """Return why it needs no more trials before it is confirmed: it costs nothing."""
        if cls.recall is not None and costs(cls.recall):
            return None
        closed = _GAP.stopped(cls, floor=floor)
        if closed is None and cls.evaluation is not None and (cls.reopened or cls.untried):
            return self.settled(cls, floor=floor)
        return closed or _rests(cls)

    def reached(self, cls: ClassState, *, floor: float) -> bool:
        """Return that none is confirmed early: what it costs is told among all classes."""
        return False

    def settled(self, cls: ClassState, *, floor: float) -> Stopped | None:
        """Return that it is confirmed, or costs nothing by what was evaluated either."""
        confirmed = _GAP.settled(cls, floor=floor)
        if confirmed is not None or cls.evaluation is None or cls.evaluation.kept_baseline:
            return confirmed
        verdict = cls.evaluation.verdict
        unseen = None if verdict is None else verdict.recall
        return None if unseen is not None and costs(unseen) else _rests(cls)

    def wants_recalls(self, state: RunState, *, searching: bool) -> bool:
        """Return whether it never was done, or enough more has been tried since.

        Once more where the search ends: what a class costs then says whether it does.
        """
        classes = [state.of(name) for name in state.names]
        if sum(cls.has_baseline for cls in classes) < 2:
            return False  # of one class every photo is told right
        if state.recalls_at is None:
            return True
        new = state.trials - state.recalls_at
        known = [cls.recall is not None for cls in classes if cls.has_baseline]
        if not searching or (any(known) and not all(known)):  # a class has joined
            return new > 0
        return new >= EVERY * len(classes)
