"""Generators that take pictures and each break one promise, and one that keeps them all.

test_testing.py runs this file by itself and checks that each `Test...` fails what `breaks` names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from gapclose.generators.base import SourcedJob, checked_seeds
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.images import ImageBatch, Pixels
from gapclose.generators.recipe import Draw
from gapclose.generators.testing import Make, SourcedGeneratorContract

SIDE = 16


class Sound:
    """It keeps every promise: a source, and over it noise of prompt and seed."""

    id = "sound:1"
    revision: str | None = None
    license: str | None = None
    source_type = "digitalCreation"

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        if draw.strength is not None:
            raise GeneratorConfigError("strength: needs a source picture; leave it out")
        return self.batch(draw, seeds, [np.zeros((SIDE, SIDE, 3), np.uint8)] * len(seeds))

    def generate_from(self, jobs: Sequence[SourcedJob]) -> list[ImageBatch]:
        for _, seeds, sources in jobs:
            self.check(seeds, sources)
        return [self.batch(*job) for job in jobs]

    def check(self, seeds: Sequence[int], sources: Sequence[Pixels]) -> None:
        if len(seeds) != len(sources):
            raise ValueError(f"{len(sources)} sources for {len(seeds)} seeds")

    def batch(self, draw: Draw, seeds: Sequence[int], sources: Sequence[Pixels]) -> ImageBatch:
        plain = checked_seeds(seeds)
        images = tuple(
            self.image(draw, seed, source) for seed, source in zip(plain, sources, strict=False)
        )
        plain = plain[: len(images)]
        return ImageBatch(images=images, seeds=plain, invalid=(None,) * len(plain))

    def image(self, draw: Draw, seed: int, source: Pixels) -> Pixels:
        return mixed(draw, seed, source, draw.strength or 1.0)


def mixed(draw: Draw, seed: int, source: Pixels, strength: float) -> Pixels:
    small = np.asarray(Image.fromarray(source).resize((SIDE, SIDE)), float)
    rng = np.random.default_rng([seed, *draw.prompt.encode()])
    noise = rng.integers(0, 256, small.shape)
    return np.rint((1 - strength) * small + strength * noise).astype(np.uint8)


class Contract(SourcedGeneratorContract):
    kind: ClassVar[type[Sound]] = Sound
    breaks: ClassVar[set[str]] = set()

    @pytest.fixture
    def make(self) -> Make:
        return self.kind


class TestSound(Contract):
    pass


class TestOneBatch(Contract):
    breaks: ClassVar = {"it_returns_one_image_per_seed_in_their_order"}

    class kind(Sound):  # noqa: N801
        def generate_from(self, jobs: Sequence[SourcedJob]) -> list[ImageBatch]:
            return super().generate_from(jobs[:1])


class TestSizeOfTheSource(Contract):
    breaks: ClassVar = {"it_returns_one_image_per_seed_in_their_order"}

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, source: Pixels) -> Pixels:
            size = (source.shape[1], source.shape[0])
            return np.asarray(Image.fromarray(super().image(draw, seed, source)).resize(size))


class TestEachInstanceItsOwn(Contract):
    breaks: ClassVar = {"the_same_seed_and_source_give_the_same_pixels"}

    class kind(Sound):  # noqa: N801
        made = 0

        def __init__(self) -> None:
            type(self).made += 1
            self.number = self.made

        def image(self, draw: Draw, seed: int, source: Pixels) -> Pixels:
            return super().image(draw, seed + self.number, source)


class TestFirstSourceForAll(Contract):
    """As a pipeline that takes one picture for the whole batch."""

    breaks: ClassVar = {"an_image_follows_from_its_own_seed_and_source"}

    class kind(Sound):  # noqa: N801
        def batch(self, draw: Draw, seeds: Sequence[int], sources: Sequence[Pixels]) -> ImageBatch:
            return super().batch(draw, seeds, [*sources[:1]] * len(seeds))


class TestSourceIgnored(Contract):
    breaks: ClassVar = {
        "seed_and_source_each_matter",
        "strength_is_how_much_of_a_source_is_replaced",
    }

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, source: Pixels) -> Pixels:
            return super().image(draw, seed, np.zeros_like(source))


class TestSourceReturned(Contract):
    breaks: ClassVar = {
        "seed_and_source_each_matter",
        "strength_is_how_much_of_a_source_is_replaced",
    }

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, source: Pixels) -> Pixels:
            return mixed(draw, seed, source, 0.0)


class TestSourceOverwritten(Contract):
    breaks: ClassVar = {"a_source_is_left_as_it_is"}

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, source: Pixels) -> Pixels:
            image = super().image(draw, seed, source)
            if source.flags.writeable:
                source[:] = 0
            return image


class TestGlobalNumpy(Contract):
    breaks: ClassVar = {"global_random_state_is_neither_read_nor_changed"}

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, source: Pixels) -> Pixels:
            np.random.seed(seed)  # noqa: NPY002
            return super().image(draw, seed, source)


class TestDrawnFromTextAlone(Contract):
    breaks: ClassVar = {"a_draw_without_its_source_is_refused"}

    class kind(Sound):  # noqa: N801
        def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
            return super().generate(Draw(prompt=draw.prompt), seeds)


class TestAnyNumberOfSources(Contract):
    breaks: ClassVar = {"one_source_per_seed"}

    class kind(Sound):  # noqa: N801
        def check(self, seeds: Sequence[int], sources: Sequence[Pixels]) -> None:
            pass
