"""A small CNN from scratch: what a set of 32x32 images teaches, told by photos it has not seen."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

EPOCHS: Final = 20
BATCH: Final = 64
RATE: Final = 0.1
SHIFT: Final = 4  # pixels
_MEAN: Final = 0.47
_SPREAD: Final = 0.25


def network(classes: int) -> nn.Module:
    """Four convolutions, a quarter of a million parameters; no layer works at full resolution."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 4, stride=2, padding=1, bias=False)]
    layers += [nn.BatchNorm2d(32), nn.ReLU()]
    before = 32
    for width, halved in ((64, True), (128, True), (128, False)):
        layers += [nn.Conv2d(before, width, 3, padding=1, bias=False)]
        layers += [nn.MaxPool2d(2)] if halved else []
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        before = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(before, classes)
    )


def as_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """(n, 3, 32, 32), about 0 and of unit spread."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - _MEAN) / _SPREAD


def augmented(batch: torch.Tensor) -> torch.Tensor:
    """Each image mirrored or not, and shifted by up to `SHIFT` pixels, on its own."""
    n, _, height, width = batch.shape
    padded = nn.functional.pad(batch, (SHIFT,) * 4, mode="reflect")
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, n, 1))
    across = torch.arange(width).expand(n, width)
    across = torch.where(torch.rand(n, 1) < 0.5, across, across.flip(1))
    rows, columns = down + torch.arange(height), right + across
    which = torch.arange(n)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None]]
    return moved.permute(0, 3, 1, 2)


def accuracy(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    test: NDArray[np.uint8],
    truth: NDArray[np.int64],
    *,
    seed: int,
) -> float:
    """Train on images with SGD, one cycle; the share of the test photos that is told right.

    Args:
        images: (n, 32, 32, 3).
        labels: (n,) from 0.
        test: (m, 32, 32, 3).
        truth: (m,).
        seed: Of the weights, the order and the augmentation.
    """
    torch.manual_seed(seed)
    model = network(int(labels.max()) + 1).to(memory_format=torch.channels_last)
    x, y = as_tensor(images), torch.from_numpy(labels)
    steps = EPOCHS * -(-len(x) // BATCH)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(model(augmented(x[chosen])), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        told = torch.cat([model(part).argmax(1) for part in as_tensor(test).split(500)])
    return float((told.numpy() == truth).mean())
