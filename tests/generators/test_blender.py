"""The example of a renderer: Blender itself draws what its parameters say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gapclose.generators.command import CommandGenerator
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.recipe import Draw
from gapclose.generators.testing import GeneratorContract, Make
from gapclose.loop.config.reading import load_config
from gapclose.loop.config.sources import CommandSpec
from gapclose.loop.search.space import Space, variants

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "configs/examples/blender"
PYTHON = ROOT / "build/blender/bin/python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="bpy is not here; make blender installs it"),
]


@pytest.fixture(scope="module")
def blender() -> Iterator[CommandGenerator]:
    run = [str(PYTHON), str(EXAMPLE / "scene.py")]
    with contextlib.closing(CommandGenerator(run, size=32, timeout=120)) as generator:
        yield generator


@pytest.fixture(scope="module")
def bolt() -> Draw:
    config = load_config(EXAMPLE / "parts.yaml")
    return replace(Space.of(config, "bolt").baseline.draw, size=None)


class TestBlender(GeneratorContract):
    @pytest.fixture
    def generator(self, blender: CommandGenerator) -> CommandGenerator:
        return blender

    @pytest.fixture
    def make(self, blender: CommandGenerator) -> Make:
        """One program serves all: each start takes seconds."""
        return lambda: blender

    @pytest.fixture
    def draws(self, bolt: Draw) -> Sequence[Draw]:
        return [bolt, replace(bolt, cls="nut")]

    @pytest.fixture
    def refused(self, bolt: Draw) -> Sequence[Draw]:
        return [replace(bolt, parameters={**bolt.parameters, "ligth": 3.0})]


def test_every_parameter_changes_the_image(blender: CommandGenerator, bolt: Draw) -> None:
    space = Space.of(load_config(EXAMPLE / "parts.yaml"), "bolt")
    (plain,) = blender.generate(bolt, [5]).images
    for name, draw in variants(space).items():
        (image,) = blender.generate(replace(draw, size=None), [5]).images
        assert np.abs(image.astype(int) - plain).mean() > 1.0, name
    assert blender.parameters == set(variants(space))


def test_a_slip_of_the_pen_is_refused(blender: CommandGenerator, bolt: Draw) -> None:
    with pytest.raises(GeneratorConfigError, match="did you mean light"):
        blender.generate(replace(bolt, parameters={"ligth": 3.0}), [5])


def test_its_config_names_its_scene() -> None:
    spec = load_config(EXAMPLE / "parts.yaml").generator
    assert isinstance(spec, CommandSpec)
    assert spec.run[1] == str(EXAMPLE / "scene.py")
