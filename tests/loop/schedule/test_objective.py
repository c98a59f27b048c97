from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest
from histories import (
    as_read,
    class_state,
    evaluation,
    limits,
    new_class,
    opened,
    run_state,
    stopped,
)
from hypothesis import given
from hypothesis import strategies as st

from gapclose.loop.report.text import stopped_text
from gapclose.loop.run.class_state import ClassState, Evaluation
from gapclose.loop.run.events import RoundStarted, RunFinished, Stopped, StopReason
from gapclose.loop.run.state import Round, RunState, apply
from gapclose.loop.run.timings import Timings
from gapclose.loop.schedule.actions import EvaluateFold, Finish, ProposeTrial, StartRound
from gapclose.loop.schedule.budget import ClassLimits, pick
from gapclose.loop.schedule.decide import decide
from gapclose.loop.schedule.objective import OBJECTIVE, GapObjective, Objective
from gapclose.loop.schedule.view import View

GAP = GapObjective()


def test_what_there_is_to_gain_is_the_gap_in_floors() -> None:
    assert GAP.gain(class_state(gap=0.6), floor=0.1) == pytest.approx(6.0)
    assert GAP.gain(class_state(gap=0.6), floor=0.3) == pytest.approx(2.0)


def test_what_is_believed_counts_and_not_what_was_measured_before() -> None:
    assert GAP.gain(class_state(gap=0.6, expected=0.2), floor=0.1) == pytest.approx(2.0)


def test_what_a_confirmation_saw_counts_where_it_saw_more() -> None:
    assert GAP.gain(class_state(gap=0.0, unseen_gap=0.5), floor=0.1) == pytest.approx(5.0)
    assert GAP.gain(class_state(gap=0.7, unseen_gap=0.5), floor=0.1) == pytest.approx(7.0)


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_there_is_never_less_than_nothing_to_gain(gap: float, unseen: float) -> None:
    gain = GAP.gain(class_state(gap=gap, unseen_gap=unseen), floor=0.1)
    assert gain == max(gap, unseen, 0.0) / 0.1


def test_of_a_class_without_a_baseline_nothing_is_known() -> None:
    assert GAP.gain(ClassState(), floor=0.1) == 0.0


@pytest.mark.parametrize(
    ("facts", "reached"),
    [
        ({}, False),
        ({"gap": 0.05}, False),  # it wants more
        ({"closed": True, "gap": -0.1}, True),
        ({"closed": True, "gap": 0.15}, True),  # its own test is what says so
        ({"closed_from_start": True, "gap": 0.15}, True),
        ({"failures": 3}, False),  # at 0.2, above the floor
        ({"failures": 3, "gap": 0.1}, True),
        ({"failures": 3, "gap": None}, False),  # without a baseline
        ({"closed": True, "pending": True}, False),
    ],
)
def test_a_class_may_rest_once_its_search_has_ended_below_the_floor(
    facts: dict[str, Any], reached: bool
) -> None:
    cls = class_state(**facts)
    ended = stopped(cls) is not None
    assert (ended and GAP.reached(cls, floor=0.1)) is reached


class Smallest(GapObjective):
    """Closes what is nearly closed, and lets nothing rest."""

    def gain(self, cls: ClassState, *, floor: float) -> float:
        return 1.0 / (GAP.gain(cls, floor=floor) + 1.0)

    def reached(self, cls: ClassState, *, floor: float) -> bool:
        return False


def test_another_objective_orders_the_classes_another_way() -> None:
    classes = {"wide": class_state(gap=0.6), "narrow": class_state(gap=0.2)}
    usual = limits(classes)
    for objective, picked in ((GAP, "wide"), (Smallest(), "narrow")):
        other = replace(usual, objective=objective)
        assert pick([*classes], classes, other, seconds={}) == picked


# ------------------------------------------------------------- decisions under another one


