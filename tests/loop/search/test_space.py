from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)

from gapclose.generators.distributions import Categorical, TruncatedNormal
from gapclose.generators.recipe import Camera, Recipe
from gapclose.loop.config.reading import parse_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.search.optuna_distributions import coordinates, nearest
from gapclose.loop.search.space import (
    Space,
    shares_product,
    space_digest,
    takes_all_captions,
    variants,
)


def config(**changes: Any) -> RunConfig:
    data: dict[str, Any] = {
        "real": {"kind": "pond"},
        "generator": {"kind": "diffusers", "model": "pond", "size": [48, 32]},
        "embedder": "pond",
        "space": {
            "prompt": ["a photo of a {color} {class}{place}", "a {class}"],
            "slots": {
                "color": ["", "green", "olive"],
                "place": ["", " on a  leaf"],
                "unused": ["x", "y"],
            },
            "nouns": {"automobile": ["automobile", "car"]},
            "negative_prompt": ["", "drawing"],
            "guidance_scale": [1.0, 10.0],
            "num_inference_steps": [6, 12],
            "scheduler": ["ddim"],
            "camera": {"resize": 32, "kernel": ["area", "lanczos"], "noise": [0.0, 0.03]},
        },
        "baseline": {"prompt": "a photo of a {class}", "guidance_scale": 4.0},
    }
    space = {**data["space"], **changes.pop("space", {})}
    return parse_config({**data, "space": space, **changes})


def space(cls: str = "automobile", **changes: Any) -> Space:
    return Space.of(config(**changes), cls)


def test_what_may_be_varied() -> None:
    assert space().distributions == {
        "color": CategoricalDistribution(("", "green", "olive")),
        "place": CategoricalDistribution(("", " on a  leaf")),
        "noun": CategoricalDistribution(("automobile", "car")),
        "prompt": CategoricalDistribution(("a photo of a {color} {class}{place}", "a {class}")),
        "negative_prompt": CategoricalDistribution(("", "drawing")),
        "guidance_scale": FloatDistribution(1.0, 10.0, log=True),
        "num_inference_steps": IntDistribution(6, 12),
    }
    assert space().parts[0].fixed == {"scheduler": "ddim"}
    # The camera is one of the run, and no class's own.
    assert space().cameras == {
        "kernel": CategoricalDistribution(("area", "lanczos")),
        "noise": FloatDistribution(0.0, 0.03),
    }
    # A class without other words for it has no noun to choose.
    assert "noun" not in space("frog").distributions


def test_two_numbers_are_a_range_others_are_choices() -> None:
    three = space(space={"guidance_scale": [1.0, 2.0, 4.0], "num_inference_steps": 8})
    assert three.settings["guidance_scale"] == CategoricalDistribution((1.0, 2.0, 4.0))
    assert three.parts[0].fixed["num_inference_steps"] == 8


@pytest.mark.parametrize(
    ("guidance", "log"), [([1.0, 9.0], True), ([2.0, 4.0], True), ([0.0, 9.0], False)]
)
def test_guidance_from_one_up_is_searched_by_its_logarithm(
    guidance: list[float], log: bool
) -> None:
    found = space(space={"guidance_scale": guidance}).settings["guidance_scale"]
    assert found == FloatDistribution(guidance[0], guidance[1], log=log)


def test_the_camera_begins_as_near_the_baselines_as_it_may() -> None:
    assert space().camera == Camera(resize=32, kernel="area", noise=0.0)
    own = space(baseline={"camera": {"noise": 0.5, "jpeg_quality": 80}})
    assert own.camera == Camera(resize=32, kernel="area", noise=0.03, jpeg_quality=80)
    jpeg = space(space={"camera": {"jpeg_quality": [70, 95], "saturation": [0.8, 0.9]}})
    assert jpeg.camera == Camera(jpeg_quality=95, saturation=0.9)  # no JPEG: the finest
    assert jpeg.baseline.camera == Camera()


@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        ({}, "a photo of an automobile"),
        ({"color": "green"}, "a photo of a green automobile"),
        ({"color": "olive", "noun": "car"}, "a photo of an olive car"),
        ({"noun": "car", "place": " on a  leaf"}, "a photo of a car on a leaf"),
        ({"prompt": "a {class}"}, "an automobile"),
    ],
)
def test_prompts_are_filled_and_articles_agree(words: dict[str, str], prompt: str) -> None:
    assert space().prompt(words) == prompt


