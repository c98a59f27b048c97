"""Mixtures as YAML: what is written is read back, and what a person gets wrong is one line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gapclose.generators.recipe import KERNELS, Camera, Draw, Recipe
from gapclose.loop.config.mixtures import (
    ClassMixture,
    GivenRecipe,
    MixturesFile,
    is_mixtures_file,
)
from gapclose.loop.errors import ConfigError
from gapclose.loop.search.trial import Mixture

# Control characters, and those that turn a line around, are in no config and in no prompt.
LETTERS = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cf"))
WORDS = st.text(LETTERS, min_size=1, max_size=30).filter(lambda text: bool(text.strip()))
SHARES = st.floats(0.0, 1.0)


@st.composite
def draws(draw: Any) -> Draw:
    photos = draw(st.none() | st.just("group 3"))
    sources = {"strength": st.floats(0.01, 1.0), "ip_adapter_scale": SHARES}
    return Draw(
        prompt=draw(WORDS),
        negative_prompt=draw(st.text(LETTERS, max_size=20)),
        guidance_scale=draw(st.floats(0.0, 30.0)),
        num_inference_steps=draw(st.integers(1, 100)),
        scheduler=draw(st.none() | st.sampled_from(["ddim", "euler"])),
        size=draw(st.none() | st.just(512)),
        photos=photos,
        **{} if photos is None else {k: draw(st.none() | v) for k, v in sources.items()},
    )


CAMERAS = st.builds(
    Camera,
    resize=st.none() | st.integers(1, 512),
    kernel=st.sampled_from(KERNELS),
    jpeg_quality=st.none() | st.integers(1, 100),
    noise=SHARES,
    saturation=st.floats(0.0, 2.0),
)
RECIPES = st.builds(Recipe, draw=draws(), camera=CAMERAS)
MIXTURES = st.lists(st.tuples(RECIPES, st.floats(1e-3, 1.0)), min_size=1, max_size=5)


def file_of(*parts: tuple[Recipe, float], cls: str = "frog", **said: Any) -> MixturesFile:
    mixture = Mixture(
        recipes=tuple(recipe for recipe, _ in parts),
        weights=tuple(weight for _, weight in parts),
        gap_tune=math.nan,
    )
    its = ClassMixture.of(mixture.to_json(), {"confirmed": True, "ratio": 0.61234}, photos={})
    return MixturesFile.model_validate({"schema": 1, **said, "classes": {cls: its}})


def written(folder: Path, text: str) -> Path:
    path = folder / "mixtures.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@given(MIXTURES, WORDS | st.sampled_from(["off", "1", "1e3", "null", "true", "a: b", "- x"]))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[Recipe, float]], name: str
) -> None:
    file = file_of(*parts, cls=name, run=name, generator="diffusers:pond", embedder="pond")
    read = MixturesFile.read(written(tmp_path_factory.mktemp("m"), file.to_yaml()))
    assert read == file
    assert read.rows() == file.rows()
    rows = read.rows()[name]
    assert sum(row["weight"] for row in rows) == pytest.approx(1.0)
    for row, (recipe, _) in zip(rows, parts, strict=True):
        said = {k: v for k, v in row.items() if k not in ("weight", "camera")}
        assert Draw(**said, size=recipe.draw.size) == recipe.draw
        camera = Camera.from_json(row.get("camera", {}))
        assert camera == recipe.camera or camera.is_identity is recipe.camera.is_identity is True


def test_it_is_words_that_a_person_can_read() -> None:
    draw = Draw(prompt="a brown frog", guidance_scale=2.5, num_inference_steps=9)
    camera = Camera(noise=0.02, resize=32)
    gray = Draw(prompt="a gray frog, \N{FROG FACE}", scheduler="ddim", parameters={"light": 3})
    plain = Recipe(draw=gray, camera=Camera())
    file = file_of((Recipe(draw=draw, camera=camera), 0.66666), (plain, 0.33334), run="pond")
    text = file.to_yaml()
    assert "--like" in text.split("schema")[0]
    assert (
        text.split("schema: 1\n")[1]
        == """\
run: pond
classes:
  frog:
    confirmed: true
    ratio: 0.61
    recipes:
    - weight: 0.6667
      prompt: a brown frog
      negative_prompt: ''
      guidance_scale: 2.5
      num_inference_steps: 9
      scheduler: null
      camera:
        resize: 32
        noise: 0.02
    - weight: 0.3333
      prompt: a gray frog, \N{FROG FACE}
      negative_prompt: ''
      scheduler: ddim
      parameters:
        light: 3
