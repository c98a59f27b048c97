"""What a run does next, decision by decision."""

from __future__ import annotations

import copy
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
from hypothesis import given
from hypothesis import strategies as st

from gapclose.loop.run.class_state import ClassState
from gapclose.loop.run.events import (
    CameraChosen,
    PromptsProposed,
    RoundStarted,
    SessionStarted,
    Stopped,
    StopReason,
)
from gapclose.loop.run.state import Round, apply
from gapclose.loop.run.timings import Timings
from gapclose.loop.schedule.actions import (
    AskProposer,
    ChooseCamera,
    EvaluateFold,
    Finish,
    Judge,
    ProposeTrial,
    RunTrial,
    StartRound,
)
from gapclose.loop.schedule.cost_model import PROBE_SECONDS
from gapclose.loop.schedule.decide import PHASES, decide, stop_reason
from gapclose.loop.schedule.view import View
from gapclose.loop.search.seeds import MOST_TRIALS

CLOSED = {"closed": True, "gap": -0.1}
CHOSEN = CameraChosen(camera=CAMERA, turn="frog", progress={})
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
    proposer: bool = False,
    floors: Mapping[str, float] | None = None,
    timings: Timings = CONFIRMED,
    **facts: Any,
) -> View:
    """A run between two steps, by default with all time there is; `facts` are limits or state."""
    tune = {key: facts.pop(key) for key in ("budget", "trials", "images") if key in facts}
    allowed = limits(classes, folds=folds, cameras=cameras, floors=floors, **tune)
    allowed = replace(allowed, proposer=proposer)
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
        "trials in flight",
        "new round",
        "recalls",
        "early confirmation",
        "search",
        "confirmation",
        "verdict",
        "another round",
    ]
    assert all(phase.left_when for phase in PHASES)


def test_a_trial_in_flight_comes_before_all_else_whatever_time_is_left() -> None:
    """Its images may be there already, and its number is spent."""
    flying = proposed("ship", 1)
    ship = class_state(trials=1, proposed=2, **CLOSED)
    view = between_rounds(
        {"frog": new_class(), "ship": ship}, budget=100.0, used=900.0, in_flight=(flying,)
    )
    assert decided(view) == RunTrial(trial=flying)


def test_more_are_proposed_while_there_is_room_in_flight_and_run_in_their_order() -> None:
    won = {"winner": {}}
    classes = {"frog": class_state(**won), "ship": class_state(gap=0.1, **won)}
    flying = (proposed("ship", 9), proposed("frog", 9))
    for count, wanted in ((0, "propose"), (1, "propose"), (2, "run")):
        view = standing_still(classes, due=classes, in_flight=flying[:count])
        action = decided(replace(view, limits=replace(view.limits, in_flight=2)))
        if wanted == "propose":
            assert (type(action), action.cls) == (ProposeTrial, "frog")
        else:
            assert action == RunTrial(trial=flying[0])


def test_nothing_is_proposed_beside_a_baseline_in_flight_but_another_baseline() -> None:
    classes = {"frog": class_state(trials=0, proposed=1, baseline_gap=None), "ship": new_class()}
    flying = (proposed("frog", 0, stage="baseline"),)
    for names, wanted in (("frog", "ship"), ProposeTrial), (("frog",), RunTrial):
        view = standing_still({n: classes[n] for n in names}, due=names, in_flight=flying)
        action = decided(replace(view, limits=replace(view.limits, in_flight=3)))
        assert type(action) is wanted
        if isinstance(action, ProposeTrial):
            assert action.cls == "ship"


def test_a_camera_waits_for_what_is_in_flight() -> None:
    classes = {"frog": class_state(opened=True)}
    view = standing_still(classes, due=classes, cameras=True, in_flight=(proposed("frog", 9),))
    view = replace(view, limits=replace(view.limits, in_flight=3))
    assert isinstance(decided(view), RunTrial)


@pytest.mark.parametrize("current", [None, Round(due=frozenset({"frog"}), halfway=1.0, over=True)])
def test_without_a_round_one_begins(current: Round | None) -> None:
    view = standing_still({"frog": new_class(), "ship": new_class()}, round=current)
    assert decided(view) == StartRound(due=("frog", "ship"))


