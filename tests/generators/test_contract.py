"""Every generator that ships keeps the contract, in the suite that ships for others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from turntable import Turntable

from gapclose.generators.base import Generator
from gapclose.generators.checkpoint import POND
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.folder import FolderGenerator
from gapclose.generators.images import Pixels
from gapclose.generators.pond.renderer import real_photos
from gapclose.generators.recipe import Draw
from gapclose.generators.testing import GeneratorContract, Make, SourcedGeneratorContract

FROG = Draw(prompt="a photo of a frog", num_inference_steps=3, guidance_scale=3.0)
BROWN = replace(FROG, prompt="a photo of a brown frog on snow")


class Contract(GeneratorContract):
    """What gapclose's own generators promise besides."""

    @pytest.fixture
    def draws(self) -> Sequence[Draw]:
        return [FROG, BROWN]

    def test_its_id_is_its_kind_and_a_name(self, generator: Generator) -> None:
        assert generator.id.count(":") == 1


class DiffusersContract(Contract):
    @pytest.fixture
    def folder(self) -> Path:
        raise NotImplementedError

    @pytest.fixture
    def draws(self) -> Sequence[Draw]:
        return [FROG, BROWN, replace(FROG, negative_prompt="green")]

    @pytest.fixture
    def make(self, folder: Path) -> Make:
        return lambda: DiffusersGenerator(str(folder), batch_size=8, device="cpu")

    @pytest.fixture
    def refused(self) -> Sequence[Draw]:
        return [replace(FROG, size=13), replace(FROG, scheduler="ddimm")]

    def test_another_option_batch_size_is_within_one_level(
        self, generator: Generator, folder: Path, draws: Sequence[Draw]
    ) -> None:
        wide = generator.generate(draws[0], range(6))
        other = DiffusersGenerator(str(folder), batch_size=2, device="cpu")
        narrow = other.generate(draws[0], range(6))
        assert narrow.seeds == wide.seeds
        for one, two in zip(wide.images, narrow.images, strict=True):
            assert np.abs(one.astype(int) - two).max() <= 1


class TestTiny(DiffusersContract):
    @pytest.fixture
    def folder(self, tiny: Path) -> Path:
        return tiny


class TestAncestral(TestTiny):
    """With noise at every step, not only the first."""

    @pytest.fixture
    def draws(self) -> Sequence[Draw]:
        return [replace(draw, scheduler="euler_a") for draw in (FROG, BROWN)]


class TestLatentConsistency(DiffusersContract):
    @pytest.fixture
    def folder(self, tiny_lcm: Path) -> Path:
        return tiny_lcm

    @pytest.fixture
    def draws(self) -> Sequence[Draw]:
        return [FROG, BROWN]

    @pytest.fixture
    def refused(self) -> Sequence[Draw]:
        return [replace(FROG, negative_prompt="green"), replace(FROG, scheduler="flow_euler")]


needs_pond = pytest.mark.skipif(
    not (POND / "model_index.json").is_file(),
    reason="pond's weights are not here; make pond trains them",
)


@needs_pond
class TestPond(DiffusersContract):
    @pytest.fixture
    def folder(self) -> Path:
        return POND


class SourcedContract(SourcedGeneratorContract):
    @pytest.fixture
    def make(self, folder: Path) -> Make:
        return lambda: DiffusersGenerator(str(folder), batch_size=8, device="cpu")


@needs_pond
class TestPondFromPictures(SourcedContract):
    @pytest.fixture
    def folder(self) -> Path:
        return POND

    @pytest.fixture
    def sources(self) -> Sequence[Pixels]:
        """Photos of its own world: its autoencoder has seen no other."""
        photos = [photo for _, photo in real_photos("frog", range(5))]
        wide = np.pad(photos[2], ((0, 0), (8, 8), (0, 0)), mode="edge")
        large = photos[3].repeat(2, axis=0).repeat(2, axis=1)
        return [*photos[:2], wide, large, photos[4]]


class Untrained(SourcedContract):
    """Families of pipelines; what one decodes is no picture yet."""

    @pytest.fixture
    def near(self) -> None:
        return None


class TestTinyFromPictures(Untrained):
    @pytest.fixture
    def folder(self, tiny: Path) -> Path:
        return tiny


class TestAncestralFromPictures(TestTinyFromPictures):
    @pytest.fixture
    def draw(self) -> Draw:
        return replace(FROG, scheduler="euler_a", strength=0.7)


class TestXLFromPictures(Untrained):
    @pytest.fixture
    def folder(self, tiny_sdxl: Path) -> Path:
        return tiny_sdxl


class TestFlowFromPictures(Untrained):
    @pytest.fixture
    def folder(self, tiny_sd3: Path) -> Path:
        return tiny_sd3


class TestFolder(Contract):
    @pytest.fixture
    def make(self, frogs: Path) -> Make:
        return lambda: FolderGenerator(frogs)

    @pytest.fixture
    def draws(self) -> Sequence[Draw]:
        return [FROG, BROWN, replace(FROG, prompt="an automobile")]

    @pytest.fixture
    def refused(self) -> Sequence[Draw]:
        return [replace(FROG, prompt="a photo of a ship")]


class TestOwnParameters(GeneratorContract):
    """A renderer of the tests', which has nothing but parameters."""

    @pytest.fixture
    def make(self) -> Make:
        return Turntable

    @pytest.fixture
    def draws(self) -> Sequence[Draw]:
        own = {"light": 45.0, "material": "steel", "count": 1, "tilt": 20.0}
        ball = Draw(prompt="a ball", cls="ball", noun="ball", parameters=own)
        cube = replace(ball, prompt="a cube", cls="cube", noun="cube")
        return [ball, cube, replace(ball, parameters={**own, "count": 3})]
