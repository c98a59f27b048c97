"""Whatever happens in a run: what `decide` never does, and that it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from histories import as_read, evaluated, failed, mixture, opened, proposed, row, tried, verdict
from hypothesis import given, settings
from hypothesis import strategies as st

from gapclose.loop.config.schema import TuneConfig
from gapclose.loop.run.class_state import FAILURES, ClassState
from gapclose.loop.run.events import (
    CameraChosen,
    ConfirmationFailed,
    Event,
    Progress,
    PromptsPrioritized,
    Recall,
    RecallsMeasured,
    RoundStarted,
    RunFinished,
    RunStarted,
    SessionStarted,
    Stopped,
    StopReason,
    VerdictsReached,
)
from gapclose.loop.run.state import RunState, apply, fold
from gapclose.loop.schedule.actions import (
    Action,
    ChooseCamera,
    EvaluateFold,
    Finish,
    Judge,
    MeasureRecalls,
    ProposeTrial,
    RunTrial,
    StartRound,
)
from gapclose.loop.schedule.budget import ClassLimits, Limits
from gapclose.loop.schedule.decide import decide
from gapclose.loop.schedule.view import View
from gapclose.loop.schedule.worth import WorthObjective, costs

MOST_ACTIONS: Final = 3000
MOST_SESSIONS: Final = 6
FLOOR: Final = 0.1
NAMES: Final = ("frog", "ship", "cat", "dog")
DETAILED: Final = (StopReason.FAILURES, StopReason.CONFIRMATION_FAILED, StopReason.OBJECTIVE)
OUT_OF_TIME: Final = (StopReason.OUT_OF_BUDGET, StopReason.TOO_LITTLE_TIME)


class Killed(Exception):  # noqa: N818 - it is no error
    """The process is gone; what it has appended is there."""


@dataclass(frozen=True, kw_only=True)
class World:
    """How things go: shares are of 1.

    Attributes:
        fails: Trials and confirmations that fail.
        killed: Steps that a process dies in.
        closes: Trials that close their class.
        confirms: Evaluations that are confirmed.
        tags: Classes that are tagged before a session.
        trial_seconds: Seconds of a trial at most.
    """

    fails: float
    killed: float
    closes: float
    confirms: float
    tags: float
    trial_seconds: float


@dataclass(kw_only=True)
class Night:
    """A run of which everything but the decisions is made up."""

    world: World
    limits: Limits
    rng: Random
    folds: Mapping[str, int]
    now: float = 0.0
    sessions: int = 0
    acted: int = 0
    state: RunState = field(default_factory=RunState)
    events: list[Event] = field(default_factory=list)
    states: list[RunState] = field(default_factory=list)  # after each of them
    decided: list[tuple[int, Limits, float, Action]] = field(default_factory=list)
    judged: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)  # by class: fold, whose

    def tell(self, event: Event) -> None:
        # As its reader gets it, so that a history is what its lines say.
        stamped = as_read(event.model_copy(update={"used": self.now}))
        self.state = apply(self.state, stamped)
        self.events.append(stamped)
        self.states.append(self.state)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def maybe_killed(self) -> None:
        if self.sessions < MOST_SESSIONS and self.chance(self.world.killed):
            raise Killed

    def decide(self) -> Action:
        action = decide(self.state, limits=self.limits, now=self.now)
        assert decide(self.state, limits=self.limits, now=self.now) == action
        self.decided.append((len(self.events), self.limits, self.now, action))
        self.acted += 1
        assert self.acted < MOST_ACTIONS, "it ends"
        return action

    # ------------------------------------------------------------------ a session

    def session(self) -> None:
        """As `Session.run`."""
        self.sessions += 1
        if not self.state.run:
            self.tell(RunStarted(run="abcd"))
        budget = self.limits.tune.budget
        self.tell(SessionStarted(classes=(*self.limits.classes,), budget=budget, probe=0.02))
        self.now += self.rng.random() * self.world.trial_seconds
        if isinstance(action := self.decide(), StartRound):
            self.perform(action)
        for name in self.limits.classes:
            if self.chance(self.world.tags):
                self.tag(name)
        while not isinstance(action := self.decide(), Finish):
            self.maybe_killed()
            self.perform(action)
        self.finish(action)

    def more(self) -> None:
        """What a person may change between sessions: limits, classes, photos."""
        tune, classes = self.limits.tune, dict(self.limits.classes)
        given = {"budget": tune.budget, "trials": tune.trials, "images": tune.images}
        if self.chance(0.5 if self.state.turn is not None else 0.1):
            less = {key: its and max(1, its // 4) for key, its in given.items()}
            tune = tune.model_copy(update=less)
        elif self.chance(0.5):
            raised = {key: None if its is None else its + its // 2 for key, its in given.items()}
            tune = tune.model_copy(update=raised)
        if self.chance(0.3) and len(classes) < len(NAMES):
            name = NAMES[len(classes)]
            classes[name] = ClassLimits(floor=FLOOR, folds=self.folds[name])
        self.limits = replace(self.limits, tune=tune, classes=classes)

    def tag(self, name: str) -> None:
        """As `prioritize` answers."""
        view, cls = View(self.state, self.limits, self.now), self.state.of(name)
        last = cls.evaluation
        if (
            (cls.failures >= FAILURES and not cls.retryable)
            or not view.folds_left(cls, name)
            or (last is not None and last.opened.fold + 1 == self.limits.classes[name].folds)
            or self.limits.spent(cls)
            or view.left <= view.reserve(view.standings({*self.state.due, name}))
        ):
            return
        if last is not None:  # whoever tagged has seen what it was held against
            self.judged.setdefault(name, []).append((last.opened.fold, "tags"))
        reset = cls.retryable and cls.failures >= FAILURES
        word = f"word {len(self.events)}"
        self.tell(PromptsPrioritized(cls=name, prompts=({"color": word},), reset=reset))

    def perform(self, action: Action) -> None:
        match action:
            case ProposeTrial():
                self.propose(action)
            case RunTrial():
                self.finish_trial(action)
            case ChooseCamera():
                self.choose_camera(action)
            case MeasureRecalls():
                self.measure_recalls()
            case EvaluateFold():
                self.evaluate(action)
            case Judge():
                self.judge()
            case StartRound():
                current = self.state.round
                assert current is None or current.over or current.session < self.sessions
                fields = ("due", "reopened", "reset", "halfway")
                self.tell(RoundStarted(**{key: getattr(action, key) for key in fields}))

    # ------------------------------------------------------------------- actions

    def propose(self, action: ProposeTrial) -> None:
        name, cls = action.cls, self.state.of(action.cls)
        assert len(self.state.in_flight) < self.limits.in_flight
        self.check_trial(name)
        stage = "joint" if cls.has_baseline else "baseline"
        images = 8 if cls.has_baseline else action.baseline_images
        assert 24 <= action.baseline_images <= 100
        self.tell(proposed(name, cls.proposed, stage=stage, images=images))

    def finish_trial(self, action: RunTrial) -> None:
        assert action.trial == self.state.in_flight[0], "in the order proposed"
        name, cls = action.trial.cls, self.state.of(action.trial.cls)
        assert action.trial.number == cls.trials, "each is finished under its number"
        seconds = self.world.trial_seconds * max(0.01, self.rng.random())
        self.now += seconds
        told: dict[str, Any] = {"seconds": seconds, "probe": self.rng.choice((None, 0.01, 0.3))}
        told["images"] = self.rng.choice((0, 8)) if cls.has_baseline else 100
        make = failed if self.chance(self.world.fails) else tried
        told["progress"] = self.progress(name, fails=make is failed)
        self.tell(make(name, cls.trials, **told))

    def check_trial(self, name: str) -> None:
        view, cls = View(self.state, self.limits, self.now), self.state.of(name)
        turn = self.state.turn  # settled before the camera was chosen
        if turn in view.searched() and view.wants_trial(turn) and cls.has_baseline:
            assert turn == name
        assert name in self.state.due
        assert not self.limits.spent(cls)
        assert view.stopped(name) is None
        assert not cls.awaits_result
        if not cls.has_baseline or cls.progress.winner is None or cls.progress.pending:
            assert cls.proposed == cls.trials, "its next depends on what is under way"
        assert cls.next_fold() < self.limits.classes[name].folds, "it could not be confirmed"
        if cls.has_baseline:
            assert view.left > view.reserve(), "no kept-back time is searched in"
            assert all(
                other.has_baseline
                or other.awaits_result
                or other.failures >= FAILURES
                or self.limits.spent(other)
                for other in map(self.state.of, self.limits.classes)
                if other is not cls
            ), "baselines come first"
        if cls.evaluation is not None and view.settled(name) is not None:
            asked = cls.progress.evidence != cls.evaluation.opened.evidence
            assert cls.asked, "none for a settled class unless a person asks for it"
            assert cls.progress.pending or asked

    def progress(self, name: str, *, fails: bool) -> Progress:
        old = self.state.of(name).progress
        tried_word = {"pending": old.pending and self.chance(0.3)}
        if fails:
            return old.model_copy(update=tried_word)
        first, gap = not self.state.of(name).has_baseline, self.rng.random() - 0.1
        more = first or self.chance(0.6)  # else it compared settings
        closes = more and self.chance(self.world.closes)
        return Progress(
            floor=FLOOR,
            baseline_gap=gap if first else old.baseline_gap,
            gap=gap,
            expected=self.rng.random() - 0.1,
            since_gain=self.rng.randint(0, 5),
            evidence=old.evidence + more,
            closed_from_start=closes if first else old.closed_from_start,
            closed=old.closed if not more else closes and not first,
            opened=not first and (old.opened or self.chance(0.5)),
            winner=old.winner or ({"steps": old.evidence} if self.chance(0.1) else None),
            **tried_word,
        )

    def choose_camera(self, action: ChooseCamera) -> None:
        assert self.limits.cameras
        assert self.state.camera is None
        assert not self.state.in_flight, "its images would be of another camera"
        assert all(
            cls.has_baseline or cls.failures or self.limits.spent(cls)
            for cls in map(self.state.of, self.limits.classes)
        )
        progress = {
            name: self.state.of(name).progress.model_copy(update={"expected": self.rng.random()})
            for name in self.limits.classes
        }
        self.now += self.rng.random() * self.world.trial_seconds
        self.tell(CameraChosen(camera={"noise": 0.1}, turn=action.turn, progress=progress))

    def measure_recalls(self) -> None:
        assert not self.state.in_flight, "what is under way may change its mixture"
        assert self.state.trials != self.state.recalls_at, "nothing is new"
        recalls, asked = {}, {}
        for name, cls in self.state.classes.items():
            if cls.has_baseline:
                its = Recall(real=0.9, synthetic=self.rng.random(), n=99)
                if not (cls.asked and cls.progress.pending):  # as `Recalls` has it
                    pending = costs(its) and self.chance(0.2)
                    asked[name] = cls.progress.model_copy(update={"pending": pending})
                recalls[name] = its
        self.now += self.rng.random() * self.world.trial_seconds
        self.tell(RecallsMeasured(recalls=recalls, progress=asked))

    def evaluate(self, action: EvaluateFold) -> None:
        name, cls = action.cls, self.state.of(action.cls)
        assert name in self.state.due
        assert not self.state.in_flight, "what is under way may change its mixture"
        assert cls.has_baseline, "there is nothing to confirm"
        assert cls.confirmation_error is None
        if action.early:
            assert self.limits.by_clock
            assert self.limits.stopped(name, cls) is not None
        if cls.opened is None:
            assert action.fold < self.limits.classes[name].folds
            taken = self.judged.setdefault(name, [])
            assert action.fold not in {its for its, _ in taken}, "a fold is spent once"
            if cls.evaluation is not None:
                assert cls.evaluation.opened.evidence != cls.progress.evidence, "nothing is new"
            spends = not cls.untried
            chosen = mixture(f"{name}-{cls.progress.evidence}")
            if spends:
                taken.append((action.fold, chosen))
            facts = {"trials": cls.trials, "evidence": cls.progress.evidence, "spends": spends}
            self.tell(opened(name, action.fold, mixture=chosen, early=action.early, **facts))
            self.maybe_killed()
        judging = self.state.of(name).opened
        assert judging is not None
        assert judging.fold == action.fold
        if judging.spends:
            assert (judging.fold, judging.mixture) in self.judged[name], "its own mixture alone"
        seconds = self.world.trial_seconds * 4 * self.rng.random()
        self.now += seconds
        if self.chance(self.world.fails / 2):
            self.tell(ConfirmationFailed(cls=name, fold=action.fold, error="E: no frog"))
            return
        kept = judging.mixture if self.chance(0.8) else mixture("baseline")
        after = row(name, gap=self.rng.random() - 0.1).to_json()
        figures = {"seconds": seconds, "images": self.rng.choice((0, 100)), "mixture": kept}
        self.tell(evaluated(name, action.fold, after=after, **figures))

    def judge(self) -> None:
        assert self.state.unjudged
        verdicts = {}
        for name in self.limits.classes:
            if (last := self.state.of(name).evaluation) is not None:
                # What was judged before may be judged otherwise now: q-values are of all.
                confirmed = self.chance(self.world.confirms)
                verdicts[name] = verdict(fold=last.opened.fold, confirmed=confirmed)
        self.tell(VerdictsReached(verdicts=verdicts))

    def finish(self, action: Finish) -> None:
        assert action.stopped.keys() == self.limits.classes.keys()
        assert not self.state.in_flight
        for name, why in action.stopped.items():
            cls, said = self.state.of(name), why.reason
            assert cls.has_baseline or cls.failures >= FAILURES or self.limits.spent(cls)
            last = cls.evaluation
            assert last is None or last.verdict is not None, "what was evaluated is judged"
            assert said is not StopReason.INTERRUPTED
            assert (said in OUT_OF_TIME) <= (self.limits.tune.budget is not None)
            assert (why.detail is not None) == (said in DETAILED)
            if said is StopReason.CONFIRMED:
                assert last is not None
                assert last.confirmed
            if cls.has_baseline and cls.confirmation_error is None:
                assert last is not None, "whoever has a baseline is confirmed"
        self.now += self.rng.random()
        self.maybe_killed()  # while its findings are made
        self.tell(RunFinished(stopped=action.stopped))

    # --------------------------------------------------------------------- after

    def check(self) -> None:
        """The journal's lines tell all there is: nobody has changed a state since it was."""
        state, n = RunState(), 0
        for event, live in zip(self.events, self.states, strict=True):
            state, n = apply(state, event), n + 1
            assert state == live
            for at, limits, now, action in self.decided_at(n):
                assert at == n
                assert decide(state, limits=limits, now=now) == action
        assert fold(self.events) == self.state
        for name, cls in self.state.classes.items():
            taken = dict.fromkeys(its for its, _ in self.judged.get(name, []))
            assert cls.spent_folds == tuple((f"{name}-{its}",) for its in taken)

    def decided_at(self, events: int) -> list[tuple[int, Limits, float, Action]]:
        found = []
        while self.decided and self.decided[0][0] == events:
            found.append(self.decided.pop(0))
        return found