def test_a_round_with_nothing_left_is_not_kept_by_a_session_that_allows_more() -> None:
    """A kill may have come after it began, while the report was made."""
    frog = class_state(trials=100, evaluation=evaluation())
    ended = {"round": Round(due=frozenset(), halfway=None, session=1)}
    classes = {"frog": frog, "ship": class_state(evaluation=evaluation("ship", confirmed=True))}
    for sessions in (1, 2):
        at_limit = standing_still(classes, trials=100, sessions=sessions, **ended)
        assert isinstance(decided(at_limit), Finish)
    assert isinstance(decided(standing_still(classes, trials=200, sessions=1, **ended)), Finish)
    action = decided(standing_still(classes, trials=200, sessions=2, **ended))
    assert isinstance(action, StartRound)
    assert action.due == ("frog",)


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
    classes = {"frog": class_state(), "ship": class_state(gap=0.1, opened=True)}
    view = standing_still(classes, due=classes, cameras=True)
    assert (type(decided(view)), decided(view).cls) == (ProposeTrial, "frog")
    classes["frog"] = class_state(opened=True)
    view = standing_still(classes, due=classes, cameras=True)
    assert decided(view) == ChooseCamera(turn="frog")
    assert decided(standing_still(classes, due=classes)).cls == "frog"  # there is none to choose


def test_the_trial_that_the_camera_was_chosen_for_comes_next_though_classes_stand_elsewhere() -> (
    None
):
    classes = {"frog": class_state(opened=True), "ship": class_state(gap=0.1, opened=True)}
    moved = {"frog": progress(expected=0.01, opened=True), "ship": progress(opened=True)}
    event = CameraChosen(camera=CAMERA, turn="frog", progress=moved)
    view = standing_still(classes, due=classes, cameras=True)
    state = apply(view.state, event)
    assert (type(decide(state, limits=view.limits, now=0.0)), state.turn) == (ProposeTrial, "frog")
    assert decided(View(state, view.limits, 0.0)).cls == "frog"
    assert decided(View(replace(state, turn=None), view.limits, 0.0)).cls == "ship"


@pytest.mark.parametrize(
    ("turn", "allowed", "tried"),
    [
        ("ship", {}, "ship"),  # frog would gain more
        ("frog", {"trials": 9}, "ship"),
        ("ship", {"trials": 9}, "ship"),
        ("frog", {"images": 150}, "ship"),
        ("frog", {"trials": 8}, None),
        ("frog", {"budget": 300.0, "used": 300.0}, None),
    ],
)
def test_a_settled_turn_is_given_up_where_less_is_allowed_since(
    turn: str, allowed: dict[str, Any], tried: str | None
) -> None:
    """The process was killed once the camera was chosen, and started again with other limits."""
    ship = class_state(trials=8, images=100, gap=0.1, opened=True)
    classes = {"frog": class_state(opened=True), "ship": ship}
    action = decided(
        standing_still(classes, due=classes, turn=turn, camera=CHOSEN, cameras=True, **allowed)
    )
    assert isinstance(action, ProposeTrial) is (tried is not None)
    assert tried is None or action.cls == tried


def test_a_class_that_has_joined_gets_its_baseline_before_a_turn_that_was_settled() -> None:
    classes = {"frog": class_state(opened=True), "new": new_class()}
    view = standing_still(classes, due=classes, turn="frog", camera=CHOSEN, cameras=True)
    assert decided(view).cls == "new"


@pytest.mark.parametrize("judged", [True, False])
def test_a_fold_that_was_opened_is_evaluated_before_the_next_whatever_joined_since(
    judged: bool,
) -> None:
    before = evaluation(evidence=3) if judged else None
    fold = 1 if judged else 0
    frog = class_state(
        trials=100, evidence=9, open_fold=opened(fold=fold, evidence=7), evaluation=before
    )
    view = standing_still({"frog": frog}, due=("frog",), folds=fold + 1)
    assert decided(view) == EvaluateFold(cls="frog", fold=fold, early=False)


def test_a_fold_that_was_opened_before_it_was_tagged_is_evaluated_and_not_the_next_one() -> None:
    """It had judged the mere baseline; then a mixture opened it, which could not be evaluated."""
    mere = evaluation(evidence=1, spends=False, tagged=True)
    frog = class_state(open_fold=opened(), evaluation=mere, trials=100)
    assert frog.next_fold() == 1
    for folds in (1, 2):
        view = standing_still({"frog": frog}, due=("frog",), folds=folds)
        assert decided(view) == EvaluateFold(cls="frog", fold=0, early=False)


def test_no_fold_beyond_the_last_is_evaluated_whatever_is_new() -> None:
    frog = class_state(evidence=9, evaluation=evaluation(fold=1))
    view = standing_still({"frog": frog}, due=("frog",), folds=2)
    assert decided(view) == Finish(stopped={"frog": Stopped(reason=StopReason.NO_PHOTOS_LEFT)})
    view = standing_still({"frog": frog}, due=("frog",), folds=3, trials=9)
    assert decided(view) == EvaluateFold(cls="frog", fold=2, early=False)


def test_what_failed_to_be_confirmed_is_not_tried_to_be_again_before_a_trial_or_a_session() -> (
    None
):
    frog = class_state(trials=100, open_fold=opened(), confirmation_error="E: full")
    view = standing_still({"frog": frog}, due=("frog",))
    assert decided(view) == Finish(
        stopped={"frog": Stopped(reason=StopReason.CONFIRMATION_FAILED, detail="E: full")}
    )


