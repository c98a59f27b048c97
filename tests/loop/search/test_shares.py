"""Where a mixture's weight lies: its words read back from the prompts, and its settings."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapclose.generators.distributions import Categorical, TruncatedNormal
from gapclose.generators.recipe import Draw, Recipe
from gapclose.loop.config.reading import parse_config
from gapclose.loop.search.shares import marginal_shares, readings, shares_of
from gapclose.loop.search.space import Space

TEMPLATES = ["a photo of a {color} {class}{place}", "a {class}, drawn"]


def space(cls: str = "frog", baseline: dict[str, Any] | None = None, **changes: Any) -> Space:
    varied: dict[str, Any] = {
        "prompt": TEMPLATES,
        "slots": {"color": ["", "brown", "olive"], "place": ["", " on a  leaf"]},
        "nouns": {"frog": ["frog", "amphibian"]},
        "negative_prompt": ["", "drawing"],
        "guidance_scale": [1.0, 8.0],
        "num_inference_steps": [6, 12],
        "scheduler": ["ddim", "euler"],
    }
    data = {
        "real": {"path": "somewhere"},
        # Images of a renderer have each its own parameters, those of a pipeline share them.
        "generator": {"kind": "mine.world:Renderer"}
        if "parameters" in changes
        else {"kind": "diffusers", "model": "pond"},
        "embedder": "pond",
        "space": varied | changes,
        "baseline": baseline or {"prompt": "a photo of a {class}", "guidance_scale": 4.0},
    }
    return Space.of(parse_config(data), cls)


def recipe(of: Space, prompt: str, **values: Any) -> Recipe:
    draw = of.baseline.draw.to_json() | {"prompt": prompt} | values
    return Recipe(draw=Draw.from_json(draw), camera=of.camera)


def test_the_weight_of_each_word_and_setting() -> None:
    s = space()
    first = {"guidance_scale": 1.0, "num_inference_steps": 6, "scheduler": "euler"}
    second = {"guidance_scale": 3.0, "num_inference_steps": 12, "scheduler": "ddim"}
    found = marginal_shares(
        [
            recipe(s, "a photo of a brown frog on a leaf", **first),
            recipe(s, "a photo of an olive amphibian", **second, negative_prompt="drawing"),
            recipe(s, "an amphibian, drawn", **first),
        ],
        [0.5, 0.25, 0.25],
        s,
    )
    assert found == {
        "words": {
            "color": {"brown": 0.5, "": 0.25, "olive": 0.25},
            "place": {"": 0.5, " on a  leaf": 0.5},
            "noun": {"frog": 0.5, "amphibian": 0.5},
            "prompt": {TEMPLATES[0]: 0.75, TEMPLATES[1]: 0.25},
        },
        "unread": {},
        "choices": {
            "negative_prompt": {"": 0.75, "drawing": 0.25},
            "scheduler": {"euler": 0.75, "ddim": 0.25},
        },
        "numbers": {
            "guidance_scale": {"mean": 1.5, "sd": math.sqrt(0.75)},
            "num_inference_steps": {"mean": 7.5, "sd": math.sqrt(6.75)},
        },
    }
    assert list(found["words"]["color"]) == ["brown", "", "olive"]
    assert json.loads(json.dumps(found)) == found


def test_the_mixture_stands_beside_the_baseline() -> None:
    s = space(baseline={"prompt": "a photo of a {class}", "guidance_scale": 4.0})
    both = shares_of([recipe(s, "a photo of a brown frog")], [1.0], s)
    assert list(both) == ["mixture", "baseline"]
    assert both["mixture"]["words"]["color"] == {"brown": 1.0}
    assert both["baseline"]["words"]["color"] == {"": 1.0}
    assert both["baseline"]["numbers"]["guidance_scale"] == {"mean": 4.0, "sd": 0.0}
    # Its own scheduler is not among the choices, and has no name.
    assert both["baseline"]["choices"]["scheduler"] == {"": 1.0}


def test_a_prompt_that_the_space_cannot_make_is_unread() -> None:
    s = space(prompt=["a {color} {class}"], slots={"color": ["brown", "olive"]})
    found = marginal_shares([s.baseline, recipe(s, "an olive frog")], [3.0, 1.0], s)
    assert found["words"] == {"color": {"olive": 0.25}, "noun": {"frog": 0.25}}
    assert found["unread"] == {"color": 0.75, "noun": 0.75}


def test_a_template_without_a_slot_says_nothing_of_it() -> None:
    """Unless one of its words is empty: then it says that."""
    named = {"color": ["brown", "olive"], "place": ["", " on a leaf"]}
    s = space(slots=named)
    found = marginal_shares([recipe(s, "a frog, drawn")], [1.0], s)
    assert found["words"]["color"] == {}
    assert found["words"]["place"] == {"": 1.0}
    assert found["unread"] == {"color": 1.0}


def test_several_ways_to_read_a_prompt_share_its_weight() -> None:
    s = space(prompt=["{a} {b} {class}"], slots={"a": ["", "big"], "b": ["", "big"]})
    assert readings(s, "big frog") == [
        {"prompt": "{a} {b} {class}", "a": "", "b": "big", "noun": "frog"},
        {"prompt": "{a} {b} {class}", "a": "big", "b": "", "noun": "frog"},
    ]
    found = marginal_shares([recipe(s, "big frog")], [1.0], s)
    assert found["words"]["a"] == found["words"]["b"] == {"": 0.5, "big": 0.5}


def test_numbers_to_choose_from_are_choices() -> None:
    s = space(guidance_scale=[1.0, 2.5, 4.0], num_inference_steps=8)
    prompts = [recipe(s, "a frog, drawn", guidance_scale=g) for g in (2.5, 7.5, 1.0)]
    found = marginal_shares(prompts, [0.5, 0.375, 0.125], s)
    assert found["choices"]["guidance_scale"] == {"2.5": 0.5, "7.5": 0.375, "1": 0.125}
    assert found["numbers"] == {}


def test_what_has_one_choice_is_not_told() -> None:
    s = space(
        cls="cat", prompt="a {color} {class}", slots={"color": ["red"]}, guidance_scale=2.0,
        num_inference_steps=8, scheduler="ddim", negative_prompt=[],
    )  # fmt: skip
    found = marginal_shares([s.baseline], [1.0], s)
    assert found == {"words": {}, "unread": {}, "choices": {}, "numbers": {}}


def test_a_mixture_needs_weight() -> None:
    s = space()
    with pytest.raises(ValueError, match="no shares"):
        marginal_shares([], [], s)
    with pytest.raises(ValueError, match="no shares"):
        marginal_shares([s.baseline], [0.0], s)
    with pytest.raises(ValueError, match="argument 2"):
        marginal_shares([s.baseline], [0.5, 0.5], s)


def test_a_large_space_is_read_at_once() -> None:
    """Of ten billion combinations none is gone through."""
    slots = {f"s{k}": ["", *(f"w{k}x{n}" for n in range(9))] for k in range(10)}
    s = space(prompt=" ".join(["a", *(f"{{s{k}}}" for k in range(10)), "{class}"]), slots=slots)
    prompt = "a w0x3 w4x8 w9x1 amphibian"
    started = time.perf_counter()
    ways = readings(s, prompt)
    assert time.perf_counter() - started < 1.0
    assert [{k: w for k, w in way.items() if w and k != "prompt"} for way in ways] == [
        {"s0": "w0x3", "s4": "w4x8", "s9": "w9x1", "noun": "amphibian"}
    ]


@pytest.mark.parametrize(
    ("prompt", "slots"),
    [
        ("A {color} {class}. A {color} {class}, an {place}", {"place": ["n ice", "a", "an"]}),
        ("{{ {color} }} an {color} {class} ", {"color": ["an", "a", "n", "", "  "]}),
        ("a{color}{place} {class}", {"color": ["n", "", " n"], "place": [" ant", "t", " SUV"]}),
        ("{color}an {class}", {"color": ["m", "", "a ", "\N{NO-BREAK SPACE}"]}),
    ],
)
def test_whatever_a_space_makes_it_reads(prompt: str, slots: dict[str, list[str]]) -> None:
    s = space(prompt=[prompt, "a {class}"], slots={"color": ["red"], "place": ["sea"]} | slots)
    for words in s.prompts():
        ways = readings(s, s.prompt(words))
        assert any(way.items() <= words.items() for way in ways)
        assert len({tuple(sorted(way.items())) for way in ways}) == len(ways)
        assert {s.prompt(way) for way in ways} == {s.prompt(words)}


WORDS = st.text("an eA\tr", max_size=4)
CHOICES = st.lists(WORDS, min_size=1, max_size=3, unique=True)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), color=CHOICES, place=CHOICES)
def test_shares_of_each_slot_sum_to_one(data: Any, color: list[str], place: list[str]) -> None:
    texts = st.lists(
        st.sampled_from(["a ", "an", " ", "{color}", "{place}", "{class}"]), max_size=5
    )
    templates = data.draw(
        st.lists(
            texts.map(lambda parts: "x" + "".join(parts)), min_size=1, max_size=2, unique=True
        )
    )
    s = space(prompt=templates, slots={"color": color, "place": place})
    chosen = st.one_of(st.sampled_from(s.prompts()).map(s.prompt), st.just("something else"))
    prompts = data.draw(st.lists(chosen, min_size=1, max_size=4))
    positive = st.floats(1e-3, 1.0)
    weights = data.draw(st.lists(positive, min_size=len(prompts), max_size=len(prompts)))
    found = marginal_shares([recipe(s, prompt) for prompt in prompts], weights, s)
    assert list(found["words"]) == [slot for slot, words in s.words.items() if len(words) > 1]
    for slot, shares in found["words"].items():
        assert math.fsum([*shares.values(), found["unread"].get(slot, 0.0)]) == pytest.approx(1.0)
        assert all(0 < share <= 1 + 1e-12 for share in shares.values())
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert all(math.fsum(c.values()) == pytest.approx(1.0) for c in found["choices"].values())
    strange = "something else" in prompts
    assert all(bool(readings(s, prompt)) or strange for prompt in prompts)


def test_captions_are_shared_out_by_the_photos_that_they_are_of() -> None:
    data = {
        "real": {"path": "somewhere"},
        "generator": {"kind": "diffusers", "model": "pond"},
        "embedder": "pond",
        "space": {
            "prompt": ["a {color} {class}", "{caption}"],
            "slots": {"color": ["", "brown"]},
            "captions": "words",
        },
    }
    groups = {"all photos": "a" * 16, "group 1": "b" * 16}
    s = Space.of(parse_config(data), "frog", groups=groups)
    recipes = [
        s.recipe({"prompt": "{caption}", "photos": "all photos"}),
        s.recipe({"prompt": "{caption}", "photos": "group 1"}),
        s.recipe({"prompt": "a {color} {class}", "color": "brown"}),
    ]
    found = marginal_shares(recipes, [0.5, 0.3, 0.2], s)
    assert found["words"]["photos"] == {"all photos": 0.5, "group 1": 0.3}
    assert found["words"]["prompt"] == {"{caption}": 0.8, "a {color} {class}": 0.2}
    # What captions say of colours is not read, and not taken for the empty word.
    assert found["words"]["color"] == {"brown": 0.2}
    assert found["unread"]["color"] == pytest.approx(0.8)
    assert readings(s, "{captions of group 2}") == []


def test_how_much_of_a_picture_is_replaced() -> None:
    data = {
        "real": {"path": "somewhere"},
        "generator": {"kind": "diffusers", "model": "pond"},
        "embedder": "pond",
        "space": {"prompt": "a {class}", "strength": [0.2, 1.0]},
    }
    s = Space.of(parse_config(data), "frog", groups={"all photos": "a" * 16})
    recipes = [s.recipe({"strength": 0.4}), s.baseline]
    found = marginal_shares(recipes, [0.5, 0.5], s)
    assert found["numbers"]["strength"] == {"mean": 0.7, "sd": pytest.approx(0.3)}


def test_parameters_are_told_one_by_one_or_as_a_range() -> None:
    s = space(
        baseline={
            "prompt": "a photo of a {class}",
            "parameters": {"light": 10.0, "count": 1, "turns": 3, "material": "iron"},
        },
        parameters={
            "light": [0, 90],
            "count": {"low": 1, "high": 4, "int": True},
            "turns": {"low": 0, "high": 360, "int": True},
            "material": ["steel", "brass"],
        },
    )

    def one(light: float, count: int, turns: int, material: str) -> Recipe:
        own = {"light": light, "count": count, "turns": turns, "material": material}
        return recipe(s, "a frog, drawn", parameters=own)

    found = shares_of([one(70.0, 2, 90, "steel"), one(80.0, 1, 90, "brass")], [0.75, 0.25], s)
    choices, numbers = found["mixture"]["choices"], found["mixture"]["numbers"]
    assert choices["parameters.count"] == {"2": 0.75, "1": 0.25}
    assert choices["parameters.material"] == {"steel": 0.75, "brass": 0.25}
    assert numbers["parameters.light"] == {
        "mean": pytest.approx(72.5),
        "sd": pytest.approx(math.sqrt(0.75 * 0.25) * 10),
    }
    assert numbers["parameters.turns"] == {"mean": pytest.approx(90.0), "sd": pytest.approx(0.0)}
    before = found["baseline"]
    assert before["choices"]["parameters.count"] == {"1": 1.0}
    assert before["numbers"]["parameters.light"] == {"mean": 10.0, "sd": 0.0}
    assert before["choices"]["parameters.material"] == {"iron": 1.0}


def test_what_a_batch_shares_is_told_as_settings_are() -> None:
    data = {
        "real": {"path": "somewhere"},
        "generator": {"kind": "diffusers", "model": "pond"},
        "embedder": "pond",
        "space": {
            "prompt": "a {class}",
            "parameters": {"lora_frogs": [0.0, 1.2], "cfg_zero": [True, False]},
        },
        "baseline": {"parameters": {"lora_frogs": 0.0, "cfg_zero": False}},
    }
    s = Space.of(parse_config(data), "frog")
    assert {*s.settings} == {"parameters.lora_frogs", "parameters.cfg_zero"}
    assert s.parts[0].parameters == {}
    one, other = (
        s.recipe({"parameters.lora_frogs": scale, "parameters.cfg_zero": scale > 0.5})
        for scale in (0.4, 0.8)
    )
    assert one.draw.parameters == {"lora_frogs": 0.4, "cfg_zero": False}
    assert not one.draw.varies
    found = marginal_shares([one, other], [0.5, 0.5], s)
    assert found["numbers"]["parameters.lora_frogs"]["mean"] == pytest.approx(0.6)
    assert found["choices"]["parameters.cfg_zero"] == {"False": 0.5, "True": 0.5}


def test_a_distribution_has_the_shares_of_its_images() -> None:
    even = {"light": [0, 90], "count": {"low": 1, "high": 4, "int": True}, "material": ["a", "b"]}
    s = space(
        baseline={
            "prompt": "a photo of a {class}",
            "parameters": {"light": 10.0, "count": 1, "material": "a"},
        },
        parameters=even,
    )
    own = {
        "light": TruncatedNormal(low=0.0, high=90.0, mean=70.0, sd=2.0),
        "count": Categorical(choices=(1, 2, 3, 4), shares=(0.6, 0.4, 0.0, 0.0)),
        "material": Categorical(choices=("a", "b"), shares=(0.25, 0.75)),
    }
    recipes = [recipe(s, "a frog, drawn", parameters=its) for its in (own, own | {"light": 64.0})]
    found = shares_of(recipes, [0.5, 0.5], s)["mixture"]
    assert found["choices"]["parameters.count"] == pytest.approx({"1": 0.6, "2": 0.4})
    assert found["choices"]["parameters.material"] == pytest.approx({"b": 0.75, "a": 0.25})
    assert found["numbers"]["parameters.light"] == {
        "mean": pytest.approx(67.0, abs=0.01),
        "sd": pytest.approx(math.sqrt(9.0 + 2.0), abs=0.01),
    }
    evenly = shares_of([recipe(s, "a frog, drawn", parameters=s.parts[0].parameters)], [1.0], s)[
        "mixture"
    ]
    assert evenly["choices"]["parameters.count"] == pytest.approx(
        {"1": 0.25, "2": 0.25, "3": 0.25, "4": 0.25}, abs=0.01
    )
    assert evenly["numbers"]["parameters.light"]["sd"] == pytest.approx(90 / 12**0.5, rel=0.01)
