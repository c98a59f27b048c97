"""Networks that others have published figures with: LeNet, VGG16 and whatever timm builds.

All of them start from random weights; nothing is downloaded.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from typing import Any, Final

import torch
from torch import nn
from torchvision.models import vgg

from gapclose.analysis.downstream.scratch import ScratchClassifier
from gapclose.analysis.errors import ClassifierError

__all__ = ["find_timm_model", "lenet", "timm_network", "vgg16"]

_HIDDEN: Final = 128
# Nothing in LeNet is normalized: at 0.05 four of five seeds stay near chance on 64 images of two
# easy classes, which at 0.02 are told by all.
_LENET_RATE: Final = 0.02
_VGG_RATE: Final = 0.05  # chosen, not tuned: on CPUs it takes too long


def lenet(*, side: int, device: str = "auto") -> ScratchClassifier:
    """Make LeNet as it is trained on CIFAKE: two convolutions, two pools, 128 hidden units.

    These layers, stopped early, are published to tell .36 of CIFAR-10's test photos from CIFAKE's
    synthetic half and .63 from its real one (github.com/MinaAlmasi/CIFAKE-image-classifiers).
    """
    build = partial(_lenet, side=side)
    return ScratchClassifier(id="lenet", build=build, side=side, rate=_LENET_RATE, device=device)


def vgg16(*, side: int, device: str = "auto") -> ScratchClassifier:
    """Make torchvision's VGG16 with batch normalization, its maps averaged, 128 hidden units.

    The plain variant is hard to train at this depth: its authors started it from a shallower one's
    weights (Simonyan and Zisserman, arXiv 1409.1556). Figures published for VGG16 on CIFAKE are of
    ImageNet's weights, frozen, under a head as here; they are no measure of this one.
    """
    return ScratchClassifier(id="vgg16", build=_vgg16, side=side, rate=_VGG_RATE, device=device)


def timm_network(*, target: str, side: int, device: str = "auto") -> ScratchClassifier:
    """Make a model of timm's by its name, from random weights.

    On 50 photos a class of CIFAR-10, at 32 pixels, `resnet18` told 39 % of unseen ones with the
    rate of all, 34 % with half of it.

    Raises:
        ClassifierError: If timm is not installed or has no such model, or the model takes no
            images of this size.
    """
    name = f"timm:{target}"
    build = partial(_timm, target, find_timm_model(target), side)
    try:
        with torch.random.fork_rng([]), torch.no_grad():
            build(2)(torch.zeros(2, 3, side, side))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        why = " ".join(str(error).split())[:200]
        raise ClassifierError(
            f"cannot be trained on images of {side} pixels ({why}); name another model", name=name
        ) from error
    return ScratchClassifier(id=name, build=build, side=side, device=device)


def find_timm_model(target: str) -> dict[str, Any]:
    """Look a model up in timm, without building it.

    Returns:
        Its default configuration.

    Raises:
        ClassifierError: If timm is not installed or has no such model.
    """
    name = f"timm:{target}"
    try:
        import timm
    except ImportError as error:
        raise ClassifierError("timm is not installed; pip install timm", name=name) from error
    if not timm.is_model(target):
        near = get_close_matches(target, timm.list_models(), n=1, cutoff=0.0)
        raise ClassifierError(f"timm has no such model; did you mean timm:{near[0]}?", name=name)
    found: dict[str, Any] = timm.get_pretrained_cfg(target).to_dict()
    return found


def _lenet(classes: int, *, side: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 50, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * (side // 4) ** 2, _HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, classes),
    )


def _vgg16(classes: int) -> nn.Module:
    # Not `vgg16_bn`: its head is made for maps of 7x7, and has a hundred million weights.
    return nn.Sequential(
        vgg.make_layers(vgg.cfgs["D"], batch_norm=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, _HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, classes),
    )


def _timm(target: str, config: dict[str, Any], side: int, classes: int) -> nn.Module:
    import timm

    # Only models whose layers depend on the size of the image take it.
    size = {"img_size": side} if config.get("fixed_input_size") else {}
    network: nn.Module = timm.create_model(target, pretrained=False, num_classes=classes, **size)
    return network