def test_without_a_baseline_there_is_nothing_to_confirm() -> None:
    classes = {"frog": new_class(trials=3, failures=3, error="E"), "ship": class_state(trials=100)}
    view = standing_still(classes, due=classes)
    assert decided(view).cls == "ship"
    broken = {"frog": classes["frog"]}
    ended = Finish(stopped={"frog": Stopped(reason=StopReason.FAILURES, detail="E")})
    assert decided(standing_still(broken, due=broken)) == ended


# ------------------------------------------------------------------------------- trials


def test_hints_are_what_other_classes_have_chosen_in_that_order() -> None:
    settings = [{"guidance_scale": float(scale)} for scale in range(4)]
    winners = (*zip(("cat", "frog", "dog", "deer"), settings, strict=True),)
    classes = {"frog": class_state(gap=9.0), "cat": class_state()}
    action = decided(standing_still(classes, due=classes, winners=winners))
    assert action.hints == (settings[0], settings[2], settings[3])


def test_a_trial_is_told_what_time_there_is() -> None:
    classes = {"frog": class_state(gap=9.0), "ship": class_state(), "cat": class_state(**CLOSED)}
    timings = Timings(
        evaluations=(("frog", 100.0, 100),), trials={"frog": (20.0,), "ship": (5.0, 5.0)}
    )
    view = standing_still(classes, due=classes, budget=1000.0, timings=timings)
    # Confirming the frog takes as long as it did, and no class is quicker than measured.
    kept = 1.15 * 300.0 + 16.0 + 3 * 3.3
    assert view.reserve() == pytest.approx(kept)
    action = decided(view)
    assert action.cls == "frog"
    # Two classes share the time, at the five seconds that a trial takes; the closed one has none.
    assert action.settings_trials == 8
    assert action.batch == int((1000.0 - kept) / (20.0 / 8))
    short = replace(view, used=1000.0 - kept - 150.0)
    assert decided(short).settings_trials == 5  # 150 / 5 / 2 / 3
    by_trials = standing_still(classes, due=classes, timings=timings)
    assert (decided(by_trials).settings_trials, decided(by_trials).batch) == (8, None)


def test_generators_have_prices_where_time_is_what_ends_the_run() -> None:
    classes = {"frog": class_state(gap=9.0)}
    timings = Timings(generators={"sd": ((10, 5.0),), "renderer": ((10, 1.0),), "new": ()})
    by_clock = standing_still(classes, due=classes, budget=1000.0, timings=timings)
    assert decided(by_clock).prices == {"sd": 0.5, "renderer": 0.1}
    by_trials = standing_still(classes, due=classes, timings=timings)
    assert decided(by_trials).prices == {}, "no decision reads the clock"


def test_a_class_that_comes_to_rest_within_a_round_gets_no_more_trials() -> None:
    """As a confirmed one does whose prioritized prompts were tried: a resumed run would not."""
    confirmed = evaluation(confirmed=True)
    classes = {
        "frog": class_state(
            gap=9.0, pending=True, prioritized=({"color": "gray"},), evaluation=confirmed
        ),
        "ship": class_state(evaluation=evaluation("ship")),
    }
    assert standing_still(classes, due=classes).next_trial() == "frog"
    classes["frog"] = class_state(gap=9.0, evaluation=confirmed)
    assert standing_still(classes, due=classes).next_trial() == "ship"


def test_a_class_that_was_told_to_go_on_is_tried_before_it_is_confirmed_in_vain() -> None:
    classes = {
        "frog": class_state(gap=0.01, evaluation=evaluation(gap=0.01)),
        "ship": class_state(gap=0.9, evaluation=evaluation("ship", trials=7, evidence=3)),
    }
    view = standing_still(classes, due=classes)
    assert view.to_evaluate() == ["ship"]
    assert isinstance(decided(view), ProposeTrial)
    out = standing_still(classes, due=classes, trials=9)
    assert decided(out) == EvaluateFold(cls="ship", fold=1, early=False)


def test_what_is_nearest_closed_is_confirmed_first_and_the_mere_baseline_last() -> None:
    classes = {
        "far": class_state(gap=0.9),
        "mere": class_state(gap=0.01, evidence=1),
        "near": class_state(gap=0.2),
        "seen": class_state(gap=0.1, evaluation=evaluation("seen", gap=0.5, evidence=3)),
        "wide": class_state(gap=1.0),
    }
    view = standing_still(classes, due=classes, floors={"wide": 10.0}, trials=9)
    assert view.to_evaluate() == ["wide", "near", "seen", "far", "mere"]


