"""Runs for tests of exports: classes of any name, and images whose pixels tell the class."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from histories import gap_file

from gapclose.generators.base import SourcedJob, checked_seeds
from gapclose.generators.images import ImageBatch, Pixels
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.config.reading import parse_config
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.shapes import mixture_key


class Painter:
    """A generator: the left half of an image is the prompt's colour, the right half the seed's."""

    id = "painter"
    revision: str | None = None
    source_type = "digitalCreation"

    def __init__(self, license: str | None = None) -> None:
        self.license = license

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """One image of 8 x 8 per seed."""
        images = []
        for seed in checked_seeds(seeds):
            image = np.empty((8, 8, 3), np.uint8)
            image[:, :4], image[:, 4:] = color_of(draw.prompt), color_of(str(seed))
            images.append(image)
        return ImageBatch(images=tuple(images), seeds=tuple(seeds), invalid=(None,) * len(seeds))


class Copyist(Painter):
    """A generator that starts from pictures: the left half is the source's middle."""

    def generate_from(self, jobs: Sequence[SourcedJob]) -> list[ImageBatch]:
        """One image of 8 x 8 per source."""
        batches = []
        for draw, seeds, sources in jobs:
            batch = self.generate(draw, seeds)
            for image, source in zip(batch.images, sources, strict=True):
                image[:, :4] = source[source.shape[0] // 2, source.shape[1] // 2]
            batches.append(batch)
        return batches


def color_of(text: str) -> tuple[int, ...]:
    """Red, green and blue, by what the text is."""
    return tuple(hashlib.sha256(text.encode()).digest()[:3])


def class_of(image: Pixels, classes: Sequence[str]) -> str:
    """The class that an exported image (8, 8, 3) was painted as."""
    colors = {color_of(_prompt(i)): name for i, name in enumerate(classes)}
    assert len(colors) == len(classes)
    return colors[tuple(map(int, image[0, 0]))]


def painted_run(path: Path, classes: Sequence[str], *, license: str | None = None) -> RunDir:
    """A tuned run with these classes: a mixture of two recipes each, and nothing but that."""
    data = {
        "real": {"path": str(path)},
        "generator": {"kind": "painter:Painter", "license": license},
        "embedder": "pond",
        "space": {"prompt": "{class}"},
    }
    run = create_run(path, parse_config(data))
    confirm(run, {name: _mixture(_prompt(i)) for i, name in enumerate(classes)})
    return run


def confirm(run: RunDir, mixtures: Mapping[str, Sequence[Recipe]]) -> None:
    """Write that classes are confirmed with these recipes, in equal shares."""
    held = {
        name: {
            "recipes": [
                {
                    "fingerprint": recipe.fingerprint(),
                    "weight": 1.0 / len(recipes),
                    "recipe": recipe.to_json(),
                }
                for recipe in recipes
            ],
            "gap_tune": None,
        }
        for name, recipes in mixtures.items()
    }
    run.write_json("mixtures.json", {"schema": 1, "classes": held})
    gap = gap_file(mixtures)
    for row in gap["classes"]:
        row |= {"ratio": 0.5, "closed": True, "confirmed": True}
        row["mixture"] = mixture_key(held[row["name"]])
    run.write_json("gap.json", gap)


def _prompt(index: int) -> str:
    return f"painting number {index}"


def _mixture(prompt: str) -> list[Recipe]:
    """Half of it with the generator's own scheduler and size: keys that are null in some rows."""
    draws = [Draw(prompt=prompt), Draw(prompt=prompt, scheduler="ddim", size=(8, 16))]
    return [Recipe(draw=draw, camera=Camera()) for draw in draws]
