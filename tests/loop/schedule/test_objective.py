from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from histories import class_state, limits
from hypothesis import given
from hypothesis import strategies as st

from gapclose.loop.run.state import ClassState
from gapclose.loop.schedule.budget import pick
from gapclose.loop.schedule.objective import GapObjective

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
    assert GAP.reached(class_state(**facts), floor=0.1) is reached


class Smallest:
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