def test_prompts_that_a_person_put_first_are_tried_and_confirmed_of_a_confirmed_class_too() -> (
    None
):
    prompts = ({"color": "gray"},)
    confirmed = evaluation(confirmed=True, tagged=True)
    asked = {"prioritized": prompts, "evaluation": confirmed, "reopened": True}
    classes = {"frog": class_state(gap=0.0, pending=True, **asked), "ship": class_state(gap=0.9)}
    assert standing_still(classes, due=classes).next_trial() == "frog"
    # Tried: it goes on while a fold may still judge what came of them.
    classes["frog"] = class_state(gap=0.0, evidence=6, **asked)
    assert not standing_still(classes, due=classes).rests("frog")
    assert standing_still(classes, due=("frog",), trials=9).to_evaluate() == ["frog"]
    # They failed: nothing has changed of what is confirmed.
    classes["frog"] = class_state(gap=0.0, **asked)
    assert standing_still(classes, due=classes).rests("frog")
    assert standing_still(classes, due=classes, folds=1).rests("frog")


# ------------------------------------------------------------------------------- rounds


def test_a_round_begins_with_what_went_on_and_then_the_worst_that_there_is_time_for() -> None:
    """Whether or not there is time: what was begun, settings of an untried class too."""
    evaluations = {
        "frog": {"gap": 0.0, "evidence": 1, "spends": False},
        "ship": {"gap": 0.5},
        "cat": {"gap": 1.0},
        "dog": {"gap": 1.5, "confirmed": True},
        "deer": {"gap": 2.0, "fold": 2},
        "bird": {"gap": 2.5},
    }
    facts: dict[str, dict[str, Any]] = {name: {} for name in evaluations}
    facts["frog"] = {"trials": 12, "evidence": 1}
    facts["ship"] = {"closed": True}
    facts["bird"] = {"trials": 12, "evidence": 6}
    classes = {
        name: class_state(evaluation=evaluation(name, **told), **facts[name])
        for name, told in evaluations.items()
    }
    view = between_rounds(classes, budget=1.0)
    action = decided(view)
    assert action.due == ("frog", "bird")
    assert (action.reopened, action.reset) == ({}, ())
    assert after(view, action).next_trial() is None
    assert decided(between_rounds(classes, budget=700.0)).due == ("frog", "cat", "bird")
    view = between_rounds(classes)
    action = decided(view)
    assert action.due == ("frog", "ship", "cat", "bird")
    assert action.reopened == {"cat": 1.0, "ship": 0.5}
    begun = after(view, action)
    assert [begun.state.of(name).reopened_at for name in ("cat", "ship")] == [9, 9]
    assert begun.stopped("ship") is None
    assert begun.next_trial() is not None


def test_what_was_told_to_go_on_and_has_not_yet_is_due_again() -> None:
    """As a resumed run finds it: the round that reopened it was of a session that ended."""
    told = class_state(evaluation=evaluation(), reopened=True, reopened_at=9)
    view = between_rounds({"frog": told}, budget=1.0)
    assert decided(view) == replace(decided(view), due=("frog",), reopened={})
    before = replace(told, reopened_at=8)  # the confirmation came after that
    assert decided(between_rounds({"frog": before}, budget=1.0)).due == ()
    pending = class_state(evaluation=evaluation(), pending=True, prioritized=({"color": "red"},))
    assert decided(between_rounds({"frog": pending}, budget=1.0)).due == ("frog",)


def test_no_time_is_kept_back_for_classes_that_can_neither_be_tried_nor_seen_anew() -> None:
    """They were told to go on, and three failures stopped them, or their trials are spent."""
    classes = {
        name: class_state(trials=12, evaluation=evaluation(name), **BROKEN)
        for name in ("cat", "dog")
    }
    classes["cat"] = replace(classes["cat"], reopened=True, reopened_at=9)
    classes["deer"] = class_state(trials=100, evaluation=evaluation("deer"))
    classes["frog"] = class_state(evaluation=evaluation("frog"))
    view = between_rounds(classes, budget=320.0, trials=100)
    action = decided(view)
    assert action.due == ("frog",)
    assert after(view, action).next_trial() == "frog"


def test_what_three_failures_stopped_is_taken_up_before_what_failed_confirmation() -> None:
    names = ("cat", "dog", "deer", "bird")
    classes = {n: class_state(gap=1.5, evaluation=evaluation(n, gap=1.5)) for n in names}
    classes["frog"] = new_class(trials=3, retryable=True, **BROKEN)
    view = between_rounds(classes, budget=600.0)
    action = decided(view)
    assert action.reset == ("frog",)
    assert after(view, action).next_trial() == "frog"
    once = replace(classes["frog"], retryable=False)
    assert decided(between_rounds(classes | {"frog": once}, budget=600.0)).reset == ()


