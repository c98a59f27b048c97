"""A generator for tests of the whole loop: `kind: "slow_pond:SlowPond"`, this folder on the path.

It renders the scene that the prompt's words name; plain frogs come out green. Environment:
SLOW_POND_SECONDS sleeps per image; SLOW_POND_LOG is a file that every call adds a line to;
SLOW_POND_FAILS names a word whose prompts fail, SLOW_POND_INVALID one of whose images nine of
ten are invalid, SLOW_POND_REFUSES a scheduler that does not fit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gapclose.generators.base import checked_seeds
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.images import NAN, ImageBatch
from gapclose.generators.pond.renderer import BACKGROUNDS, CLASSES, COLORS, Scene, quantize, render
from gapclose.generators.recipe import Draw


class SlowPond:
    """Scenes without the pond's sensor noise; low guidance washes them out."""

    id = "slow-pond"
    revision: str | None = "1"
    license: str | None = "apache-2.0"
    source_type = "digitalCreation"

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """One scene per seed."""
        if log := os.environ.get("SLOW_POND_LOG"):
            with Path(log).open("a") as file:
                file.write(f"{draw.fingerprint()} {' '.join(map(str, seeds))}\n")
        fails = os.environ.get("SLOW_POND_FAILS")
        if fails and fails in draw.prompt:
            raise GenerationError(f"no {fails} today")
        if draw.scheduler == os.environ.get("SLOW_POND_REFUSES", ""):
            raise GeneratorConfigError(f"scheduler: {draw.scheduler} does not fit")
        time.sleep(float(os.environ.get("SLOW_POND_SECONDS", "0")) * len(seeds))
        images = tuple(_image(draw, seed) for seed in checked_seeds(seeds))
        spoilt = os.environ.get("SLOW_POND_INVALID", " ") in draw.prompt.split()
        return ImageBatch(
            images=images,
            seeds=tuple(seeds),
            invalid=tuple(NAN if spoilt and seed % 10 else None for seed in seeds),
        )


def _image(draw: Draw, seed: int) -> np.ndarray:
    words = draw.prompt.replace(",", " ").split()
    cls = next((word for word in words if word in CLASSES), "frog")
    rng = np.random.default_rng([seed, 7])
    color = next((w for w in words if w in COLORS), "green" if cls == "frog" else None)
    background = next((w for w in words if w in BACKGROUNDS), None)
    scene = Scene(
        cls=cls,
        color=color or str(rng.choice(list(COLORS))),
        background=background or str(rng.choice(list(BACKGROUNDS))),
    )
    gray = 0.5
    washed = min(draw.guidance_scale, 4.0) / 4.0
    return quantize(gray + (render(scene, seed) - gray) * washed)
