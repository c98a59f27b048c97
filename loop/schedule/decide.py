"""The decision: what a run does next, as a pure function of its state, its limits and the time.

`decide` goes through `PHASES` in order and takes the first that has something to do. It reads no
file, no model and no clock, so any decision can be tested, and replayed, as a function call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from gapclose.loop.run.events import Stopped, StopReason, TrialProposed
from gapclose.loop.run.state import FAILURES, ClassState, RunState
from gapclose.loop.schedule.budget import (
    BASELINE_IMAGES,
    FEWEST_FAIR,
    Limits,
    batch_images,
    pick,
    settings_trials,
)
from gapclose.loop.schedule.cost_model import CostModel
from gapclose.loop.schedule.reserve import (
    WORTHWHILE,
    ClassProgress,
    baseline_images,
    confirmation_reserve,
    reopen_candidates,
)

MOST_FOLDS: Final = 3  # of a confirm split


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposeTrial:
    """Propose a class's next trial.

    Attributes:
        cls: The class.
        baseline_images: Of trial 0.
        settings_trials: That its settings stage gets.
        batch: Images of a mixture; None for as many as are usual.
        hints: Settings that other classes have chosen.
    """

    cls: str
    baseline_images: int = BASELINE_IMAGES
    settings_trials: int = 0
    batch: int | None = None
    hints: tuple[dict[str, object], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTrial:
    """Run a trial in flight: the one that was proposed first."""

    trial: TrialProposed


@dataclass(frozen=True, slots=True, kw_only=True)
class ChooseCamera:
    """Choose the run's camera, before this class's next trial."""

    turn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateFold:
    """Evaluate a class on its next fold; `early` while others are searched."""

    cls: str
    fold: int
    early: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Judge all classes that were evaluated, together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRound:
    """Begin a round; fields as in `RoundStarted`."""

    due: tuple[str, ...]
    reopened: dict[str, float] = field(default_factory=dict)
    reset: tuple[str, ...] = ()
    halfway: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """End the run: nothing is worth another trial.

    Attributes:
        stopped: Why, by class.
    """

    stopped: dict[str, Stopped]


Action = ProposeTrial | RunTrial | ChooseCamera | EvaluateFold | Judge | StartRound | Finish


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

    def stopped(self, name: str) -> StopReason | None:
        """Return why the search of a class has ended, if it has."""
        return self.limits.stopped(name, self.state.of(name))

    def wants_trial(self, name: str) -> bool:
        """Return whether the search of a class goes on, and may."""
        return self.limits.wants_trial(name, self.state.of(name))

    def settled(self, name: str) -> StopReason | None:
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
        asked = cls.progress.pending or (
            bool(cls.prioritized) and evaluation.opened.evidence != cls.progress.evidence
        )
        return not self.folds_left(cls, name) or (self.settled(name) is not None and not asked)

    def standing(self, name: str) -> ClassProgress:
        """Return where a class that has its baseline stands."""
        cls = self.state.of(name)
        seen = 0.0 if cls.evaluation is None else cls.evaluation.gap
        new = cls.evaluation is None or cls.evaluation.opened.evidence != cls.progress.evidence
        floor, reopened = self.limits.classes[name].floor, replace(cls, unseen_gap=seen)
        return ClassProgress(
            name=name,
            gain=self.limits.objective.gain(reopened, floor=floor),
            gap=max(cls.progress.expected or 0.0, seen) / floor,
            seconds=self.costs.confirmation(name),
            tried=not cls.untried,
            new=not cls.untried and new,
        )

    def standings(self, names: Iterable[str]) -> list[ClassProgress]:
        """Return where classes stand; those without a baseline have nothing to confirm."""
        return [self.standing(n) for n in self.names if n in {*names} and self.has_baseline(n)]

    def has_baseline(self, name: str) -> bool:
        """Return whether a class has its baseline."""
        return self.state.of(name).has_baseline

    def reserve(self, due: Sequence[ClassProgress] | None = None) -> float:
        """Return the seconds kept back to confirm the due classes, or these, and to report."""
        if self.limits.tune.budget is None:
            return 0.0
        return confirmation_reserve(
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
        """Return the class to try next; None when none wants it, or the time left is kept back."""
        # Every class gets its baseline, whatever the budget: without one there is no report.
        if self.left <= self.reserve() and not any(map(self._wants_baseline, self.names)):
            return None
        searched = self.searched()
        return pick(
            searched,
            {name: self.state.of(name) for name in searched},
            self.limits,
            seconds=self._seconds(searched),
        )

    def _wants_baseline(self, name: str) -> bool:
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


def decide(state: RunState, *, limits: Limits, now: float) -> Action:
    """Return what the run does next.

    Args:
        state: Where it stands.
        limits: What it may use.
        now: Seconds of the budget used so far, over all sessions.
    """
    view = View(state, limits, now)
    for phase in PHASES:
        action = phase.act(view)
        if action is not None:
            return action
    return Finish(stopped={name: stop_reason(name, view) for name in limits.classes})


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of a run: what it does next, or None once it is left.

    Attributes:
        name: As a person would say it.
        left_when: When the next one comes.
        act: Its next action.
    """

    name: str
    left_when: str
    act: Callable[[View], Action | None]


