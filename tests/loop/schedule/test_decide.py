"""What a run does next: exact decisions, and what holds of any history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from histories import (
    CAMERA,
    class_state,
    evaluation,
    limits,
    new_class,
    opened,
    progress,
    proposed,
    run_state,
)

from gapclose.loop.run.events import CameraChosen, RoundStarted, Stopped, StopReason
from gapclose.loop.run.state import ClassState, Round, Timings, apply
from gapclose.loop.schedule.decide import (
    PHASES,
    ChooseCamera,
    EvaluateFold,
    Finish,
    Judge,
    RunTrial,
    StartRound,
    View,
    decide,
)

CLOSED = {"closed": True, "gap": -0.1}
BROKEN = {"failures": 3, "failed": 3, "error": "E: no frog"}
# A confirmation takes 100 s, of a hundred images.
CONFIRMED = Timings(evaluations=(("frog", 100.0, 100),))
UNTIL_HALF = 9e9  # a round whose halfway point has come


def standing_still(
    classes: Mapping[str, ClassState],
    *,
    due: Iterable[str] = (),
    halfway: float | None = None,
    used: float = 0.0,
    folds: int | Mapping[str, int] = 3,
    cameras: bool = False,
    floors: Mapping[str, float] | None = None,
    timings: Timings = CONFIRMED,
    **facts: Any,
) -> View:
    """A run between two steps, by default with all time there is; `facts` are limits or state."""
    tune = {key: facts.pop(key) for key in ("budget", "trials", "images") if key in facts}
    allowed = limits(classes, folds=folds, cameras=cameras, floors=floors, **tune)
    facts.setdefault("round", Round(due=frozenset(due), halfway=halfway))
    return View(run_state(classes, timings=timings, **facts), allowed, used)


def decided(view: View) -> Any:
    return decide(view.state, limits=view.limits, now=view.used)


def after(view: View, action: StartRound) -> View:
    """Once a round has begun."""
    event = RoundStarted(
        due=action.due, reopened=action.reopened, reset=action.reset, halfway=action.halfway
    )
    return View(apply(view.state, event), view.limits, view.used)


def between_rounds(classes: Mapping[str, ClassState], **facts: Any) -> View:
    return standing_still(classes, round=None, **facts)


# ------------------------------------------------------------------------------- phases


def test_the_phases_come_in_their_order_and_say_when_they_are_left() -> None:
    names = [phase.name for phase in PHASES]
    assert names == [
        "trial in flight",
        "new round",
        "early confirmation",
        "search",
        "confirmation",
        "verdict",
    ]
    assert all(phase.left_when for phase in PHASES)


def test_a_trial_in_flight_comes_before_all_else_whatever_time_is_left() -> None:
    """Its images may be there already, and its number is spent."""
    flying = class_state(in_flight=proposed("ship"), **CLOSED)
    view = between_rounds({"frog": new_class(), "ship": flying}, budget=100.0, used=900.0)
    assert decided(view) == RunTrial(cls="ship")


@pytest.mark.parametrize("current", [None, Round(due=frozenset({"frog"}), halfway=1.0, over=True)])
def test_without_a_round_one_begins(current: Round | None) -> None:
    view = standing_still({"frog": new_class(), "ship": new_class()}, round=current)
    assert decided(view) == StartRound(due=("frog", "ship"))


def test_half_of_what_is_not_kept_back_is_to_search_in_before_anything_is_confirmed_early() -> (
    None
):
    view = between_rounds({"frog": class_state(), "ship": new_class()}, budget=1000.0, used=100.0)
    kept = 1.15 * 100.0 + 16.0 + 2 * 3.3
    action = decided(view)
    assert action.halfway == pytest.approx((900.0 + kept) / 2)
    assert decided(between_rounds({"frog": class_state()})).halfway is None  # nothing ends it


def test_baselines_come_first_then_the_search_then_confirmation_then_verdicts_then_the_end() -> (
    None
):
    classes = {"frog": class_state(), "ship": new_class()}
    view = standing_still(classes, due=classes)
    assert decided(view).cls == "ship"
    classes = {"frog": class_state(), "ship": class_state(gap=0.1)}
    assert decided(standing_still(classes, due=classes)).cls == "frog"
    classes = {"frog": class_state(trials=100), "ship": class_state(trials=100, gap=0.1)}
    view = standing_still(classes, due=classes)
    assert decided(view) == EvaluateFold(cls="ship", fold=0, early=False)
    classes["ship"] = class_state(trials=100, evaluation=evaluation("ship", judged=False))
    view = standing_still(classes, due=("frog",))
    assert decided(view) == EvaluateFold(cls="frog", fold=0, early=False)
    view = standing_still(classes)
    assert decided(view) == Judge()
    classes = {name: class_state(trials=100, evaluation=evaluation(name)) for name in classes}
    ended = Stopped(reason=StopReason.LIMIT)
    assert decided(standing_still(classes)) == Finish(stopped={"frog": ended, "ship": ended})


def test_the_camera_is_chosen_once_the_class_whose_turn_it_is_has_had_its_first_prompts() -> None:
    """All classes have their baselines then."""
    classes = {"frog": class_state(opened=False), "ship": class_state(gap=0.1, **{"opened": True})}
    view = standing_still(classes, due=classes, cameras=True)
    assert isinstance(decided(view), RunTrial)
    classes["frog"] = classes["frog"].__class__(trials=9, progress=progress(opened=True))
    view = standing_still(classes, due=classes, cameras=True)
    assert decided(view) == ChooseCamera(turn="frog")
    without = standing_still(classes, due=classes)
    assert decided(without).cls == "frog"
    # It moves what the classes are worth, but the trial that it was chosen for comes next.
    moved = {"frog": progress(expected=0.01, opened=True), "ship": progress(opened=True)}
    event = CameraChosen(camera=CAMERA, turn="frog", progress=moved)
    state = apply(view.state, event)
    action = decide(state, limits=view.limits, now=0.0)
    assert (type(action), action.cls) == (RunTrial, "frog")  # type: ignore[union-attr]
    state = apply(state, proposed("frog"))
    state = replace(
        state, classes={**state.classes, "frog": replace(state.of("frog"), in_flight=None)}
    )
    assert decide(state, limits=view.limits, now=0.0).cls == "ship"  # type: ignore[union-attr]


def test_a_fold_that_was_opened_is_evaluated_for_its_own_mixture_before_the_next() -> None:
    """Whatever has joined the search since."""
    frog = class_state(trials=100, evidence=9, evaluation=evaluation(evidence=3))
    frog = replace(frog, opened=opened(fold=1))
    view = standing_still({"frog": frog}, due=("frog",))
    assert decided(view) == EvaluateFold(cls="frog", fold=1, early=False)
