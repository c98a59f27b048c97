"""Given mixtures: what another run's recipes are under a class's own space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import modes
import numpy as np
import pytest

from gapclose.generators.recipe import Camera, Recipe
from gapclose.loop.config.reading import parse_config
from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.given import Given, starting_camera
from gapclose.loop.search.space import Space

SPACE = modes.make_space(guidance_scale=[1.0, 9.0])


def row(word: str, weight: float = 1.0, **said: Any) -> dict[str, Any]:
    return {"weight": weight, "prompt": f"a {word} frog", **said}


def given(*rows: dict[str, Any], space: Space = SPACE) -> Given:
    found = Given.of(rows, space)
    assert found is not None
    return found


def conditioned(**space: Any) -> Space:
    """A space of prompts and pictures from two photo groups."""
    config = parse_config(
        {
            "real": {"path": "nowhere"},
            "classes": ["frog"],
            "generator": {"kind": "modes:Modes"},
            "embedder": "pond",
            "space": {"prompt": "a {class}", "captions": "tune"} | space,
        }
    )
    return Space.of(config, "frog", groups={"all photos": "0a", "group 1": "0b"})


def test_what_a_recipe_does_not_say_is_as_in_the_baseline() -> None:
    found = given(row("gray", negative_prompt="green", num_inference_steps=7))
    (recipe,) = found.mixture.recipes
    assert recipe.camera == SPACE.camera
    base = SPACE.baseline.draw
    said = {"prompt": "a gray frog", "negative_prompt": "green", "num_inference_steps": 7}
    assert recipe.draw == replace(base, **said)


def test_parameters_that_a_recipe_does_not_say_are_the_baselines() -> None:
    space = modes.make_space(
        parameters={"light": [0, 90], "count": {"low": 1, "high": 4, "int": True}}
    )
    found = given(row("gray", parameters={"light": 70.0}), space=space)
    (recipe,) = found.mixture.recipes
    assert recipe.draw.parameters == {"light": 70.0, "count": 1}
    assert found.heaviest == recipe


def test_weights_sum_to_1_and_recipes_that_have_become_one_share_theirs() -> None:
    rows = row("gray", 3.0), row("brown", 1.0), row("gray", 1.0), row("red", 0.0)
    found = given(*rows)
    assert [modes.word_of(recipe) for recipe in found.mixture.recipes] == ["gray", "brown"]
    assert found.mixture.weights == (0.8, 0.2)


def test_what_trial_0_tries_is_not_tried_again() -> None:
    assert Given.of([row("plain", 1.0)], SPACE) is None  # the baseline's own words
    assert Given.of([], SPACE) is None
    assert given(row("plain", 0.9), row("gray", 0.1)).mixture.weights == (0.9, 0.1)
    assert given(row("plain", guidance_scale=4.5)).mixture.weights == (1.0,)


def test_settings_are_those_that_carry_most_of_the_weight_or_the_nearest_to_them() -> None:
    rows = (
        row("gray", 0.4, guidance_scale=2.0),
        row("brown", 0.3, guidance_scale=20.0),
        row("red", 0.3, guidance_scale=20.0),
    )
    assert given(*rows).settings == {"guidance_scale": 9.0}
    assert given(*rows[:2]).settings == {"guidance_scale": 2.0}
    assert given(*rows, space=modes.make_space()).settings == {}


def test_a_photo_group_of_another_run_stands_for_all_photos_of_this_one() -> None:
    rows = (
        row("gray", 1.0) | {"prompt": "{captions of group 7}, mud", "photos": "group 7"},
        row("gray", 1.0, photos="group 2", strength=0.6),
        row("brown", 2.0),
    )
    space = conditioned(strength=[0.3, 1.0])
    found = given(*rows, space=space)
    draws = [recipe.draw for recipe in found.mixture.recipes]
    assert [draw.prompt for draw in draws] == [
        "{captions of all photos}, mud", "a gray frog", "a brown frog"
    ]  # fmt: skip
    assert [draw.photos for draw in draws] == ["0a", "0a", None]
    assert draws[1].strength == 0.6
    assert space.name_of_draw(draws[1]) == "a gray frog from all photos"
    assert space.name_of_draw(draws[2]) == "a brown frog"
    made = {"prompt": "{caption}", "photos": "all photos"}
    assert space.name_of_draw(space.recipe(made).draw) == space.name_of(made)
    # Without photos such recipes are left out, and the others have all the weight.
    assert given(*rows).mixture.weights == (1.0,)
    assert Given.of(rows[:2], SPACE) is None


def test_a_single_image_waits_for_the_next_of_its_recipe() -> None:
    found = given(row("gray"), row("brown"))
    gray, brown = found.mixture.recipes
    real = modes.rows_of("gray", 20, np.random.default_rng(0))
    atoms = Atoms(modes.make_search(real).bank)
    images = modes.rows_of("gray", 4, np.random.default_rng(1))
    found.keep(atoms, gray, modes.taken(images[:1], [7]))
    assert atoms.drawn() == []
    found.keep(atoms, brown, modes.taken(images[:0], []))
    found.keep(atoms, gray, modes.taken(images[1:2], [8]))
    found.keep(atoms, gray, modes.taken(images[2:3], [9]))
    assert atoms.drawn() == [(gray, (7, 8, 9))]
    rows, seeds = atoms.bank.rows_of(0)
    assert np.array_equal(rows, images[:3])
    assert seeds.tolist() == [7, 8, 9]
    # Under another camera what waits is of no use.
    found.keep(atoms, brown, modes.taken(images[3:], [10]))
    moved = found.under(Camera(noise=0.5))
    assert {recipe.camera for recipe in moved.mixture.recipes} == {Camera(noise=0.5)}
    assert moved.mixture.weights == found.mixture.weights
    moved.keep(
        atoms, Recipe(draw=brown.draw, camera=Camera(noise=0.5)), modes.taken(images[3:], [11])
    )
    assert len(atoms.drawn()) == 1


@pytest.mark.parametrize(
    ("cameras", "wanted"),
    [
        ([{"noise": 0.02, "resize": 32}] * 2, Camera(noise=0.02, resize=32)),
        ([None, *[{"noise": 0.02, "resize": 32}] * 2], Camera(noise=0.02, resize=32)),
        ([{"noise": 0.02, "resize": 32}, None, None], None),
        ([{"noise": 0.2, "resize": 32}], None),  # more than may be chosen
        ([{"noise": 0.02}], None),  # another size than the run's
        ([{"noise": 0.02, "resize": 32, "jpeg_quality": 80}], None),
        ([], None),
    ],
)
def test_the_choice_of_a_camera_begins_with_the_one_that_was_given_if_it_may_be_chosen(
    cameras: list[dict[str, Any] | None], wanted: Camera | None
) -> None:
    space = modes.make_space(camera={"noise": [0.0, 0.04], "resize": 32})
    rows = [row("gray", camera=camera) for camera in cameras]
    assert starting_camera(rows, space) == wanted
    assert starting_camera(rows, modes.make_space()) is None  # nothing is chosen there