def _in_flight(view: View) -> Action | None:
    """Run what was proposed first, once no more may be in flight or something else is due."""
    if not view.state.in_flight:
        return None
    if len(view.state.in_flight) < view.limits.in_flight and _confirm_early(view) is None:
        action = _search(view)
        if isinstance(action, ProposeTrial):
            return action
    return RunTrial(trial=view.state.in_flight[0])


def _start_round(view: View) -> Action | None:
    current = view.state.round
    return plan_round(view) if current is None or current.over else None


def _confirm_early(view: View) -> Action | None:
    """Confirm what is closed at the halfway point, while there is time to search on.

    Only where time is what ends the search: of trials and images each class has its own.
    """
    if view.next_trial() is None:
        return None
    current = view.state.round
    late = current is not None and current.halfway is not None and view.left <= current.halfway
    if view.limits.by_clock and late and view.left >= WORTHWHILE * view.reserve():
        reached = [
            name
            for name in view.searched()
            if view.stopped(name) is not None
            and view.limits.objective.reached(
                view.state.of(name), floor=view.limits.classes[name].floor
            )
        ]
        for row in sorted(view.standings(reached), key=lambda row: row.turn):
            if row.name in view.to_evaluate():
                return _evaluate(view, row.name, early=True)
    return Judge() if view.state.early else None


def _search(view: View) -> Action | None:
    name = view.state.turn or view.next_trial()
    if name is None:
        return None
    cls = view.state.of(name)
    if view.limits.cameras and view.state.camera is None and cls.progress.opened:
        return ChooseCamera(turn=name)
    trial_seconds, time = view.costs.trial(), view.left - view.reserve()
    wanting = [name for name in view.state.due if view.wants_trial(name)]
    return ProposeTrial(
        cls=name,
        baseline_images=_baseline_images(view, cls),
        settings_trials=settings_trials(
            cls, view.limits, time=time, trial_seconds=trial_seconds, open_classes=len(wanting)
        ),
        batch=batch_images(view.limits, time=time, trial_seconds=view.costs.trial(name)),
        hints=tuple(dict(won) for other, won in view.state.winners if other != name),
    )


def _baseline_images(view: View, cls: ClassState) -> int:
    """Return all of them where trials or images end the search, or a smaller one failed."""
    if cls.has_baseline or not view.limits.by_clock or cls.failures:
        return BASELINE_IMAGES
    return baseline_images(
        BASELINE_IMAGES,
        left=view.left,
        spent=view.state.timings.baseline_seconds,
        reserve=view.reserve(),
        seconds=view.costs.baseline_image,
        classes=len(view.limits.classes),
    )


def _confirm(view: View) -> Action | None:
    names = view.to_evaluate()
    return _evaluate(view, names[0], early=False) if names else None


def _evaluate(view: View, name: str, *, early: bool) -> EvaluateFold:
    cls = view.state.of(name)
    fold = cls.next_fold() if cls.opened is None else cls.opened.fold
    return EvaluateFold(cls=name, fold=fold, early=early)