COSTS_NOTHING: Final = Stopped(reason=StopReason.OBJECTIVE, detail="whoever uses it loses nothing")


class Worth:
    """What a class costs whoever uses its images; the gap of its baseline stands for that.

    A closed class that costs something is searched on, and an open one that costs nothing rests.
    """

    def gain(self, cls: ClassState, *, floor: float) -> float:
        return self.cost(cls) * max(1.0, GAP.gain(cls, floor=floor))

    def stopped(self, cls: ClassState, *, floor: float) -> Stopped | None:
        return None if self.cost(cls) else COSTS_NOTHING

    def reached(self, cls: ClassState, *, floor: float) -> bool:
        return not self.cost(cls)

    def settled(self, cls: ClassState, *, floor: float) -> Stopped | None:
        return self.stopped(cls, floor=floor)

    def wants_recalls(self, state: RunState, *, searching: bool) -> bool:
        return False

    @staticmethod
    def cost(cls: ClassState) -> float:
        assert cls.progress.baseline_gap is not None, "it is asked after the baseline only"
        return cls.progress.baseline_gap


WORTH: Objective = Worth()
COSTLY, CHEAP, FREE = ({"baseline_gap": cost} for cost in (0.5, 0.1, 0.0))
CLOSED: dict[str, Any] = {"closed": True, "gap": -0.1}
CONFIRMING = Timings(evaluations=(("frog", 100.0, 100),))  # takes 100 s
Classes = Mapping[str, ClassState]


def standing_still(classes: Classes, objective: Objective, **facts: Any) -> View:
    """A run between two steps, in a round of all classes by default; nothing has been used."""
    ends = {key: facts.pop(key) for key in ("budget", "trials") if key in facts}
    facts.setdefault("round", Round(due=frozenset(classes), halfway=None))
    state = run_state(classes, timings=CONFIRMING, **facts)
    return View(state, replace(limits(classes, **ends), objective=objective), 0.0)


def decided(view: View) -> Any:
    return decide(view.state, limits=view.limits, now=view.used)


def both(classes: Classes, **facts: Any) -> tuple[Any, Any]:
    """What is decided by the gap, and by what a class costs."""
    gap, worth = (decided(standing_still(classes, its, **facts)) for its in (OBJECTIVE, WORTH))
    return gap, worth


def failed(cls: str, gap: float = 0.5) -> Evaluation:
    return evaluation(cls, gap=gap)


def test_the_gap_is_the_objective_of_whoever_names_none() -> None:
    assert limits("a").objective is OBJECTIVE
    assert OBJECTIVE == GAP


def test_the_next_trial_goes_where_there_is_most_to_gain() -> None:
    gap, worth = both({"wide": class_state(gap=0.6, **CHEAP), "costly": class_state(**COSTLY)})
    assert (gap.cls, worth.cls) == ("wide", "costly")
    assert isinstance(worth, ProposeTrial)


@pytest.mark.parametrize("closed", [CLOSED, {"closed_from_start": True, "gap": 0.0}])
def test_a_closed_class_is_searched_on_while_it_costs_something(closed: dict[str, Any]) -> None:
    gap, worth = both({"frog": class_state(**closed | COSTLY)})
    assert gap == EvaluateFold(cls="frog", fold=0, early=False)
    assert isinstance(worth, ProposeTrial)
    assert both({"frog": class_state(**closed | FREE)}) == (gap, gap)


def test_an_open_class_that_costs_nothing_rests() -> None:
    gap, worth = both({"frog": class_state(gap=0.6, **FREE)})
    assert isinstance(gap, ProposeTrial)
    assert worth == EvaluateFold(cls="frog", fold=0, early=False)
    gap, worth = both({"frog": class_state(gap=0.6, **FREE), "ship": class_state(**CHEAP)})
    assert (gap.cls, worth.cls) == ("frog", "ship")


