"""The view of a decision: where a run stands, what it may use, and what follows from both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gapclose.loop.run.class_state import ClassState
from gapclose.loop.run.events import Stopped
from gapclose.loop.run.state import RunState
from gapclose.loop.schedule.budget import FEWEST_FAIR, Limits, pick
from gapclose.loop.schedule.cost_model import CostModel
from gapclose.loop.schedule.reserve import ClassProgress, confirmation_reserve


@dataclass(frozen=True)
class View:
    """The inputs of a decision: the state, the limits, and seconds used of the budget."""

    state: RunState
    limits: Limits
    used: float

    @cached_property
    def costs(self) -> CostModel:
        """The cost model, by what the run has taken so far."""
        return CostModel(
            timings=self.state.timings,
            trial_images=self.limits.tune.images_per_trial,
            confirm_images=self.limits.confirm_images,
        )

    @property
    def names(self) -> Iterable[str]:
        """The classes of the run, in its order."""
        return self.limits.classes

    @property
    def left(self) -> float:
        """Seconds left of the budget once all trials in flight have their results."""
        flying = sum(self.costs.trial(trial.cls) for trial in self.state.in_flight)
        return self.limits.left(self.used) - flying

    def folds_left(self, cls: ClassState, name: str) -> bool:
        """Return whether a fold is left that has judged no mixture."""
        return cls.next_fold() < self.limits.classes[name].folds

    def stopped(self, name: str) -> Stopped | None:
        """Return why the search of a class has ended, if it has."""
        return self.limits.stopped(name, self.state.of(name))

    def wants_trial(self, name: str) -> bool:
        """Return whether the search of a class goes on, and may."""
        return self.limits.wants_trial(name, self.state.of(name))

    def settled(self, name: str) -> Stopped | None:
        """Return why a class is not searched again after its evaluation, if so."""
        cls, floor = self.state.of(name), self.limits.classes[name].floor
        if cls.evaluation is None:
            return None
        return self.limits.objective.settled(cls, floor=floor)

    def rests(self, name: str) -> bool:
        """Return whether more trials would change nothing: it is settled, or no fold is left."""
        cls = self.state.of(name)
        evaluation = cls.evaluation
        if evaluation is None:
            return False
        # What a person asked for is to be tried, and then confirmed.
        asked = cls.asked and (
            cls.progress.pending or evaluation.opened.evidence != cls.progress.evidence
        )
        return not self.folds_left(cls, name) or (self.settled(name) is not None and not asked)

    def _standing(self, name: str) -> ClassProgress:
        cls = self.state.of(name)
        seen = 0.0 if cls.evaluation is None else cls.evaluation.gap
        new = cls.evaluation is None or cls.evaluation.opened.evidence != cls.progress.evidence
        limits = self.limits.classes[name]
        return ClassProgress(
            name=name,
            gain=self.limits.gain(name, replace(cls, unseen_gap=seen)),
            gap=max(cls.progress.expected or 0.0, seen * limits.gap_unit) / limits.floor,
            seconds=self.costs.confirmation(name),
            tried=not cls.untried,
            new=not cls.untried and new,
        )

    def standings(self, names: Iterable[str]) -> list[ClassProgress]:
        """Return where classes stand; those without a baseline have nothing to confirm."""
        wanted = {*names}
        return [row for row in self._standings if row.name in wanted]

    @cached_property
    def _standings(self) -> list[ClassProgress]:
        return [self._standing(name) for name in self.names if self.state.of(name).has_baseline]

    def reserve(self, due: Sequence[ClassProgress] | None = None) -> float:
        """Return the seconds kept back: to confirm the due classes, or these, and to report.

        And to measure recalls once more, where that has been done.
        """
        if self.limits.tune.budget is None:
            return 0.0
        return self.state.timings.recalls + confirmation_reserve(
            self.standings(self.state.due) if due is None else due,
            classes=len(self.limits.classes),
            slowness=self.costs.slowness,
            budget=self.limits.tune.budget,
        )

    def searched(self) -> list[str]:
        """Return the classes of the round whose search may go on now."""
        return [
            name
            for name in self.names
            if name in self.state.due
            and not self.rests(name)
            and not self.state.of(name).awaits_result
        ]

    def next_trial(self) -> str | None:
        """Return the class to try next; None when none wants it, or the time left is kept back.

        The class whose turn was settled keeps it where it still may have a trial: since then a
        person may have allowed less, or classes have joined that have no baseline.
        """
        # Every class gets its baseline, whatever the budget: without one there is no report.
        baselines = any(map(self.wants_baseline, self.names))
        if self.left <= self.reserve() and not baselines:
            return None
        searched, turn = self.searched(), self.state.turn
        if turn in searched and not baselines and self.wants_trial(turn):
            return turn
        return pick(
            searched,
            {name: self.state.of(name) for name in searched},
            self.limits,
            seconds=self._seconds(searched),
        )

    def wants_baseline(self, name: str) -> bool:
        """Return whether a class has none yet, and may have one."""
        cls = self.state.of(name)
        return not (cls.has_baseline or cls.awaits_result) and self.wants_trial(name)

    def _seconds(self, names: Sequence[str]) -> dict[str, float]:
        """Return what a trial of each class takes, of its own time and of that of others.

        Where there is not the time to confirm all, a class's first trial costs another its
        confirmation. A part of it counts, or a slow machine would give many classes a trial or
        two, of which nothing comes, and spend its time on confirming them.
        """
        due = self.standings(self.state.due)
        wanted = [replace(row, tried=row.tried or self.stopped(row.name) is None) for row in due]
        seconds = {name: self.costs.trial(name) for name in names}
        if self.left < self.reserve(wanted):
            for row in due:
                if row.name in seconds and not row.tried:
                    seconds[row.name] += row.seconds / FEWEST_FAIR
        return seconds

    def to_evaluate(self) -> list[str]:
        """Return the classes of the round to confirm, in their turn."""
        wanted = [name for name in self.state.due if self._wants_fold(name)]
        return [row.name for row in sorted(self.standings(wanted), key=lambda row: row.turn)]

    def _wants_fold(self, name: str) -> bool:
        cls = self.state.of(name)
        if not cls.has_baseline or cls.confirmation_error is not None:
            return False
        if cls.evaluation is None or cls.opened is not None:
            return True
        new = cls.evaluation.opened.evidence != cls.progress.evidence
        return new and self.folds_left(cls, name)
