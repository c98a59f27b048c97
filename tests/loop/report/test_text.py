"""Verdicts: one word for each state, and a reason where a ratio does not explain it."""

from __future__ import annotations

from typing import Any

import pytest

from gapclose.analysis.unseen import one_line
from gapclose.loop.report.text import (
    STATES,
    first_sentence,
    in_short,
    meaning,
    state_of,
    stopped_text,
    verdict,
)
from gapclose.loop.run.events import Stopped, StopReason

OPEN = {"closed": False, "ratio": 9.0, "effect": 0.1}
BELOW = {"closed": False, "ratio": 0.6, "effect": 0.01}
SAME = {"closed": None, "ratio": None, "effect": None, "p_value": 1.0, "gap": 0.0}
FEW = {"closed": None, "ratio": 0.4, "effect": 0.01}
NONE = {"closed": True, "ratio": 0.4, "effect": 0.01, "confirmed": None}


@pytest.mark.parametrize(
    ("row", "tuned", "state", "word"),
    [
        (OPEN, False, "open", "open"),
        (OPEN | {"ratio": None}, False, "open", "open"),  # a floor of 0: nothing to be below of
        (BELOW, False, "open", "open, below its floor"),
        (BELOW | {"ratio": 1.0}, True, "open", "open, below its floor"),
        (SAME, False, "untold", "cannot be told"),
        (SAME | {"confirmed": False}, True, "untold", "cannot be told"),
        (FEW, False, "unknown", "too few to tell"),
        ({"closed": None}, False, "unknown", "too few to tell"),  # of a state.json: no effect
        (NONE, False, "none", "no gap"),
        (NONE, True, "closed", "closed"),
        (NONE | {"confirmed": True}, True, "confirmed", "confirmed"),
        (NONE | {"confirmed": False}, True, "unconfirmed", "not confirmed"),
    ],
)
def test_a_verdict_is_a_state_and_a_word(
    row: dict[str, Any], tuned: bool, state: str, word: str
) -> None:
    assert state_of(row, tuned=tuned) == state
    assert verdict(row, tuned=tuned) == word


def test_no_word_before_there_is_a_verdict() -> None:
    assert verdict({"ratio": 3.0}, tuned=True) == ""


def test_what_a_ratio_does_not_explain_is_explained() -> None:
    assert "a difference of another kind" in meaning(BELOW, tuned=False)
    assert "the same features" in meaning(SAME, tuned=False)
    assert meaning(OPEN, tuned=False) == STATES["open"][1]


@pytest.mark.parametrize(
    ("rows", "tuned", "sentence"),
    [
        ([SAME], False, "Nothing can be told: the embedder gives every image the same features."),
        ([SAME], True, "Nothing can be told: the embedder gives every image the same features."),
        ([SAME, NONE], False, "In 1 of 2 classes no gap was seen; 1 of 2 classes cannot be told."),
        ([SAME, FEW], False, "Nothing is sure; 1 of 2 classes has too few images to tell; "
         "1 of 2 classes cannot be told."),
        ([SAME, OPEN], False, "frog is the only class with a gap (9.0 times the floor); "
         "1 of 2 classes cannot be told."),
        ([BELOW], False, "There is a gap: below its floor, but the test tells the sides apart."),
    ],
)  # fmt: skip
def test_the_first_sentence_calls_nothing_closed_that_cannot_be_told(
    rows: list[dict[str, Any]], tuned: bool, sentence: str
) -> None:
    named = [row | {"name": name} for row, name in zip(rows, ("cat", "frog"), strict=False)]
    assert first_sentence(named, tuned=tuned) == sentence


def test_a_class_that_lost_its_features_in_tuning_is_not_called_closed() -> None:
    before = OPEN | {"gap": 0.1}
    said = first_sentence([SAME | {"name": "frog", "before": before}], tuned=True)
    assert said.endswith("the embedder gives every image the same features: nothing can be told.")
    assert "closed" not in said
    told = [
        BELOW | {"name": "ship", "before": before, "gap": 0.05},
        SAME | {"name": "frog", "before": before | {"effect": 0.01}},
    ]
    assert "1 is still open, 1 cannot be told." in first_sentence(told, tuned=True)


def test_classes_that_stopped_for_one_reason_are_named_together() -> None:
    assert in_short({"frog": "no gain", "cat": "the budget is out", "dog": "no gain"}) == (
        "frog, dog: no gain; cat: the budget is out"
    )
    many = {f"c{i}": "the budget is out" for i in range(7)}
    assert in_short(many) == "c0, c1, c2, c3, c4 and 2 more: the budget is out"


@pytest.mark.parametrize(
    "control", ["\n", "\r\n", "\x1b", "\0", "\x9b", "\N{LINE SEPARATOR}", "\b\v"]
)
def test_a_line_of_a_console_has_no_control_characters(control: str) -> None:
    assert (
        one_line(f"cat{control}open: dog, 5\N{THIN SPACE}%") == "cat open: dog, 5\N{THIN SPACE}%"
    )


def test_an_objective_says_why_it_asks_for_no_more() -> None:
    met = Stopped(reason=StopReason.OBJECTIVE, detail="it costs nothing")
    assert in_short({"cat": stopped_text(met)}) == "cat: the objective is met: it costs nothing"