ENDS: Final[tuple[dict[str, Any], ...]] = (
    {"budget": 2000.0},
    {"budget": 600.0},
    {"budget": 1.0},
    {"trials": 12},
    {"trials": 40, "images": 300},
    {"trials": 3},
    {"images": 150},
    {"images": 50},
    {"budget": 2000.0, "trials": 20},
    {"budget": 300.0, "images": 300},
)


def a_night(seed: int) -> Night:
    """Any world, any limits."""
    rng = Random(seed)
    # Half of them end by the clock alone.
    ends = rng.choice((*ENDS, *ENDS[:3], *ENDS[:3]))
    trial_seconds = rng.choice((5.0, 20.0, 200.0))
    world = World(
        fails=rng.choice((0.0, 0.1, 0.1, 0.4, 1.0)),
        killed=rng.choice((0.0, 0.02, 0.2)),
        closes=rng.choice((0.0, 0.03, 0.1, 0.4)),
        confirms=rng.choice((0.0, 0.4, 0.4, 1.0)),
        tags=rng.choice((0.0, 0.3)),
        # Two hundred trials or so of the budget are enough.
        trial_seconds=max(trial_seconds, ends.get("budget", 0.0) / 100),
    )
    folds = {name: rng.randint(1, 3) for name in NAMES}
    limits = Limits(
        tune=TuneConfig.model_validate({"budget": None} | ends),
        confirm_images=100,
        classes={
            name: ClassLimits(floor=FLOOR, folds=folds[name])
            for name in NAMES[: rng.randint(1, 3)]
        },
        cameras=rng.random() < 0.5,
        in_flight=rng.choice((1, 1, 2, 5)),
    )
    return Night(world=world, limits=limits, rng=rng, folds=folds)