@pytest.mark.parametrize("evidence", [1, 5])  # 1: it failed while it compared settings
@pytest.mark.parametrize(("left", "forgotten"), [(150.0, False), (600.0, True)])
def test_failures_are_forgotten_only_where_there_is_time_to_go_on(
    left: float, forgotten: bool, evidence: int
) -> None:
    """Else the report would lose the reason why the class stopped."""
    seen = evaluation(evidence=evidence, spends=evidence > 1)
    broken = class_state(trials=12, evidence=evidence, evaluation=seen, retryable=True, **BROKEN)
    view = between_rounds({"frog": broken}, budget=left)
    action = decided(view)
    begun = after(view, action)
    assert (begun.state.of("frog").failures == 0) == (action.reset == ("frog",)) == forgotten
    assert begun.next_trial() == ("frog" if forgotten else None)
    # What had nothing but its baseline was never closed.
    assert action.reopened == ({"frog": 0.5} if forgotten and evidence > 1 else {})
    if not forgotten:
        assert stop_reason("frog", begun).reason is StopReason.FAILURES


@pytest.mark.parametrize(("left", "forgotten"), [(100.0, False), (600.0, True)])
def test_of_a_class_without_a_baseline_they_are_forgotten_where_more_is_left_than_is_kept_back(
    left: float, forgotten: bool
) -> None:
    classes = {
        "frog": new_class(trials=3, retryable=True, **BROKEN),
        "ship": class_state(),
    }
    action = decided(between_rounds(classes, budget=left))
    assert action.due == ("frog", "ship")
    assert action.reset == (("frog",) if forgotten else ())


def test_what_has_had_its_trials_is_not_taken_up_whatever_failed() -> None:
    spent = class_state(trials=100, evaluation=evaluation(), retryable=True, **BROKEN)
    assert decided(between_rounds({"frog": spent})) == StartRound(due=())
    spent = new_class(trials=100, retryable=True, **BROKEN)
    assert decided(between_rounds({"frog": spent})) == StartRound(due=("frog",))


# -------------------------------------------------------------------- early confirmation


def half_way() -> dict[str, ClassState]:
    return {
        "frog": class_state(),
        "ship": class_state(**CLOSED),
        "cat": class_state(),
        "dog": class_state(gap=0.0, failures=3),
        "deer": class_state(failures=3),
        "bird": class_state(gap=0.15, evidence=1, closed_from_start=True),
    }


def early(view: View) -> list[str]:
    """The classes that are confirmed before anything else is done."""
    found = []
    while isinstance(action := decided(view), EvaluateFold):
        assert action.early
        found.append(action.cls)
        told = evaluation(action.cls, judged=False, early=True)
        cls = replace(view.state.of(action.cls), evaluation=told)
        current = view.state.round
        assert current is not None
        state = replace(
            view.state,
            classes={**view.state.classes, action.cls: cls},
            round=replace(current, due=current.due - {action.cls}),
        )
        view = replace(view, state=state)
        view = View(view.state, view.limits, view.used)
    assert isinstance(action, Judge) == bool(found)
    return found


def test_what_closed_by_half_of_the_time_is_confirmed_while_others_are_searched() -> None:
    view = between_rounds(half_way(), budget=4000.0)
    begun = after(view, decided(view))
    assert early(begun) == []
    # In their turn: what is nearest closed first.
    assert early(replace(begun, used=2000.0)) == ["ship", "dog", "bird"]
    # Not where what does not hold could not be searched on in,
    assert early(replace(begun, used=3100.0)) == []
    # nor where trials end the search of each class.
    view = between_rounds(half_way(), budget=4000.0, trials=100)
    assert early(replace(after(view, decided(view)), used=2000.0)) == []


def test_where_nobody_is_searched_nothing_is_early() -> None:
    closed = {name: class_state(**CLOSED) for name in ("frog", "ship")}
    view = standing_still(closed, due=closed, halfway=UNTIL_HALF, budget=4000.0)
    assert decided(view) == EvaluateFold(cls="frog", fold=0, early=False)


def test_what_was_confirmed_early_is_judged_before_the_search_goes_on() -> None:
    """What does not hold is then to be searched on in."""
    classes = {
        "frog": class_state(),
        "ship": class_state(evaluation=evaluation("ship", judged=False, early=True), **CLOSED),
    }
    view = standing_still(classes, due=("frog",), halfway=UNTIL_HALF, budget=4000.0)
    assert decided(view) == Judge()
    # Where the search is over, all of them are confirmed first.
    late = replace(view, used=3990.0)
    assert decided(late) == EvaluateFold(cls="frog", fold=0, early=False)


def test_one_that_could_not_be_confirmed_early_does_not_keep_the_others_from_being_searched() -> (
    None
):
    classes = {
        "frog": class_state(),
        "ship": class_state(confirmation_error="E", open_fold=opened("ship"), **CLOSED),
    }
    view = standing_still(classes, due=classes, halfway=UNTIL_HALF, budget=4000.0)
    assert (type(decided(view)), decided(view).cls) == (ProposeTrial, "frog")


# ------------------------------------------------------------------------------- baselines