def _judge(view: View) -> Action | None:
    return Judge() if view.state.unjudged else None


PHASES: Final = (
    Phase("trials in flight", "each has a result", _in_flight),
    Phase("new round", "it has begun", _start_round),
    Phase("early confirmation", "what is closed at halfway has its verdict", _confirm_early),
    Phase("search", "no class wants a trial, or the time left is kept back", _search),
    Phase("confirmation", "every class of the round has been evaluated", _confirm),
    Phase("verdict", "no evaluation is without one", _judge),
)


def plan_round(view: View) -> StartRound:
    """Begin with what no fold has judged yet, and the worst of what failed confirmation."""
    state, limits = view.state, view.limits
    due = {n for n in view.names if state.of(n).evaluation is None or _has_gone_on(view, n)}
    reset = []
    if view.left > view.reserve(view.standings(due)):
        reset += [n for n in view.names if n in due and _may_retry(view, n)]
    held = [n for n in view.names if n not in due and _may_go_on(view, n)]
    reopened = {}
    for name in reopen_candidates(
        view.standings(held), view.standings(due), left=view.left, reserve=view.reserve
    ):
        cls = state.of(name)
        due.add(name)
        if cls.retryable:
            reset.append(name)
        if not cls.untried and cls.evaluation is not None:  # else it was never closed
            reopened[name] = cls.evaluation.gap
    halfway = None
    if limits.tune.budget is not None:
        halfway = (view.left + view.reserve(view.standings(due))) / 2
    ordered = tuple(name for name in view.names if name in due)
    return StartRound(due=ordered, reopened=reopened, reset=tuple(reset), halfway=halfway)


def _may_retry(view: View, name: str) -> bool:
    cls = view.state.of(name)
    return cls.retryable and cls.failures >= FAILURES and not view.limits.spent(cls)


def _has_gone_on(view: View, name: str) -> bool:
    """Return whether a class has gone on since its last evaluation, or was reopened and can."""
    cls = view.state.of(name)
    if cls.evaluation is None or view.rests(name):
        return False
    opened = cls.evaluation.opened
    if opened.evidence != cls.progress.evidence:
        return True
    if not view.wants_trial(name):
        return False  # a fold would see nothing new, and no time is to be kept back for it
    reopened = cls.reopened_at is not None and cls.reopened_at >= opened.trials
    return cls.trials > opened.trials or reopened or cls.progress.pending


def _may_go_on(view: View, name: str) -> bool:
    """Return whether a class that is not settled, and not due, can be searched on in."""
    cls = view.state.of(name)
    if cls.evaluation is None or view.rests(name) or view.limits.spent(cls):
        return False
    if cls.failures >= FAILURES:
        return cls.retryable
    return not cls.untried or view.stopped(name) is None


def stop_reason(name: str, view: View) -> Stopped:
    """Return why a class gets no more trials; that the session ended, where it still would."""
    cls, evaluation = view.state.of(name), view.state.of(name).evaluation
    if cls.confirmation_error is not None:
        return Stopped(reason=StopReason.CONFIRMATION_FAILED, detail=cls.confirmation_error)
    if evaluation is not None and evaluation.kept_baseline:
        return Stopped(reason=StopReason.BASELINE_KEPT)
    why = view.stopped(name)
    if why is StopReason.FAILURES:
        return Stopped(reason=why, detail=cls.error)
    # Closed for the search alone is no reason to end: what kept it from going on is.
    settled = view.settled(name)
    if why is not None and (evaluation is None or settled is not None):
        return Stopped(reason=why)
    if settled is not None:
        return Stopped(reason=settled)
    if view.limits.spent(cls):
        return Stopped(reason=StopReason.LIMIT)
    if evaluation is not None and not view.folds_left(cls, name):
        few = view.limits.classes[name].folds < MOST_FOLDS
        return Stopped(reason=StopReason.NO_PHOTOS_LEFT if few else StopReason.NO_FOLDS_LEFT)
    spare = view.left > view.reserve() + view.costs.trial()
    return Stopped(reason=StopReason.TOO_LITTLE_TIME if spare else StopReason.OUT_OF_BUDGET)
