"""The pond: ten CIFAR-10 classes rendered as 32x32 scenes, the embedded world's "reality".

Runs and the tests render real photos from it, `trainer` captioned scenes.
A scene is a class, a colour word and a background word; everything else (pose, light, shadow,
texture, sensor noise) follows from one integer seed. It renders; it never trains or embeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE: Final = 32
_SS: Final = 4  # supersampling: edges are anti-aliased by a 4x4 box
_CANVAS: Final = SIZE * _SS
SENSOR_NOISE: Final = 0.018  # standard deviation of a real pond photo's sensor noise, of [0, 1]

Shares = Mapping[str, float]

COLORS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (200, 38, 42),
    "green": (58, 168, 52),
    "blue": (48, 78, 205),
    "yellow": (232, 202, 48),
    "brown": (122, 74, 36),
    "gray": (134, 136, 140),
    "white": (238, 238, 234),
    "black": (34, 32, 38),
}
# base tone, texture tone, (texture cells across, texture cells down)
BACKGROUNDS: Final[dict[str, tuple[tuple[int, int, int], tuple[int, int, int], int, int]]] = {
    "grass": ((92, 142, 62), (62, 112, 44), 9, 4),
    "water": ((70, 124, 178), (118, 164, 206), 3, 9),
    "sand": ((212, 186, 138), (190, 160, 112), 5, 5),
    "snow": ((226, 232, 242), (200, 212, 230), 4, 4),
    "road": ((92, 92, 98), (70, 70, 76), 6, 6),
    "clay": ((172, 96, 78), (146, 76, 60), 4, 7),
}

_Part = tuple[str, str, tuple[tuple[float, float], ...]]


def _poly(tone: str, *points: tuple[float, float]) -> _Part:
    return ("polygon", tone, points)


def _oval(tone: str, x: float, y: float, rx: float, ry: float) -> _Part:
    return ("ellipse", tone, ((x, y), (rx, ry)))


# Each class in a unit frame: x right, y down, both about -1..1. Parts are painted in order.
_SHAPES: Final[dict[str, tuple[_Part, ...]]] = {
    "airplane": (
        _poly("dark", (-0.25, -0.05), (0.1, -0.8), (0.35, -0.8), (0.3, -0.05)),
        _poly("body", (-1.0, -0.1), (0.75, -0.2), (1.0, 0.0), (0.75, 0.2), (-1.0, 0.08)),
        _poly("body", (-1.0, -0.05), (-1.05, -0.55), (-0.8, -0.55), (-0.6, -0.05)),
        _poly("light", (-0.3, 0.05), (-0.05, 0.75), (0.22, 0.75), (0.35, 0.05)),
    ),
    "automobile": (
        _poly("body", (-1.0, 0.35), (-1.0, -0.05), (-0.6, -0.15), (1.0, -0.05), (1.0, 0.35)),
        _poly("body", (-0.65, -0.1), (-0.35, -0.55), (0.35, -0.55), (0.7, -0.1)),
        _poly("glass", (-0.48, -0.12), (-0.28, -0.45), (0.28, -0.45), (0.5, -0.12)),
        _oval("tyre", -0.55, 0.38, 0.24, 0.24),
        _oval("tyre", 0.55, 0.38, 0.24, 0.24),
    ),
    "bird": (
        _poly("dark", (-0.4, 0.0), (-1.05, -0.3), (-0.95, 0.15)),
        _oval("body", -0.05, 0.05, 0.55, 0.38),
        _oval("body", 0.5, -0.4, 0.27, 0.27),
        _poly("beak", (0.72, -0.52), (1.1, -0.36), (0.72, -0.24)),
        _poly("dark", (-0.4, -0.1), (0.25, -0.1), (-0.1, 0.3)),
        _poly("tyre", (-0.15, 0.38), (-0.05, 0.38), (-0.05, 0.85), (-0.15, 0.85)),
        _poly("tyre", (0.12, 0.38), (0.22, 0.38), (0.22, 0.85), (0.12, 0.85)),
    ),
    "cat": (
        _poly(
            "dark", (0.4, 0.8), (0.95, 0.5), (0.9, -0.15), (0.75, -0.15), (0.72, 0.4), (0.4, 0.6)
        ),
        _oval("body", 0.0, 0.45, 0.5, 0.52),
        _poly("body", (-0.5, -0.35), (-0.48, -1.0), (-0.05, -0.65)),
        _poly("body", (0.5, -0.35), (0.48, -1.0), (0.05, -0.65)),
        _oval("body", 0.0, -0.32, 0.5, 0.42),
        _oval("beak", -0.2, -0.38, 0.1, 0.12),
        _oval("beak", 0.2, -0.38, 0.1, 0.12),
    ),
    "deer": (
        _poly("dark", (-0.65, 0.0), (-0.5, 0.0), (-0.5, 0.95), (-0.65, 0.95)),
        _poly("dark", (0.2, 0.0), (0.35, 0.0), (0.35, 0.95), (0.2, 0.95)),
        _oval("body", -0.15, 0.05, 0.6, 0.3),
        _poly("body", (0.15, 0.0), (0.5, -0.6), (0.72, -0.55), (0.45, 0.15)),
        _poly("body", (0.42, -0.45), (0.55, -0.72), (1.0, -0.45), (0.9, -0.32)),
        _poly("horn", (0.52, -0.65), (0.3, -1.1), (0.4, -1.1), (0.62, -0.68)),
        _poly("horn", (0.58, -0.68), (0.72, -1.1), (0.82, -1.1), (0.68, -0.68)),
    ),
    "dog": (
        _poly("body", (-0.7, -0.1), (-1.05, -0.6), (-0.9, -0.65), (-0.55, -0.15)),
        _poly("dark", (-0.7, 0.2), (-0.48, 0.2), (-0.48, 0.8), (-0.7, 0.8)),
        _poly("dark", (0.3, 0.2), (0.52, 0.2), (0.52, 0.8), (0.3, 0.8)),
        _poly("body", (-0.75, -0.2), (0.6, -0.2), (0.6, 0.35), (-0.75, 0.35)),
        _poly(
            "body", (0.3, -0.7), (0.75, -0.75), (1.1, -0.4), (1.1, -0.22), (0.6, 0.0), (0.3, 0.0)
        ),
        _poly("dark", (0.3, -0.7), (0.55, -0.7), (0.48, -0.1), (0.25, -0.1)),
    ),
    "frog": (
        _poly("dark", (-1.0, 0.65), (-0.95, 0.2), (-0.5, 0.0), (-0.35, 0.65)),
        _poly("dark", (1.0, 0.65), (0.95, 0.2), (0.5, 0.0), (0.35, 0.65)),
        _oval("body", 0.0, 0.1, 0.78, 0.52),
        _oval("body", -0.38, -0.4, 0.27, 0.27),
        _oval("body", 0.38, -0.4, 0.27, 0.27),
        _oval("light", 0.0, 0.34, 0.45, 0.22),
        _oval("tyre", -0.38, -0.43, 0.13, 0.13),
        _oval("tyre", 0.38, -0.43, 0.13, 0.13),
    ),
    "horse": (
        _poly("dark", (-0.7, -0.1), (-1.05, 0.5), (-0.85, 0.5), (-0.6, 0.1)),
        _poly("body", (-0.72, 0.0), (-0.5, 0.0), (-0.5, 0.95), (-0.72, 0.95)),
        _poly("body", (0.25, 0.0), (0.47, 0.0), (0.47, 0.95), (0.25, 0.95)),
        _poly("body", (-0.75, -0.25), (0.5, -0.25), (0.5, 0.32), (-0.75, 0.32)),
        _poly("body", (0.1, -0.1), (0.45, -0.95), (0.75, -0.95), (0.52, 0.1)),
        _poly("body", (0.45, -0.95), (0.75, -1.0), (1.1, -0.6), (0.98, -0.42), (0.5, -0.55)),
        _poly("tyre", (0.05, -0.15), (0.35, -0.95), (0.5, -0.98), (0.28, -0.1)),
    ),
    "ship": (
        _poly("glass", (-0.35, 0.1), (-0.35, -0.4), (0.4, -0.4), (0.4, 0.1)),
        _poly("tyre", (-0.1, -0.4), (-0.1, -0.9), (0.18, -0.9), (0.18, -0.4)),
        _poly("body", (-1.05, 0.05), (1.1, 0.05), (0.75, 0.65), (-0.75, 0.65)),
        _poly("dark", (-0.87, 0.42), (0.9, 0.42), (0.75, 0.65), (-0.75, 0.65)),
    ),
    "truck": (
        _poly("body", (-1.05, -0.65), (0.4, -0.65), (0.4, 0.45), (-1.05, 0.45)),
        _poly("dark", (0.45, -0.25), (0.8, -0.25), (1.05, 0.08), (1.05, 0.45), (0.45, 0.45)),
        _poly("glass", (0.55, -0.15), (0.75, -0.15), (0.92, 0.08), (0.55, 0.08)),
        _oval("tyre", -0.7, 0.5, 0.22, 0.22),
        _oval("tyre", -0.15, 0.5, 0.22, 0.22),
        _oval("tyre", 0.72, 0.5, 0.22, 0.22),
    ),
}
CLASSES: Final = tuple(_SHAPES)
"""The CIFAR-10 names in alphabetical order."""

# Sizes are a radius in pixels: how far the unit frame reaches from the middle.
_RADIUS: Final = {"bird": 9.5, "cat": 10.5, "deer": 10.5, "frog": 11.0, "horse": 10.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the words of a caption can say about one image; the rest follows from its seed."""

    cls: str
    color: str
    background: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Habitat:
    """The shares in which a class shows its colours and backgrounds, independently."""

    colors: Shares
    backgrounds: Shares

    def sample(self, cls: str, rng: np.random.Generator) -> Scene:
        """Sample one scene of the class."""
        color = rng.choice(list(self.colors), p=_normal(self.colors))
        background = rng.choice(list(self.backgrounds), p=_normal(self.backgrounds))
        return Scene(cls=cls, color=str(color), background=str(background))