def waiting(**facts: Any) -> View:
    """Two classes that wait for their baselines after one that took a second an image."""
    classes = {"frog": class_state(), "ship": facts.pop("ship", new_class())}
    timings = Timings(
        evaluations=CONFIRMED.evaluations, baselines=((100.0, 100),), baseline_seconds=100.0
    )
    return standing_still(classes, due=classes, timings=timings, **facts)


def test_where_time_is_short_baselines_are_small() -> None:
    # A quarter of what is left to search in, for two classes at a second an image.
    kept = 115.0 + 16.0 + 2 * 3.3
    action = decided(waiting(budget=300.0))
    assert (action.cls, action.baseline_images) == ("ship", int((400.0 - kept) / 8))
    assert action.baseline_images == 32
    # Too few of its images were valid, perhaps.
    again = waiting(budget=300.0, ship=new_class(failures=1, trials=1))
    assert decided(again).baseline_images == 100


@pytest.mark.parametrize(
    "ends", [{"trials": 100}, {"budget": 300.0, "trials": 100}, {"budget": 3000.0}]
)
def test_where_trials_end_the_search_or_time_is_left_they_are_whole(ends: dict[str, Any]) -> None:
    action = decided(waiting(**ends))
    assert (action.cls, action.baseline_images) == ("ship", 100)


def test_every_class_gets_its_baseline_though_no_time_is_left() -> None:
    """Without one there is no report."""
    classes = {"frog": new_class(), "ship": class_state(), "cat": new_class(failures=2)}
    for used, ends in ((0.0, {"budget": 1.0}), (900.0, {"budget": 300.0})):
        view = standing_still(classes, due=classes, used=used, **ends)
        assert (type(decided(view)), decided(view).cls) == (ProposeTrial, "frog")
        only = standing_still(classes | {"frog": class_state()}, due=classes, used=used, **ends)
        assert decided(only).cls == "cat"
        broken = {"frog": class_state(), "cat": new_class(failures=3), "ship": class_state()}
        done = standing_still(broken, due=broken, used=used, **ends)
        assert isinstance(decided(done), EvaluateFold)
    # One that has had its trials will get none.
    spent = {"frog": class_state(), "cat": new_class(failures=2, trials=3)}
    view = standing_still(spent, due=spent, budget=300.0, used=290.0, trials=100)
    assert decided(view).cls == "cat"
    view = standing_still(
        {**spent, "frog": class_state(trials=2)}, due=spent, budget=300.0, used=290.0, trials=3
    )
    assert decided(view) == EvaluateFold(cls="frog", fold=0, early=False)


def test_a_class_that_joins_in_the_middle_of_a_round_does_not_use_up_what_is_kept_back() -> None:
    """Its photos came between two sessions; the round is of the session before."""
    view = standing_still({"frog": class_state()}, due=("frog",), budget=300.0, used=290.0)
    assert decided(view) == EvaluateFold(cls="frog", fold=0, early=False)
    state = apply(view.state, SessionStarted(classes=("frog", "ship"), budget=300.0))
    allowed = limits(("frog", "ship"), budget=300.0)
    assert decided(View(state, allowed, 290.0)).cls == "ship"
    told = replace(state, classes={**state.classes, "ship": class_state()})
    assert isinstance(decided(View(told, allowed, 290.0)), EvaluateFold)


# --------------------------------------------------------------------------------- reserve


def test_on_a_slow_machine_more_time_is_kept_back_to_report() -> None:
    view = standing_still({"frog": class_state()}, budget=4000.0)
    slow = Timings(evaluations=CONFIRMED.evaluations, probes=(3 * PROBE_SECONDS,))
    slower = standing_still({"frog": class_state()}, budget=4000.0, timings=slow)
    # Nothing is due: it is the report alone.
    assert slower.reserve() == pytest.approx(3 * view.reserve())
    assert view.reserve() == pytest.approx(16.0 + 3.3)


def test_without_a_budget_nothing_is_kept_back_and_with_one_what_is_due() -> None:
    classes = {"frog": class_state(), "ship": class_state(), "cat": new_class()}
    assert standing_still(classes, due=classes).reserve() == 0.0
    kept = standing_still(classes, due=classes, budget=4000.0).reserve()
    assert kept == pytest.approx(2 * 115.0 + 16.0 + 3 * 3.3)


@pytest.mark.parametrize("evidence", [1, 5])
def test_no_trial_but_a_baseline_begins_in_the_time_that_is_kept_back(evidence: int) -> None:
    classes = {"frog": class_state(evidence=evidence)}
    view = standing_still(classes, due=classes, budget=1000.0)
    kept = view.reserve()
    assert isinstance(decided(replace(view, used=1000.0 - kept - 0.1)), ProposeTrial)
    assert isinstance(decided(replace(view, used=1000.0 - kept + 0.1)), EvaluateFold)


