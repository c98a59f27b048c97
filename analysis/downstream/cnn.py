"""The small CNN: what a set of small images teaches in a minute or two of one core."""

from __future__ import annotations

from torch import nn

from gapclose.analysis.downstream.scratch import ScratchClassifier

__all__ = ["small_cnn"]


def small_cnn(*, side: int, device: str = "auto") -> ScratchClassifier:
    """Make the classifier `cnn`, trained on squares of `side` pixels."""
    return ScratchClassifier(id="cnn", build=_network, side=side, device=device)


def _network(classes: int) -> nn.Module:
    """Build four convolutions, a quarter of a million parameters; none at full resolution."""
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
