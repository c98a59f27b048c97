"""Augmentation: photos degraded as cameras and generators do, for the trainers of the encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from gapclose.analysis.pond.scenes import SIZE

__all__ = ["CLIP_DEGRADATION", "JUDGE_DEGRADATION", "Degradation", "augment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """How far an augmented image may stray from the photo; all are uniform from 0 or 1.

    Colours never change hue or saturation: a red and a brown frog must stay apart.

    Attributes:
        noise: Largest standard deviation of white sensor noise, of [0, 1].
        grain: Largest standard deviation of noise that spans two pixels, as codecs leave it.
        light: Largest relative change of brightness.
        contrast: Largest relative change of contrast.
        shift: Largest shift, in pixels.
        zoom: Largest relative change of size.
        warp: Standard deviation of the displacement of outlines, in pixels.
    """

    noise: float = 0.04
    grain: float = 0.012
    light: float = 0.06
    contrast: float = 0.08
    shift: float = 2.0
    zoom: float = 0.06
    warp: float = 0.35


CLIP_DEGRADATION: Final = Degradation()
JUDGE_DEGRADATION: Final = Degradation(shift=4.0, zoom=0.15, warp=0.8, light=0.1)


def augment(images: Tensor, how: Degradation, random: torch.Generator) -> Tensor:
    """Degrade images as cameras and generators do, so that embeddings follow meaning.

    Args:
        images: (n, 3, h, w) in [0, 1].
        how: The strengths.
        random: The source of all randomness.

    Returns:
        (n, 3, h, w) in [0, 1].
    """
    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, 1, 1, 1, generator=random) * (high - low) + low

    moved = _move(images, how, random)
    # Bilinear sampling softens: a third of the images keep their pixels, so that sharp ones,
    # which the real photos are, stay the middle of what is seen.
    images = torch.where(uniform(0.0, 1.0) < 0.33, _flip(images, random), moved)
    # Between a little sharpened (t < 0) and blurred by a 3x3 binomial (t = 1).
    images = images + uniform(-0.25, 1.0) * (_blur(images) - images)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = middle + (images - middle) * uniform(1.0 - how.contrast, 1.0 + how.contrast)
    images = images * uniform(1.0 - how.light, 1.0 + how.light)
    white = torch.randn(images.shape, generator=random)
    coarse = torch.randn(n, 3, SIZE // 2, SIZE // 2, generator=random)
    grain = functional.interpolate(coarse, scale_factor=2, mode="nearest")
    images = images + white * uniform(0.0, how.noise) + grain * uniform(0.0, how.grain)
    return images.clamp(0.0, 1.0)


def _flip(images: Tensor, random: torch.Generator) -> Tensor:
    mirrored = torch.rand(len(images), 1, 1, 1, generator=random) < 0.5
    return torch.where(mirrored, images.flip(-1), images)


def _blur(images: Tensor) -> Tensor:
    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
    return functional.conv2d(padded, kernel, groups=3)


def _move(images: Tensor, how: Degradation, random: torch.Generator) -> Tensor:
    n = len(images)
    per_pixel = 2.0 / SIZE  # grid_sample's frame is -1..1
    sign = torch.where(torch.rand(n, generator=random) < 0.5, -1.0, 1.0)
    zoom = 1.0 + (torch.rand(n, generator=random) * 2 - 1) * how.zoom
    shift = (torch.rand(n, 2, generator=random) * 2 - 1) * how.shift * per_pixel
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = sign * zoom, zoom
    theta[:, :, 2] = shift
    grid = functional.affine_grid(theta, [n, 3, SIZE, SIZE], align_corners=False)
    coarse = torch.randn(n, 2, 6, 6, generator=random) * how.warp * per_pixel
    warp = functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
    grid = grid + warp.permute(0, 2, 3, 1)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
