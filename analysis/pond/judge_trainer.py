"""The judge: a convolutional network that learns from the pixels of photos, without any labels.

It is saved in transformers' own format.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetModel, ViTImageProcessor

from gapclose.analysis.pond.augmentation import JUDGE_DEGRADATION, augment
from gapclose.analysis.pond.fitting import (
    MEAN,
    STD,
    Result,
    fit,
    normalize,
    publish,
    shuffled,
    to_half,
)
from gapclose.analysis.pond.scenes import SIZE, read_photos

__all__ = ["agreement_loss", "train_judge"]

log = logging.getLogger(__name__)

_WIDTH: Final = 128  # of the judge's features


def _config() -> ResNetConfig:
    """Describe a convolutional network: the CLIP is a transformer, the judge must differ."""
    return ResNetConfig(
        embedding_size=48,
        hidden_sizes=[48, 96, _WIDTH],
        depths=[2, 2, 1],
        layer_type="basic",
        dtype="float32",
    )


class _Student(nn.Module):
    """The judge and what only its training needs: a projector and a decoder."""

    def __init__(self, judge: ResNetModel, *, width: int) -> None:
        super().__init__()
        self.judge = judge
        self.project = nn.Sequential(
            nn.Linear(width, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128)
        )
        self.decode = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 3 * 8 * 8))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.judge(pixel_values=images).pooler_output.flatten(1)
        return functional.normalize(self.project(features), dim=-1), self.decode(features)


def agreement_loss(left: Tensor, right: Tensor, *, temperature: float) -> Tensor:
    """Compute NT-Xent (Chen et al. 2020, eq. (1)): only views of one photo agree.

    Args:
        left: (n, d) unit rows, one view of each photo.
        right: (n, d) unit rows, the other view.
        temperature: Smaller weighs the nearest others more.
    """
    views = torch.cat([left, right]).float()
    n = len(left)
    logits = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(2 * n).roll(n)
    return functional.cross_entropy(logits, partner)


def train_judge(
    folder: Path, *, out: Path, steps: int = 3000, batch: int = 256, seed: int = 0
) -> Result:
    """Train the judge on real photos, without captions or labels, and save it for AutoModel.

    Two augmented views of one photo must agree (SimCLR); and the features must still tell the
    photo's coarse colours, which agreement alone has no reason to keep.

    Args:
        folder: Any tree of 32x32 PNG files.
        out: Becomes a folder for `AutoModel` and `AutoImageProcessor.from_pretrained`.
        steps: Optimiser steps.
        batch: Photos per step.
        seed: Of weights, order and augmentation.

    Raises:
        TrainingDataError: If the folder holds no photos.
    """
    pixels = read_photos(folder)
    log.info("judge: %d photos", len(pixels))
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    config = _config()
    judge = ResNetModel(config)
    student = _Student(judge, width=_WIDTH)
    student.to(memory_format=torch.channels_last)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def loss_of(index: Tensor) -> Tensor:
        photos = images[index].float() / 255.0
        views = torch.cat([augment(photos, JUDGE_DEGRADATION, random) for _ in range(2)])
        places, decoded = student(normalize(views))
        left, right = places.chunk(2)
        # Each view's own pixels: its shift and light are part of what must be told.
        coarse = functional.avg_pool2d(normalize(views), SIZE // 8).flatten(1)
        told = functional.mse_loss(decoded.float(), coarse)
        return agreement_loss(left, right, temperature=0.2) + 2.0 * told

    rng = np.random.default_rng(seed)
    batches = shuffled(len(pixels), min(batch, len(pixels)), steps, rng)
    result = fit(student, loss_of, batches, steps=steps, rate=2e-3, decay=0.02, name="judge")

    def write(scratch: Path) -> None:
        judge.save_pretrained(scratch, state_dict=to_half(judge.state_dict()))
        ViTImageProcessor(
            size={"height": SIZE, "width": SIZE}, image_mean=list(MEAN), image_std=list(STD)
        ).save_pretrained(scratch)

    publish(out, write)
    return result
