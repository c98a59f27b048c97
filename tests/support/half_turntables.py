"""Renderers with a fault each: steel alone, brass alone in one light, no images, or odd ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from turntable import Turntable

from gapclose.generators.errors import GenerationError
from gapclose.generators.images import ImageBatch
from gapclose.generators.recipe import Draw


class Steel(Turntable):
    """Knows steel."""

    id = "test:steel"
    license = "mit"
    parameters = ("light", "count")

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        own = {"material": "steel", "tilt": 24.0, **draw.parameters}
        return super().generate(replace(draw, parameters=own), seeds)


class Brass(Turntable):
    """Knows brass, and the light of a class's photos."""

    id = "test:brass"
    revision = "2"
    license = "cc-by-nc-4.0"
    source_type = "trainedAlgorithmicMedia"
    parameters = ("count",)

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        light = 76.0 if draw.cls == "ball" else 130.0
        own = {"material": "brass", "tilt": 24.0, "light": light, **draw.parameters}
        return super().generate(replace(draw, parameters=own), seeds)


class Broken(Turntable):
    """Draws a first image, and then no more."""

    id = "test:broken"
    license = None  # type: ignore[assignment]
    parameters = ("grain",)

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        if any(seeds):  # the first image is of seed 0
            raise GenerationError("no more film")
        own = {"material": "brass", "tilt": draw.parameters["grain"], "light": 90.0, "count": 1}
        return super().generate(replace(draw, parameters=own), seeds)


class Odd(Turntable):
    """Draws what no photo shows."""

    id = "test:odd"
    parameters = ("grain",)

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        images = tuple(
            np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
            for seed in seeds
        )
        return ImageBatch(images=images, seeds=tuple(seeds), invalid=(None,) * len(images))
