from __future__ import annotations

import copy
import random
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
from histories import (
    CAMERA,
    as_read,
    evaluated,
    every_kind,
    failed,
    mixture,
    opened,
    progress,
    proposed,
    row,
    stopped,
    tried,
    verdict,
)
from hypothesis import given
from hypothesis import strategies as st

from gapclose.loop.run.class_state import FAILURES, ClassState, Evaluation
from gapclose.loop.run.events import (
    CameraChosen,
    ConfirmationFailed,
    Event,
    MixturesGiven,
    PhotosGrouped,
    PhotosListed,
    Progress,
    PromptsPrioritized,
    PromptsProposed,
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
from gapclose.loop.run.state import Round, RunState, apply, fold
from gapclose.loop.run.timings import Timings

BASELINE = progress(gap=2.0, expected=2.0, evidence=1)
RECALL = Recall(real=0.9, synthetic=0.7, n=100)
GRAY = ({"color": "gray"},)
GIVEN = MixturesGiven(source="pond", mixtures={"frog": ({"weight": 1.0, "prompt": "a frog"},)})


def changes(after: Any, before: Any) -> dict[str, Any]:
    """What of two states of a kind differs, as it is after."""
    names = [field.name for field in fields(after)]
    return {n: getattr(after, n) for n in names if getattr(after, n) != getattr(before, n)}


def what(event: Event, state: RunState) -> dict[str, Any]:
    """What an event changes of a run, its class by class changes under their names."""
    after = apply(state, event)
    told = changes(after, state)
    for name in told.pop("classes", {}):
        if after.of(name) != state.of(name):
            told[name] = changes(after.of(name), state.of(name))
    return told


def begun(*events: Event, classes: tuple[str, ...] = ("frog", "ship")) -> RunState:
    """A run of two classes, after these events."""
    return fold([RunStarted(run="abcd"), SessionStarted(classes=classes), *events])


ROUND = RoundStarted(due=("frog", "ship"), halfway=60.0)


# ------------------------------------------------------------------------ what an event does


def test_a_run_has_a_name_and_a_time() -> None:
    new = RunState()
    assert (new.stage, new.of("frog"), new.due) == ("new", ClassState(), frozenset())
    assert what(RunStarted(run="abcd", at=12.0), new) == {"run": "abcd", "started": 12.0}


def test_what_was_used_is_as_the_last_event_says() -> None:
    state = RunState()
    for event, used in zip(begun_by(), (1.0, 2.5, 2.0), strict=True):
        state = apply(state, event.model_copy(update={"used": used}))
        assert state.used == used


def begun_by() -> list[Event]:
    return [RunStarted(run="abcd"), SessionStarted(classes=("frog",)), ROUND]


def test_a_session_brings_its_classes_its_budget_and_how_busy_the_machine_is() -> None:
    event = SessionStarted(classes=("ship", "frog"), budget=60.0, probe=0.05)
    assert what(event, begun()) == {
        "names": ("ship", "frog"),
        "budget": 60.0,
        "sessions": 2,
        "timings": Timings(probes=(0.05,)),
    }


def test_a_session_takes_up_a_round_where_it_was_interrupted_and_none_where_the_run_ended() -> (
    None
):
    state = begun(ROUND)
    assert "round" not in what(SessionStarted(classes=state.names), state)
    done = apply(state, RunFinished(stopped={}))
    told = what(SessionStarted(classes=state.names), done)
    assert told == {"sessions": 2, "round": None, "finished": None, "stage": "start"}


def test_a_class_whose_photos_came_since_joins_the_round() -> None:
    """Else nothing would be kept back for it, and all others be searched until it has begun."""
    state = begun(RoundStarted(due=("frog",), halfway=9.0))
    joined = what(SessionStarted(classes=("frog", "ship", "cat")), state)
    assert joined["round"] == Round(due=frozenset({"frog", "cat"}), halfway=9.0)
    over = replace(state, round=replace(state.round, over=True))  # type: ignore[type-var]
    assert apply(over, SessionStarted(classes=("frog", "cat"))).round.over  # type: ignore[union-attr]


def test_what_could_not_be_confirmed_is_due_again_in_the_next_session() -> None:
    error = ConfirmationFailed(cls="frog", fold=0, error="E: full")
    state = begun(RoundStarted(due=("frog", "ship")), opened(), error)
    assert state.due == {"ship"}
    assert apply(state, SessionStarted(classes=state.names)).due == {"frog", "ship"}


UNREADABLE = {"unreadable": [{"path": "x.png", "why": "cut off"}]}


def test_photos_are_listed_and_those_of_a_class_that_is_gone_are_kept() -> None:
    state = begun(PhotosListed(tune={"frog": ("a",), "ship": ("b",)}, cuts={"frog": 1}))
    assert (state.photos, state.cuts) == ({"frog": ("a",), "ship": ("b",)}, {"frog": 1})
    state = apply(state, PhotosListed(tune={"frog": ("c",)}, left_out=UNREADABLE))
    assert state.photos == {"frog": ("c",), "ship": ("b",)}
    assert (state.cuts, state.left_out) == ({}, UNREADABLE)
    nothing = RunState()
    assert (nothing.photos, nothing.cuts, nothing.left_out) == ({}, {}, {})


def test_a_round_begins_with_its_classes() -> None:
    assert what(ROUND, begun()) == {
        "round": Round(due=frozenset({"frog", "ship"}), halfway=60.0, over=False)
    }


def test_a_round_forgets_failures_and_reopens_what_failed_confirmation() -> None:
    closed = tried(progress=progress(closed=True, since_gain=4, gap=0.01))
    state = begun(*[failed("ship", n) for n in range(3)], proposed(), closed)
    event = RoundStarted(due=("ship", "frog"), reopened={"frog": 0.7}, reset=("ship",))
    assert what(event, state) == {
        "round": Round(due=frozenset({"frog", "ship"}), halfway=None),
        "ship": {"failures": 0},
        "frog": {
            "progress": progress(closed=False, since_gain=0, gap=0.01),
            "reopened": True,
            "reopened_at": 1,
            "unseen_gap": 0.7,
        },
    }


def test_a_proposed_trial_is_in_flight_until_it_has_ended() -> None:
    event = proposed()
    assert what(event, begun()) == {
        "stage": "tune",
        "in_flight": (event,),
        "frog": {"proposed": 10},
    }
    state = begun(event)
    for ended in (tried(), failed()):
        assert what(ended, state)["in_flight"] == ()


def test_several_trials_of_one_class_may_be_in_flight() -> None:
    trials = [proposed("frog", 9), proposed("ship", 4), proposed("frog", 10), proposed("frog", 11)]
    state = begun(*trials)
    assert state.in_flight == (*trials,)
    assert (state.of("frog").proposed, state.of("frog").trials) == (12, 0)
    for number, left in ((9, trials[1:]), (11, trials[1:3]), (10, trials[1:2])):
        state = apply(state, tried("frog", number, seconds=float(number)))
        assert state.in_flight == (*left,)
    assert state.timings.trials == {"frog": (9.0, 11.0, 10.0)}
    assert apply(state, failed("ship", 4)).in_flight == ()


def test_a_result_is_awaited_until_the_settings_are_chosen_and_for_prioritized_prompts() -> None:
    state = begun(proposed(number=0, stage="baseline"))
    assert state.of("frog").awaits_result
    state = apply(state, tried(number=0, progress=BASELINE))
    assert not state.of("frog").awaits_result
    for number, now in ((1, BASELINE), (2, progress(winner={}))):
        state = apply(state, proposed(number=number))
        assert state.of("frog").awaits_result
        state = apply(state, tried(number=number, progress=now))
        assert not state.of("frog").awaits_result
    assert not apply(state, proposed(number=3)).of("frog").awaits_result
    asked = apply(state, PromptsPrioritized(cls="frog", prompts=({"color": "red"},)))
    assert not asked.of("frog").awaits_result
    assert apply(asked, proposed(number=3)).of("frog").awaits_result


def test_a_finished_trial_counts_and_brings_its_class_where_the_search_stands() -> None:
    state = begun(failed(number=0), ConfirmationFailed(cls="frog", fold=0, error="E"), proposed())
    now = progress(since_gain=2)
    assert what(tried(images=8, seconds=4.0, progress=now, probe=0.03), state) == {
        "images": 16,
        "in_flight": (),
        "timings": replace(
            state.timings,
            first=(4.0,),
            begun=frozenset({"frog"}),
            trials={"frog": (4.0,)},
            probes=(0.03,),
        ),
        "frog": {
            "trials": 2,
            "images": 16,
            "failures": 0,
            "progress": now,
            "confirmation_error": None,
        },
    }


def test_a_failed_trial_counts_too_and_its_error_is_kept() -> None:
    state = begun(ConfirmationFailed(cls="frog", fold=0, error="E"), proposed())
    assert what(failed(images=3, error="E: 1", progress=Progress(floor=0.1)), state) == {
        "images": 3,
        "in_flight": (),
        "timings": Timings(begun=frozenset({"frog"})),
        "frog": {
            "trials": 1,
            "images": 3,
            "failed": 1,
            "failures": 1,
            "error": "E: 1",
            "progress": Progress(floor=0.1),
        },
    }


def test_three_failures_in_a_row_stop_a_class_and_a_trial_in_between_does_not() -> None:
    state = begun(failed(), failed(), tried(), failed(), failed())
    assert (state.of("frog").failures, stopped(state.of("frog"))) == (2, None)
    state = apply(state, failed())
    assert stopped(state.of("frog")) is StopReason.FAILURES
    assert (state.of("frog").failed, FAILURES) == (5, 3)


def test_the_runs_camera_settles_whose_turn_it_is_and_moves_every_class() -> None:
    state = begun(tried(progress=BASELINE), tried("ship", progress=BASELINE))
    moved = {"frog": progress(expected=0.4), "ship": progress(expected=0.5)}
    event = CameraChosen(camera=CAMERA, turn="ship", progress=moved)
    assert what(event, state) == {
        "camera": event,
        "turn": "ship",
        "frog": {"progress": moved["frog"]},
        "ship": {"progress": moved["ship"]},
    }
    state = apply(state, event)
    assert state.turn == "ship"
    assert what(proposed("ship"), state)["turn"] is None


def test_winners_stand_in_their_order_each_settings_once() -> None:
    def won(cls: str, **settings: Any) -> Event:
        return tried(cls, progress=progress(winner=settings))

    state = begun(
        tried("cat", progress=progress(winner=None)),
        won("frog", steps=4),
        won("ship", steps=8),
        won("frog", steps=4),
        won("cat", steps=8),
        failed("cat", progress=progress(winner={"steps": 2})),
        won("cat"),
    )
    assert state.winners == (("frog", {"steps": 4}), ("ship", {"steps": 8}), ("cat", {"steps": 2}))


def test_an_opened_fold_is_open_until_it_is_evaluated() -> None:
    event = opened()
    assert what(event, begun(ROUND)) == {
        "stage": "confirm",
        "frog": {"opened": event, "spent_folds": (("frog-0",),)},
    }
    state = begun(ROUND, event, ConfirmationFailed(cls="frog", fold=0, error="E"))
    assert state.of("frog").opened == event  # for it has judged no other mixture yet


def test_an_evaluation_ends_the_class_of_a_round_and_is_judged_later() -> None:
    result = evaluated(images=100, seconds=50.0, probe=0.04)
    state = begun(ROUND, opened(early=True))
    assert what(result, state) == {
        "images": 100,
        "round": Round(due=frozenset({"ship"}), halfway=60.0),
        "timings": Timings(evaluations=(("frog", 50.0, 100),), probes=(0.04,)),
        "frog": {
            "opened": None,
            "evaluation": Evaluation(opened=opened(early=True), result=result),
        },
    }
    state = apply(state, result)
    assert (state.unjudged, state.early) == (True, True)
    assert not state.of("frog").evaluation.confirmed  # type: ignore[union-attr]


def test_a_confirmation_that_failed_ends_the_class_of_a_round_too() -> None:
    state = begun(ROUND, opened())
    assert what(ConfirmationFailed(cls="frog", fold=0, error="E: full"), state) == {
        "round": Round(due=frozenset({"ship"}), halfway=60.0),
        "frog": {"confirmation_error": "E: full"},
    }


def test_why_a_confirmation_failed_is_forgotten_by_a_session_a_trial_and_an_evaluation() -> None:
    state = begun(opened(), ConfirmationFailed(cls="frog", fold=0, error="E"))
    assert state.of("frog").confirmation_error == "E"
    for event in (SessionStarted(classes=state.names), tried(), evaluated()):
        assert apply(state, event).of("frog").confirmation_error is None
    for event in (failed(), proposed(), ROUND, opened("ship"), evaluated("frog")):
        kept = apply(state, event).of("frog").confirmation_error
        assert (kept is None) == (event.kind == "fold_evaluated")


def test_verdicts_are_of_the_last_evaluations_and_end_the_round() -> None:
    first = [opened(), evaluated(), VerdictsReached(verdicts={"frog": verdict()})]
    state = begun(ROUND, *first, opened(fold=1), evaluated(fold=1))
    judged = state.of("frog").judged
    assert judged is not None
    assert (judged.opened.fold, judged.verdict) == (0, verdict())  # until the next verdicts
    reached = verdict(fold=1, confirmed=True)
    last = replace(state.of("frog").evaluation, verdict=reached)  # type: ignore[type-var]
    assert what(VerdictsReached(verdicts={"frog": reached}), state) == {
        "frog": {"evaluation": last, "judged": last},
    }
    assert state.round == Round(due=frozenset({"ship"}), halfway=60.0, over=True)
    state = apply(state, VerdictsReached(verdicts={"frog": reached}))
    assert (state.unjudged, last.confirmed) == (False, True)


def test_early_is_only_what_no_verdict_has_been_reached_of() -> None:
    state = begun(opened(early=True), evaluated())
    assert state.early
    state = apply(state, VerdictsReached(verdicts={"frog": verdict()}))
    assert (state.early, state.unjudged) == (False, False)
    state = fold([opened("ship"), evaluated("ship")], state)
    assert (state.early, state.unjudged) == (False, True)


def test_a_run_that_has_finished_is_done() -> None:
    event = RunFinished(stopped={"frog": Stopped(reason=StopReason.CONFIRMED)}, findings={"a": 1})
    assert what(event, begun(proposed(), tried())) == {
        "stage": "done",
        "finished": event,
        "findings": {"a": 1},
    }


def test_what_was_found_at_the_end_stands_until_other_verdicts_are_reached() -> None:
    first = [opened(), evaluated(), VerdictsReached(verdicts={"frog": verdict()})]
    found = {"confounds": ["synthetic: png, real: jpeg"]}
    state = begun(ROUND, *first, RunFinished(stopped={}, findings=found))
    for event in (
        SessionStarted(classes=("frog", "ship", "cat")),
        PhotosListed(tune={"frog": ("new",)}),
        RoundStarted(due=("frog",), reopened={"frog": 0.5}, reset=("frog",)),
        PromptsPrioritized(cls="frog", prompts=({"color": "gray"},), reset=True),
        CameraChosen(camera={"noise": 0.1}, turn="frog", progress={}),
        proposed(),
        tried(),
        proposed("ship"),
        failed("ship"),
        opened(fold=1),
        ConfirmationFailed(cls="frog", fold=1, error="E"),
        evaluated(fold=1),
    ):
        state = apply(state, event)
        assert state.findings == found, event.kind
    assert state.finished is None
    state = apply(state, VerdictsReached(verdicts={"frog": verdict(fold=1)}))
    assert state.findings == {}
    state = apply(state, RunFinished(stopped={}, findings={"clusters": []}))
    assert state.findings == {"clusters": []}


# -------------------------------------------------------------------------- spent folds


def test_folds_are_spent_in_their_order_each_once() -> None:
    state = begun(opened(), evaluated())
    assert state.of("frog").next_fold() == 1
    state = fold([opened(fold=1), evaluated(fold=1), opened(fold=2)], state)
    assert state.of("frog").spent_folds == (("frog-0",), ("frog-1",), ("frog-2",))
    assert state.of("frog").next_fold() == 2  # opened again for the same mixture alone
    assert apply(state, evaluated(fold=2)).of("frog").next_fold() == 3
    assert apply(state, opened(fold=2)) == state


def test_a_fold_that_has_judged_the_mere_baseline_is_unspent() -> None:
    mere = [opened(spends=False, evidence=1, trials=1), evaluated()]
    state = begun(*mere)
    assert (state.of("frog").spent_folds, state.of("frog").next_fold()) == ((), 0)
    state = fold([opened(), evaluated()], state)
    assert (state.of("frog").spent_folds, state.of("frog").next_fold()) == ((("frog-0",),), 1)


def test_what_a_person_tagged_in_it_spends_it() -> None:
    event = PromptsPrioritized(cls="frog", prompts=({"color": "gray"},))
    state = begun(opened(spends=False, evidence=1, trials=1), evaluated(), event)
    assert (state.of("frog").spent_folds, state.of("frog").next_fold()) == ((("frog-0",),), 1)
    assert apply(state, event) == state  # told twice, it is spent once
    state = fold([opened(fold=1), evaluated(fold=1), event], state)
    assert state.of("frog").spent_folds == (("frog-0",), ("frog-1",))
    assert state.of("frog").next_fold() == 2


def test_a_fold_that_a_mixture_had_opened_before_it_was_tagged_is_spent_once() -> None:
    """Its mixture is still to be judged on it, as its evaluation failed; the next has the next."""
    state = begun(
        opened(spends=False, evidence=1, trials=1),
        evaluated(),
        opened(),
        ConfirmationFailed(cls="frog", fold=0, error="E"),
        PromptsPrioritized(cls="frog", prompts=({"color": "gray"},)),
        evaluated(),
        opened(fold=1),
    )
    assert state.of("frog").spent_folds == (("frog-0",), ("frog-1",))


def test_prioritized_prompts_take_their_class_up_again() -> None:
    stopped = progress(closed=True, since_gain=5)
    state = begun(RoundStarted(due=("ship",), halfway=9.0), tried(progress=stopped), opened())
    state = fold([evaluated(), failed(), failed(), failed()], state)
    state = replace(state, classes={"frog": replace(state.of("frog"), retryable=True)})
    prompts = ({"color": "gray"}, {"color": "red"})
    told = what(PromptsPrioritized(cls="frog", prompts=prompts, reset=True), state)
    tagged = replace(state.of("frog").evaluation, tagged=True)  # type: ignore[type-var]
    assert told == {
        "round": Round(due=frozenset({"frog", "ship"}), halfway=9.0),
        "frog": {
            "failures": 0,
            "retryable": False,
            "reopened": True,
            "prioritized": prompts,
            "asked": True,
            "evaluation": tagged,
            "progress": progress(pending=True),
        },
    }
    kept = what(PromptsPrioritized(cls="frog", prompts=prompts), state)
    assert {"failures", "retryable"} & {*kept["frog"]} == set()


def test_a_mere_baseline_of_another_recipe_is_not_what_was_kept_in_a_mixtures_place() -> None:
    kept, judged = evaluated(mixture=mixture("base")), opened(mixture=mixture("a", "b"))
    assert Evaluation(opened=judged, result=kept).kept_baseline
    same = evaluated(mixture=mixture("a", "b"), after=row(gap=0.25).to_json())
    assert not Evaluation(opened=judged, result=same).kept_baseline
    assert Evaluation(opened=judged, result=same).gap == 0.25


# ----------------------------------------------------------------------------- retryable


def test_failures_may_be_forgotten_only_after_a_run_that_has_finished() -> None:
    broken = [failed("ship", n) for n in range(3)]
    again = SessionStarted(classes=("frog", "ship"))
    assert not begun(*broken, again).of("ship").retryable  # it was interrupted: nothing was fixed
    ended = begun(*broken, failed(), RunFinished(stopped={}))
    assert not ended.of("ship").retryable
    state = apply(ended, again)
    assert [state.of(name).retryable for name in ("ship", "frog", "cat")] == [True, False, False]
    # It may, until a round has done so: an interruption changes nothing of that.
    state = apply(state, again)
    assert state.of("ship").retryable
    state = apply(state, RoundStarted(due=("ship",), reset=("ship",)))
    assert (state.of("ship").retryable, state.of("ship").failures) == (False, 0)


# ------------------------------------------------------------------------------ stopped


def test_why_a_search_has_ended_as_the_search_itself_says() -> None:
    def why(failures: int = 0, *, reopened: bool = False, **facts: Any) -> StopReason | None:
        state = ClassState(failures=failures, reopened=reopened, progress=progress(**facts))
        return stopped(state)

    assert why() is None
    assert why(2) is None
    assert why(3) is why(3, pending=True, closed=True) is StopReason.FAILURES
    assert why(closed=True) is StopReason.CLOSED_ON_TUNE_SPLIT
    assert why(closed_from_start=True) is StopReason.CLOSED_FROM_START
    assert why(closed_from_start=True, closed=True) is StopReason.CLOSED_FROM_START
    assert why(closed_from_start=True, reopened=True) is None
    assert why(closed_from_start=True, closed=True, reopened=True) is (
        StopReason.CLOSED_ON_TUNE_SPLIT
    )
    assert why(closed=True, closed_from_start=True, pending=True) is None


def test_untried_is_what_only_its_baseline_was_had_of_unless_that_closed_it() -> None:
    assert ClassState().untried
    assert ClassState(progress=BASELINE).untried
    assert not ClassState(progress=progress(evidence=2)).untried
    closed = BASELINE.model_copy(update={"closed_from_start": True})
    assert not ClassState(progress=closed).untried
    assert (ClassState().has_baseline, ClassState(progress=BASELINE).has_baseline) == (False, True)


# ------------------------------------------------------------------------------ timings


def timed(*trials: tuple[Event, Event]) -> Timings:
    return begun(*[event for pair in trials for event in pair]).timings


def test_baselines_tell_seconds_and_images_and_failed_ones_their_seconds_alone() -> None:
    base = {"stage": "baseline", "number": 0}
    timings = timed(
        (proposed(images=100, **base), failed(number=0, seconds=9.0)),
        (proposed(images=100, stage="baseline", number=1), tried(number=1, seconds=50.0)),
        (proposed("ship", images=24, **base), tried("ship", 0, seconds=12.0)),
    )
    assert timings == Timings(baselines=((50.0, 100), (12.0, 24)), baseline_seconds=71.0)


def test_a_class_s_first_trial_tells_of_small_batches_unless_it_failed() -> None:
    timings = timed(
        (proposed(number=1, stage="settings"), tried(number=1, seconds=8.0)),
        (proposed(number=2, stage="settings"), tried(number=2, seconds=0.1)),
        (proposed("ship", number=1), failed("ship", 1, seconds=3.0)),
        (proposed("ship", number=2), tried("ship", 2, seconds=4.0)),
    )
    assert timings == Timings(
        first=(8.0,), begun=frozenset({"frog", "ship"}), trials={"ship": (4.0,)}
    )


def test_a_given_mixture_tells_nothing_of_small_batches() -> None:
    timings = timed(
        (proposed(number=1, stage="given", images=40), tried(number=1, seconds=80.0)),
        (proposed(number=2, stage="mixture", images=40), tried(number=2, seconds=40.0)),
    )
    assert timings == Timings(begun=frozenset({"frog"}))


def test_only_the_latest_are_kept() -> None:
    trials = [(proposed(number=n), tried(number=n, seconds=float(n))) for n in range(60)]
    assert timed(*trials).trials == {"frog": tuple(map(float, range(10, 60)))}
    timings = Timings()
    for n in range(60):
        timings = timings.with_evaluation("frog", float(n), n).with_probe(float(n))
    assert timings.evaluations == tuple(("frog", float(n), n) for n in range(10, 60))
    assert timings.probes == (55.0, 56.0, 57.0, 58.0, 59.0)
    assert timings.with_probe(None) is timings


# -------------------------------------------------------------------------------- recalls


def test_recalls_are_kept_by_class_and_when_they_were_measured() -> None:
    state = fold([RunStarted(run="a"), SessionStarted(classes=("frog", "ship"))])
    assert state.recalls_at is None
    for name in ("frog", "ship"):
        state = apply(state, proposed(name, 0, stage="baseline"))
        state = apply(state, tried(name, 0, progress=BASELINE))
    moved = progress(pending=True)
    state = apply(state, RecallsMeasured(recalls={"frog": RECALL}, progress={"frog": moved}))
    assert (state.of("frog").recall, state.of("ship").recall) == (RECALL, None)
    assert (state.of("frog").progress, state.of("ship").progress) == (moved, BASELINE)
    assert state.recalls_at == 2
    asked = apply(state, PromptsPrioritized(cls="ship", prompts=GRAY))
    assert asked.of("ship").asked
    event = RecallsMeasured(
        recalls={"frog": RECALL, "ship": RECALL}, prompts={"frog": GRAY}, progress={"frog": moved}
    )
    assert apply(asked, event).of("ship").asked
    event = event.model_copy(update={"prompts": {"ship": ()}, "progress": {"ship": moved}})
    pushed = apply(asked, event).of("ship")
    assert (pushed.asked, pushed.prioritized) == (False, GRAY)
    later = RECALL.model_copy(update={"synthetic": 0.9})
    state = apply(state, RecallsMeasured(recalls={"ship": later}))
    assert (state.of("frog").recall, state.of("ship").recall) == (RECALL, later)


def test_what_was_given_is_kept_as_it_was() -> None:
    assert RunState().given is None
    state = fold([RunStarted(run="abcd"), as_read(GIVEN)])
    assert state.given == GIVEN
    assert state.classes == {}
    assert fold([proposed(number=0), tried(number=0)], state).given == GIVEN


# --------------------------------------------------------------------------------- purity


def history() -> list[Event]:
    """A run with one of everything, in an order that makes sense."""
    frog, ship = ("frog", "ship")
    return [
        RunStarted(run="abcd", at=5.0),
        SessionStarted(classes=(frog, ship), budget=900.0, probe=0.05),
        PhotosListed(tune={frog: ("a",), ship: ("b",)}),
        GIVEN,
        PhotosGrouped(cls=frog, groups={"all photos": "0f" * 8}),
        RoundStarted(due=(frog, ship), halfway=400.0),
        proposed(number=0, stage="baseline", images=100),
        tried(number=0, progress=BASELINE, images=100, used=50.0),
        proposed(ship, 0, stage="baseline", images=100),
        failed(ship, 0, progress=Progress(floor=0.1)),
        proposed(ship, 1, stage="baseline", images=100),
        tried(ship, 1, progress=BASELINE, images=100),
        opened(spends=False, evidence=1, trials=1),
        evaluated(),
        CameraChosen(camera=CAMERA, turn=ship, progress={frog: BASELINE, ship: BASELINE}),
        RecallsMeasured(
            recalls={ship: RECALL}, prompts={ship: GRAY}, progress={ship: progress(pending=True)}
        ),
        proposed(ship, 2),
        tried(ship, 2, progress=progress(winner={"steps": 8}), probe=0.06),
        PromptsProposed(cls=ship, prompts=(), progress=progress(), seconds=2.0),
        opened(ship, early=True),
        evaluated(ship, probe=0.04),
        VerdictsReached(verdicts={frog: verdict(), ship: verdict(confirmed=True)}),
        RoundStarted(due=(frog,), reopened={frog: 0.5}, reset=(), halfway=200.0),
        *[failed(frog, n) for n in (1, 2, 3)],
        ConfirmationFailed(cls=frog, fold=0, error="E"),
        RunFinished(stopped={frog: Stopped(reason=StopReason.FAILURES, detail="E")}),
        SessionStarted(classes=(frog, ship), budget=1800.0),
        RoundStarted(due=(frog,), reset=(frog,), halfway=500.0),
        PromptsPrioritized(cls=ship, prompts=({"color": "gray"},)),
        proposed(ship, 3),
    ]


def test_the_history_has_every_kind_of_event() -> None:
    assert {event.kind for event in history()} == {event.kind for event in every_kind()}


def test_an_event_never_changes_the_state_it_is_applied_to() -> None:
    state = RunState()
    for event in history():
        kept, told = copy.deepcopy(state), event.model_copy(deep=True)
        after = apply(state, event)
        assert state == kept
        assert event == told
        state = after


@given(st.lists(st.integers(0, len(history())), max_size=5))
def test_folded_in_pieces_it_is_what_it_is_folded_at_once(cuts: list[int]) -> None:
    events, bounds = history(), [0, *sorted(cuts), len(history())]
    state = RunState()
    for start, end in pairwise(bounds):
        state = fold(events[start:end], state)
    assert state == fold(events)


def test_a_state_is_the_same_of_events_and_of_the_lines_they_became() -> None:
    live, read = RunState(), RunState()
    for event in history():
        live, read = apply(live, event), apply(read, as_read(event))
        assert read == live


def test_no_event_of_one_class_touches_another() -> None:
    state = fold(history())
    for event in history():
        name = getattr(event, "cls", None)
        if name is not None and event.kind != "fold_evaluated":
            others = {n: s for n, s in apply(state, event).classes.items() if n != name}
            assert others == {n: s for n, s in state.classes.items() if n != name}


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(TypeError, match="Progress is no event of a journal"):
        apply(RunState(), Progress())  # type: ignore[arg-type]


def test_states_may_be_kept_and_gone_on_from_in_any_order() -> None:
    """As they share what did not change, one that goes on must leave the others alone."""
    events, rng = history(), random.Random(0)
    states = [RunState()]
    for event in events:
        states.append(apply(states[-1], event))
    kept = copy.deepcopy(states)
    for n in rng.choices(range(len(events)), k=200):
        apply(states[n], events[n])
    assert states == kept