def test_a_class_name_of_two_words_is_read_as_such() -> None:
    named = space("frog", classes=["frog"])
    assert named.words["noun"] == ("frog",)
    data = config().to_dict() | {"real": {"path": "somewhere"}}
    data["space"]["nouns"] = {}
    assert Space.of(parse_config(data), "tree_frog").prompt({}) == "a photo of a tree frog"


def test_the_baseline_is_untouched_by_the_search_but_for_the_fixed_camera() -> None:
    base = space().baseline
    assert base.draw.prompt == "a photo of an automobile"
    assert base.draw.guidance_scale == 4.0
    assert base.draw.num_inference_steps == 30  # the config's default, outside the range
    assert base.draw.scheduler is None
    assert base.draw.size == (48, 32)
    assert base.camera == Camera(resize=32)
    own = space(baseline={"camera": {"jpeg_quality": 80}}).baseline
    assert own.camera == Camera(jpeg_quality=80)


def test_recipes_hold_what_was_chosen_and_survive_json() -> None:
    s = space()
    params = {
        "color": "green",
        "place": "",
        "noun": "car",
        "prompt": "a photo of a {color} {class}{place}",
        "negative_prompt": "drawing",
        "guidance_scale": 2.5,
        "num_inference_steps": 7,
    }
    recipe = s.recipe(params)
    assert recipe.draw.prompt == "a photo of a green car"
    assert (recipe.draw.negative_prompt, recipe.draw.guidance_scale) == ("drawing", 2.5)
    assert (recipe.draw.num_inference_steps, recipe.draw.scheduler) == (7, "ddim")
    assert recipe.draw.size == (48, 32)
    assert recipe.camera == s.camera
    camera = Camera(resize=32, kernel="lanczos", noise=0.01)
    assert replace(s, camera=camera).recipe(params).camera == camera
    assert Recipe.from_json(recipe.to_json()) == recipe
    # What is not chosen is the baseline's.
    assert s.recipe({"color": "green"}).draw.guidance_scale == 4.0


def test_every_prompt_once_in_the_order_of_the_config() -> None:
    prompts = space().prompts()
    assert len(prompts) == 3 * 2 * 2 + 2  # the second template has a place for the noun alone
    assert len({space().prompt(p) for p in prompts}) == len(prompts)
    assert prompts[0] == {
        "color": "",
        "place": "",
        "noun": "automobile",
        "prompt": "a photo of a {color} {class}{place}",
    }
    assert len(space().prompts(limit=5)) == 5


def test_the_digest_changes_with_the_space_and_only_with_it() -> None:
    digest = space_digest(space())
    assert len(digest) == 16
    same = [
        space(),
        space(tune={"trials": 3}),
        space(judge="pond-judge"),
        space(embedder="pond-judge"),
        space(confirm={"images": 50}),
        space(space={"slots": {**config().space.slots, "unused": ["z"]}}),
    ]
    assert {space_digest(s) for s in same} == {digest}
    others = [
        space("frog"),
        space(space={"guidance_scale": [1.0, 9.0]}),
        space(space={"guidance_scale": 3.0}),
        space(space={"scheduler": ["euler"]}),
        space(space={"negative_prompt": [""]}),
        space(space={"slots": {"color": ["", "olive", "green"], "place": [""]}}),
        space(space={"nouns": {}}),
        space(space={"camera": {"resize": 24, "kernel": ["area", "lanczos"]}}),
        space(baseline={"guidance_scale": 5.0}),
    ]
    digests = {space_digest(s) for s in others}
    assert digest not in digests
    assert len(digests) == len(others)


def test_what_is_proposed_stays_valid_in_optunas_eyes() -> None:
    # The same space built twice is one to Optuna, so that a resumed study goes on.
    for name, distribution in space().distributions.items():
        check_distribution_compatibility(distribution, space().distributions[name])


def test_shares_product() -> None:
    words = [{"color": c, "place": p} for c in ("red", "blue") for p in ("", "sea")]
    shares = {"color": {"red": 0.8, "blue": 0.2}, "place": {"": 0.5, "sea": 0.5}}
    assert shares_product(shares, words) == pytest.approx([0.4, 0.4, 0.1, 0.1])
    # A combination left out leaves the rest to sum to 1; no information is even.
    assert sum(shares_product(shares, words[:3])) == pytest.approx(1.0)
    assert shares_product({"color": {}}, words) == pytest.approx([0.25] * 4)


