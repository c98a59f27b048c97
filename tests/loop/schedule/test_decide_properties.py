"""Whatever happens in a run: what `decide` never does, and that it ends."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gapclose.loop.config.schema import TuneConfig
from gapclose.loop.run.events import (
    CameraChosen,
    ClassVerdict,
    ConfirmationFailed,
    Event,
    FoldEvaluated,
    FoldOpened,
    Job,
    Progress,
    RoundStarted,
    RunFinished,
    RunStarted,
    SessionStarted,
    TrialFailed,
    TrialFinished,
    TrialProposed,
    VerdictsReached,
)
from gapclose.loop.run.state import RunState, apply, fold
from gapclose.loop.schedule.budget import ClassLimits, Limits
from gapclose.loop.schedule.decide import (
    ChooseCamera,
    EvaluateFold,
    Finish,
    Judge,
    RunTrial,
    StartRound,
    View,
    decide,
)

MOST_ACTIONS = 3000
FLOOR = 0.01


def mixture(name: str, evidence: int) -> dict[str, Any]:
    return {"recipes": [{"fingerprint": f"{name}-{evidence}"}], "gap_tune": 0.01}


class Night:
    """A run whose outcomes are drawn by hypothesis; keeps every event and checks each action."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        names = ["frog", "ship", "cat"][: data.draw(st.integers(1, 3), "classes")]
        ends = data.draw(st.sampled_from(["budget", "trials", "images"]), "ends by")
        limit = {"budget": 4000.0, "trials": 12, "images": 400}[ends]
        tune = {"budget": None, "trials": None, "images": None} | {ends: limit}
        self.limits = Limits(
            tune=TuneConfig(**tune),
            confirm_images=100,
            classes={
                n: ClassLimits(floor=FLOOR, folds=data.draw(st.integers(1, 3))) for n in names
            },
            cameras=data.draw(st.booleans(), "cameras"),
        )
        self.state, self.events, self.now = RunState(), [], 0.0
        self.judged: dict[tuple[str, int], set[str]] = {}
        self.tell(RunStarted(run="r"))

    def tell(self, event: Event) -> None:
        before = copy.deepcopy(self.state)
        stamped = event.model_copy(update={"used": self.now})
        after = apply(self.state, stamped)
        assert self.state == before, "apply changes no state"
        self.state = after
        self.events.append(stamped)

    def begin(self) -> None:
        self.tell(SessionStarted(classes=tuple(self.limits.classes), budget=None, probe=0.02))

    def progress(self, name: str, *, failed: bool) -> Progress:
        old = self.state.of(name).progress
        if failed:
            return old
        first = old.baseline_gap is None
        gap = self.data.draw(st.sampled_from([0.001, 0.02, 0.3]))
        closed = self.data.draw(st.integers(0, 5)) == 0
        return Progress(
            floor=FLOOR,
            baseline_gap=gap if first else old.baseline_gap,
            gap=gap,
            expected=gap,
            since_gain=self.data.draw(st.integers(0, 9)),
            evidence=old.evidence + self.data.draw(st.integers(1 if first else 0, 1)),
            closed_from_start=first and closed if first else old.closed_from_start,
            closed=closed and not first,
            opened=not first,
        )

    def step(self) -> bool:
        """Decide and act; False once the run has ended."""
        before = copy.deepcopy(self.state)
        action = decide(self.state, limits=self.limits, now=self.now)
        assert decide(self.state, limits=self.limits, now=self.now) == action
        assert self.state == before, "decide changes no state"
        match action:
            case RunTrial():
                self.trial(action)
            case ChooseCamera():
                assert self.state.camera is None
                kept = {n: self.state.of(n).progress for n in self.limits.classes}
                self.tell(CameraChosen(camera={}, turn=action.turn, progress=kept))
            case EvaluateFold():
                self.evaluate(action)
            case Judge():
                self.judge()
            case StartRound():
                fields = {k: getattr(action, k) for k in ("due", "reopened", "reset", "halfway")}
                self.tell(RoundStarted(**fields))
            case Finish():
                assert action.stopped.keys() == self.limits.classes.keys()
                self.tell(RunFinished(stopped=action.stopped))
                return False
        return True

    def trial(self, action: RunTrial) -> None:
        name = action.cls
        cls = self.state.of(name)
        if cls.in_flight is None:
            view = View(self.state, self.limits, self.now)
            if cls.has_baseline and self.state.turn is None:
                assert view.left > view.reserve(), "kept-back time is not searched in"
            confirmed = cls.evaluation is not None and cls.evaluation.confirmed
            assert not confirmed, "no trial for a confirmed class"
            assert not self.limits.spent(cls)
            stage = "joint" if cls.has_baseline else "baseline"
            images = 8 if cls.has_baseline else action.baseline_images
            job = Job(recipe={}, seeds=tuple(range(images)))
            self.tell(
                TrialProposed(cls=name, number=cls.trials, stage=stage, params={}, jobs=(job,))
            )
            if self.data.draw(st.integers(0, 19)) == 0:
                return  # killed: the next session finds it in flight
        seconds = self.data.draw(st.sampled_from([1.0, 20.0, 200.0]))
        self.now += seconds
        failed = self.data.draw(st.integers(0, 7)) == 0
        told: dict[str, Any] = {"cls": name, "number": cls.trials, "invalid": 0, "images": 8}
        told |= {"seconds": seconds, "progress": self.progress(name, failed=failed)}
        if failed:
            self.tell(TrialFailed(error="no", **told))
        else:
            self.tell(TrialFinished(gap=0.1, value=0.1, mixture_gap=0.1, **told))

    def evaluate(self, action: EvaluateFold) -> None:
        name, cls = action.cls, self.state.of(action.cls)
        assert cls.has_baseline
        assert action.fold < self.limits.classes[name].folds
        if cls.opened is None:
            opened = FoldOpened(
                cls=name,
                fold=action.fold,
                photos=(f"{name}-{action.fold}",),
                mixture=mixture(name, cls.progress.evidence),
                trials=cls.trials,
                evidence=cls.progress.evidence,
                spends=not cls.untried,
                early=action.early,
            )
            if opened.spends:
                key = self.judged.setdefault((name, action.fold), set())
                key.add(opened.mixture["recipes"][0]["fingerprint"])
                assert len(key) == 1, "no fold judges two mixtures"
            self.tell(opened)
            if self.data.draw(st.integers(0, 9)) == 0:
                return  # killed
        self.now += self.data.draw(st.sampled_from([5.0, 100.0]))
        if self.data.draw(st.integers(0, 9)) == 0:
            self.tell(ConfirmationFailed(cls=name, fold=action.fold, error="no"))
            return
        opened_now = self.state.of(name).opened
        assert opened_now is not None
        self.tell(
            FoldEvaluated(
                cls=name,
                fold=action.fold,
                mixture=opened_now.mixture,
                before={"gap": 0.3},
                after={"gap": self.data.draw(st.sampled_from([0.0, 0.05]))},
                agreement=None,
                drawn=(),
                images=100,
                seconds=50.0,
            )
        )

    def judge(self) -> None:
        assert self.state.unjudged
        verdicts = {}
        for name in self.limits.classes:
            if (evaluation := self.state.of(name).evaluation) is not None:
                old = evaluation.verdict
                good = self.data.draw(st.booleans()) if old is None else old.confirmed
                verdicts[name] = ClassVerdict(
                    fold=evaluation.opened.fold,
                    gap=evaluation.gap,
                    ratio=1.0,
                    floor_p95=FLOOR,
                    effect=0.1,
                    q_value=0.5,
                    closed=good,
                    confirmed=good,
                )
        self.tell(VerdictsReached(verdicts=verdicts))


@settings(max_examples=150)
@given(st.data())
def test_whatever_happens_a_run_ends_and_keeps_its_promises(data: st.DataObject) -> None:
    night, sessions = Night(data), data.draw(st.integers(1, 3), "sessions")
    for _ in range(sessions):
        night.begin()
        stop_after = data.draw(st.one_of(st.just(MOST_ACTIONS), st.integers(1, 40)))
        for taken in range(MOST_ACTIONS + 1):
            assert taken < MOST_ACTIONS, "it ends"
            if taken == stop_after or not night.step():
                break
    night.begin()
    while night.step():
        pass
    for name in night.limits.classes:
        cls = night.state.of(name)
        assert cls.has_baseline or cls.failures >= 3 or night.limits.spent(cls)
    assert fold(night.events) == night.state, "the journal tells all there is"
