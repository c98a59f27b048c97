from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from pond_config import pond_config

from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Mixture
from gapclose.loop.validation.mixtures import baseline_mixture, even_mixture, mixtures_of

WORDS: dict[str, Any] = {
    "prompt": ["a photo of a {color} {class}{place}", "{class}"],
    "slots": {"color": ["", "green", "brown"], "place": ["", " on grass"]},
    "guidance_scale": [1.0, 9.0],
    "camera": {"noise": [0.0, 0.1]},
}


def space(name: str = "frog") -> Space:
    return Space.of(pond_config(space=WORDS), name)


def test_every_prompt_is_as_frequent_as_any_other_and_nothing_else_differs() -> None:
    base, mixture = space().baseline, even_mixture(space(), seed=0)
    prompts = [recipe.draw.prompt for recipe in mixture.recipes]
    assert sorted(prompts) == sorted(
        {
            "frog",
            *(
                f"a photo of a {color}frog{place}"
                for color in ("", "green ", "brown ")
                for place in ("", " on grass")
            ),
        }
    )
    assert mixture.weights == pytest.approx([1 / 7] * 7)
    for recipe in mixture.recipes:
        assert recipe.camera == base.camera
        assert recipe.draw.guidance_scale == base.draw.guidance_scale


def test_prompts_have_a_random_order_of_each_class() -> None:
    def order(name: str, seed: int) -> list[str]:
        return [r.draw.prompt for r in even_mixture(space(name), seed=seed).recipes]

    assert order("frog", 0) == order("frog", 0)
    assert order("frog", 0) != order("frog", 1)
    assert order("frog", 0) != [p.replace("ship", "frog") for p in order("ship", 0)]


def test_a_class_without_a_verdict_has_its_baseline() -> None:
    spaces = {name: space(name) for name in ("frog", "ship")}
    judged = even_mixture(spaces["frog"], seed=3)
    found = mixtures_of(spaces, {"frog": judged.to_json()}, seed=0)
    assert [*found] == ["baseline", "tuned", "even"]
    assert found["tuned"]["frog"].recipes == judged.recipes
    assert found["tuned"]["ship"].recipes == found["baseline"]["ship"].recipes
    assert found["baseline"]["ship"].recipes == (spaces["ship"].baseline,)
    assert isinstance(baseline_mixture(spaces["ship"]), Mixture)
    assert [*mixtures_of(spaces, None, seed=0)] == ["baseline", "even"]


def test_parameters_fill_their_space_beside_the_prompts() -> None:
    config = pond_config(
        generator={"kind": "mine.world:Renderer"},
        space={
            "prompt": "a {color} {class}",
            "slots": {"color": ["red", "blue"]},
            "parameters": {"light": [0, 90]},
        },
        baseline={"parameters": {"light": 10}},
    )
    mixture = even_mixture(Space.of(config, "frog"), seed=0)
    prompts = Counter(recipe.draw.prompt for recipe in mixture.recipes)
    assert prompts == {"a red frog": 1, "a blue frog": 1}
    draw = mixture.recipes[0].draw
    light = [float(draw.of_seed(seed).parameters["light"]) for seed in range(900)]
    assert np.histogram(light, bins=9, range=(0, 90))[0] == pytest.approx(100, abs=40)