"""
    )


def test_by_hand_a_recipe_needs_a_prompt_and_a_weight_alone(tmp_path: Path) -> None:
    text = """
schema: 1
classes:
  frog:
    recipes:
      - {weight: 3, prompt: a brown frog}
      - {weight: 1, prompt: a gray frog, guidance_scale: 2}
      - {weight: 0, prompt: a red frog}
"""
    rows = MixturesFile.read(written(tmp_path, text)).rows()
    assert rows == {
        "frog": (
            {"weight": 0.75, "prompt": "a brown frog"},
            {"weight": 0.25, "prompt": "a gray frog", "guidance_scale": 2.0},
        )
    }


def test_a_photo_group_is_named_and_no_digest_is_in_it() -> None:
    draw = Draw(prompt="{captions of group 3}", photos="0123", strength=0.5)
    recipe = GivenRecipe.of(Recipe(draw=draw, camera=Camera()), 1.0, photos={"0123": "group 3"})
    assert recipe.row()["photos"] == "group 3"
    assert "camera" not in recipe.row()
    assert "size" not in recipe.row()


FROG: dict[str, Any] = {"weight": 1.0, "prompt": "a frog"}


def one(**said: Any) -> dict[str, Any]:
    """A file of one recipe."""
    return {"schema": 1, "classes": {"frog": {"recipes": [FROG | said]}}}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "expected the YAML of mixtures"),
        ([1], "expected the YAML of mixtures"),
        ({"real": {"path": "x"}}, "expected the YAML of mixtures"),
        ({"classes": one()["classes"]}, "schema is missing; add it"),
        (one() | {"schema": 2}, "schema: got 2, expected 1"),
        (one() | {"clases": {}}, "clases is no key here; did you mean classes?"),
        ({"schema": 1, "classes": {}}, "classes: got {}"),
        ({"schema": 1, "classes": {"frog": {}}}, "classes.frog.recipes is missing; add it"),
        (
            {"schema": 1, "classes": {"frog": {"recipes": []}}},
            "classes.frog.recipes: got [], expected more values",
        ),
        (
            {"schema": 1, "classes": {"frog": {"recipe": [FROG], "recipes": [FROG]}}},
            "classes.frog.recipe is no key here; did you mean recipes?",
        ),
        (
            one(guidance=3.0),
            "classes.frog.recipes[0].guidance is no key here; did you mean guidance_scale?",
        ),
        (one(camera={"noize": 0.1}), "recipes[0].camera.noize is no key here; did you mean noise"),
        (one(weight="much"), 'classes.frog.recipes[0].weight: got "much", expected a number'),
        (one(weight=-1.0), "classes.frog.recipes[0].weight: got -1.0"),
        (
            one(weight=0.0),
            "classes.frog: no recipe has a weight above 0; give one to at least one",
        ),
        (one(prompt=" "), "classes.frog.recipes[0].prompt: got an empty prompt, expected words"),
        (one(num_inference_steps=2.5), "recipes[0].num_inference_steps: got 2.5"),
        (one(strength=0.5), "strength and ip_adapter_scale need photos; add photos: all photos"),
        (one(scheduler=""), "scheduler must be a name or null"),
        (one(weight=1e308), "classes.frog.recipes[0].weight: got 1e+308"),
        (one(camera={"resize": 10**6}), "recipes[0].camera.resize: got 1000000"),
        (one(prompt="a \x1b[31mfrog"), "holds a character that cannot be seen (U+001B)"),
        (one() | {"run": "a" * 300}, "expected the name of a run folder"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, data: Any, said: str) -> None:
    path = written(tmp_path, yaml.safe_dump(data))
    with pytest.raises(ConfigError) as caught:
        MixturesFile.read(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_what_is_no_yaml_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 1: this is no YAML"):
        MixturesFile.read(written(tmp_path, "classes: ]"))
    (tmp_path / "mixtures.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        MixturesFile.read(tmp_path / "mixtures.yaml")


def test_a_yaml_file_is_told_by_its_name() -> None:
    assert [is_mixtures_file(Path(name)) for name in ("a.yaml", "a.YML", "yaml", "a.json")] == [
        True, True, False, False
    ]  # fmt: skip
