"""Generators that each break one promise, and one that keeps them all, under the suite that ships.

test_testing.py runs this file by itself and checks that each `Test...` fails what `breaks` names.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.generators.base import checked_seeds
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.images import ImageBatch
from gapclose.generators.recipe import Draw
from gapclose.generators.testing import GeneratorContract, Make


class Sound:
    """It keeps every promise: colours follow from prompt and seed."""

    revision: str | None = "1"
    license: str | None = None
    source_type = "digitalCreation"

    @property
    def id(self) -> str:
        return "sound:1"

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        if draw.scheduler is not None:
            raise GeneratorConfigError("scheduler: there is none to replace; leave it null")
        plain = self.checked(seeds)
        images = tuple(self.image(draw, seed, plain) for seed in plain)
        return ImageBatch(images=images, seeds=plain, invalid=(None,) * len(plain))

    def checked(self, seeds: Sequence[int]) -> tuple[int, ...]:
        return checked_seeds(seeds)

    def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
        words = [*draw.prompt.encode()]
        return np.random.default_rng([seed, *words]).integers(0, 256, (8, 8, 3), dtype=np.uint8)


class Contract(GeneratorContract):
    kind: ClassVar[type[Sound]] = Sound
    breaks: ClassVar[set[str]] = set()

    @pytest.fixture
    def make(self) -> Make:
        return self.kind

    @pytest.fixture
    def refused(self) -> Sequence[Draw]:
        return [Draw(prompt="a frog", scheduler="ddim")]


class TestSound(Contract):
    pass


class TestGlobalNumpyChanged(Contract):
    breaks: ClassVar = {"global_random_state_is_not_changed"}

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            np.random.seed(seed)  # noqa: NPY002
            return np.random.randint(0, 256, (8, 8, 3), dtype=np.uint8)  # noqa: NPY002


class TestGlobalNumpyRead(Contract):
    breaks: ClassVar = {
        "global_random_state_is_not_changed",
        "global_random_state_is_not_read",
        "the_same_seeds_give_the_same_pixels",
    }

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            return np.random.randint(0, 256, (8, 8, 3), dtype=np.uint8)  # noqa: NPY002


class TestGlobalRandomChanged(Contract):
    breaks: ClassVar = {"global_random_state_is_not_changed"}

    class kind(Sound):  # noqa: N801
        def __init__(self) -> None:
            random.seed(7)


class TestGlobalTorchChanged(Contract):
    breaks: ClassVar = {"global_random_state_is_not_changed"}

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            import torch

            torch.manual_seed(seed)
            return torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8).numpy()


class TestBatchDependent(Contract):
    """As one random generator for a whole batch makes it."""

    breaks: ClassVar = {
        "another_batch_size_is_within_one_level",
        "the_order_of_seeds_does_not_matter",
    }

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            return super().image(draw, seed + len(seeds) + seeds.index(seed), seeds)


class TestTwoLevelsApart(Contract):
    breaks: ClassVar = {"another_batch_size_is_within_one_level"}

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            image = super().image(draw, seed, seeds) // 2
            return (image + 2 * (len(seeds) == 1)).astype(np.uint8)


class TestOrderOfSeeds(Contract):
    breaks: ClassVar = {"it_returns_one_uint8_rgb_image_per_seed"}

    class kind(Sound):  # noqa: N801
        def checked(self, seeds: Sequence[int]) -> tuple[int, ...]:
            return tuple(sorted(checked_seeds(seeds)))


class TestSeedIgnored(Contract):
    breaks: ClassVar = {"different_seeds_give_different_images"}

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            return super().image(draw, 0, seeds)


class TestSeedsUnchecked(Contract):
    breaks: ClassVar = {"bad_seeds_are_refused"}

    class kind(Sound):  # noqa: N801
        def checked(self, seeds: Sequence[int]) -> tuple[int, ...]:
            return tuple(int(seed) for seed in seeds)


class TestNumpySeeds(Contract):
    breaks: ClassVar = {"numpy_seeds_are_seeds"}

    class kind(Sound):  # noqa: N801
        def checked(self, seeds: Sequence[int]) -> tuple[int, ...]:
            return tuple(seeds) if checked_seeds(seeds) else ()


class TestFloats(Contract):
    breaks: ClassVar = {"it_returns_one_uint8_rgb_image_per_seed"}

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            return super().image(draw, seed, seeds) / 255.0


class TestCastUnscaled(Contract):
    breaks: ClassVar = {"it_returns_one_uint8_rgb_image_per_seed"}

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            return (super().image(draw, seed, seeds) / 255.0).astype(np.uint8)


class TestGray(Contract):
    breaks: ClassVar = {"it_returns_one_uint8_rgb_image_per_seed"}

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            return super().image(draw, seed, seeds)[..., 0]


class TestNoPixels(Contract):
    breaks: ClassVar = {"it_returns_one_uint8_rgb_image_per_seed"}

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            return super().image(draw, seed, seeds)[:0]


class TestList(Contract):
    breaks: ClassVar = {"it_returns_one_uint8_rgb_image_per_seed"}

    class kind(Sound):  # noqa: N801
        def generate(self, draw: Draw, seeds: Sequence[int]) -> Any:
            return list(super().generate(draw, seeds).images)


class TestNoImagesFail(Contract):
    breaks: ClassVar = {"no_seeds_give_no_images"}

    class kind(Sound):  # noqa: N801
        def checked(self, seeds: Sequence[int]) -> tuple[int, ...]:
            return (checked_seeds(seeds)[0], *checked_seeds(seeds)[1:])


class TestMarkedByTruth(Contract):
    breaks: ClassVar = {"marks_are_words_or_none"}

    class kind(Sound):  # noqa: N801
        def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
            batch = super().generate(draw, seeds)
            marks: Any = (False,) * len(batch)
            return ImageBatch(images=batch.images, seeds=batch.seeds, invalid=marks)


class TestLeak(Contract):
    """As a scheduler or an adapter that an earlier draw set, and none puts back."""

    breaks: ClassVar = {"draws_do_not_leak_into_each_other"}

    class kind(Sound):  # noqa: N801
        first: str | None = None

        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            image = super().image(draw, seed, seeds)
            self.first = self.first or draw.prompt
            leaks = self.first == draw.prompt and self.last not in (None, draw.prompt)
            self.last = draw.prompt
            return image[::-1] if leaks else image

        last: str | None = None


class TestSharedBatch(Contract):
    breaks: ClassVar = {"several_draws_at_once_are_each_as_alone"}

    class kind(Sound):  # noqa: N801
        def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
            return [self.generate(jobs[0][0], seeds) for _, seeds in jobs]


class TestAnythingGoes(Contract):
    breaks: ClassVar = {"a_draw_that_it_cannot_do_is_refused", "a_refused_draw_changes_nothing"}

    class kind(Sound):  # noqa: N801
        def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
            return super().generate(Draw(prompt=draw.prompt), seeds)


class TestRefusedInLines(Contract):
    breaks: ClassVar = {"a_draw_that_it_cannot_do_is_refused"}

    class kind(Sound):  # noqa: N801
        def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
            if draw.scheduler is not None:
                raise GeneratorConfigError("scheduler: there is none\nleave it null")
            return super().generate(draw, seeds)


class TestBrokenByRefusal(Contract):
    breaks: ClassVar = {"a_refused_draw_changes_nothing"}

    class kind(Sound):  # noqa: N801
        refused = 0

        def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
            self.refused += draw.scheduler is not None
            return super().generate(draw, seeds)

        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            return super().image(draw, seed + 100 * self.refused, seeds)


class TestIdentityOfAnInstance(Contract):
    breaks: ClassVar = {"its_identity_is_stable"}

    class kind(Sound):  # noqa: N801
        @cached_property
        def id(self) -> str:
            return f"sound:{id(object())}{random.SystemRandom().random()}"


class TestIdentityThatCounts(Contract):
    breaks: ClassVar = {"its_identity_is_stable"}

    class kind(Sound):  # noqa: N801
        def image(self, draw: Draw, seed: int, seeds: Sequence[int]) -> NDArray[Any]:
            self.revision = f"{self.revision}1"
            return super().image(draw, seed, seeds)


class TestSourceType(Contract):
    breaks: ClassVar = {"it_has_what_a_generator_has"}

    class kind(Sound):  # noqa: N801
        source_type = "photo"


class TestNameOfTwoLines(Contract):
    breaks: ClassVar = {"it_has_what_a_generator_has"}

    class kind(Sound):  # noqa: N801
        id = "sound\n1"


class TestRevisionIsANumber(Contract):
    breaks: ClassVar = {"it_has_what_a_generator_has"}

    class kind(Sound):  # noqa: N801
        revision: Any = 1


class TestNoGenerate(Contract):
    breaks: ClassVar = {"it_has_what_a_generator_has"}

    @pytest.fixture
    def make(self) -> Any:
        return object
