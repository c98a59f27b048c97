"""Torch networks that only ever infer: the device they run on and how they lie in memory.

clip.py and vision.py call it. It loads nothing and trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gapclose.analysis.embedding import unit_rows
from gapclose.analysis.errors import EmbedderError

BATCH: Final = 64  # images at once: beyond it two CPU cores gain nothing and memory grows
_CONVOLUTIONS: Final = 4  # a transformer has one, for its patches; a conv net has many

Network = TypeVar("Network", bound=nn.Module)
Item = TypeVar("Item")


def pick_device(name: str) -> torch.device:
    """Return a device; auto is CUDA where there is one, else the CPU.

    Raises:
        EmbedderError: If the name is unknown or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise EmbedderError(f"device {name!r}: not on this machine; use auto or cpu") from error
    return device


def at_rest(network: Network, device: torch.device) -> Network:
    """Set evaluation mode, no gradients, the device; conv nets in channels-last order."""
    network.eval().requires_grad_(False).to(device)
    if is_convolutional(network):
        network.to(memory_format=torch.channels_last)
    return network


def is_convolutional(network: nn.Module) -> bool:
    """Tell whether most of the work is convolutions."""
    return sum(isinstance(part, nn.Conv2d) for part in network.modules()) >= _CONVOLUTIONS


def unit_batches(
    items: Sequence[Item], forward: Callable[[Sequence[Item]], Tensor], *, width: int
) -> NDArray[np.float32]:
    """Run `forward` on at most 64 items at a time and stack its rows, scaled to length 1.

    Returns:
        (n, width).
    """
    if not len(items):
        return np.zeros((0, width), dtype=np.float32)
    with torch.inference_mode():
        rows = [
            forward(items[at : at + BATCH]).float().cpu().numpy()
            for at in range(0, len(items), BATCH)
        ]
    return unit_rows(np.concatenate(rows))
