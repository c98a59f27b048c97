"""The linear probe: how well classes are told in an embedder's space after training on images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from gapclose.analysis.downstream.classifier import Pixels, Predictor, check_labels
from gapclose.analysis.embedding import Embedder

__all__ = ["LinearProbe", "fit_regression"]

# Fixed, the same for every set of images: cross-validation on synthetic images would choose for
# synthetic images, and anew with every draw. On CIFAR-10, with 20 and 200 photos a class, it came
# within 0.016 of the best of 1, 2, 5, 10, 20 in each of five spaces of 64 to 512 dimensions.
_STRENGTH: Final = 5.0
_STEPS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearProbe:
    """Multinomial logistic regression on unit embeddings.

    Rows are centred and scaled by one number to a mean squared length of 1 in training, so that
    one strength of regularization means the same in every embedder's space.

    Attributes:
        embedder: What it sees images through.
    """

    embedder: Embedder

    @property
    def id(self) -> str:
        """Return `linear:` and the embedder's name."""
        return f"linear:{self.embedder.id}"

    @property
    def seeded(self) -> bool:
        """Return False: a regression has one solution."""
        return False

    def prepare(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        """Embed images: (n, width), rows of length 1."""
        return self.embedder.embed(images)

    def fit(
        self, x: NDArray[Any], labels: NDArray[np.integer], *, classes: int, seed: int
    ) -> Predictor:
        """Solve the regression, which has one solution whatever the seed.

        Args:
            x: (n, width).
            labels: (n,), 0 to classes - 1, of at least two classes.
            classes: Columns of what is predicted; those without an image stay 0.
            seed: Of nothing: it is here for the Protocol.

        Raises:
            ValueError: Fewer than two images or classes, not one label an image, a label out of
                range, or NaN.
        """
        return fit_regression(x, labels, classes=classes)


def fit_regression(x: NDArray[Any], labels: NDArray[np.integer], *, classes: int) -> Predictor:
    """Solve the regression on rows; arguments and errors as in `LinearProbe.fit`."""
    check_labels(x, labels, classes=classes)
    centre = x.mean(axis=0, dtype=np.float64)
    scale = float(np.sqrt(((x - centre) ** 2).sum(axis=1).mean())) or 1.0
    with warnings.catch_warnings():
        # Classes far apart are never quite done; what is left moves no prediction.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=_STRENGTH, max_iter=_STEPS).fit((x - centre) / scale, labels)
    return partial(_probabilities, model, centre, scale, classes)


def _probabilities(
    model: LogisticRegression,
    centre: NDArray[np.float64],
    scale: float,
    classes: int,
    x: NDArray[Any],
) -> NDArray[np.float32]:
    """Classify (m, width): (m, classes), rows sum to 1."""
    found = np.zeros((len(x), classes), dtype=np.float32)
    found[:, model.classes_] = model.predict_proba((x - centre) / scale)
    return found