def test_where_not_all_can_be_confirmed_a_first_trial_costs_another_class_its_confirmation() -> (
    None
):
    """A part of it counts: what has begun comes before what has a little more to gain."""
    classes = {"begun": class_state(gap=0.5), "new": class_state(gap=0.6, evidence=1)}
    plenty = standing_still(classes, due=classes, budget=4000.0)
    assert plenty.next_trial() == "new"
    both = 2 * 115.0 + 16.0 + 2 * 3.3
    classes = {**classes, "other": class_state(gap=0.1, evidence=1)}
    all_three = 3 * 115.0 + 16.0 + 3 * 3.3
    short = standing_still(classes, due=classes, budget=all_three - 1.0)
    assert short.left > both
    assert short.next_trial() == "begun"
    enough = standing_still(classes, due=classes, budget=all_three + 1.0)
    assert enough.next_trial() == "new"


# --------------------------------------------------------------------------- stop reasons


def why(view: View, name: str = "frog") -> StopReason:
    return stop_reason(name, view).reason


def test_time_that_is_left_is_not_called_out() -> None:
    classes = {"frog": class_state(evaluation=evaluation())}
    view = standing_still(classes, budget=1000.0)
    kept = view.reserve() + view.costs.trial()
    assert why(replace(view, used=1000.0 - kept)) is StopReason.OUT_OF_BUDGET
    assert why(replace(view, used=1000.0 - kept - 0.1)) is StopReason.TOO_LITTLE_TIME
    assert why(replace(view, used=1200.0)) is StopReason.OUT_OF_BUDGET


@pytest.mark.parametrize(
    ("facts", "ended"),
    [
        ({"closed": True}, StopReason.CLOSED_ON_TUNE_SPLIT),
        ({"closed_from_start": True}, StopReason.CLOSED_FROM_START),
    ],
)
def test_closed_for_the_search_alone_is_no_reason_to_have_stopped(
    facts: dict[str, Any], ended: StopReason
) -> None:
    def told(**its: Any) -> StopReason:
        cls = class_state(evaluation=evaluation(**its), **facts)
        return why(standing_still({"frog": cls}, budget=1000.0, used=1000.0))

    assert told() is StopReason.OUT_OF_BUDGET
    assert told(fold=2) is StopReason.NO_FOLDS_LEFT
    assert told(fold=2, confirmed=True) is ended
    assert why(standing_still({"frog": class_state(**facts)})) is ended  # never confirmed


def test_why_a_class_gets_no_more_trials() -> None:
    out = {"budget": 1000.0, "used": 1000.0}
    broken = class_state(evaluation=evaluation(), **BROKEN)
    told = stop_reason("frog", standing_still({"frog": broken}, **out))
    assert told == Stopped(reason=StopReason.FAILURES, detail="E: no frog")
    done = class_state(evaluation=evaluation(confirmed=True))
    assert why(standing_still({"frog": done}, **out)) is StopReason.CONFIRMED
    spent = class_state(trials=100, evaluation=evaluation())
    assert why(standing_still({"frog": spent})) is StopReason.LIMIT
    assert why(standing_still({"frog": spent}, folds=1)) is StopReason.LIMIT
    used_up = class_state(trials=MOST_TRIALS, evaluation=evaluation())
    assert why(standing_still({"frog": used_up}, budget=1000.0)) is StopReason.SEEDS_SPENT
    open_ = {"frog": class_state(evaluation=evaluation())}
    assert why(standing_still(open_, folds=1, **out)) is StopReason.NO_PHOTOS_LEFT
    kept = class_state(evaluation=evaluation(kept=("base",)), **BROKEN)
    assert why(standing_still({"frog": kept}, **out)) is StopReason.BASELINE_KEPT
    failed = replace(kept, confirmation_error="E: full")
    told = stop_reason("frog", standing_still({"frog": failed}, **out))
    assert told == Stopped(reason=StopReason.CONFIRMATION_FAILED, detail="E: full")


def test_the_end_says_why_of_every_class_of_the_run_in_its_order() -> None:
    classes = {
        "ship": class_state(trials=100, evaluation=evaluation("ship", confirmed=True)),
        "frog": new_class(trials=3, **BROKEN),
        "cat": class_state(trials=100, evaluation=evaluation("cat")),
    }
    action = decided(standing_still(classes))
    assert isinstance(action, Finish)
    assert [*action.stopped] == ["ship", "frog", "cat"]
    reasons = [told.reason for told in action.stopped.values()]
    assert reasons == [StopReason.CONFIRMED, StopReason.FAILURES, StopReason.LIMIT]


# ------------------------------------------------------------------------------ the clock


