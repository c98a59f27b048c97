"""Even prompts: which they are, under which settings, and which of them lose the class."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pond_config import pond_config

from gapclose.generators.recipe import Camera
from gapclose.loop.exporting.even_prompts import (
    LabelReader,
    even_prompts,
    prompts_that_lose_the_class,
)
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Mixture

CONFIG = pond_config(
    space={
        "prompt": "a photo of a {color} {class}{place}",
        "slots": {"color": ["", "green", "brown"], "place": ["", " on grass"]},
        "camera": {"noise": [0.0, 0.04]},
    },
    baseline={"negative_prompt": "drawing"},
)
SPACE = Space.of(CONFIG, "frog")
PROMPTS = [SPACE.prompt(words) for words in SPACE.prompts()]


def mixture(*shares: tuple[str, float, float, float]) -> Mixture:
    """Recipes of a prompt, a guidance, a noise and a weight."""
    recipes = tuple(
        replace(
            SPACE.baseline,
            draw=replace(
                SPACE.baseline.draw, prompt=prompt, guidance_scale=g, negative_prompt="x"
            ),
            camera=Camera(noise=noise),
        )
        for prompt, g, noise, _ in shares
    )
    return Mixture(recipes=recipes, weights=tuple(w for *_, w in shares), gap_tune=nan)


def test_every_prompt_once_under_the_settings_with_the_most_weight() -> None:
    own = mixture(
        ("a frog", 3.0, 0.02, 0.4), ("a toad", 2.0, 0.02, 0.3), ("a green frog", 2.0, 0.02, 0.3)
    )
    even = even_prompts(SPACE, own, seed=0)
    assert even is not None
    assert sorted(recipe.draw.prompt for recipe in even.recipes) == sorted(PROMPTS)
    assert {recipe.draw.guidance_scale for recipe in even.recipes} == {2.0}
    assert {recipe.camera for recipe in even.recipes} == {Camera(noise=0.02)}
    assert {recipe.draw.negative_prompt for recipe in even.recipes} == {"drawing"}
    assert even == even_prompts(SPACE, own, seed=0)
    other = even_prompts(SPACE, own, seed=1)
    assert other is not None
    assert other.recipes != even.recipes
    assert {*other.recipes} == {*even.recipes}


@given(st.sets(st.sampled_from(PROMPTS)))
def test_weights_sum_to_1_whatever_is_left_out(without: set[str]) -> None:
    even = even_prompts(SPACE, mixture(("a frog", 3.0, 0.0, 1.0)), seed=0, without=without)
    if without == {*PROMPTS}:
        assert even is None
        return
    assert even is not None
    assert {r.draw.prompt for r in even.recipes} == {*PROMPTS} - without
    assert sum(even.weights) == pytest.approx(1.0)
    assert len({*even.weights}) == 1


def test_a_reader_is_tested_on_photos_that_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    rows = {name: rng.normal(size=(60, 5)).astype(np.float32) for name in ("a", "b")}
    blind = LabelReader(rows)
    assert 0.2 < np.mean([*blind.real.values()]) < 0.8  # not 1: five numbers fit few of 120
    rows["b"] += 8.0
    sharp = LabelReader(rows)
    assert sharp.real == {"a": 1.0, "b": 1.0}
    assert sharp.reads("b", rows["b"]).all()
    assert not sharp.reads("a", rows["b"]).any()


def test_a_prompt_that_shows_something_else_is_found_by_few_images() -> None:
    told = [(prompt, "brown" not in prompt) for prompt in PROMPTS for _ in range(3)]
    lost = prompts_that_lose_the_class(
        SPACE, [prompt for prompt, _ in told], np.array([hit for _, hit in told]), least=0.45
    )
    assert lost == tuple(prompt for prompt in PROMPTS if "brown" in prompt)


def test_a_prompt_without_images_is_judged_by_its_words() -> None:
    shown = [prompt for prompt in PROMPTS if prompt != "a photo of a brown frog on grass"]
    told = [(prompt, "brown" not in prompt) for prompt in shown for _ in range(3)]
    prompts, hits = [prompt for prompt, _ in told], np.array([hit for _, hit in told])
    assert "a photo of a brown frog on grass" in prompts_that_lose_the_class(
        SPACE, prompts, hits, least=0.45
    )
    assert prompts_that_lose_the_class(SPACE, [], np.array([], bool), least=0.45) == ()


@pytest.mark.parametrize("n", [1, 8])
def test_a_prompt_whose_every_image_is_invalid_is_lost(n: int) -> None:
    *others, flagged = PROMPTS
    prompts = [prompt for prompt in others for _ in range(10)]
    right = np.ones(len(prompts), dtype=bool)
    assert prompts_that_lose_the_class(
        SPACE, prompts, right, least=0.45, invalid=[flagged] * n
    ) == (flagged,)
    assert prompts_that_lose_the_class(
        SPACE, [], np.array([], bool), least=0.45, invalid=PROMPTS
    ) == tuple(PROMPTS)


def test_an_invalid_image_is_not_told_as_the_class() -> None:
    flagged, *_ = PROMPTS
    prompts = [prompt for prompt in PROMPTS for _ in range(3)]
    right = np.ones(len(prompts), dtype=bool)
    for n, lost in ((1, ()), (12, (flagged,))):
        assert (
            prompts_that_lose_the_class(SPACE, prompts, right, least=0.45, invalid=[flagged] * n)
            == lost
        )


def test_an_image_that_is_misread_loses_no_prompt() -> None:
    hits = np.ones(3 * len(PROMPTS), dtype=bool)
    hits[::6] = False  # one of three, of every second prompt
    prompts = [prompt for prompt in PROMPTS for _ in range(3)]
    assert prompts_that_lose_the_class(SPACE, prompts, hits, least=0.45) == ()
