"""The decision: what a run does next, as a pure function of its state, its limits and the time.

`decide` goes through `PHASES` in order and takes the first that has something to do. It reads no
file, no model and no clock, so any decision can be tested, and replayed, as a function call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gapclose.loop.run.class_state import FAILURES, ClassState
from gapclose.loop.run.events import Stopped, StopReason
from gapclose.loop.run.state import RunState
from gapclose.loop.schedule.actions import (
    Action,
    AskProposer,
    ChooseCamera,
    EvaluateFold,
    Finish,
    Judge,
    MeasureRecalls,
    ProposeTrial,
    RunTrial,
    StartRound,
)
from gapclose.loop.schedule.budget import (
    BASELINE_IMAGES,
    Limits,
    batch_images,
    settings_trials,
)
from gapclose.loop.schedule.reserve import (
    WORTHWHILE,
    baseline_images,
    reopen_candidates,
)
from gapclose.loop.schedule.view import View

MOST_FOLDS: Final = 3  # of a confirm split


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
    room = len(view.state.in_flight) < view.limits.in_flight
    if room and _measure_recalls(view) is None and _confirm_early(view) is None:
        action = _search(view)
        if isinstance(action, ProposeTrial):
            return action
    return RunTrial(trial=view.state.in_flight[0])


def _start_round(view: View) -> Action | None:
    current = view.state.round
    return plan_round(view) if current is None or current.over else None


def _measure_recalls(view: View) -> Action | None:
    if any(map(view.wants_baseline, view.names)):
        return None  # what a class costs is told among all of them
    searching = view.next_trial() is not None
    wanted = view.limits.objective.wants_recalls(view.state, searching=searching)
    return MeasureRecalls() if wanted else None


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
    name = view.next_trial()
    if name is None:
        return None
    cls = view.state.of(name)
    if view.limits.cameras and view.state.camera is None and cls.progress.opened:
        return ChooseCamera(turn=name)
    if view.limits.wants_proposals(cls) and not view.state.in_flight:
        return AskProposer(cls=name)
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
        prices=view.state.timings.prices() if view.limits.by_clock else {},
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


def _another_round(view: View) -> Action | None:
    """Begin one for classes that one of an earlier session leaves out: more may be allowed now."""
    current = view.state.round
    if current is None or current.session == view.state.sessions:
        return None
    plan = plan_round(view)
    return plan if {*plan.due} - current.due else None


PHASES: Final = (
    Phase("trials in flight", "each has a result", _in_flight),
    Phase("new round", "it has begun", _start_round),
    Phase("recalls", "they are measured, or the objective is none of recall", _measure_recalls),
    Phase("early confirmation", "what is closed at halfway has its verdict", _confirm_early),
    Phase("search", "no class wants a trial, or the time left is kept back", _search),
    Phase("confirmation", "every class of the round has been evaluated", _confirm),
    Phase("verdict", "no evaluation is without one", _judge),
    Phase("another round", "no class is left out that may go on", _another_round),
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
    if evaluation is not None and evaluation.kept_baseline and cls.trials > 1:
        return Stopped(reason=StopReason.BASELINE_KEPT)
    why = view.stopped(name)
    if why is not None and why.reason is StopReason.FAILURES:
        return why
    # Closed for the search alone is no reason to end: what kept it from going on is.
    settled = view.settled(name)
    reasons = {its.reason for its in (why, settled) if its is not None}
    if settled is not None and StopReason.OBJECTIVE in reasons:
        return settled  # an objective's own reason to search no more says less than a verdict
    if why is not None and (evaluation is None or settled is not None):
        return why
    if settled is not None:
        return settled
    limit = view.limits.limit(cls)
    if limit is not None:
        return Stopped(reason=limit)
    if evaluation is not None and not view.folds_left(cls, name):
        few = view.limits.classes[name].folds < MOST_FOLDS
        return Stopped(reason=StopReason.NO_PHOTOS_LEFT if few else StopReason.NO_FOLDS_LEFT)
    spare = view.left > view.reserve() + view.costs.trial()
    return Stopped(reason=StopReason.TOO_LITTLE_TIME if spare else StopReason.OUT_OF_BUDGET)