def passes(night: Night) -> None:
    """Session by session, to its end."""
    for _ in range(MOST_SESSIONS):
        try:
            night.session()
        except Killed:
            continue
        finally:
            night.more()
        if night.chance(0.4):
            break
    night.check()


@settings(max_examples=120)
@given(st.integers(0, 2**32))
def test_whatever_happens_a_run_ends_and_keeps_its_promises(seed: int) -> None:
    passes(a_night(seed))


ENOUGH: Final = Stopped(reason=StopReason.OBJECTIVE, detail="enough")


@dataclass(frozen=True, kw_only=True)
class Whim:
    """An objective that keeps to the Protocol, and makes no other sense.

    Attributes:
        seed: Of what it says; it says another thing of a class that has gone on.
        stops: Share of the searches that it stops.
        settles: Share of the evaluated classes that it wants no more of.
    """

    seed: int
    stops: float
    settles: float

    def chance(self, cls: ClassState, of: str) -> float:
        where = cls.progress.baseline_gap, cls.progress.evidence // 3
        return Random(f"{self.seed} {of} {where}").random()

    def gain(self, cls: ClassState, *, floor: float) -> float:
        return self.chance(cls, "gain")

    def stopped(self, cls: ClassState, *, floor: float) -> Stopped | None:
        if cls.evaluation is not None and (cls.reopened or cls.untried):
            return self.settled(cls, floor=floor)
        return ENOUGH if self.chance(cls, "stopped") < self.stops else None

    def reached(self, cls: ClassState, *, floor: float) -> bool:
        ended = self.stopped(cls, floor=floor) is not None
        return ended and self.chance(cls, "reached") < 0.5

    def settled(self, cls: ClassState, *, floor: float) -> Stopped | None:
        return ENOUGH if self.chance(cls, "settled") < self.settles else None

    def wants_recalls(self, state: RunState, *, searching: bool) -> bool:
        new = state.trials - (state.recalls_at or 0)
        return new > 0 and Random(f"{self.seed} recalls {state.trials}").random() < self.stops / 9


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from((0.0, 0.3, 1.0)), st.sampled_from((0.0, 0.3, 1.0)))
def test_so_it_does_under_any_objective(seed: int, stops: float, settles: float) -> None:
    night = a_night(seed)
    whim = Whim(seed=seed, stops=stops, settles=settles)
    night.limits = replace(night.limits, objective=whim)
    passes(night)


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_and_under_that_of_worth(seed: int) -> None:
    night = a_night(seed)
    night.limits = replace(night.limits, objective=WorthObjective())
    passes(night)
