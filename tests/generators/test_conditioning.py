"""Draws from photos: each seed's caption and source, and as few calls as without them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapclose.generators.base import SourcedJob, generate_all, generate_from
from gapclose.generators.conditioning import FromPhotos, fill_caption, takes_caption
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.folder import FolderGenerator
from gapclose.generators.images import ImageBatch, Pixels
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import make_generator
from gapclose.generators.testing import GeneratorContract, Make

TEXT = Draw(prompt="a photo of a frog", num_inference_steps=3, guidance_scale=3.0)
CAPTIONED = replace(TEXT, prompt="a photo, a {captions of group 3}", photos="three")
STARTED = replace(TEXT, photos="three", strength=0.6)


class Album:
    """Photos "0", "1", ... of one group, a seed's by its remainder; the last has no caption."""

    def __init__(self, pictures: Sequence[Pixels]) -> None:
        self.pictures = list(pictures)
        self.gone: set[str] = set()

    def pick(self, group: str, seed: int) -> str:
        if group != "three":
            raise GenerationError(f"no photo group {group}")
        return str(seed % len(self.pictures))

    def caption(self, group: str, photo: str) -> str | None:
        captions = ["owl on snow", "{red} ship", "brown frog", "orange cat", "red frog"]
        return [*captions, None][int(photo)]

    def pixels(self, group: str, photo: str) -> Pixels:
        if photo in self.gone:
            raise GenerationError(f"photo {photo} is gone")
        return self.pictures[int(photo)]


