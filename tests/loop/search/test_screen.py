"""The screen: a few images of many prompts, and the prior that their weights make."""

from __future__ import annotations

import modes
import pytest

from gapclose.loop.search.prompt_queue import PRIOR_PROMPTS
from gapclose.loop.search.screen import SCREENED, Screen
from gapclose.loop.search.space import Space

PLACES = ("", " here", " there", " afar")


def places(n: int = 4) -> Space:
    slots = {"color": list(modes.WORDS), "place": [*PLACES, *(f" no {i}" for i in range(n - 4))]}
    return modes.make_space(prompt="a {color} frog{place}", slots=slots)


def screen(space: Space, *, needed: bool = True, seed: int = 0, images: int = 8) -> Screen:
    return Screen(space, seed, images, needed=needed)


def test_few_prompts_or_ordered_ones_are_not_screened() -> None:
    assert screen(modes.make_space()).over
    assert screen(places(), needed=False).over
    assert not screen(places()).over


def test_every_prompt_comes_once_some_at_a_time() -> None:
    found, each = screen(places()), 8 // SCREENED
    shown = []
    while prompts := found.next(99):
        assert len(prompts) == each
        shown += [found.space.prompt(words) for words in prompts]
        found.done += 1
    assert sorted(shown) == sorted(found.space.prompt(words) for words in places().prompts())
    assert found.done == 20 // each


def test_it_has_no_more_trials_than_it_may() -> None:
    found = screen(places())
    assert found.next(0) == []
    assert found.next(1)
    found.done = 1
    assert found.next(1) == []


def test_of_very_many_some_are_drawn_that_differ_between_seeds() -> None:
    drawn = []
    for seed in (0, 0, 1):
        found = screen(places(40), seed=seed, images=SCREENED * PRIOR_PROMPTS)
        prompts = [found.space.prompt(words) for words in found.next(1)]
        assert len({*prompts}) == len(prompts) == PRIOR_PROMPTS
        drawn.append(prompts)
    assert drawn[0] == drawn[1] != drawn[2]


def test_its_prior_is_that_of_the_weights_and_of_doubt() -> None:
    prior = screen(places()).prior({"a brown frog here": 0.75, "a brown frog": 0.25})
    assert prior["color"]["brown"] == pytest.approx(0.5 / 5 + 0.5)
    assert prior["color"]["red"] == pytest.approx(0.5 / 5)
    assert prior["place"][" here"] == pytest.approx(0.5 / 4 + 0.5 * 0.75)
    for shares in prior.values():
        assert sum(shares.values()) == pytest.approx(1.0)


def test_words_that_make_one_prompt_share_its_weight() -> None:
    space = modes.make_space(prompt=["a {color} frog", "a red frog"])
    prior = screen(space).prior({"a red frog": 1.0})
    # Two ways to write it: with the slot's word, and by the other template.
    assert prior["prompt"]["a red frog"] == pytest.approx(0.5 / 2 + 0.5 / 2)
    assert prior["color"]["red"] > prior["color"]["brown"]
    assert sum(prior["color"].values()) == pytest.approx(1.0)