def _normal(shares: Shares) -> list[float]:
    total = math.fsum(shares.values())
    return [v / total for v in shares.values()]


def _habitat(colors: str, backgrounds: str) -> Habitat:
    def parse(text: str) -> dict[str, float]:
        pairs = (item.split(":") for item in text.split())
        return {word: float(percent) / 100 for word, percent in pairs}

    return Habitat(colors=parse(colors), backgrounds=parse(backgrounds))


REAL: Final[dict[str, Habitat]] = {
    "airplane": _habitat(
        "white:34 gray:30 blue:14 red:12 yellow:10", "road:40 snow:25 grass:20 sand:15"
    ),
    "automobile": _habitat(
        "black:25 white:25 gray:20 red:18 blue:12", "road:45 sand:20 grass:20 clay:15"
    ),
    "bird": _habitat(
        "brown:30 blue:20 black:20 yellow:15 red:15", "grass:35 water:25 snow:20 sand:20"
    ),
    "cat": _habitat("black:30 gray:25 brown:22 white:23", "clay:30 grass:30 road:20 snow:20"),
    "deer": _habitat("brown:34 gray:28 yellow:20 white:18", "grass:35 snow:30 clay:20 sand:15"),
    "dog": _habitat("brown:26 black:26 white:28 yellow:20", "grass:35 sand:25 road:25 snow:15"),
    "frog": _habitat(
        "brown:38 gray:26 yellow:16 red:12 green:8", "grass:40 water:35 clay:15 sand:10"
    ),
    "horse": _habitat("brown:34 black:24 white:25 gray:17", "grass:40 sand:30 clay:20 water:10"),
    "ship": _habitat("white:28 gray:24 red:20 blue:16 black:12", "water:50 snow:34 sand:16"),
    "truck": _habitat(
        "red:24 white:24 blue:20 yellow:22 green:10", "road:40 clay:25 sand:20 snow:15"
    ),
}
"""Where and in which colours each class lives in the real pond."""