def test_the_baselines_settings_or_the_nearest_that_may_be_chosen() -> None:
    assert space().baseline_settings() == {
        "negative_prompt": "",
        "guidance_scale": 4.0,
        "num_inference_steps": 12,  # diffusers' own would be 50
    }
    far = {"prompt": "a {class}", "guidance_scale": 12.5, "num_inference_steps": 2}
    settings = space(baseline=far | {"negative_prompt": "painting"}).baseline_settings()
    assert (settings["guidance_scale"], settings["num_inference_steps"]) == (10.0, 6)
    assert settings["negative_prompt"] == ""  # "painting" may not be chosen


def test_ranges_and_choices_are_one_wide() -> None:
    made = space()
    low = made.baseline_settings() | {"guidance_scale": 1.0}
    high = low | {"guidance_scale": 10.0}
    other = low | {"negative_prompt": "drawing"}
    points = [np.asarray(coordinates(made.settings, p)) for p in (low, high, other)]
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(1.0)
    assert np.linalg.norm(points[0] - points[2]) == pytest.approx(1.0, abs=0.02)
    middle = np.asarray(coordinates(made.settings, low | {"guidance_scale": 10.0**0.5}))
    for end in points[:2]:  # as far from 1 as from 10, as Optuna sees it
        assert np.linalg.norm(middle - end) == pytest.approx(0.5)
    cameras = {"kernel": ("area", "lanczos"), "noise": (0.0, 0.03)}
    for name, ends in cameras.items():
        start = {"kernel": "area", "noise": 0.0}
        points = [np.asarray(coordinates(made.cameras, start | {name: end})) for end in ends]
        assert np.linalg.norm(points[0] - points[1]) == pytest.approx(1.0, abs=0.02)


@given(st.floats(-100, 100), st.integers(-100, 100))
def test_what_is_nearest_may_be_chosen(number: float, whole: int) -> None:
    for distribution, value in (
        (FloatDistribution(1.0, 9.0, log=True), number),
        (IntDistribution(4, 20), whole),
        (CategoricalDistribution((1, 2, 5)), whole),
    ):
        found = nearest(distribution, value)
        assert distribution._contains(distribution.to_internal_repr(found))
        assert nearest(distribution, found) == found
        if distribution._contains(value) and isinstance(distribution, FloatDistribution):
            assert found == value
    assert nearest(IntDistribution(70, 95), None) == 95


def big(n: int = 5) -> Space:
    slots = {f"s{i}": [f"{i}{letter}" for letter in "abcdefghi"] for i in range(n)}  # 9**n
    template = "a photo of a {class} " + " ".join(f"{{{slot}}}" for slot in slots)
    return space(space={"prompt": [template], "slots": slots, "nouns": {}})


@pytest.mark.parametrize("slots", [5, 30])  # a range of 9**30 has no length
def test_of_too_many_prompts_no_word_is_left_out(slots: int) -> None:
    prompts = big(slots).prompts()
    assert len(prompts) == len({tuple(p.items()) for p in prompts}) == 4096
    assert prompts == big(slots).prompts()
    for slot, words in big(slots).words.items():
        assert {p[slot] for p in prompts} == set(words)


def test_of_too_many_prompts_the_likeliest_come_first() -> None:
    made = big()
    rng = np.random.default_rng(0)
    prior = {
        slot: dict(zip(words, rng.dirichlet(np.full(len(words), 0.3)).tolist(), strict=True))
        for slot, words in made.words.items()
        if slot.startswith("s")
    }
    few = made.prompts(prior, limit=50)
    everything = made.prompts(limit=60_000)
    shares = sorted(shares_product(prior, everything), reverse=True)
    total = sum(math.prod(prior[s][p[s]] for s in prior) for p in everything)
    assert [math.prod(prior[s][p[s]] for s in prior) / total for p in few] == pytest.approx(
        shares[:50]
    )
    assert {p["s3"] for p in made.prompts(prior, held={"s3": "3h"}, limit=50)} == {"3h"}


GROUPS = {"all photos": "a" * 16, "group 1": "b" * 16}


def of_photos(**space_config: Any) -> Space:
    return Space.of(config(space=space_config), "automobile", groups=GROUPS)


