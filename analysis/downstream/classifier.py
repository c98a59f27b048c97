"""Classifiers by name: what one is, which there are, and the size of the images they train on.

`validate` calls it. Checking a name loads no model; nothing here imports torch, and no classifier
downloads weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Final, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.embedding import Embedder
from gapclose.analysis.errors import ClassifierError

__all__ = [
    "CLASSIFIERS",
    "SIDES",
    "Classifier",
    "Pixels",
    "Predictor",
    "check_classifier",
    "check_labels",
    "choose_side",
    "make_classifier",
]

Pixels = NDArray[np.uint8]
"""One image, (h, w, 3)."""
Predictor = Callable[[NDArray[Any]], NDArray[np.float32]]
"""What was prepared of m images -> probabilities (m, classes), rows sum to 1."""

_PACKAGE: Final = "gapclose.analysis.downstream"
# kind -> factory: a network's is called with `side` and `device`, timm's with a `target` too, and
# the linear probe's with an embedder.
CLASSIFIERS: Final = {
    "cnn": f"{_PACKAGE}.cnn:small_cnn",
    "lenet": f"{_PACKAGE}.networks:lenet",
    "linear": f"{_PACKAGE}.linear:LinearProbe",
    "timm": f"{_PACKAGE}.networks:timm_network",
    "vgg16": f"{_PACKAGE}.networks:vgg16",
}
SIDES: Final = (32, 48, 64)
"""Pixels of the squares that networks train on: beyond 64 two CPU cores take hours."""
_FORMS: Final = "cnn, linear, lenet, vgg16, timm:NAME"


@runtime_checkable
class Classifier(Protocol):
    """What learns classes from images.

    It is deterministic: the same data, seed, machine and number of threads give the same
    predictions, to the bit, and no global random state is read or changed.
    """

    @property
    def id(self) -> str:
        """Its name in validation.json: cnn, linear:<embedder>, timm:<model> ..."""
        ...

    @property
    def seeded(self) -> bool:
        """Whether the seed of a training changes what is learnt."""
        ...

    def prepare(self, images: Sequence[Pixels]) -> NDArray[Any]:
        """Turn images of any sizes into what it trains on, once for a set of images.

        Returns:
            (n, ...), row by row: pixels of its size, or embeddings.
        """
        ...

    def fit(
        self, x: NDArray[Any], labels: NDArray[np.integer], *, classes: int, seed: int
    ) -> Predictor:
        """Train on a set of images.

        Args:
            x: (n, ...) of `prepare`.
            labels: (n,), 0 to classes - 1; a class may have no image.
            classes: Columns of what is predicted.
            seed: Of everything random in the training.

        Raises:
            ValueError: Fewer than two images, not one label an image, or a label out of range.
        """
        ...


def make_classifier(
    name: str, *, embedder: Embedder | None = None, side: int = SIDES[0], device: str = "auto"
) -> Classifier:
    """Make a classifier, which `fit` trains from nothing.

    Args:
        name: A key of `CLASSIFIERS`; `timm:NAME` for a model of timm's.
        embedder: What `linear` sees images through; its device is its own.
        side: Pixels; networks train on squares of this size (`choose_side`).
        device: Of networks: auto (CUDA if there is one), cpu, cuda, cuda:1, mps.

    Raises:
        ClassifierError: If `check_classifier` refuses the name, `linear` gets no embedder, or a
            model of timm's takes no images of this size.
    """
    kind, target = _parse(name)
    module, _, attribute = CLASSIFIERS[kind].partition(":")
    if kind == "linear":
        if embedder is None:
            raise ClassifierError("needs an embedder; name one", name=name)
        arguments: dict[str, Any] = {"embedder": embedder}
    else:
        arguments = {"side": side, "device": device}
        if target:
            arguments["target"] = target
    return cast(Classifier, getattr(importlib.import_module(module), attribute)(**arguments))


def check_classifier(name: str) -> None:
    """Refuse, before anything is trained, a name that cannot become a classifier.

    A model of timm's is looked up in timm, which takes seconds to import.

    Raises:
        ClassifierError: In one line: unknown name or model (the nearest is named), or timm is not
            installed.
    """
    kind, target = _parse(name)
    if kind == "timm":
        networks = importlib.import_module(f"{_PACKAGE}.networks")
        networks.find_timm_model(target)


def check_labels(x: NDArray[Any], labels: NDArray[np.integer], *, classes: int) -> None:
    """Refuse what no classifier can be trained on.

    Args:
        x: (n, ...).
        labels: (n,).
        classes: Their number.

    Raises:
        ValueError: Fewer than two images, not one label an image, or a label out of range.
    """
    if len(x) < 2 or labels.shape != (len(x),):
        raise ValueError(f"{len(x)} images, and labels of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels from {labels.min()} to {labels.max()} of {classes} classes")


def choose_side(images: Iterable[Pixels]) -> int:
    """Choose the size at which networks compare sets of images, all of them given together.

    It is the largest of `SIDES` for which no image need be enlarged: detail that one side lacks
    would tell the sets apart, not their classes. It is the smallest of them if an image is smaller
    still, or there is none.
    """
    shortest = min((min(image.shape[:2]) for image in images), default=0)
    return max((side for side in SIDES if side <= shortest), default=SIDES[0])


def _parse(name: str) -> tuple[str, str]:
    """Split a name into a key of `CLASSIFIERS` and, of timm's, the model."""
    kind, colon, target = name.partition(":")
    if kind not in CLASSIFIERS:
        (near,) = get_close_matches(kind, CLASSIFIERS, n=1, cutoff=0.0)
        raise ClassifierError(f"unknown; did you mean {near!r}? Known: {_FORMS}", name=name)
    if kind == "timm" and not target:
        raise ClassifierError("names no model; write timm:resnet18", name=name)
    if kind != "timm" and colon:
        raise ClassifierError(f"takes no model; write {kind}", name=name)
    return kind, target
