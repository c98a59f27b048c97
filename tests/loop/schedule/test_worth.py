from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from histories import (
    as_read,
    class_state,
    evaluation,
    limits,
    new_class,
    proposed,
    run_state,
    stopped,
)
from hypothesis import given
from hypothesis import strategies as st

from gapclose.loop.run.class_state import ClassState
from gapclose.loop.run.events import Recall, RecallsMeasured, StopReason
from gapclose.loop.run.state import Round, RunState, apply
from gapclose.loop.schedule.actions import MeasureRecalls, ProposeTrial, RunTrial, StartRound
from gapclose.loop.schedule.budget import Limits, pick
from gapclose.loop.schedule.decide import decide
from gapclose.loop.schedule.objective import GapObjective
from gapclose.loop.schedule.objectives import OBJECTIVES
from gapclose.loop.schedule.view import View
from gapclose.loop.schedule.worth import EVERY, TOLERANCE, WorthObjective, costs

WORTH = WorthObjective()
GAP = GapObjective()
FLOOR = 0.1


def recall(shortfall: float, **facts: Any) -> Recall:
    return Recall(**{"real": 0.9, "synthetic": 0.9 - shortfall, "n": 1000, **facts})


def worth(classes: dict[str, ClassState], **facts: Any) -> Limits:
    return replace(limits(classes, **facts), objective=WORTH)


def under_way(classes: dict[str, ClassState], **facts: Any) -> RunState:
    """In the middle of a round of all classes."""
    return run_state(classes, round=Round(due=frozenset(classes), halfway=None), **facts)


def measured(state: RunState, **shortfalls: float) -> RunState:
    event = RecallsMeasured(recalls={name: recall(s) for name, s in shortfalls.items()})
    return apply(state, as_read(event))


def test_a_config_names_it() -> None:
    assert isinstance(OBJECTIVES["worth"], WorthObjective)
    assert isinstance(OBJECTIVES["gap"], GapObjective)


def test_before_it_is_measured_it_goes_by_the_gap() -> None:
    for cls in (class_state(gap=0.6), class_state(closed=True, gap=0.0), ClassState()):
        assert WORTH.gain(cls, floor=FLOOR) == GAP.gain(cls, floor=FLOOR)
        assert WORTH.stopped(cls, floor=FLOOR) == GAP.stopped(cls, floor=FLOOR)


def test_no_class_is_confirmed_before_the_others() -> None:
    """What it costs is told among all of them."""
    cls = class_state(closed=True, gap=-0.1, recall=recall(0.0))
    assert GAP.reached(cls, floor=FLOOR)
    assert not WORTH.reached(cls, floor=FLOOR)


def test_where_too_few_photos_say_so_it_goes_by_the_gap() -> None:
    unsure = recall(0.0, n=30)
    assert WORTH.stopped(class_state(gap=0.6, recall=unsure), floor=FLOOR) is None
    assert WORTH.stopped(class_state(gap=0.6, recall=recall(0.0, n=300)), floor=FLOOR) is not None


def test_a_class_that_unseen_photos_object_to_is_searched_on() -> None:
    """Whatever the classifier says that the search goes by."""
    unconfirmed = evaluation()
    assert unconfirmed.verdict is not None
    for unseen, settled in ((recall(0.3), False), (recall(0.0), True)):
        verdict = unconfirmed.verdict.model_copy(update={"recall": unseen})
        cls = class_state(recall=recall(0.0), evaluation=replace(unconfirmed, verdict=verdict))
        assert (WORTH.settled(cls, floor=FLOOR) is not None) is settled
        assert (WORTH.stopped(replace(cls, reopened=True), floor=FLOOR) is not None) is settled


def test_a_class_that_rested_on_its_baseline_goes_on_if_unseen_photos_object() -> None:
    held = evaluation(trials=1, evidence=1)
    assert held.verdict is not None
    verdict = held.verdict.model_copy(update={"recall": recall(0.3)})
    classes = {
        "frog": class_state(
            trials=1, evidence=1, recall=recall(0.0), evaluation=replace(held, verdict=verdict)
        ),
        "ship": class_state(recall=recall(0.0), evaluation=evaluation("ship", confirmed=True)),
    }
    state = run_state(classes, recalls_at=10)
    action = decide(state, limits=worth(classes), now=0.0)
    assert isinstance(action, StartRound)
    assert action.due == ("frog",)