def test_a_caption_stands_alone_where_no_template_has_a_place_for_it() -> None:
    alone = of_photos(captions="words")
    assert alone.words["prompt"][-1] == "{caption}"
    assert len(alone.prompts()) == len(space().prompts()) + 2  # one for each group
    placed = of_photos(captions="words", prompt=["a {class}: {caption}"])
    assert placed.words["prompt"] == ("a {class}: {caption}",)
    assert len(placed.prompts()) == 2 * 2  # groups and nouns


def test_a_recipe_of_captions_names_the_group_that_they_are_of() -> None:
    s = of_photos(captions="words")
    recipe = s.recipe({"prompt": "{caption}", "photos": "group 1", "guidance_scale": 2.0})
    assert recipe.draw.prompt == "{captions of group 1}"
    assert (recipe.draw.photos, recipe.draw.strength) == ("b" * 16, None)
    # Words alone owe nothing to a photo, whatever group was proposed beside them.
    worded = s.recipe({"color": "green", "photos": "group 1"})
    assert worded.draw.photos is None
    assert "photos" not in worded.draw.to_json()
    assert s.baseline.draw.photos is None


def test_what_needs_a_photo_is_left_out_where_there_are_no_groups() -> None:
    worded = space(space={"captions": "words", "strength": [0.3, 1.0]})
    assert worded.words == space().words
    assert worded.settings == space().settings
    captions = space(space={"captions": "words", "prompt": ["{caption}"]})
    assert captions.words["prompt"] == ("a photo of a {class}",)  # the baseline's


def test_the_captions_of_all_photos_are_known_by_their_draw() -> None:
    s = of_photos(captions="words")

    def takes(**params: str) -> bool:
        return takes_all_captions(s.recipe(params).draw)

    assert takes(prompt="{caption}", photos="all photos")
    assert takes(prompt="{caption}")  # the first group is meant
    assert not takes(prompt="{caption}", photos="group 1")
    assert not takes(color="green", prompt=s.words["prompt"][0])
    assert not takes_all_captions(space().recipe({"color": "green"}).draw)


def test_where_pictures_are_changed_every_recipe_has_photos() -> None:
    s = of_photos(strength=[0.3, 1.0], ip_adapter_scale=[0.0, 0.8])
    words = {"color": "green", "photos": "group 1"}
    recipe = s.recipe({**words, "strength": 0.5, "ip_adapter_scale": 0.2})
    assert (recipe.draw.photos, recipe.draw.strength) == ("b" * 16, 0.5)
    assert recipe.draw.ip_adapter_scale == 0.2
    assert s.name_of(words) != s.name_of({**words, "photos": "all photos"})
    assert len(s.prompts()) == 2 * len(space().prompts())
    # What changes nothing of the baseline: all of the picture replaced, no adapter.
    assert s.baseline_settings()["strength"] == 1.0
    assert s.baseline_settings()["ip_adapter_scale"] == 0.0


def test_words_that_a_template_has_no_place_for_are_dropped() -> None:
    s = of_photos(captions="words")
    params = {"prompt": "{caption}", "photos": "group 1", "color": "green", "scheduler": "ddim"}
    kept = {"prompt": "{caption}", "photos": "group 1", "scheduler": "ddim"}
    assert s.used(params) == kept
    assert s.recipe(params) == s.recipe(kept)


def test_the_likeliest_prompts_are_the_same_whether_all_are_looked_at_or_not() -> None:
    s = of_photos(captions="words")
    prior = {
        "color": {"": 0.1, "green": 0.7, "olive": 0.2},
        "place": {"": 0.4, " on a  leaf": 0.6},
        "noun": {"automobile": 0.9, "car": 0.1},
        "photos": {"all photos": 0.7, "group 1": 0.3},
        "prompt": {s.words["prompt"][0]: 0.5, "a {class}": 0.1, "{caption}": 0.4},
    }
    every = s.prompts(prior)
    shares = shares_product(prior, every)
    ranked = [every[i] for i in np.argsort(-np.asarray(shares), kind="stable")]
    assert [s.prompt(words) for words in s.prompts(prior, limit=5)] == [
        s.prompt(words) for words in ranked[:5]
    ]
    assert s.prompt(ranked[0]) == "{captions of all photos}"
    few = s.prompts(limit=5)  # without a prior some at random, of all templates together
    assert len({s.prompt(words) for words in few}) == 5


