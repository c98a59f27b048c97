"""Neighbour recall: how many real images are told right by their nearest neighbours.

The neighbours are training images: synthetic ones, or other real ones. It learns nothing, so
images that were searched for to please a trained probe need not please it. Confirmations ask it,
and, of real images alone, whoever wants to know what an encoder sees in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from gapclose.analysis.significance import holm
from gapclose.analysis.subsets import spread_indices

__all__ = ["NEIGHBORS", "NeighborRecall", "neighbor_accuracy", "neighbor_recalls"]

NEIGHBORS: Final = 5
_NEARER: Final = 1e-3  # of a vote: where two classes have as many, the nearer one is told

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborRecall:
    """One class of a data set.

    Attributes:
        real: Share of its real images that other real ones tell right.
        synthetic: Share of them that synthetic ones tell right.
        n: Its real images.
        p_value: One-sided, that synthetic ones tell as many: the exact test of McNemar
            (Psychometrika 12:153, 1947) on the images that only one of both tells right; adjusted
            over the classes (Holm).
    """

    real: float
    synthetic: float
    n: int
    p_value: float

    def to_json(self) -> dict[str, float]:
        """Return the figures as `ClassGap.neighbors` has them."""
        return {
            "recall_real": self.real,
            "recall_synthetic": self.synthetic,
            "p_value": self.p_value,
        }


def neighbor_recalls(
    *, real: Mapping[str, Rows], synthetic: Mapping[str, Rows], k: int = NEIGHBORS
) -> dict[str, NeighborRecall]:
    """Measure every class that is on both sides.

    Of both sides some images of a class are the neighbours, as many as the smaller one has and
    spread evenly, for those of a mixture are sorted by their recipes; no image is its own.

    Args:
        real: By class (n, d) unit embeddings, n > k.
        synthetic: By class (m, d) of the same encoder.
        k: Neighbours that vote.

    Returns:
        By class, in the order of `real`; empty for fewer than two classes.
    """
    names = [name for name in real if name in synthetic]
    if len(names) < 2:
        return {}
    n = {name: min(len(real[name]), len(synthetic[name])) for name in names}
    labels = np.repeat(np.arange(len(names)), [n[name] for name in names])
    chosen = {name: spread_indices(len(real[name]), n[name]) for name in names}
    sides = [
        np.concatenate([real[name][chosen[name]] for name in names]),
        np.concatenate(
            [synthetic[name][spread_indices(len(synthetic[name]), n[name])] for name in names]
        ),
    ]
    starts = dict(zip(names, np.cumsum([0, *n.values()]).tolist(), strict=False))
    found = {}
    for label, name in enumerate(names):
        near_real, near_synthetic = (real[name] @ side.T for side in sides)
        near_real[chosen[name], starts[name] + np.arange(n[name])] = -np.inf
        right = [
            _votes(near, labels, classes=len(names), k=k) == label
            for near in (near_real, near_synthetic)
        ]
        lost, won = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
        p_value = 1.0
        if lost + won:
            p_value = binomtest(int(lost), int(lost + won), alternative="greater").pvalue
        found[name] = NeighborRecall(
            real=float(right[0].mean()),
            synthetic=float(right[1].mean()),
            n=len(real[name]),
            p_value=float(p_value),
        )
    adjusted = holm([its.p_value for its in found.values()])
    return {
        name: replace(its, p_value=p_value)
        for (name, its), p_value in zip(found.items(), adjusted, strict=True)
    }


def neighbor_accuracy(real: Mapping[str, Rows], *, most: int = 100, k: int = NEIGHBORS) -> float:
    """Return the share of real images that other real ones tell right.

    Of each class as many take part, spread evenly: `most`, or what the smallest has.

    Args:
        real: By class (n, d) unit embeddings, n > k; at least two classes.
        most: Images of a class.
        k: Neighbours that vote.

    Returns:
        In [0, 1]; 1 / classes is chance.
    """
    n = min(most, *map(len, real.values()))
    points = np.stack([rows[spread_indices(len(rows), n)] for rows in real.values()])
    everything, labels = np.concatenate(points), np.repeat(np.arange(len(points)), n)
    right = 0
    for label, own in enumerate(points):
        near = own @ everything.T
        near[np.arange(n), label * n + np.arange(n)] = -np.inf
        right += int((_votes(near, labels, classes=len(points), k=k) == label).sum())
    return right / len(everything)


def _votes(
    near: NDArray[np.float32], labels: NDArray[np.intp], *, classes: int, k: int
) -> NDArray[np.intp]:
    """Return the class that most of the k nearest are of: (m, n) similarities -> (m,)."""
    nearest = np.argpartition(-near, k - 1, axis=1)[:, :k]
    similarity = np.take_along_axis(near, nearest, axis=1).astype(np.float64)
    votes = np.zeros((len(near), classes))
    rows = np.repeat(np.arange(len(near)), k)
    np.add.at(votes, (rows, labels[nearest].ravel()), 1.0 + _NEARER * similarity.ravel())
    return np.asarray(votes.argmax(axis=1))