def test_what_a_dropped_mixture_was_worth_settles_nothing() -> None:
    kept = evaluation(kept=("baseline",))
    assert kept.kept_baseline
    assert WORTH.settled(class_state(recall=recall(0.0), evaluation=kept), floor=FLOOR) is None


def test_a_class_that_joins_is_measured_soon() -> None:
    classes = searching(trials=20)
    state = measured(under_way(classes), frog=0.2, ship=0.2)
    state = replace(
        state,
        names=("frog", "ship", "cat"),
        classes={**state.classes, "cat": class_state(gap=0.9, trials=1, opened=True)},
    )
    names = {name: state.of(name) for name in state.names}
    state = replace(state, round=Round(due=frozenset(names), halfway=None))
    assert isinstance(decide(state, limits=worth(names), now=0.0), MeasureRecalls)


def test_time_to_measure_is_kept_back() -> None:
    classes = searching()
    state = under_way(classes)
    event = RecallsMeasured(recalls={"frog": recall(0.1)}, seconds=30.0)
    view = View(state, replace(worth(classes, budget=900.0)), 0.0)
    later = View(apply(state, event), view.limits, 0.0)
    assert later.reserve() == pytest.approx(view.reserve() + 30.0)


def test_the_gain_is_the_gap_times_the_shortfall() -> None:
    small, large = (class_state(gap=gap, recall=recall(0.2)) for gap in (0.3, 0.6))
    assert WORTH.gain(small, floor=FLOOR) == pytest.approx(0.6)
    assert WORTH.gain(large, floor=FLOOR) == pytest.approx(1.2)


def test_of_two_gaps_the_one_that_costs_more_comes_first_even_if_it_is_the_smaller() -> None:
    classes = {
        "wide": class_state(gap=0.6, recall=recall(0.05)),
        "costly": class_state(gap=0.2, recall=recall(0.5)),
    }
    assert pick([*classes], classes, worth(classes), seconds={}) == "costly"
    assert pick([*classes], classes, limits(classes), seconds={}) == "wide"


def test_a_closed_class_that_costs_recall_is_searched_on() -> None:
    cls = class_state(closed=True, gap=-0.1, recall=recall(0.3))
    assert GAP.stopped(cls, floor=FLOOR) is not None
    assert WORTH.stopped(cls, floor=FLOOR) is None
    assert WORTH.gain(cls, floor=FLOOR) == pytest.approx(0.3)


def test_an_open_class_that_costs_nothing_rests() -> None:
    cls = class_state(gap=0.6, recall=recall(0.0))
    why = WORTH.stopped(cls, floor=FLOOR)
    assert why is not None
    assert why.reason is StopReason.OBJECTIVE
    assert "loses nothing" in (why.detail or "")


def test_a_closed_class_that_costs_nothing_is_closed() -> None:
    cls = class_state(closed=True, gap=-0.1, recall=recall(0.0))
    assert WORTH.stopped(cls, floor=FLOOR) == GAP.stopped(cls, floor=FLOOR)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(20, 5000))
def test_what_chance_explains_is_no_cost(real: float, synthetic: float, n: int) -> None:
    its = Recall(real=real, synthetic=synthetic, n=n)
    if costs(its):
        assert its.shortfall > TOLERANCE
        assert costs(its.model_copy(update={"n": 10 * n}))
    assert not costs(its.model_copy(update={"synthetic": real}))


def test_of_few_photos_all_of_which_are_told_right_little_is_known() -> None:
    """The plain estimate of the error is 0 there."""
    few, many = (recall(0.0, real=1.0, synthetic=1.0, n=n) for n in (10, 300))
    assert WORTH.stopped(class_state(gap=0.6, recall=few), floor=FLOOR) is None
    assert WORTH.stopped(class_state(gap=0.6, recall=many), floor=FLOOR) is not None
    assert not costs(Recall(real=1.0, synthetic=0.95, n=20)), "one photo"
    assert costs(Recall(real=1.0, synthetic=0.95, n=200))