class Counted(DiffusersGenerator):
    """One that notes what each call was asked for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.calls: list[tuple[str, list[tuple[str, list[int]]]]] = []

    def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
        self.calls.append(("text", [(draw.prompt, [*seeds]) for draw, seeds in jobs]))
        return super().generate_all(jobs)

    def generate_from(self, jobs: Sequence[SourcedJob]) -> list[ImageBatch]:
        self.calls.append(("picture", [(draw.prompt, [*seeds]) for draw, seeds, _ in jobs]))
        return super().generate_from(jobs)


@pytest.fixture
def album(sources: list[Pixels]) -> Album:
    return Album(sources)


@pytest.fixture
def inner(tiny: Path) -> Counted:
    return Counted(str(tiny), device="cpu", batch_size=8)


@pytest.fixture
def generator(inner: Counted, album: Album) -> FromPhotos:
    return FromPhotos(inner, album)


class TestItIsAGenerator(GeneratorContract):
    """Of draws from text and of draws from photos alike."""

    @pytest.fixture
    def make(self, tiny: Path, album: Album) -> Make:
        own = Album(album.pictures[:5])  # of which each has a caption
        return lambda: FromPhotos(DiffusersGenerator(str(tiny), device="cpu", batch_size=8), own)

    @pytest.fixture
    def draws(self) -> Sequence[Draw]:
        started = replace(STARTED, prompt="{captions of group 3}", scheduler="euler")
        shared = replace(STARTED, prompt="a photo of a cat")
        return [TEXT, shared, CAPTIONED, replace(started, prompt="a photo"), STARTED]

    @pytest.fixture
    def refused(self) -> Sequence[Draw]:
        return [replace(TEXT, strength=0.5), replace(STARTED, ip_adapter_scale=0.5)]


def test_a_caption_stands_for_its_segment() -> None:
    assert fill_caption("{captions of all photos}", "brown frog") == "brown frog"
    assert fill_caption(r"a photo, {captions of group 3}!", r"\1 {x}") == r"a photo, \1 {x}!"
    assert takes_caption("{captions of all photos}")
    for prompt in ("a photo of a {class}", "captions of group 3", "{the captions of group 3}"):
        assert not takes_caption(prompt)
        assert fill_caption(prompt, "x") == prompt


def test_a_seed_resolves_to_its_photo(generator: FromPhotos) -> None:
    assert generator.resolve(TEXT, 3) == (TEXT, None)
    concrete, photo = generator.resolve(CAPTIONED, 6)
    assert (concrete, photo) == (replace(TEXT, prompt="a photo, an owl on snow"), "0")
    concrete, photo = generator.resolve(replace(STARTED, ip_adapter_scale=0.5), 5)
    assert (concrete, photo) == (replace(TEXT, strength=0.6, ip_adapter_scale=0.5), "5")
    with pytest.raises(GenerationError, match="photo 5 has no caption for"):
        generator.resolve(CAPTIONED, 5)
    with pytest.raises(GenerationError, match="no photo group four"):
        generator.resolve(replace(CAPTIONED, photos="four"), 0)


def test_all_of_a_kind_is_one_call(generator: FromPhotos, inner: Counted) -> None:
    both = replace(CAPTIONED, strength=0.6)
    jobs = [
        (CAPTIONED, [2, 0, 8]),
        (TEXT, [4, 1]),
        (STARTED, [1, 7, 0]),
        (both, [3]),
        (STARTED, []),
    ]
    batches = generate_all(generator, jobs)
    assert [batch.seeds for batch in batches] == [(2, 0, 8), (4, 1), (1, 7, 0), (3,), ()]
    assert inner.calls == [
        (
            "text",
            [
                ("a photo, a brown frog", [2, 8]),
                ("a photo, an owl on snow", [0]),
                (TEXT.prompt, [4, 1]),
            ],
        ),
        ("picture", [(TEXT.prompt, [1, 7, 0]), ("a photo, an orange cat", [3])]),
    ]


def test_images_are_those_of_what_they_resolve_to(
    generator: FromPhotos, inner: Counted, sources: list[Pixels]
) -> None:
    captioned, started = generate_all(generator, [(CAPTIONED, [2, 0, 8]), (STARTED, [9, 4])])
    for seed, image in zip(captioned.seeds, captioned.images, strict=True):
        (alone,) = generate_all(inner, [(generator.resolve(CAPTIONED, seed)[0], [seed])])
        assert np.abs(alone.images[0].astype(int) - image).max() <= 1
    draw = replace(STARTED, photos=None)
    (expected,) = generate_from(inner, [(draw, [9, 4], [sources[3], sources[4]])])
    for one, image in zip(expected.images, started.images, strict=True):
        np.testing.assert_array_equal(one, image)


def test_an_image_whose_photo_is_gone_comes_back_marked(
    generator: FromPhotos, inner: Counted, album: Album
) -> None:
    album.gone.add("1")
    assert len(generate_all(generator, [(STARTED, [0])])[0]) == 1
    assert len(generate_all(generator, [(CAPTIONED, [1])])[0]) == 1, "only its pixels are gone"
    inner.calls.clear()
    (batch,) = generate_all(generator, [(STARTED, [0, 1, 2])])
    assert batch.invalid == (None, "photo 1 is gone", None)
    (whole,) = generate_all(generator, [(STARTED, [0, 2])])
    assert [*batch.valid().seeds] == [0, 2]
    for image, other in zip(batch.valid().images, whole.images, strict=True):
        assert np.array_equal(image, other)
    (lost,) = generate_all(generator, [(STARTED, [1])])
    assert lost.invalid == ("photo 1 is gone",)


def test_a_generator_without_pictures_takes_captions(frogs: Path, album: Album) -> None:
    generator = FromPhotos(FolderGenerator(frogs), album)
    named = replace(CAPTIONED, prompt="a photo of a {captions of group 3}")
    (batch,) = generate_all(generator, [(named, [2, 8])])  # brown frog
    assert batch.seeds == (2, 8)
    with pytest.raises(GeneratorConfigError, match=r"^space\.strength: this generator takes no"):
        generate_all(generator, [(STARTED, [2])])


def test_it_hides_nothing_of_what_it_wraps(tiny: Path, frogs: Path, album: Album) -> None:
    inner = make_generator({"kind": "diffusers", "model": str(tiny)})
    generator = FromPhotos(inner, album)
    for name in ("id", "revision", "license", "source_type"):
        assert getattr(generator, name) == getattr(inner, name)
    for name in ("check", "check_schedulers", "check_conditioning", "generate_from"):
        assert getattr(generator, name) == getattr(inner, name)
    plain = FromPhotos(FolderGenerator(frogs), album)
    for name in ("check", "check_schedulers", "check_conditioning", "generate_from"):
        assert not hasattr(plain, name)
    assert copy.copy(plain).id == plain.id
