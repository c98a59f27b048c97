"""What every generator promises, whatever it draws with."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gapclose.generators.base import Generator, generate_all
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.folder import FolderGenerator
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import POND

DRAW = Draw(prompt="a photo of a frog", num_inference_steps=3, guidance_scale=3.0)
Make = Callable[..., Generator]

KINDS = ["tiny", "ancestral", "lcm", "folder", "pond"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def draw(kind: str) -> Draw:
    if kind == "ancestral":  # noise at every step, not only the first
        return Draw(
            prompt=DRAW.prompt, num_inference_steps=3, guidance_scale=3.0, scheduler="euler_a"
        )
    return DRAW


@pytest.fixture
def make(kind: str, request: pytest.FixtureRequest) -> Make:
    if kind == "pond" and not (POND / "model_index.json").is_file():
        pytest.skip("pond's weights are not here; make pond trains them")

    def build(*, batch_size: int = 8) -> Generator:
        if kind == "folder":
            return FolderGenerator(request.getfixturevalue("frogs"))
        model: str | Path = "pond"
        if kind != "pond":
            model = request.getfixturevalue("tiny_lcm" if kind == "lcm" else "tiny")
        return DiffusersGenerator(str(model), batch_size=batch_size, device="cpu")

    return build


def test_it_is_a_generator_that_can_be_named(make: Make) -> None:
    generator = make()
    assert isinstance(generator, Generator)
    assert generator.id.count(":") == 1
    assert generator.id == make().id
    assert generator.revision == make().revision
    assert generator.source_type in ("trainedAlgorithmicMedia", "digitalCreation")


def test_one_image_per_seed_in_their_order(make: Make, draw: Draw) -> None:
    generator = make()
    forward = generator.generate(draw, [3, 7, 1])
    backward = generator.generate(draw, [1, 7, 3])
    assert forward.seeds == (3, 7, 1)
    for one, other in zip(forward.images, reversed(backward.images), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert not np.array_equal(forward.images[0], forward.images[1])


def test_several_draws_at_once_are_each_as_alone(make: Make, draw: Draw, kind: str) -> None:
    generator = make()
    other = replace(draw, prompt="a photo of a brown frog on snow")
    negative = {} if kind in ("folder", "lcm") else {"negative_prompt": "green"}
    jobs = [(draw, [4, 1]), (other, [1, 2, 3]), (replace(draw, **negative), [0, 6])]
    for (one, seeds), batch in zip(jobs, generate_all(generator, jobs), strict=True):
        alone = generator.generate(one, seeds)
        assert batch.seeds == alone.seeds
        assert batch.invalid == alone.invalid
        for image, expected in zip(batch.images, alone.images, strict=True):
            assert np.abs(image.astype(int) - expected).max() <= 1


def test_the_same_seeds_give_the_same_pixels(make: Make, draw: Draw) -> None:
    generator = make()
    first = generator.generate(draw, range(5))
    again = generator.generate(draw, range(5))
    other = make().generate(draw, range(5))
    for images in (again.images, other.images):
        for one, two in zip(first.images, images, strict=True):
            np.testing.assert_array_equal(one, two)


def test_another_batch_size_is_within_one_level(make: Make, draw: Draw) -> None:
    wide = make(batch_size=8).generate(draw, range(6))
    narrow = make(batch_size=2).generate(draw, range(6))
    assert narrow.seeds == wide.seeds
    for one, two in zip(wide.images, narrow.images, strict=True):
        assert np.abs(one.astype(int) - two).max() <= 1


def test_global_random_state_is_neither_read_nor_changed(make: Make, draw: Draw) -> None:
    first = make().generate(draw, range(3))
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global state is the subject
    random.seed(99)
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    second = make().generate(draw, range(3))
    after = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    np.testing.assert_equal(before[1], after[1])
    assert before[2] == after[2]
    for one, two in zip(first.images, second.images, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("seeds", [[-1], [2**63], [1.0], ["1"], [True], [None], [4, 4]])
def test_bad_seeds_are_refused(make: Make, draw: Draw, seeds: list[int]) -> None:
    with pytest.raises(ValueError, match="seed"):
        make().generate(draw, seeds)


def test_numpy_seeds_are_seeds(make: Make, draw: Draw) -> None:
    assert make().generate(draw, np.arange(2)).seeds == (0, 1)  # type: ignore[arg-type]


def test_no_seeds_give_no_images(make: Make, draw: Draw) -> None:
    assert len(make().generate(draw, [])) == 0
