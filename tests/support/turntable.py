"""A small renderer with parameters of its own: balls and cubes on a table, lit from one side.

It stands for whatever people render with: what an image shows follows from the class, the
parameters and a seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapclose.generators.base import checked_seeds
from gapclose.generators.images import ImageBatch, Pixels
from gapclose.generators.recipe import Draw

SIZE = 32
CLASSES = ("ball", "cube")
MATERIALS = {"steel": ((150, 160, 172), 0.75), "brass": ((196, 150, 62), 0.45)}
TO_THE_EYE = np.array([0.0, 0.0, 1.0])
PARAMETERS = ("light", "material", "count", "tilt")


class Turntable:
    """A generator; see `render`."""

    id = "test:turntable"
    revision = "1"
    license = "Apache-2.0"
    source_type = "digitalCreation"
    parameters = PARAMETERS
    settings = ()

    def __init__(self, size: int = SIZE) -> None:
        self.size = size

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        plain = checked_seeds(seeds)
        images = tuple(render(draw.cls or draw.prompt, draw.parameters, seed) for seed in plain)
        return ImageBatch(images=images, seeds=plain, invalid=(None,) * len(plain))


class Silent(Turntable):
    """One that does not say what it takes, and ignores what it does not know."""

    parameters = property()  # type: ignore[assignment]  # as if there were none


def render(cls: str, parameters: Mapping[str, Any], seed: int) -> Pixels:
    """Render an image.

    Args:
        cls: "ball" or "cube".
        parameters: "light", degrees from the left (0) over the top (90) to the right (180);
            "material"; "count" of objects, 1 to 4; "tilt" of the camera, degrees, which moves the
            table's edge.
        seed: Of places, sizes, turns and noise.
    """
    rng = np.random.default_rng([seed, CLASSES.index(cls), 0x7AB1E])
    ys, xs = (np.mgrid[0:SIZE, 0:SIZE] + 0.5) / SIZE
    edge = 0.75 - parameters["tilt"] / 90.0
    image = np.where((ys < edge)[..., None], [196.0, 202.0, 208.0], [120.0, 92.0, 70.0])
    image = image + rng.normal(0.0, 5.0, 3)
    angle = math.radians(parameters["light"])
    light = np.array([-math.cos(angle), -math.sin(angle), 0.6])
    light /= np.linalg.norm(light)
    for _ in range(int(parameters["count"])):
        x, y, radius = rng.uniform(0.25, 0.75), rng.uniform(0.5, 0.75), rng.uniform(0.16, 0.22)
        image = _shadow(image, xs, ys, (x - light[0] * radius, y + radius * 0.9), radius)
        turn = rng.uniform(0.0, math.pi / 2)
        alpha, normal = _shape(cls, (xs - x) / radius, (ys - y) / radius, turn)
        colour, shine = MATERIALS[parameters["material"]]
        lambert = np.clip((normal * light).sum(axis=-1), 0.0, 1.0)[..., None]
        glint = np.clip((normal * (light + TO_THE_EYE) / 1.8).sum(axis=-1), 0.0, 1.0)
        shaded = np.array(colour) * (0.25 + 0.85 * lambert)
        shaded = shaded + 255.0 * shine * (glint**18)[..., None]
        image = image * (1 - alpha[..., None]) + shaded * alpha[..., None]
    image = image + rng.normal(0.0, 3.0, image.shape)
    return np.asarray(np.rint(np.clip(image, 0.0, 255.0)), dtype=np.uint8)


def _shadow(
    image: NDArray[np.float64],
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    at: tuple[float, float],
    radius: float,
) -> NDArray[np.float64]:
    far = ((xs - at[0]) / radius) ** 2 + ((ys - at[1]) / (0.35 * radius)) ** 2
    return np.asarray(image * (1.0 - 0.5 * np.exp(-far))[..., None])


def _shape(
    cls: str, x: NDArray[np.float64], y: NDArray[np.float64], turn: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how much of a pixel an object covers, and where its surface looks."""
    if cls == "ball":
        far = x**2 + y**2
        z = np.sqrt(np.clip(1.0 - far, 0.0, 1.0))
        return np.clip((1.0 - far) * 4.0, 0.0, 1.0), np.stack([x, y, z], axis=-1)
    alpha = np.clip((0.85 - np.maximum(abs(x), abs(y))) * 8.0, 0.0, 1.0)
    split = 0.85 * math.cos(turn) - 0.2
    left = np.array([-math.sin(turn), 0.0, math.cos(turn)])
    right = np.array([math.cos(turn), 0.0, math.sin(turn)])
    normal = np.where((x < split)[..., None], left, right)
    normal = np.where((y < -0.45)[..., None], [0.0, -1.0, 0.3], normal)
    return alpha, np.asarray(normal)


def real_parameters(cls: str, seed: int) -> dict[str, Any]:
    """Return the parameters of a real photo: what the search is to find."""
    rng = np.random.default_rng([seed, CLASSES.index(cls), 0x4EA1])
    steel, counts = (0.7, [0.6, 0.4]) if cls == "ball" else (0.2, [0.3, 0.7])
    return {
        "light": float(rng.normal(76.0 if cls == "ball" else 130.0, 5.0)),
        "material": "steel" if rng.random() < steel else "brass",
        "count": int(rng.choice([1, 2], p=counts)),
        "tilt": float(rng.normal(24.0, 3.0)),
    }


def write_photos(folder: Path, *, per_class: int, classes: Sequence[str] = CLASSES) -> None:
    """Render real photos into `folder/<class>/`."""
    for cls in classes:
        (folder / cls).mkdir(parents=True)
        for seed in range(per_class):
            photo = render(cls, real_parameters(cls, seed), 10**9 + seed)
            Image.fromarray(photo).save(folder / cls / f"{seed:04}.png")