def test_few_photos_hide_a_small_cost() -> None:
    assert costs(recall(0.05))
    assert not costs(recall(0.05, n=20))


# --------------------------------------------------------------------- when it is measured


def searching(**facts: Any) -> dict[str, ClassState]:
    return {name: class_state(gap=0.6, opened=True, **facts) for name in ("frog", "ship")}


def test_it_is_measured_once_all_classes_have_their_baselines() -> None:
    classes = searching()
    assert isinstance(decide(under_way(classes), limits=worth(classes), now=0.0), MeasureRecalls)
    classes["ship"] = new_class()
    assert isinstance(decide(under_way(classes), limits=worth(classes), now=0.0), ProposeTrial)
    classes["ship"] = new_class(failures=3)
    action = decide(under_way(classes), limits=worth(classes), now=0.0)
    assert not isinstance(action, MeasureRecalls), "one class is told from none"


def test_a_class_that_may_have_no_baseline_any_more_is_not_waited_for() -> None:
    classes = {**searching(), "deer": new_class(trials=2, failures=2, failed=2)}
    state = under_way(classes)
    assert isinstance(decide(state, limits=worth(classes), now=0.0), ProposeTrial)
    spent = worth(classes, trials=2)
    assert isinstance(decide(state, limits=spent, now=0.0), MeasureRecalls)


def test_nobody_else_asks_for_it() -> None:
    classes = searching()
    assert isinstance(decide(under_way(classes), limits=limits(classes), now=0.0), ProposeTrial)


def test_it_is_measured_again_after_some_more_trials() -> None:
    classes = searching(trials=20)
    state = measured(under_way(classes), frog=0.2, ship=0.2)
    assert state.recalls_at == 40
    assert isinstance(decide(state, limits=worth(classes), now=0.0), ProposeTrial)
    for more in range(2 * EVERY + 1):
        later = replace(
            state, classes={**state.classes, "frog": replace(state.of("frog"), trials=20 + more)}
        )
        action = decide(later, limits=worth(classes), now=0.0)
        assert isinstance(action, MeasureRecalls) is (more == 2 * EVERY)


def test_of_one_class_it_is_never_measured() -> None:
    classes = {"frog": class_state(gap=0.6, opened=True)}
    action = decide(under_way(classes), limits=worth(classes), now=0.0)
    assert isinstance(action, ProposeTrial)


def test_when_the_search_ends_it_is_measured_once_more_and_once_only() -> None:
    classes = {name: class_state(closed=True, gap=0.0, trials=9) for name in ("frog", "ship")}
    state = under_way(classes)
    assert isinstance(decide(state, limits=worth(classes), now=0.0), MeasureRecalls)
    resting = measured(state, frog=0.0, ship=0.0)
    assert not isinstance(
        decide(resting, limits=worth(classes), now=0.0), MeasureRecalls | ProposeTrial
    )
    woken = measured(state, frog=0.3, ship=0.0)
    action = decide(woken, limits=worth(classes), now=0.0)
    assert isinstance(action, ProposeTrial)
    assert action.cls == "frog"


def test_trials_in_flight_are_waited_for() -> None:
    classes = searching(trials=20, proposed=21, winner={"guidance_scale": 2.0})
    state = under_way(classes, in_flight=(proposed("frog", 20),))
    several = replace(worth(classes), in_flight=4)
    assert isinstance(decide(state, limits=several, now=0.0), RunTrial)
    other = replace(limits(classes), in_flight=4)
    assert isinstance(decide(state, limits=other, now=0.0), ProposeTrial)


def test_it_stops_nothing_that_a_person_asked_for() -> None:
    cls = class_state(gap=0.6, pending=True, recall=recall(0.0))
    assert stopped(cls) is None
    assert worth({"frog": cls}).stopped("frog", cls) is None