def test_a_confirmed_class_that_costs_something_is_reopened_and_a_free_one_rests() -> None:
    confirmed = evaluation("costly", gap=0.01, confirmed=True)
    classes = {
        "costly": class_state(evaluation=confirmed, **CLOSED | COSTLY),
        "free": class_state(evaluation=failed("free"), gap=0.5, **FREE),
    }
    gap, worth = both(classes, round=None)
    assert gap == StartRound(due=("free",), reopened={"free": 0.5})
    assert worth == StartRound(due=("costly",), reopened={"costly": 0.01})
    view = standing_still(classes, WORTH, round=None)
    begun = RoundStarted(due=worth.due, reopened=worth.reopened)
    state = apply(view.state, begun)
    action = decided(View(state, view.limits, 0.0))
    assert isinstance(action, ProposeTrial)
    assert action.cls == "costly"


def test_why_a_class_rests_is_what_the_objective_says() -> None:
    classes = {"frog": class_state(evaluation=failed("frog"), gap=0.5, **FREE)}
    over = {"round": Round(due=frozenset(), halfway=None)}
    ended = both(classes, **over)[1]
    assert ended == Finish(stopped={"frog": COSTS_NOTHING})
    said = stopped_text(ended.stopped["frog"])
    assert said == "the objective is met: whoever uses it loses nothing"
    assert as_read(RunFinished(stopped=ended.stopped)) == RunFinished(stopped=ended.stopped)
    # By the gap it would be searched on in another round, for which there is too little time.
    late = decided(standing_still(classes, OBJECTIVE, budget=30.0, **over))
    assert late.stopped["frog"].reason is StopReason.TOO_LITTLE_TIME


def test_what_has_least_to_gain_is_confirmed_first_and_what_has_most_is_reopened() -> None:
    near, far = {"gap": 0.05} | COSTLY, {"gap": 0.6} | FREE
    gap, worth = both({"near": class_state(**near), "far": class_state(**far)}, trials=9)
    assert (gap, worth) == tuple(EvaluateFold(cls=c, fold=0, early=False) for c in ("near", "far"))
    classes = {
        "near": class_state(evaluation=failed("near", 0.2), **near),
        "far": class_state(evaluation=failed("far", 0.6), **far | CHEAP),
    }
    # There is time to search on in one of them.
    gap, worth = both(classes, round=None, budget=300.0)
    assert (gap.due, worth.due) == (("far",), ("near",))


def test_what_has_reached_it_is_confirmed_early() -> None:
    classes = {
        "closed": class_state(**CLOSED | COSTLY),
        "free": class_state(gap=0.6, **FREE),
        "open": class_state(gap=0.6, **COSTLY),
    }
    late = {"budget": 1e4, "round": Round(due=frozenset(classes), halfway=9e9)}
    gap, worth = both(classes, **late)
    assert (gap, worth) == tuple(
        EvaluateFold(cls=c, fold=0, early=True) for c in ("closed", "free")
    )


class Always:
    """Would search for ever."""

    def gain(self, cls: ClassState, *, floor: float) -> float:
        return 1.0

    def stopped(self, cls: ClassState, *, floor: float) -> Stopped | None:
        return None

    def reached(self, cls: ClassState, *, floor: float) -> bool:
        return False

    def settled(self, cls: ClassState, *, floor: float) -> Stopped | None:
        return None

    def wants_recalls(self, state: RunState, *, searching: bool) -> bool:
        return False


class Never(Always):
    """Would search nothing."""

    def stopped(self, cls: ClassState, *, floor: float) -> Stopped | None:
        return COSTS_NOTHING

    def settled(self, cls: ClassState, *, floor: float) -> Stopped | None:
        return COSTS_NOTHING


@pytest.mark.parametrize(
    "over",
    [
        class_state(failures=3),
        class_state(trials=100),
        class_state(evaluation=evaluation(fold=2), evidence=9),  # no fold could confirm it
    ],
)
def test_no_objective_goes_on_with_a_class_that_cannot(over: ClassState) -> None:
    assert isinstance(decided(standing_still({"frog": class_state()}, Always())), ProposeTrial)
    assert not isinstance(decided(standing_still({"frog": over}, Always())), ProposeTrial)


