"""Draws, cameras and recipes: canonical, checked, named by a fingerprint."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapclose.generators.prompt_text import normalize_prompt
from gapclose.generators.recipe import KERNELS, Camera, Draw, Recipe

draws = st.builds(
    Draw,
    prompt=st.text(max_size=40),
    negative_prompt=st.text(max_size=20),
    guidance_scale=st.none() | st.floats(0, 30),
    num_inference_steps=st.none() | st.integers(1, 100),
    scheduler=st.none() | st.sampled_from(["ddim", "euler"]),
    size=st.none() | st.integers(8, 64) | st.tuples(st.integers(8, 64), st.integers(8, 64)),
    photos=st.none() | st.sampled_from(["sha256:1", "sha256:2"]),
    strength=st.none() | st.floats(0, 1, exclude_min=True),
    ip_adapter_scale=st.none() | st.floats(0, 1),
    parameters=st.dictionaries(
        st.sampled_from(["light", "material"]),
        st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.sampled_from(["a", "1"]),
    ),
    cls=st.none() | st.sampled_from(["frog", "ship"]),
    noun=st.none() | st.sampled_from(["frog", "toad"]),
)
cameras = st.builds(
    Camera,
    resize=st.none() | st.integers(1, 64),
    kernel=st.sampled_from(KERNELS),
    jpeg_quality=st.none() | st.integers(1, 100),
    noise=st.floats(0, 0.2),
    saturation=st.floats(0, 2),
)
recipes = st.builds(Recipe, draw=draws, camera=cameras)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a photo of a automobile", "a photo of an automobile"),
        ("a photo of an  blue\n ship ", "a photo of a blue ship"),
        ("A airplane. A owl", "An airplane. An owl"),
        ("grade A apples", "grade A apples"),
        ("a hour, an unicorn, a umbrella", "an hour, a unicorn, an umbrella"),
        ("an one-way road", "a one-way road"),
        ("an SUV, a SUV, a 8-bit cat", "an SUV, a SUV, a 8-bit cat"),
        ("vis-a apple", "vis-a apple"),
        ("(a orange:1.2)", "(an orange:1.2)"),
        ("", ""),
    ],
)
def test_articles_agree(text: str, expected: str) -> None:
    assert normalize_prompt(text) == expected


@given(st.text(alphabet="aAnN euhx.-'\u00e9\t", max_size=30))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalize_prompt(text)
    assert normalize_prompt(once) == once


@given(recipes)
def test_json_round_trip(recipe: Recipe) -> None:
    text = json.dumps(recipe.to_json(), allow_nan=False)
    assert Recipe.from_json(json.loads(text)) == recipe


@given(recipes, recipes)
def test_fingerprints_are_equal_exactly_when_recipes_are(one: Recipe, two: Recipe) -> None:
    assert (one.fingerprint() == two.fingerprint()) == (one == two)
    assert len(one.fingerprint()) == 64
    int(one.fingerprint(), 16)


def test_one_setting_has_one_fingerprint() -> None:
    plain = Draw(prompt="an owl", guidance_scale=7.0, size=32)
    same = Draw(prompt=" a  owl", guidance_scale=7, size=(32, 32))
    assert plain.fingerprint() == same.fingerprint()
    assert Camera(noise=-0.0).fingerprint() == Camera(noise=0).fingerprint()
    assert Camera(kernel="box") == Camera(kernel="area")


def test_every_field_changes_the_fingerprint() -> None:
    others: dict[str, Any] = {
        "prompt": "b",
        "negative_prompt": "c",
        "guidance_scale": 1.0,
        "num_inference_steps": 3,
        "scheduler": "ddim",
        "size": 8,
        "photos": "sha256:1",
        "strength": 0.5,
        "ip_adapter_scale": 0.5,
        "parameters": {"light": 45.0},
        "cls": "frog",
        "noun": "toad",
        "generator": "blender",
    }
    draw = Draw(prompt="a")
    assert set(others) == {field.name for field in dataclasses.fields(Draw)}
    prints = {dataclasses.replace(draw, **{k: v}).fingerprint() for k, v in others.items()}
    assert len(prints | {draw.fingerprint()}) == len(others) + 1


def test_fingerprints_stay_as_they_were() -> None:
    # Image folders of old runs are named by these: a change here loses their images.
    settings = {"guidance_scale": 7.5, "num_inference_steps": 30}
    draw = Draw(prompt="a photo of a frog", size=(32, 16), **settings)
    assert draw.fingerprint() == (
        "ad55db55228740e5550f9231972e50347fecf06450028008eec71c7bf8cdfd36"
    )
    given = dataclasses.replace(
        draw, photos=None, strength=None, ip_adapter_scale=None, parameters={}, cls=None, noun=None
    )
    assert given.fingerprint() == draw.fingerprint()
    assert set(draw.to_json()) == {
        "prompt",
        "negative_prompt",
        "guidance_scale",
        "num_inference_steps",
        "scheduler",
        "size",
    }
    camera = Camera(resize=32, jpeg_quality=90, noise=0.018)
    assert camera.fingerprint() == (
        "59e55d80ace2277442597116743cf65aeddd89c4371c23561ec476796212627f"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("guidance_scale", -1.0),
        ("guidance_scale", float("nan")),
        ("guidance_scale", float("inf")),
        ("guidance_scale", True),
        ("guidance_scale", "7"),
        ("num_inference_steps", 0),
        ("num_inference_steps", 2.5),
        ("prompt", None),
        ("scheduler", ""),
        ("size", 0),
        ("size", (32,)),
        ("size", (32, 32, 3)),
        ("size", (32, "x", 32)),
        ("size", "32"),
        ("photos", ""),
        ("photos", 3),
        ("strength", 0.0),
        ("strength", 1.01),
        ("strength", float("nan")),
        ("strength", "1"),
        ("ip_adapter_scale", -0.1),
        ("ip_adapter_scale", 1.5),
    ],
)
def test_a_bad_draw_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        Draw(**{"prompt": "x", key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resize", 0),
        ("kernel", "sinc"),
        ("jpeg_quality", 0),
        ("jpeg_quality", 101),
        ("noise", -0.1),
        ("saturation", float("nan")),
    ],
)
def test_a_bad_camera_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        Camera(**{key: value})


def test_unknown_and_missing_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="'guidance'"):
        Draw.from_json({"prompt": "x", "guidance": 3})
    with pytest.raises(ValueError, match="'prompt' is missing"):
        Draw.from_json({})
    with pytest.raises(ValueError, match="'draw' is missing"):
        Recipe.from_json({"camera": {}})


def test_what_takes_a_source() -> None:
    assert not Draw(prompt="x", photos="sha256:1").takes_source
    assert Draw(prompt="x", strength=1.0).takes_source
    assert Draw(prompt="x", ip_adapter_scale=0.0).takes_source


def test_identity() -> None:
    assert Camera().is_identity
    assert Camera(kernel="lanczos").is_identity
    assert not Camera(noise=0.01).is_identity
