from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from make_run import Renderer
from numpy.typing import NDArray

from gapclose.generators.camera import apply_camera
from gapclose.generators.errors import GenerationError, MemoryOutError
from gapclose.generators.images import write_png
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.config.reading import parse_config
from gapclose.loop.run.joining import create_run
from gapclose.loop.work.synthesis import Synthesis, read_image

DRAW = Draw(prompt="a photo of a frog")


class Counting(Renderer):
    """Remembers what it was asked for."""

    def __init__(self, spoil: int = 0) -> None:
        super().__init__(spoil)
        self.asked: list[tuple[str, tuple[int, ...]]] = []

    def generate(self, draw: Draw, seeds: Sequence[int]):  # type: ignore[no-untyped-def]
        self.asked.append((draw.prompt, tuple(seeds)))
        return super().generate(draw, seeds)


class MeanColour:
    """An embedder small enough to check by hand."""

    id = "mean-colour"
    width = 3

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        rows = np.stack([image.reshape(-1, 3).mean(0) for image in images]).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_synthesis(tmp_path: Path, spoil: int = 0) -> tuple[Synthesis, Counting]:
    config = parse_config(
        {
            "real": {"kind": "pond"},
            "generator": {"kind": "diffusers", "model": "pond"},
            "embedder": "pond",
        }
    )
    generator = Counting(spoil)
    rundir = create_run(tmp_path / "run", config)
    return Synthesis(generator=generator, embedder=MeanColour(), rundir=rundir), generator


def recipe(draw: Draw = DRAW, **camera: object) -> Recipe:
    return Recipe(draw=draw, camera=Camera(**camera))  # type: ignore[arg-type]


def test_a_shot_is_drawn_put_through_the_camera_embedded_and_kept(tmp_path: Path) -> None:
    synthesis, generator = make_synthesis(tmp_path)
    brown = Draw(prompt="a photo of a brown frog")
    jobs = [(recipe(noise=0.02), (5, 6)), (recipe(brown), (7,))]
    batch = synthesis.generate("frog", jobs)
    assert batch.recipes == (0, 0, 1)
    assert batch.seeds == (5, 6, 7)
    assert (batch.invalid, batch.generated, synthesis.generated) == (0, 3, 3)
    plain = generator.generate(DRAW, [5]).images[0]
    np.testing.assert_array_equal(batch.images[0], apply_camera(Camera(noise=0.02), plain, seed=5))
    np.testing.assert_allclose(batch.embeddings, MeanColour().embed(batch.images))
    # On disk is what was drawn, before the camera.
    from gapclose.analysis.decode import read_rgb

    path = synthesis.rundir.image_path("frog", DRAW.fingerprint(), 5)
    np.testing.assert_array_equal(read_rgb(path), plain)


