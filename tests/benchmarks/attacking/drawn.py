"""A generator for attacked runs: `kind: "drawn:Drawn"`. With guidance it is the pond itself.

DRAWN_CALLS interrupts it at that call, as Ctrl-C does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from gapclose.generators.base import checked_seeds
from gapclose.generators.images import ImageBatch, Pixels
from gapclose.generators.pond.renderer import CLASSES, expose, quantize, real_scene
from gapclose.generators.recipe import Draw

_APART = 50_000_000  # no photo of a run is ever drawn
_calls = 0


class Drawn:
    """Scenes as the real photos show; low guidance washes them out."""

    id = "drawn"
    revision: str | None = "1"
    license: str | None = "apache-2.0"
    source_type = "digitalCreation"

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """One scene per seed."""
        global _calls
        _calls += 1
        if _calls == int(os.environ.get("DRAWN_CALLS", "0")):
            raise KeyboardInterrupt
        images = tuple(_image(draw, seed) for seed in checked_seeds(seeds))
        return ImageBatch(images=images, seeds=tuple(seeds), invalid=(None,) * len(images))


def _image(draw: Draw, seed: int) -> Pixels:
    cls = next((word for word in draw.prompt.split() if word in CLASSES), "frog")
    photo = expose(real_scene(cls, _APART + seed), _APART + seed)
    washed = 0.5 if draw.guidance_scale is not None and draw.guidance_scale < 2.0 else 1.0
    return quantize(0.5 + (photo / 255.0 - 0.5) * washed)