def stands(cls: str) -> st.SearchStrategy[ClassState]:
    """Any class between two steps."""
    figures = st.floats(-0.1, 2.0)
    evaluations = st.builds(
        evaluation,
        st.just(cls),
        gap=figures,
        evidence=st.integers(1, 6),
        trials=st.integers(1, 12),
        confirmed=st.booleans(),
        judged=st.booleans(),
        fold=st.integers(0, 2),
    )
    return st.one_of(
        st.builds(new_class, trials=st.integers(0, 3), failures=st.integers(0, 3)),
        st.builds(
            class_state,
            trials=st.integers(1, 12),
            failures=st.integers(0, 3),
            gap=figures,
            evidence=st.integers(1, 6),
            since_gain=st.integers(0, 9),
            closed=st.booleans(),
            closed_from_start=st.booleans(),
            opened=st.booleans(),
            pending=st.booleans(),
            reopened=st.booleans(),
            retryable=st.booleans(),
            confirmation_error=st.sampled_from((None, "E")),
            evaluation=st.one_of(st.none(), evaluations),
        ),
    )


rounds = st.one_of(
    st.none(),
    st.builds(
        Round,
        due=st.frozensets(st.sampled_from(("frog", "ship"))),
        halfway=st.one_of(st.none(), st.floats(0, 900)),
        over=st.booleans(),
    ),
)
slow = Timings(
    baselines=((900.0, 100),),
    baseline_seconds=900.0,
    trials={"frog": (400.0,), "ship": (0.1,)},
    evaluations=(("ship", 900.0, 100),),
    probes=(9.0,),
)


@given(
    st.fixed_dictionaries({"frog": stands("frog"), "ship": stands("ship")}),
    rounds,
    st.booleans(),
    st.sampled_from(({"trials": 10}, {"images": 150}, {"trials": 40, "images": 600})),
    st.floats(0, 1e9),
)
def test_where_trials_or_images_end_the_search_no_decision_depends_on_the_clock(
    classes: dict[str, ClassState],
    current: Round | None,
    cameras: bool,
    ends: dict[str, int],
    now: float,
) -> None:
    """So that a run that was resumed equals one that was not, on whatever machine."""
    view = standing_still(classes, round=current, cameras=cameras, **ends)
    action = decided(view)
    late = View(replace(view.state, timings=slow, used=now), view.limits, now)
    assert decided(late) == action


@given(
    st.fixed_dictionaries({"frog": stands("frog"), "ship": stands("ship")}),
    rounds,
    st.booleans(),
    st.floats(0, 2000),
)
def test_a_decision_changes_nothing_and_is_the_same_when_it_is_asked_again(
    classes: dict[str, ClassState], current: Round | None, cameras: bool, used: float
) -> None:
    view = standing_still(classes, round=current, cameras=cameras, budget=1000.0, used=used)
    kept, allowed = copy.deepcopy(view.state), copy.deepcopy(view.limits)
    assert decided(view) == decided(view) == decide(kept, limits=allowed, now=used)
    assert (view.state, view.limits) == (kept, allowed)


# ------------------------------------------------------------------------- asking a proposer


def asking(cls: ClassState, **facts: Any) -> Any:
    return decided(standing_still({"frog": cls}, due=["frog"], **{"proposer": True} | facts))


WON = {"guidance_scale": 2.0}


def test_a_proposer_is_asked_once_the_settings_of_an_open_class_are_chosen() -> None:
    assert asking(class_state(winner=WON)) == AskProposer(cls="frog")
    assert isinstance(asking(class_state(winner=None)), ProposeTrial)
    assert isinstance(asking(class_state(winner=WON, pending=True)), ProposeTrial)
    assert isinstance(asking(class_state(winner=WON), proposer=False), ProposeTrial)


def test_a_class_that_is_closed_lacks_nothing() -> None:
    assert not isinstance(asking(class_state(winner=WON, **CLOSED)), AskProposer)


def test_it_is_asked_again_when_what_it_said_has_had_its_effect() -> None:
    asked = {"winner": WON, "proposals": 1, "proposed_at": 9}
    assert isinstance(asking(class_state(trials=20, **asked)), ProposeTrial)
    assert asking(class_state(trials=21, **asked)) == AskProposer(cls="frog")
    thrice = {**asked, "proposals": 3}
    assert isinstance(asking(class_state(trials=60, **thrice)), ProposeTrial)


def test_it_is_not_asked_while_trials_are_in_flight() -> None:
    flying = asking(class_state(winner=WON, proposed=10), in_flight=(proposed(),))
    assert isinstance(flying, RunTrial)


def test_asking_is_told_by_the_state() -> None:
    view = standing_still({"frog": class_state(winner=WON)}, due=["frog"], proposer=True)
    event = PromptsProposed(
        cls="frog", prompts=(), progress=view.state.of("frog").progress, seconds=2.0
    )
    state = apply(view.state, event)
    assert (state.of("frog").proposals, state.of("frog").proposed_at) == (1, 9)
    assert isinstance(decide(state, limits=view.limits, now=0.0), ProposeTrial)
