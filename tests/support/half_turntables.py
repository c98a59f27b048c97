"""Two renderers with a fault each: one has steel alone, the other brass alone and one light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from turntable import Turntable

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
