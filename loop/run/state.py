"""The state of a run: a pure fold over its journal, the same while it runs and when it resumes.

`apply` takes a state and an event and returns the next state; it reads no file and no clock. What
is expensive to fold, such as kernel sums, is held by `gapclose.loop.search` beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import singledispatch
from typing import Any, Final

from gapclose.loop.run.events import (
    CameraChosen,
    ClassVerdict,
    ConfirmationFailed,
    Event,
    FoldEvaluated,
    FoldOpened,
    PhotosListed,
    Progress,
    PromptsPrioritized,
    RoundStarted,
    RunFinished,
    RunStarted,
    SessionStarted,
    TrialFailed,
    TrialFinished,
    TrialProposed,
    VerdictsReached,
)

__all__ = ["ClassState", "Evaluation", "Round", "RunState", "Timings", "apply", "fold"]

FAILURES: Final = 3  # in a row stop a class
_RECENT_TRIALS: Final = 50  # for a class's seconds per trial: machines grow slower and faster
_RECENT_EVALUATIONS: Final = 50
_RECENT_PROBES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What one fold said of one mixture.

    Attributes:
        opened: The fold and the mixture.
        result: What was measured.
        verdict: None until all classes have been judged together.
        tagged: Whether what a person tagged in it has chosen prompts: its fold is spent, then.
    """

    opened: FoldOpened
    result: FoldEvaluated
    verdict: ClassVerdict | None = None
    tagged: bool = False

    @property
    def kept_baseline(self) -> bool:
        """Whether the mixture did no better than the baseline, which is kept in its place."""
        judged, kept = (
            [recipe["fingerprint"] for recipe in mixture["recipes"]]
            for mixture in (self.opened.mixture, self.result.mixture)
        )
        return judged != kept

    @property
    def confirmed(self) -> bool:
        """Whether the mixture is confirmed."""
        return self.verdict is not None and self.verdict.confirmed

    @property
    def gap(self) -> float:
        """Of the mixture that is kept, on the fold."""
        return float(self.result.after["gap"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassState:
    """Where a class stands.

    Attributes:
        trials: Finished ones, failed ones included.
        proposed: Those under way included; the number of the next.
        images: Generated for its trials.
        failed: Trials that failed.
        failures: Failed trials in a row.
        error: Of the last trial that failed.
        progress: Of its search.
        reopened: Whether it is searched after a confirmation that failed, or because of tags.
        reopened_at: Trials when a round last reopened it.
        unseen_gap: What the confirmation that reopened it saw.
        prioritized: Prompts that come first.
        retryable: Whether a restart may forget its failures.
        opened: The fold that was opened and is not evaluated.
        spent_folds: Photos of the folds that have judged a mixture, by content.
        evaluation: The last one.
        judged: The last one that has a verdict.
        confirmation_error: Why its last confirmation of this session failed.
    """

    trials: int = 0
    proposed: int = 0
    images: int = 0
    failed: int = 0
    failures: int = 0
    error: str | None = None
    progress: Progress = field(default_factory=Progress)
    reopened: bool = False
    reopened_at: int | None = None
    unseen_gap: float = 0.0
    prioritized: tuple[Mapping[str, str], ...] = ()
    retryable: bool = False
    opened: FoldOpened | None = None
    spent_folds: tuple[tuple[str, ...], ...] = ()
    evaluation: Evaluation | None = None
    judged: Evaluation | None = None
    confirmation_error: str | None = None

    @property
    def has_baseline(self) -> bool:
        """Whether trial 0 has been scored; nothing else is tried before."""
        return self.progress.baseline_gap is not None

    @property
    def awaits_result(self) -> bool:
        """Whether what comes next depends on the trial under way: nothing is proposed beside it.

        Of the baseline, of all until the settings are chosen, and of prompts that a person
        prioritized.
        """
        settled = self.has_baseline and self.progress.winner is not None
        return self.proposed > self.trials and (not settled or self.progress.pending)

    @property
    def untried(self) -> bool:
        """Whether time ran out before anything but the baseline was tried.

        The baseline is then evaluated on the images of trial 0, which nothing was chosen by, and
        costs no more images. One that closed from the start was chosen by them.
        """
        return self.progress.evidence <= 1 and not self.progress.closed_from_start

    def next_fold(self) -> int:
        """Return the first fold that has judged no mixture of the search."""
        if self.evaluation is None:
            return 0
        spent = self.evaluation.opened.spends or self.evaluation.tagged
        return self.evaluation.opened.fold + int(spent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A round of search and confirmation.

    Attributes:
        due: Classes that are searched, and not yet confirmed in it.
        halfway: Seconds left when half of its search time is used; None without a budget.
        over: Whether its verdicts are reached.
    """

    due: frozenset[str]
    halfway: float | None
    over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """What took how long, in seconds; `CostModel` reads it.

    Attributes:
        baselines: Seconds and images of each that succeeded.
        baseline_seconds: Of all baselines, failed ones too.
        first: Of each class's first trial after its baseline: the baseline's settings in small
            batches.
        begun: Classes that have had one.
        trials: By class, of its latest whole recipes.
        evaluations: Class, seconds and generated images of the latest.
        probes: The latest.
    """

    baselines: tuple[tuple[float, int], ...] = ()
    baseline_seconds: float = 0.0
    first: tuple[float, ...] = ()
    begun: frozenset[str] = frozenset()
    trials: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    evaluations: tuple[tuple[str, float, int], ...] = ()
    probes: tuple[float, ...] = ()

    def with_trial(self, trial: TrialProposed, seconds: float, *, done: bool) -> Timings:
        """Note a trial. Failures say nothing, nor do stages that generate little anew."""
        cls = trial.cls
        if trial.stage == "baseline":
            images = sum(len(job.seeds) for job in trial.jobs)
            return replace(
                self,
                baseline_seconds=self.baseline_seconds + seconds,
                baselines=(*self.baselines, (seconds, images)) if done else self.baselines,
            )
        first, trials = self.first, self.trials
        if done and cls not in self.begun:
            first = (*first, seconds)
        if done and trial.stage == "joint":
            trials = {**trials, cls: (*trials.get(cls, ()), seconds)[-_RECENT_TRIALS:]}
        return replace(self, first=first, trials=trials, begun=self.begun | {cls})

    def with_evaluation(self, cls: str, seconds: float, images: int) -> Timings:
        """Note an evaluation."""
        recent = (*self.evaluations, (cls, seconds, images))[-_RECENT_EVALUATIONS:]
        return replace(self, evaluations=recent)

    def with_probe(self, seconds: float | None) -> Timings:
        """Note what `probe()` took, where it was asked."""
        if seconds is None:
            return self
        return replace(self, probes=(*self.probes, seconds)[-_RECENT_PROBES:])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Where a run stands.

    Attributes:
        run: Its id; empty before the first event.
        started: Unix time.
        used: Seconds of the budget that all sessions have used.
        budget: Of the last session, in seconds.
        stage: Of the last work that was begun: start, tune, confirm or done.
        sessions: How many have begun.
        names: The run's classes, in order.
        images: Generated by all trials and evaluations.
        classes: Those that anything has happened to.
        listed: The real images when they were last listed.
        round: The last one.
        turn: The class whose trial comes next, where that is settled already.
        in_flight: Trials that were proposed and are not finished, in the order proposed.
        camera: The run's, once it is chosen.
        winners: Classes and the settings that they have chosen, in that order, each settings once.
        timings: What took how long.
        finished: Set when the run has ended, until a session goes on.
    """

    run: str = ""
    started: float = 0.0
    used: float = 0.0
    budget: float | None = None
    stage: str = "new"
    sessions: int = 0
    names: tuple[str, ...] = ()
    images: int = 0
    classes: Mapping[str, ClassState] = field(default_factory=dict)
    listed: PhotosListed | None = None
    round: Round | None = None
    turn: str | None = None
    in_flight: tuple[TrialProposed, ...] = ()
    camera: CameraChosen | None = None
    winners: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    timings: Timings = field(default_factory=Timings)
    finished: RunFinished | None = None

    @property
    def photos(self) -> Mapping[str, tuple[str, ...]]:
        """By class, the photos of the tune split, by content."""
        return {} if self.listed is None else self.listed.tune

    @property
    def cuts(self) -> Mapping[str, int]:
        """By class, which of its cuts is not the first."""
        return {} if self.listed is None else self.listed.cuts

    @property
    def left_out(self) -> Mapping[str, Any]:
        """What is not scored, as gap.json has it."""
        return {} if self.listed is None else self.listed.left_out

    def of(self, cls: str) -> ClassState:
        """Return a class's state, also before anything has happened to it."""
        return self.classes.get(cls, _NEW)

    @property
    def due(self) -> frozenset[str]:
        """Classes of the round that are still to be confirmed."""
        return frozenset() if self.round is None else self.round.due

    @property
    def unjudged(self) -> bool:
        """Whether a class was evaluated that has no verdict yet."""
        evaluations = (cls.evaluation for cls in self.classes.values())
        return any(e is not None and e.verdict is None for e in evaluations)

    @property
    def early(self) -> bool:
        """Whether one of these was evaluated while others were searched."""
        evaluations = (cls.evaluation for cls in self.classes.values())
        return any(e is not None and e.verdict is None and e.opened.early for e in evaluations)


_NEW: Final = ClassState()


def fold(events: Iterable[Event], state: RunState | None = None) -> RunState:
    """Return the state after some events."""
    state = RunState() if state is None else state
    for event in events:
        state = apply(state, event)
    return state


def apply(state: RunState, event: Event) -> RunState:
    """Return the state after one more event; the given one is not changed."""
    return replace(_applied(event, state), used=event.used)


@singledispatch
def _applied(event: object, state: RunState) -> RunState:
    raise TypeError(f"{type(event).__name__} is no event of a journal")


def _with(state: RunState, cls: str, **changes: Any) -> RunState:
    changed = replace(state.of(cls), **changes)
    return replace(state, classes={**state.classes, cls: changed})


@_applied.register
def _(event: RunStarted, state: RunState) -> RunState:
    return replace(state, run=event.run, started=event.at)


@_applied.register
def _(event: SessionStarted, state: RunState) -> RunState:
    classes = {
        name: replace(
            cls,
            confirmation_error=None,
            # A restart of a run that has ended implies that the cause of its failures was fixed.
            retryable=cls.retryable or (state.finished is not None and cls.failures >= FAILURES),
        )
        for name, cls in state.classes.items()
    }
    current = None if state.finished is not None else state.round
    if current is not None:  # what could not be confirmed, and classes that are new, join it
        again = {name for name, cls in state.classes.items() if cls.confirmation_error is not None}
        current = replace(current, due=current.due | again | {*event.classes} - {*state.names})
    return replace(
        state,
        classes=classes,
        names=event.classes,
        budget=event.budget,
        stage="start",
        sessions=state.sessions + 1,
        round=current,
        timings=state.timings.with_probe(event.probe),
        finished=None,
    )


@_applied.register
def _(event: PhotosListed, state: RunState) -> RunState:
    tune = {**state.photos, **event.tune}
    return replace(state, listed=event.model_copy(update={"tune": tune}))


@_applied.register
def _(event: RoundStarted, state: RunState) -> RunState:
    for name in event.reset:
        state = _with(state, name, failures=0, retryable=False)
    for name, gap in event.reopened.items():
        state = _reopened(state, name, gap)
        state = _with(state, name, reopened_at=state.of(name).trials)
    return replace(state, round=Round(due=frozenset(event.due), halfway=event.halfway))


def _reopened(state: RunState, name: str, gap: float) -> RunState:
    progress = state.of(name).progress.model_copy(update={"closed": False, "since_gain": 0})
    return _with(state, name, progress=progress, reopened=True, unseen_gap=gap)


@_applied.register
def _(event: PromptsPrioritized, state: RunState) -> RunState:
    name = event.cls
    if event.reset:
        state = _with(state, name, failures=0, retryable=False)
    state = _reopened(state, name, 0.0)
    cls = state.of(name)
    progress = cls.progress.model_copy(update={"pending": True})
    changes: dict[str, Any] = {"progress": progress, "prioritized": event.prompts}
    evaluation = cls.evaluation
    if evaluation is not None and not evaluation.tagged:
        changes["evaluation"] = replace(evaluation, tagged=True)
        if evaluation.opened.photos not in cls.spent_folds:
            changes["spent_folds"] = (*cls.spent_folds, evaluation.opened.photos)
    state = _with(state, name, **changes)
    due = state.due | {name}
    halfway = None if state.round is None else state.round.halfway
    return replace(state, round=Round(due=due, halfway=halfway))


@_applied.register
def _(event: CameraChosen, state: RunState) -> RunState:
    for name, progress in event.progress.items():
        state = _with(state, name, progress=progress)
    return replace(state, camera=event, turn=event.turn)


@_applied.register
def _(event: TrialProposed, state: RunState) -> RunState:
    state = _with(state, event.cls, proposed=event.number + 1)
    return replace(state, in_flight=(*state.in_flight, event), turn=None, stage="tune")


@_applied.register
def _(event: TrialFinished, state: RunState) -> RunState:
    return _tried(state, event, failures=0, confirmation_error=None)


@_applied.register
def _(event: TrialFailed, state: RunState) -> RunState:
    cls = state.of(event.cls)
    return _tried(
        state, event, failed=cls.failed + 1, failures=cls.failures + 1, error=event.error
    )


def _tried(state: RunState, event: TrialFinished | TrialFailed, **changes: Any) -> RunState:
    cls = state.of(event.cls)
    timings, done = state.timings, isinstance(event, TrialFinished)
    waiting = []
    for trial in state.in_flight:
        if (trial.cls, trial.number) == (event.cls, event.number):
            timings = timings.with_trial(trial, event.seconds, done=done)
        else:
            waiting.append(trial)
    winners = state.winners
    if (winner := event.progress.winner) and winner not in [known for _, known in winners]:
        winners = (*winners, (event.cls, winner))
    state = _with(
        state,
        event.cls,
        trials=cls.trials + 1,
        images=cls.images + event.images,
        progress=event.progress,
        **changes,
    )
    return replace(
        state,
        images=state.images + event.images,
        in_flight=tuple(waiting),
        timings=timings.with_probe(event.probe),
        winners=winners,
    )


@_applied.register
def _(event: FoldOpened, state: RunState) -> RunState:
    cls = state.of(event.cls)
    spent = cls.spent_folds
    if event.spends and event.fold >= len(spent):
        spent = (*spent, event.photos)
    state = _with(state, event.cls, opened=event, spent_folds=spent)
    return replace(state, stage="confirm")


@_applied.register
def _(event: FoldEvaluated, state: RunState) -> RunState:
    opened = state.of(event.cls).opened
    assert opened is not None, "a fold is opened before it is evaluated"
    evaluation = Evaluation(opened=opened, result=event)
    state = _with(state, event.cls, evaluation=evaluation, opened=None, confirmation_error=None)
    timings = state.timings.with_evaluation(event.cls, event.seconds, event.images)
    return replace(
        _confirmed_in_round(state, event.cls),
        images=state.images + event.images,
        timings=timings.with_probe(event.probe),
    )


@_applied.register
def _(event: ConfirmationFailed, state: RunState) -> RunState:
    state = _with(state, event.cls, confirmation_error=event.error)
    return _confirmed_in_round(state, event.cls)


def _confirmed_in_round(state: RunState, name: str) -> RunState:
    if state.round is None:
        return state
    return replace(state, round=replace(state.round, due=state.round.due - {name}))


@_applied.register
def _(event: VerdictsReached, state: RunState) -> RunState:
    for name, verdict in event.verdicts.items():
        evaluation = state.of(name).evaluation
        assert evaluation is not None, "a class is evaluated before it is judged"
        evaluation = replace(evaluation, verdict=verdict)
        state = _with(state, name, evaluation=evaluation, judged=evaluation)
    return state if state.round is None else replace(state, round=replace(state.round, over=True))


@_applied.register
def _(event: RunFinished, state: RunState) -> RunState:
    return replace(state, finished=event, stage="done")