def _part(tone: str, body: NDArray[np.float64]) -> NDArray[np.float64]:
    fixed = {
        "tyre": (26.0, 26.0, 30.0),
        "glass": (176.0, 206.0, 222.0),
        "beak": (240.0, 170.0, 40.0),
        "horn": (206.0, 190.0, 160.0),
    }
    if tone in fixed:
        return np.array(fixed[tone])
    if tone == "dark":
        return body * 0.68
    if tone == "light":
        return body + (255.0 - body) * 0.38
    return body


def _background(word: str, rng: np.random.Generator) -> NDArray[np.float64]:
    base, texture, across, down = BACKGROUNDS[word]
    cells = rng.random((down, across), dtype=np.float32)
    mix = np.asarray(Image.fromarray(cells).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    tint = rng.normal(0.0, 4.0, 3)
    tones = np.array(base) + (np.array(texture) - np.array(base)) * mix[..., None]
    return np.asarray(tones + tint, dtype=np.float64)


def render(scene: Scene, seed: int) -> NDArray[np.float64]:
    """Render a scene without sensor noise.

    Args:
        scene: What is in it.
        seed: Non-negative; the same seed gives the same pixels on every machine with the same
            Pillow and numpy.

    Returns:
        (32, 32, 3) RGB in [0, 1].
    """
    rng = np.random.default_rng([seed, 0x90D])
    image = _background(scene.background, rng)
    radius = _RADIUS.get(scene.cls, 11.5) * rng.uniform(0.88, 1.08)
    angle = math.radians(rng.uniform(-9.0, 9.0))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    center = SIZE / 2 + rng.uniform(-2.0, 2.0, 2)
    light = 1.0 if rng.random() < 0.5 else -1.0
    brightness = rng.uniform(0.88, 1.1)
    body = np.clip(np.array(COLORS[scene.color]) + rng.normal(0.0, 8.0, 3), 12.0, 248.0)

    cos, sin = math.cos(angle) * radius * _SS, math.sin(angle) * radius * _SS
    cx, cy = center * _SS

    def place(x: float, y: float) -> tuple[float, float]:
        x *= mirror
        return (cx + x * cos - y * sin, cy + x * sin + y * cos)

    fill = tuple(int(v) for v in body)
    paint = Image.new("RGB", (_CANVAS, _CANVAS), fill)
    mask = Image.new("L", (_CANVAS, _CANVAS), 0)
    on_paint, on_mask = ImageDraw.Draw(paint), ImageDraw.Draw(mask)
    for kind, tone, points in _SHAPES[scene.cls]:
        tint = tuple(int(v) for v in _part(tone, body))
        if kind == "polygon":
            outline = [place(x, y) for x, y in points]
            on_paint.polygon(outline, fill=tint)
            on_mask.polygon(outline, fill=255)
        else:
            (x, y), (rx, ry) = points
            px, py = place(x, y)
            rx, ry = rx * radius * _SS, ry * radius * _SS
            box = (px - rx, py - ry, px + rx, py + ry)
            on_paint.ellipse(box, fill=tint)
            on_mask.ellipse(box, fill=255)
    alpha = np.asarray(mask.reduce(_SS), dtype=np.float64)[..., None] / 255.0
    layer = np.asarray(paint.reduce(_SS), dtype=np.float64)

    ys, xs = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    # The shadow: a soft ellipse under the body, away from the light.
    sx = (xs - center[0] + light * 3.0) / (radius * 1.05)
    sy = (ys - center[1] - radius * 0.72) / (radius * 0.34)
    shadow = 0.42 * np.exp(-(sx**2 + sy**2) * 1.2)
    image = image * (1.0 - shadow[..., None])
    # The light: a ramp over the body, brighter on its side and above.
    ramp = 1.0 + 0.16 * np.clip((light * (xs - center[0]) - (ys - center[1])) / radius, -1.2, 1.2)
    image = image * (1.0 - alpha) + layer * ramp[..., None] * alpha
    return np.asarray(np.clip(image * brightness / 255.0, 0.0, 1.0), dtype=np.float64)


def expose(scene: Scene, seed: int) -> NDArray[np.uint8]:
    """Apply the pond's own camera to a scene: a sensor with Gaussian noise.

    Returns:
        (32, 32, 3) RGB, 8 bit.
    """
    noise = np.random.default_rng([seed, 0x5E45]).normal(0.0, SENSOR_NOISE, (SIZE, SIZE, 3))
    return quantize(render(scene, seed) + noise)


def quantize(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Round [0, 1] to 8 bit."""
    return np.asarray(np.rint(np.clip(image, 0.0, 1.0) * 255.0), dtype=np.uint8)


def real_scene(cls: str, seed: int) -> Scene:
    """Return the colour and background words of the class's real photo number `seed`."""
    rng = np.random.default_rng([seed, CLASSES.index(cls), 0x7EA1])
    return REAL[cls].sample(cls, rng)


def real_photos(
    cls: str, seeds: Iterator[int] | range
) -> Iterator[tuple[Scene, NDArray[np.uint8]]]:
    """Yield real photos of a class with their truth, one per seed."""
    for seed in seeds:
        scene = real_scene(cls, seed)
        yield scene, expose(scene, _pixel_seed(cls, seed))


def _pixel_seed(cls: str, seed: int) -> int:
    # Two classes must not share pose and texture at the same number.
    return seed * len(CLASSES) + CLASSES.index(cls)


def write_real(
    folder: Path, *, per_class: int, seed: int = 0, classes: tuple[str, ...] = CLASSES
) -> None:
    """Render real photos into `folder/<class>/NNNNN.png`, with their truth in `scenes.jsonl`."""
    lines = []
    for cls in classes:
        (folder / cls).mkdir(parents=True, exist_ok=True)
        numbers = range(seed * 1_000_000, seed * 1_000_000 + per_class)
        for i, (scene, photo) in enumerate(real_photos(cls, numbers)):
            name = f"{cls}/{i:05d}.png"
            Image.fromarray(photo).save(folder / name)
            lines.append(
                json.dumps({"file": name, "color": scene.color, "background": scene.background})
            )
    (folder / "scenes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