def test_other_photos_are_another_space() -> None:
    own = space_digest(of_photos(captions="words"))
    other = Space.of(
        config(space={"captions": "words"}), "automobile", groups={"all photos": "c" * 16}
    )
    assert space_digest(other) != own != space_digest(space())


def test_of_numbers_to_choose_from_the_nearest() -> None:
    s = of_photos(strength=[0.3, 0.5, 0.7])
    assert s.baseline_settings()["strength"] == 0.7  # nothing of a picture is left at 1
    choices = CategoricalDistribution((0.3, 0.5, 0.7))
    assert [nearest(choices, value) for value in (0.0, 0.55, 0.5, 1.0)] == [0.3, 0.5, 0.5, 0.7]
    assert nearest(CategoricalDistribution(("ddim", "euler")), "lms") == "ddim"
    assert nearest(choices, None) == 0.3


PARAMETERS: dict[str, Any] = {
    "light": [0, 90],
    "count": {"low": 1, "high": 4, "int": True},
    "material": ["steel", "brass"],
    "samples": 16,
}


START = {"light": 10, "count": 1, "material": "iron"}


def rendered(cls: str = "automobile", *, baseline: Any = None, **space: Any) -> Space:
    made = config(
        generator={"kind": "mine.world:Renderer"},
        space={"parameters": PARAMETERS, "scheduler": [], **space},
        baseline={"parameters": baseline or START},
    )
    return Space.of(made, cls)


def test_parameters_are_distributed_evenly_until_something_is_known() -> None:
    found = rendered()
    assert found.parts[0].parameters == {
        "light": TruncatedNormal(low=0.0, high=90.0),
        "count": TruncatedNormal(low=1.0, high=4.0, whole=True),
        "material": Categorical(choices=("steel", "brass")),
    }
    assert found.parts[0].fixed_parameters == {"samples": 16}
    plain = found.baseline.draw.parameters
    assert plain == {"light": 10.0, "count": 1, "material": "iron", "samples": 16}
    draw = found.recipe({"guidance_scale": 2.0}, {"light": 76.5, "count": 2}).draw
    assert draw.parameters == {"light": 76.5, "count": 2, "material": "iron", "samples": 16}
    assert draw.guidance_scale == 2.0
    assert not {*found.distributions} & {*found.parts[0].parameters}, (
        "Optuna chooses among the others"
    )
    assert found.recipe({}, found.parts[0].parameters).draw.varies


def test_a_baseline_may_vary_as_well() -> None:
    own = {"light": [0, 90], "count": {"low": 1, "high": 4, "int": True}, "material": ["a", "b"]}
    found = rendered(baseline=own)
    parameters = found.baseline.draw.parameters
    assert parameters["light"] == TruncatedNormal(low=0.0, high=90.0)
    assert parameters["material"] == Categorical(choices=("a", "b"))
    assert {k: draw.parameters[k] for k, draw in variants(found).items()} == {
        "light": 90.0, "count": 4, "material": "brass", "samples": 16
    }  # fmt: skip


def test_a_draw_names_its_class_where_the_prompt_alone_does_not() -> None:
    draw = rendered().recipe({"noun": "car", "color": "green"}).draw
    assert (draw.cls, draw.noun) == ("automobile", "car")
    assert rendered().baseline.draw.noun == "automobile"
    plain = space().recipe({"noun": "car"}).draw
    assert (plain.cls, plain.noun) == (None, None), "a text-to-image model reads the prompt"


def test_a_class_has_its_own_parameters() -> None:
    own = {"automobile": {"light": [20, 40], "material": None}}
    found = rendered(class_parameters=own)
    assert found.parts[0].parameters["light"] == TruncatedNormal(low=20.0, high=40.0)
    assert set(found.baseline.draw.parameters) == {"light", "count", "samples"}
    assert rendered("frog", class_parameters=own) == rendered("frog")


def test_variants_differ_in_one_parameter_each() -> None:
    found = rendered()
    base = found.baseline.draw
    changed = {
        name: {k: v for k, v in draw.parameters.items() if base.parameters[k] != v}
        for name, draw in variants(found).items()
    }
    assert changed == {
        "light": {"light": 90.0},
        "count": {"count": 4},
        "material": {"material": "brass"},
        "samples": {},  # it has one value, the baseline's
    }
    assert {replace(draw, parameters={}) for draw in variants(found).values()} == {
        replace(base, parameters={})
    }
