"""The parts of a space: what each of several generators makes of words and settings."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from gapclose.generators.distributions import TruncatedNormal
from gapclose.loop.config.reading import parse_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.errors import ConfigError
from gapclose.loop.run.shapes import BothShares
from gapclose.loop.search.given import Given, can_take
from gapclose.loop.search.shares import marginal_shares, shares_of
from gapclose.loop.search.space import GENERATOR, Space, prompt_by, space_digest
from gapclose.loop.validation.mixtures import even_mixture


def config(**changes: Any) -> RunConfig:
    data: dict[str, Any] = {
        "real": {"kind": "pond"},
        "generators": {
            "slow": {"kind": "diffusers", "model": "pond", "size": 32},
            "quick": {"kind": "diffusers", "model": "pond"},
            "renderer": {"kind": "mine.world:Renderer"},
        },
        "embedder": "pond",
        "space": {
            "prompt": "a photo of a {color} {class}",
            "slots": {"color": ["", "green", "brown"]},
            "guidance_scale": [1.0, 9.0],
            "num_inference_steps": [15, 40],
            "generators": {
                "quick": {"guidance_scale": 0.0, "num_inference_steps": [1, 4]},
                "renderer": {
                    "prompt": "{class}",
                    "guidance_scale": [],
                    "num_inference_steps": [],
                    "parameters": {"light": [0, 90], "samples": 16},
                },
            },
        },
        "baseline": {
            "guidance_scale": 7.5,
            "num_inference_steps": 30,
            "generators": {
                "quick": {"guidance_scale": 0.0, "num_inference_steps": 4},
                "renderer": {
                    "guidance_scale": None,
                    "num_inference_steps": None,
                    "parameters": {"light": 10},
                },
            },
        },
    }
    return parse_config(data | changes)


def space() -> Space:
    return Space.of(config(), "frog")


def test_settings_and_parameters_of_its_own_bear_a_generators_name_in_the_search() -> None:
    assert space().distributions == {
        "generator": CategoricalDistribution(("slow", "quick", "renderer")),
        "color": CategoricalDistribution(("", "green", "brown")),
        "prompt": CategoricalDistribution(("a photo of a {color} {class}", "{class}")),
        "guidance_scale": FloatDistribution(1.0, 9.0, log=True),
        "num_inference_steps": IntDistribution(15, 40),
        "quick.num_inference_steps": IntDistribution(1, 4),
    }
    renderer = space().parts[2]
    assert renderer.parameters == {"light": TruncatedNormal(low=0.0, high=90.0)}
    assert renderer.fixed_parameters == {"samples": 16}
    assert renderer.parameter("light") == "parameters.renderer.light"
    assert "generator" not in space().word_slots


def test_a_recipe_has_what_its_generator_takes() -> None:
    params = {"color": "green", "guidance_scale": 3.0, "num_inference_steps": 20}
    params["quick.num_inference_steps"] = 2
    drawn = {
        name: space().recipe({**params, GENERATOR: name}, {}).draw
        for name in ("slow", "quick", "renderer")
    }
    slow, quick, renderer = drawn.values()
    assert (slow.guidance_scale, slow.num_inference_steps, slow.size) == (3.0, 20, 32)
    assert (quick.guidance_scale, quick.num_inference_steps, quick.size) == (0.0, 2, None)
    assert (renderer.guidance_scale, renderer.num_inference_steps) == (None, None)
    assert slow.prompt == quick.prompt == "a photo of a green frog"
    assert (renderer.prompt, renderer.cls) == ("frog", "frog")
    assert renderer.parameters == {"light": 10.0, "samples": 16}
    assert {draw.generator for draw in drawn.values()} == {*drawn}
    assert slow.cls is None, "a text-to-image model reads the prompt"


def test_the_baseline_is_the_first_ones() -> None:
    draw = space().baseline.draw
    assert (draw.generator, draw.guidance_scale) == ("slow", 7.5)
    assert space().baseline_settings() == {
        "guidance_scale": 7.5,
        "num_inference_steps": 30,
        "quick.num_inference_steps": 4,
    }
    own = space().recipe({GENERATOR: "quick", "quick.num_inference_steps": 2}).draw
    assert space().settings_of(own)["quick.num_inference_steps"] == 2
    assert space().settings_of(own)["num_inference_steps"] == 30


def test_a_generator_that_has_one_prompt_is_one_combination() -> None:
    words = space().prompts()
    assert len(words) == 3 + 3 + 1
    assert words[-1] == {"generator": "renderer", "noun": "frog", "prompt": "{class}"}
    assert len(space().prompts(held={GENERATOR: "quick"})) == 3
    names = [space().name_of(its) for its in words]
    assert len({*names}) == len(names)
    drawn = [space().name_of_draw(space().recipe(its).draw) for its in words]
    assert drawn == names
    assert names[-1] == prompt_by("frog", "renderer") == "frog by renderer"


def test_what_optuna_may_choose_of_one() -> None:
    made = space()
    own = {part.name: {*made.distributions_of(part)} for part in made.parts}
    assert own == {
        "slow": {"color", "guidance_scale", "num_inference_steps"},
        "quick": {"color", "quick.num_inference_steps"},
        "renderer": set(),
    }


def test_a_template_of_another_generator_gives_way() -> None:
    strange = {GENERATOR: "renderer", "prompt": "a photo of a {color} {class}", "color": "green"}
    assert space().used(strange) == {GENERATOR: "renderer", "prompt": "{class}"}


def test_every_part_changes_the_digest() -> None:
    other = config(
        generators={
            "slow": {"kind": "diffusers", "model": "pond", "size": 32},
            "quick": {"kind": "diffusers", "model": "pond"},
            "renderer": {"kind": "mine.world:Renderer"},
        },
        baseline={
            "generators": {"renderer": {"parameters": {"light": 20}}, "quick": {}},
        },
    )
    assert space_digest(space()) != space_digest(Space.of(other, "frog"))
    assert space_digest(space()) == space_digest(space())


def test_evenly_means_each_generator_as_often() -> None:
    mixture = even_mixture(space(), seed=0)
    shares: dict[str | None, float] = {}
    for recipe, weight in zip(mixture.recipes, mixture.weights, strict=True):
        name = recipe.draw.generator
        shares[name] = shares.get(name, 0.0) + weight
    assert shares == pytest.approx(dict.fromkeys(("slow", "quick", "renderer"), 1 / 3))
    light = next(its for its in mixture.recipes if its.draw.generator == "renderer")
    assert light.draw.parameters["light"] == TruncatedNormal(low=0.0, high=90.0)


def test_shares_are_of_the_images_that_have_them() -> None:
    made = space()
    recipes = [
        made.recipe({GENERATOR: "slow", "color": "green", "guidance_scale": 2.0}),
        made.recipe({GENERATOR: "slow", "color": "", "guidance_scale": 4.0}),
        made.recipe({GENERATOR: "renderer"}, {"light": 50.0}),
    ]
    found = marginal_shares(recipes, [0.25, 0.25, 0.5], made)
    assert found["words"]["generator"] == {"slow": 0.5, "renderer": 0.5}
    assert found["words"]["color"] == {"green": 0.5, "": 0.5}, "a renderer has no such word"
    assert found["unread"] == {}
    assert found["numbers"]["guidance_scale"]["mean"] == pytest.approx(3.0)
    assert found["numbers"]["parameters.renderer.light"] == {"mean": 50.0, "sd": 0.0}
    assert "quick.num_inference_steps" not in found["numbers"], "it has no weight"
    before = shares_of(recipes, [0.25, 0.25, 0.5], made)["baseline"]
    assert before["numbers"]["parameters.renderer.light"]["mean"] == 10.0
    assert "quick.num_inference_steps" not in before["numbers"]
    assert before["words"]["generator"] == {"slow": 1.0}


def test_a_given_recipe_is_its_generators() -> None:
    rows = [
        {"weight": 0.5, "prompt": "a dark frog", "generator": "quick", "num_inference_steps": 3},
        {"weight": 0.3, "prompt": "frog", "generator": "renderer", "parameters": {"light": 80.0}},
        {"weight": 0.2, "prompt": "a frog"},
        {"weight": 9.0, "prompt": "a frog", "generator": "gone"},
    ]
    given = Given.of(rows, space())
    assert given is not None
    drawn = {its.draw.generator: its.draw for its in given.mixture.recipes}
    assert {*drawn} == {"quick", "renderer", "slow"}, "of one that is gone nothing is left"
    assert drawn["quick"].num_inference_steps == 3
    assert drawn["renderer"].parameters == {"light": 80.0, "samples": 16}
    assert given.settings["quick.num_inference_steps"] == 3
    assert not can_take(rows[3], space())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": {"generators": {"slwo": {}}}}, "space.generators: .slwo. is none of"),
        ({"generator": {"kind": "diffusers", "model": "pond"}}, "take one of the two out"),
        ({"generators": {}}, "generator is missing; add it"),
        (
            {"generators": {"a": {"kind": "folder", "path": "x"}}, "space": {}, "baseline": {}},
            "generators.a.kind: a folder holds images",
        ),
        (
            {"generators": {"a b": {"kind": "onnx", "model": "x"}}, "space": {}, "baseline": {}},
            "generators.a b: .a b. is no name of a generator",
        ),
        (
            {"space": {"generators": {"renderer": {"parameters": {"fog": [0, 1]}}}}},
            "baseline.generators.renderer.parameters: fog is missing",
        ),
        ({"space": {"generators": {"slow": {"prompt": "{hue}"}}}}, "has a slot {hue}"),
        (
            {"space": {"generators": {"slow": {"scheduler": "eulr"}}}},
            "space.generators.slow.scheduler",
        ),
        (
            {"space": {"generators": {"slow": {"promt": "x"}}}},
            "space.generators.slow.promt is no key here; did you mean prompt",
        ),
        (
            {"generators": {"a": {"kind": "onnx", "model": "x"},
                            "b": {"kind": "diffusers", "modl": "x"}},
             "space": {}, "baseline": {}},
            "generators.b.modl is no key here; did you mean model",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_own_key(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("{", r"\{")):
        config(**changes)


def test_a_config_is_read_back_as_it_was_written() -> None:
    made = config()
    assert parse_config(made.to_dict()) == made
    alone = made.alone("renderer")
    assert alone.space.prompt == ("{class}",)
    assert alone.baseline.parameters == {"light": 10}
    assert alone.generators == {}
    assert made.alone("slow").space.guidance_scale == (1.0, 9.0)


def test_shares_of_a_mixture_that_leaves_a_generator_out_are_those_of_the_baseline_too() -> None:
    made = space()
    for own in (
        made.recipe({GENERATOR: "slow", "color": "green"}),
        made.recipe({GENERATOR: "quick"}),
        made.recipe({GENERATOR: "renderer"}, {"light": 50.0}),
    ):
        found = shares_of([own], [1.0], made)
        BothShares.model_validate(found)  # what the journal takes
        assert {*found["mixture"]["words"]["generator"]} == {own.draw.generator}
    assert "color" not in found["mixture"]["words"], "a renderer has no such word"


def test_one_generator_may_have_a_slot_that_is_called_so_and_several_may_not() -> None:
    words = {"prompt": "a {generator} {class}", "slots": {"generator": ["new", "old"]}}
    one = Space.of(
        config(
            generators={}, generator={"kind": "diffusers", "model": "pond"},
            space=words, baseline={},
        ),
        "frog",
    )  # fmt: skip
    assert [one.prompt(its) for its in one.prompts()] == ["a new frog", "an old frog"]
    assert one.word_slots == ("generator",)
    assert {recipe.draw.generator for recipe in even_mixture(one, seed=0).recipes} == {None}
    with pytest.raises(ConfigError, match=r"space\.slots must not define generator"):
        config(space=words, baseline={})


def test_a_baseline_of_one_generator_names_the_class_too() -> None:
    with pytest.raises(ConfigError, match=r"baseline\.generators\.quick\.prompt: .*no template"):
        config(baseline={"generators": {"quick": {"prompt": "a frog"}}}, space={})
