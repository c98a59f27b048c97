"""A network trained from scratch on a set of images: one recipe for every architecture.

cnn.py and networks.py give it their layers. It refuses pretrained weights: what they know of the
classes would hide what the images teach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gapclose.analysis.downstream.classifier import Pixels, Predictor, check_labels
from gapclose.analysis.downstream.squares import to_squares
from gapclose.analysis.inference import pick_device

__all__ = ["ScratchClassifier"]

EPOCHS: Final = 20
BATCH: Final = 64
RATE: Final = 0.1
_SHIFT: Final = 8  # an image moves by up to this part of its side: 4 pixels of 32
_AT_ONCE: Final = 500  # images, where nothing is trained
_MEAN: Final = 0.47
_SPREAD: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchClassifier:
    """A network that `fit` trains from random weights with SGD, one cycle of the learning rate.

    The images are mirrored and shifted at random.

    Attributes:
        id: Its name in validation.json.
        build: Number of classes -> the network, untrained: (n, 3, side, side) -> (n, classes).
        side: Pixels.
        rate: The highest learning rate.
        epochs: Passes over the images.
        device: auto (CUDA if there is one), cpu, cuda ...
    """

    id: str
    build: Callable[[int], nn.Module]
    side: int
    rate: float = RATE
    epochs: int = EPOCHS
    device: str = "auto"

    @property
    def seeded(self) -> bool:
        """Return True: the weights that it starts from are random."""
        return True

    def prepare(self, images: Sequence[Pixels]) -> NDArray[np.uint8]:
        """Bring images to one size, as `to_squares` does: (n, side, side, 3)."""
        return to_squares(images, side=self.side)

    def fit(
        self, x: NDArray[Any], labels: NDArray[np.integer], *, classes: int, seed: int
    ) -> Predictor:
        """Train on images.

        Args:
            x: uint8 (n, side, side, 3).
            labels: (n,), 0 to classes - 1.
            classes: Columns of what is predicted.
            seed: Of the weights, the order, the augmentation and the dropout.

        Raises:
            ValueError: Fewer than two images, not one label an image, or a label out of range.
        """
        check_labels(x, labels, classes=classes)
        device = pick_device(self.device)
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        ):
            torch.manual_seed(seed)
            network = self.build(classes).to(memory_format=torch.channels_last).to(device)
            y = torch.from_numpy(labels.astype(np.int64)).to(device)
            self._train(network, torch.from_numpy(x), y, device)
        network.eval().requires_grad_(False)
        return partial(_probabilities, network, device)

    def _train(self, network: nn.Module, x: Tensor, y: Tensor, device: torch.device) -> None:
        optimizer = torch.optim.SGD(
            network.parameters(), lr=self.rate, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        steps = self.epochs * len(_batches(torch.arange(len(x))))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.rate, total_steps=steps
        )
        network.train()
        for _ in range(self.epochs):
            for chosen in _batches(torch.randperm(len(x))):
                batch = _augmented(_as_tensor(x[chosen])).to(device)
                loss = nn.functional.cross_entropy(network(batch), y[chosen.to(device)])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()


def _batches(order: Tensor) -> list[Tensor]:
    """Split an order; an image left over joins the last batch, for it alone has no variance."""
    batches = list(torch.split(order, BATCH))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _as_tensor(images: Tensor) -> Tensor:
    """Put uint8 (n, h, w, 3) into (n, 3, h, w), about 0 and of unit spread."""
    pixels = images.permute(0, 3, 1, 2).float() / 255
    return (pixels - _MEAN) / _SPREAD


def _augmented(batch: Tensor) -> Tensor:
    """Mirror each image or not, and shift it, on its own."""
    n, _, height, width = batch.shape
    most = width // _SHIFT
    padded = nn.functional.pad(batch, (most,) * 4, mode="reflect")
    down, right = torch.randint(0, 2 * most + 1, (2, n, 1))
    across = torch.arange(width).expand(n, width)
    across = torch.where(torch.rand(n, 1) < 0.5, across, across.flip(1))
    rows, columns = down + torch.arange(height), right + across
    which = torch.arange(n)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None]]
    return moved.permute(0, 3, 1, 2)


def _probabilities(
    network: nn.Module, device: torch.device, x: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Classify uint8 (m, side, side, 3): (m, classes), rows sum to 1."""
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        rows = [
            network(_as_tensor(part).to(device)).softmax(1).float().cpu().numpy()
            for part in torch.split(torch.from_numpy(x), _AT_ONCE)
        ]
    return np.concatenate(rows)
