"""The queue of prompts: the prior orders them, and what failed comes after all others."""

from __future__ import annotations

from typing import Any

import modes
import pytest

from gapclose.loop.search.prompt_queue import (
    CHANCES,
    FIRST_PROMPTS,
    PRIOR_COVERAGE,
    PRIOR_PROMPTS,
    UNORDERED,
    PromptQueue,
    Words,
)
from gapclose.loop.search.space import Space

SHARES = {"plain": 0.5, "red": 0.3, "blue": 0.1, "brown": 0.06, "gray": 0.04}


def queue(space: Space | None = None, **shares: Any) -> PromptQueue:
    return PromptQueue(space or modes.make_space(), {"color": shares or SHARES})


def color(words: Words | None) -> str | None:
    return None if words is None else words["color"]


def taken(prompts: PromptQueue, name: str) -> list[str | None]:
    """What comes one after the other when each is tried."""
    found = []
    while (words := getattr(prompts, name)) is not None:
        found.append(color(words))
        prompts.note_tried(words)
    return found


def wide(n: int) -> Space:
    slots = {"color": list(modes.WORDS), "number": [str(i) for i in range(n)]}
    return modes.make_space(prompt="a {color} frog no {number}", slots=slots)


def test_the_likeliest_come_first_until_they_cover_enough() -> None:
    assert taken(queue(), "likely") == ["plain", "red", "blue"]
    assert sum(SHARES[word] for word in ("plain", "red")) < PRIOR_COVERAGE


def test_before_the_settings_come_a_few() -> None:
    even = dict.fromkeys(modes.WORDS, 0.2)
    prompts = PromptQueue(wide(20), {"color": even})
    assert len(taken(prompts, "opening")) == FIRST_PROMPTS
    assert len(taken(prompts, "likely")) == PRIOR_PROMPTS - FIRST_PROMPTS


def test_without_a_prior_a_few_prompts_are_all_tried_as_they_come() -> None:
    few = PromptQueue(modes.make_space(), {})
    assert taken(few, "likely") == [*modes.WORDS]
    assert UNORDERED < 5 * 4
    many = PromptQueue(wide(4), {})
    assert len(taken(many, "likely")) == round(PRIOR_COVERAGE * 20)


def test_a_new_prior_orders_anew_and_what_was_tried_stays_tried() -> None:
    prompts = queue()
    prompts.note_tried({"color": "plain"})
    prompts.order({"color": dict(zip(modes.WORDS, (0.2, 0.1, 0.6, 0.05, 0.05), strict=True))})
    assert prompts.prior["color"]["gray"] == 0.6
    assert taken(prompts, "likely") == ["gray", "brown"]


def test_of_the_others_come_those_with_a_word_that_no_trial_tried() -> None:
    prompts = queue()
    known: list[dict[str, Any]] = [{"color": "brown", "noun": "frog"}]
    assert color(prompts.unlikely([])) == "brown"
    assert color(prompts.unlikely(known)) == "brown"  # its template is new
    known.append({"prompt": "a {color} frog"})
    assert color(prompts.unlikely(known)) == "gray"
    assert prompts.unlikely([*known, {"color": "gray"}]) is None


def test_so_many_are_tried_as_the_prior_is_followed_for() -> None:
    prompts = PromptQueue(wide(40), {"color": SHARES})
    for number in range(PRIOR_PROMPTS):
        assert prompts.unlikely([]) is not None
        prompts.note_tried({"color": "plain", "number": str(number)})
    assert prompts.unlikely([]) is None


def test_what_failed_comes_after_all_others_and_once() -> None:
    prompts = queue()
    prompts.note_failed({"color": "plain"})
    assert taken(queue(), "likely")[0] == "plain"
    assert color(prompts.likely) == "red"
    prompts.note_tried({"color": "red"})
    prompts.note_tried({"color": "blue"})
    assert color(prompts.likely) == "plain"
    assert prompts.has_chances({"color": "plain"})
    for _ in range(CHANCES - 1):
        prompts.note_failed({"color": "plain"})
    assert prompts.likely is None
    assert not prompts.has_chances({"color": "plain"})
    prompts.forget_failures()
    assert color(prompts.likely) == "plain"


def test_prioritized_prompts_are_urgent_until_they_are_tried() -> None:
    prompts = queue()
    assert prompts.urgent is None
    prompts.prioritize([{"color": "gray"}, {"color": "blue"}])
    assert taken(prompts, "urgent") == ["gray", "blue"]
    assert prompts.is_prioritized({"color": "gray", "guidance_scale": 2.0})
    assert not prompts.is_prioritized({"color": "red"})
    prompts.prioritize([{"color": "gray"}])
    assert prompts.urgent is None


@pytest.mark.parametrize("params", [{"color": "red"}, {"prompt": "a red frog"}])
def test_words_that_make_one_prompt_are_one(params: dict[str, str]) -> None:
    prompts = queue(modes.make_space(prompt=["a {color} frog", "a red frog"]))
    prompts.note_tried(params)
    assert prompts.first([{"color": "red"}, {"prompt": "a red frog"}]) is None
