"""The small CNN: what a set of 32x32 images teaches, told by photos that it has not seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.downstream.classifier import make_classifier


def accuracy(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    test: NDArray[np.uint8],
    truth: NDArray[np.int64],
    *,
    seed: int,
) -> float:
    """Train on images; the share of the test photos that is told right.

    Args:
        images: (n, 32, 32, 3).
        labels: (n,) from 0.
        test: (m, 32, 32, 3).
        truth: (m,).
        seed: Of the weights, the order and the augmentation.
    """
    classifier = make_classifier("cnn", side=32, device="cpu")
    predictor = classifier.fit(images, labels, classes=int(labels.max()) + 1, seed=seed)
    return float((predictor(test).argmax(axis=1) == truth).mean())