@pytest.mark.parametrize(
    "wanted",
    [
        new_class(),  # its baseline
        class_state(pending=True),  # what a person asked for
        class_state(
            pending=True, prioritized=({},), evaluation=evaluation(confirmed=True, tagged=True)
        ),
    ],
)
def test_no_objective_withholds_a_baseline_or_what_a_person_asked_for(wanted: ClassState) -> None:
    assert not isinstance(decided(standing_still({"frog": class_state()}, Never())), ProposeTrial)
    assert isinstance(decided(standing_still({"frog": wanted}, Never())), ProposeTrial)


def test_a_fold_that_was_opened_is_evaluated_whatever_the_objective() -> None:
    flying = class_state(open_fold=opened(fold=1), **COSTLY)
    for objective in (Never(), Smallest(), OBJECTIVE):
        view = standing_still({"frog": flying}, objective, trials=9)
        assert decided(view) == EvaluateFold(cls="frog", fold=1, early=False)


# ------------------------------------------------------------------ a score of other units

SCALE = 1024.0  # of the score's units to one of the gap's; a power of two, so that all is exact


def in_units(scale: float, **facts: float) -> ClassState:
    """An open class; what its search scored is in units of its own, what folds saw is not."""
    seen = facts.pop("seen")
    scored = {key: scale * its for key, its in facts.items()}
    return class_state(evaluation=evaluation(gap=seen), unseen_gap=seen, **scored)


def scored_in(scale: float, classes: Mapping[str, Mapping[str, float]], **facts: Any) -> View:
    states = {name: in_units(scale, **its) for name, its in classes.items()}
    facts = {"round": Round(due=frozenset(classes), halfway=None)} | facts
    usual = limits(classes, **{key: facts.pop(key) for key in ("budget",) if key in facts})
    each = {name: ClassLimits(floor=scale * 0.1, folds=3, gap_unit=scale) for name in classes}
    state = run_state(states, timings=CONFIRMING, **facts)
    return View(state, replace(usual, classes=each), 0.0)


SEEN: Final = {"near": {"gap": 0.2, "seen": 0.1}, "far": {"gap": 0.05, "seen": 0.6}}


@pytest.mark.parametrize("scale", [SCALE, 1 / SCALE])
def test_the_scale_of_a_score_changes_no_turn(scale: float) -> None:
    usual, other = scored_in(1.0, SEEN), scored_in(scale, SEEN)
    assert other.standings(SEEN) == usual.standings(SEEN)
    assert [row.gain for row in usual.standings(SEEN)] == pytest.approx([2.0, 6.0])
    assert [row.gap for row in usual.standings(SEEN)] == pytest.approx([2.0, 6.0])
    assert other.next_trial() == usual.next_trial() == "far"
    assert other.to_evaluate() == usual.to_evaluate()
    late = {"round": None, "budget": 300.0}  # there is time to search on in one of them
    begun = [decided(scored_in(its, SEEN, **late)) for its in (1.0, scale)]
    assert begun[0].reopened == begun[1].reopened == {"far": 0.6}


def test_a_gap_that_trials_are_scored_by_is_compared_with_what_folds_see_as_it_is() -> None:
    """To the last bit: a run that names no score is decided as ever."""
    for floor, gap, seen in ((0.1, 1 / 3, 2 / 7), (1e-9, 0.1 + 0.2, -0.3), (3e-4, 1e-5, 2e-4)):
        state = class_state(gap=gap, unseen_gap=seen)
        usual = limits(["frog"], floors={"frog": floor})
        assert usual.classes["frog"].gap_unit == 1.0
        assert usual.gain("frog", state) == max(gap, seen, 0.0) / floor
