"""Recall shortfall: how many fewer real images are told right after training on synthetic ones.

`loop/work/shortfalls` asks it for audits and tuning runs, with features of patches. A linear probe
on them stands for what will be trained on the images. Its figures are those of one class among
all: a class falls short where its own images are off, and where another's lie in its place. No
image is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.downstream.classifier import Predictor
from gapclose.analysis.downstream.linear import fit_regression
from gapclose.analysis.gap import MIN_IMAGES

__all__ = ["RecallShortfall", "among_real", "fitted", "recall_shortfalls"]

_FOLDS: Final = 5
_EACH: Final = 500  # images of a class that are trained on: more move no recall by a point
_MOST: Final = 10_000  # over all classes, but no fewer than 20 of each

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallShortfall:
    """One class of a data set.

    Attributes:
        real: Share of its real images told right by a probe trained on other real ones.
        synthetic: The same after training on the synthetic images of all classes.
        told: (n,) of each real image that was asked for, whether the latter tells it right.
    """

    real: float
    synthetic: float
    told: NDArray[np.bool_]

    @property
    def value(self) -> float:
        """Return what is missing; it may be slightly negative."""
        return self.real - self.synthetic

    def to_json(self) -> dict[str, float]:
        """Return the figures as a class's row of gap.json has them."""
        return {
            "recall_shortfall": self.value,
            "recall_real": self.real,
            "recall_synthetic": self.synthetic,
        }


def recall_shortfalls(
    *,
    real: Mapping[str, Rows],
    synthetic: Mapping[str, Rows],
    seed: int = 0,
) -> dict[str, RecallShortfall]:
    """Measure every class that has at least 20 images on both sides.

    Both probes are trained on equally many images of a class, as far as there are: one on the
    synthetic images, one on four fifths of the real ones, which tells the others.

    Args:
        real: By class (n, d) embeddings of one encoder.
        synthetic: By class (m, d) of the same.
        seed: Of the folds, and of which images are taken where there are many.

    Returns:
        By class, in the order of `real`; empty for fewer than two classes.
    """
    names = [
        name
        for name, rows in real.items()
        if min(len(rows), len(synthetic.get(name, ()))) >= MIN_IMAGES
    ]
    if len(names) < 2:
        return {}
    rng = np.random.default_rng(seed)
    most = min(_EACH, max(MIN_IMAGES, _MOST // len(names)))
    n = {  # as many are left of every fold
        name: min(len(synthetic[name]), len(real[name]) - -(-len(real[name]) // _FOLDS), most)
        for name in names
    }
    predict = fitted(
        [synthetic[name][rng.permutation(len(synthetic[name]))[: n[name]]] for name in names]
    )
    told = {name: predict(real[name]).argmax(axis=1) == label for label, name in enumerate(names)}
    ceiling = among_real([real[name] for name in names], [n[name] for name in names], rng)
    return {
        name: RecallShortfall(
            real=float(recall), synthetic=float(told[name].mean()), told=told[name]
        )
        for name, recall in zip(names, ceiling, strict=True)
    }


def among_real(
    real: Sequence[Rows], n: Sequence[int], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Ask how many of each class's images others of all classes tell right.

    Args:
        real: (m, d) of each class, m >= 2.
        n: How many of a class are learnt from at most; four fifths of it are there.
        rng: Shuffles.

    Returns:
        (classes,) shares, by probes that have not seen the images.
    """
    shuffled = [rng.permutation(rows) for rows in real]  # files are often sorted by something
    right = np.zeros(len(real))
    for fold in range(_FOLDS):
        predict = fitted(
            [
                np.delete(rows, np.s_[fold::_FOLDS], axis=0)[:size]
                for rows, size in zip(shuffled, n, strict=True)
            ]
        )
        for label, rows in enumerate(shuffled):
            right[label] += (predict(rows[fold::_FOLDS]).argmax(axis=1) == label).sum()
    return np.asarray(right / [len(rows) for rows in real])


def fitted(classes: Sequence[Rows]) -> Predictor:
    """Fit a linear probe on (n, d) rows of each class."""
    labels = np.repeat(np.arange(len(classes)), [len(rows) for rows in classes])
    return fit_regression(np.concatenate(classes), labels, classes=len(classes))
