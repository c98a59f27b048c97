"""A generator of real photos: words choose them by the colour at the top, settings spoil them.

    generator: {kind: "photo_generator:PhotoGenerator", path: ..., code_folder: tests/benchmarks}

It stands in for a diffusion model whose images are as unlike each other as photos are, which the
pond's of one recipe are not. The plain prompt gives one background of the class nearly always, as
"a photo of a frog" makes green frogs. Guidance away from 3 changes the saturation, fewer than 30
steps blur, euler adds noise, dpmsolver++ takes contrast. A seed shifts a photo by at most a pixel
and may mirror it.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from gapclose.generators.base import checked_seeds
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.images import ImageBatch, Pixels
from gapclose.generators.recipe import Draw

COLOURS: Final = ("green", "brown", "tan", "gray", "dark", "white", "blue")
USUAL: Final = {
    "airplane": "gray",
    "automobile": "blue",
    "bird": "green",
    "cat": "white",
    "deer": "green",
    "dog": "white",
    "frog": "green",
    "horse": "green",
    "ship": "gray",
    "truck": "blue",
}
"""The background that the plain prompt gives."""

PLAIN: Final = 0.93  # of the plain prompt's photos have it
FAITHFUL: Final = 3.0  # guidance that leaves the colours alone
STEPS: Final = 30  # from here on nothing is blurred


def colour(photo: Pixels) -> str:
    """The colour word of a photo's upper quarter, by its mean in HSV."""
    hue, saturation, value = colorsys.rgb_to_hsv(*photo[:8].reshape(-1, 3).mean(0) / 255)
    if value < 0.3:
        return "dark"
    if saturation < 0.15:
        return "white" if value > 0.62 else "gray"
    if 1 / 6 <= hue < 17 / 36:
        return "green"
    if 17 / 36 <= hue < 7 / 9:
        return "blue"
    return "tan" if value > 0.55 else "brown"


class PhotoGenerator:
    """Photos of DIR/<class>/*, chosen by the words of the prompt.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        """Read nothing yet."""
        self._root = Path(path)
        if not self._root.is_dir():
            raise GeneratorConfigError(f"generator.path: no folder {self._root}")
        self.id, self.revision = "photos", None
        self.license, self.source_type = None, "trainedAlgorithmicMedia"
        self._photos: dict[str, dict[str, list[Pixels]]] = {}

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """One photo per seed; the same photo and shift of a seed whatever the settings."""
        plain = checked_seeds(seeds)
        words = draw.prompt.replace(",", "").split()
        cls = next((name for name in USUAL if name in words), None)
        if cls is None:
            raise GeneratorConfigError(f"prompt: {draw.prompt!r} names no class")
        word = next((name for name in COLOURS if name in words), None)
        images = tuple(self._one(cls, word, draw, seed) for seed in plain)
        return ImageBatch(images=images, seeds=plain, invalid=(None,) * len(plain))

    def _one(self, cls: str, word: str | None, draw: Draw, seed: int) -> Pixels:
        of = self.photos(cls)
        rng = np.random.default_rng([seed, *map(ord, f"{cls} {word}")])
        if word is None and rng.random() < PLAIN:
            word = USUAL[cls]
        photos = of[word] if word in of else [p for its in of.values() for p in its]
        photo = photos[rng.integers(len(photos))]
        down, right = rng.integers(-1, 2, size=2)
        padded = np.pad(photo, ((1, 1), (1, 1), (0, 0)), mode="edge")
        photo = padded[1 + down : 33 + down, 1 + right : 33 + right]
        if rng.random() < 0.5:
            photo = photo[:, ::-1]
        return spoil(photo, draw, rng)

    def colours(self, cls: str, word: str | None) -> dict[str, float]:
        """The colours of the photos that a word gives, in shares."""
        of = self.photos(cls)
        total = sum(map(len, of.values()))
        shares = {name: len(its) / total for name, its in of.items()}
        if word in of:
            return {word: 1.0}
        if word is not None:
            return shares
        rest = {name: (1 - PLAIN) * share for name, share in shares.items()}
        return rest | {USUAL[cls]: rest.get(USUAL[cls], 0.0) + PLAIN}

    def photos(self, cls: str) -> dict[str, list[Pixels]]:
        """Of a class, by the colour of their centre."""
        if cls not in self._photos:
            found: dict[str, list[Pixels]] = {}
            for path in sorted((self._root / cls).iterdir()):
                photo = read(path)
                found.setdefault(colour(photo), []).append(photo)
            self._photos[cls] = found
        return self._photos[cls]


def read(path: Path) -> Pixels:
    """A photo's pixels."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def spoil(photo: Pixels, draw: Draw, rng: np.random.Generator) -> Pixels:
    """What the settings do to a photo."""
    image = Image.fromarray(np.ascontiguousarray(photo))
    if (off := draw.guidance_scale - FAITHFUL) != 0.0:
        image = ImageEnhance.Color(image).enhance(max(0.0, 1.0 + 0.12 * off))
    if draw.scheduler == "dpmsolver++":
        image = ImageEnhance.Contrast(image).enhance(0.8)
    if draw.num_inference_steps < STEPS:
        radius = 0.03 * (STEPS - draw.num_inference_steps)
        image = image.filter(ImageFilter.GaussianBlur(radius))
    pixels = np.asarray(image, dtype=np.uint8)
    if draw.scheduler == "euler":
        noisy = pixels + 4.0 * rng.standard_normal(pixels.shape)
        pixels = np.rint(noisy).clip(0, 255).astype(np.uint8)
    return pixels