def test_what_a_finished_trial_drew_is_read_back(tmp_path: Path) -> None:
    synthesis, generator = make_synthesis(tmp_path)
    first = synthesis.generate("frog", [(recipe(), (1, 2, 3))])
    synthesis.remember("frog", DRAW.fingerprint(), (1, 2, 3))
    again = synthesis.generate("frog", [(recipe(), (1, 2, 3))])
    assert len(generator.asked) == 1
    assert again.generated == 0
    np.testing.assert_array_equal(again.embeddings, first.embeddings)
    for one, other in zip(first.images, again.images, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_camera_draws_nothing(tmp_path: Path) -> None:
    synthesis, generator = make_synthesis(tmp_path)
    synthesis.generate("frog", [(recipe(), (1, 2))])
    synthesis.remember("frog", DRAW.fingerprint(), (1, 2))
    batch = synthesis.generate("frog", [(recipe(noise=0.05, jpeg_quality=60), (1, 2))])
    assert (batch.generated, len(generator.asked)) == (0, 1)
    drawn = Renderer().generate(DRAW, [1]).images[0]
    wanted = apply_camera(Camera(noise=0.05, jpeg_quality=60), drawn, seed=1)
    np.testing.assert_array_equal(batch.images[0], wanted)
    # Another class, or another seed, is another image.
    assert synthesis.generate("toad", [(recipe(), (1,))]).generated == 1
    assert synthesis.generate("frog", [(recipe(), (1, 2, 9))]).generated == 1
    assert generator.asked[-1][1] == (9,)


def test_an_orphan_of_a_killed_trial_is_drawn_again(tmp_path: Path) -> None:
    # A batch then always holds the same images, and so the same pixels.
    synthesis, _ = make_synthesis(tmp_path)
    synthesis.generate("frog", [(recipe(), (1, 2))])
    fresh = Counting()
    resumed = Synthesis(generator=fresh, embedder=MeanColour(), rundir=synthesis.rundir)
    resumed.generate("frog", [(recipe(), (1, 2))])
    assert fresh.asked == [("a photo of a frog", (1, 2))]


def test_invalid_images_are_counted_and_leave_no_file(tmp_path: Path) -> None:
    synthesis, _ = make_synthesis(tmp_path, spoil=3)
    batch = synthesis.generate("frog", [(recipe(), (3, 4, 5, 6))])
    assert batch.seeds == (4, 5)
    assert (batch.invalid, batch.generated) == (2, 4)
    assert batch.embeddings.shape == (2, 3)
    folder = synthesis.rundir.image_path("frog", DRAW.fingerprint(), 3).parent
    assert sorted(p.name for p in folder.iterdir()) == ["4.png", "5.png"]
    synthesis.remember("frog", DRAW.fingerprint(), (3, 4, 5, 6))
    assert synthesis.generate("frog", [(recipe(), (3, 4, 5, 6))]).seeds == (4, 5)


def test_a_damaged_image_is_drawn_again(tmp_path: Path) -> None:
    synthesis, generator = make_synthesis(tmp_path)
    first = synthesis.generate("frog", [(recipe(), (1, 2))])
    synthesis.remember("frog", DRAW.fingerprint(), (1, 2))
    path = synthesis.rundir.image_path("frog", DRAW.fingerprint(), 2)
    for damage in (b"", path.read_bytes()[:-40]):  # as a power cut leaves it
        path.write_bytes(damage)
        again = synthesis.generate("frog", [(recipe(), (1, 2))])
        assert generator.asked[-1][1] == (2,)
        np.testing.assert_array_equal(again.embeddings, first.embeddings)


class Refusing(Counting):
    """Fails for prompts with these words."""

    words: tuple[str, ...] = ()

    def generate(self, draw: Draw, seeds: Sequence[int]):  # type: ignore[no-untyped-def]
        batch = super().generate(draw, seeds)
        for word in self.words:
            if word in draw.prompt:
                raise GenerationError(f"no {word} today")
        return batch


def test_one_prompt_that_fails_does_not_take_a_trials_others_with_it(tmp_path: Path) -> None:
    synthesis, _ = make_synthesis(tmp_path)
    synthesis.generator = generator = Refusing()
    generator.words = ("brown",)
    jobs = [(recipe(), (1, 2)), (recipe(Draw(prompt="a photo of a brown frog")), (3,))]
    with pytest.raises(GenerationError, match="no brown today"):
        synthesis.generate("frog", jobs)  # a confirmation is of all its recipes or none
    batch = synthesis.generate("frog", jobs, partly=True)
    assert (batch.seeds, batch.invalid, batch.generated) == ((1, 2), 1, 2)
    synthesis.remember("frog", DRAW.fingerprint(), (1, 2))
    again = synthesis.generate("frog", jobs, partly=True)
    assert (again.seeds, again.invalid, again.generated) == ((1, 2), 1, 0)
    generator.words = ("frog",)
    with pytest.raises(GenerationError, match="no frog today"):
        synthesis.generate("toad", jobs, partly=True)
    with pytest.raises(GenerationError, match="no frog today"):
        synthesis.generate("toad", jobs[:1], partly=True)


class Filling(Counting):
    """Memory is out for prompts with these words."""

    words: tuple[str, ...] = ()
    error: type[Exception] = MemoryError

    def generate(self, draw: Draw, seeds: Sequence[int]):  # type: ignore[no-untyped-def]
        batch = super().generate(draw, seeds)
        if any(word in draw.prompt for word in self.words):
            raise self.error("memory is out")
        return batch


@pytest.mark.parametrize("error", [MemoryError, MemoryOutError])
def test_one_prompt_that_memory_never_suffices_for_takes_no_others_with_it(
    tmp_path: Path, error: type[Exception]
) -> None:
    synthesis, _ = make_synthesis(tmp_path)
    synthesis.generator = generator = Filling()
    generator.words, generator.error = ("brown",), error
    jobs = [(recipe(), (1, 2)), (recipe(Draw(prompt="a photo of a brown frog")), (3,))]
    batch = synthesis.generate("frog", jobs, partly=True)
    assert (batch.seeds, batch.invalid, batch.generated) == ((1, 2), 1, 2)
    with pytest.raises(error):
        synthesis.generate("frog", jobs)  # a confirmation is of all its recipes or none
    generator.words = ("frog",)
    with pytest.raises(error):
        synthesis.generate("toad", jobs, partly=True)


def test_a_shot_of_nothing_valid_is_empty(tmp_path: Path) -> None:
    synthesis, _ = make_synthesis(tmp_path, spoil=1)
    batch = synthesis.generate("frog", [(recipe(), (1, 2))])
    assert batch.embeddings.shape == (0, 3)
    assert batch.invalid == 2


@pytest.mark.parametrize("cls", ["../x", "a/b"])
def test_a_class_cannot_write_elsewhere(tmp_path: Path, cls: str) -> None:
    synthesis, generator = make_synthesis(tmp_path)
    with pytest.raises(ValueError, match="cannot name a folder"):
        synthesis.generate(cls, [(recipe(), (1, 2))])
    assert generator.asked == []


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"


def test_an_image_of_a_run_is_read_whatever_somebody_put_in_its_place(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    write_png(tmp_path / "own.png", image, source_type="digitalCreation")
    read = read_image(tmp_path / "own.png")
    assert read is not None
    assert np.array_equal(read, image)
    (tmp_path / "link.png").symlink_to(tmp_path / "own.png")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "ps.png").write_bytes(POSTSCRIPT)
    (tmp_path / "torn.png").write_bytes((tmp_path / "own.png").read_bytes()[:60])
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("link", "self", "ps", "torn", "pipe", "gone"):
        assert read_image(tmp_path / f"{name}.png") is None, name
