"""Projection: the two-dimensional map that a person reads.

The controller fits it once over real, baseline and tuned images and stores the coordinates; the
report and the App only draw them. Nothing is ever scored in two dimensions: the map makes groups
that are not there and hides some that are.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.kernel import rows

__all__ = ["fit_umap"]

_FEWEST = 5
_NEIGHBORS = 15
_MOST_NEIGHBORS = 100
_MOST_PAIRS = 600_000  # images times neighbours: what UMAP's time grows with
_FEW = 4096  # as many as UMAP itself compares all with all; compiling its own way to takes 10 s


def fit_umap(embeddings: ArrayLike, *, seed: int = 0) -> NDArray[np.float32]:
    """Fit UMAP coordinates (n, 2) by cosine distance, repeatable on one machine.

    Fewer than five images have no neighbourhoods to keep, and identical ones none to tell apart:
    they are laid out by their two principal axes. Importing UMAP takes seconds, so it happens
    here.

    Args:
        embeddings: (n, d), n >= 1.
        seed: of the layout; a seed makes UMAP use one thread.

    Raises:
        ValueError: no rows, or NaN.
    """
    points = rows(embeddings).copy()
    if len(points) < _FEWEST or np.ptp(points, axis=0).max() == 0:
        return _principal_axes(points)
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    points /= np.where(norms > 0, norms, 1.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tensorflow not", category=ImportWarning)
        import umap  # type: ignore[import-untyped]
    from sklearn.neighbors import NearestNeighbors

    # With 15 neighbours among thousands, each handful of look-alikes becomes a speck and
    # classes fall apart; wider neighbourhoods and loose packing keep them whole.
    most = max(_NEIGHBORS, min(_MOST_NEIGHBORS, _MOST_PAIRS // len(points)))
    neighbors = min(max(_NEIGHBORS, len(points) // 30), most, len(points) - 1)
    known: tuple[Any, Any] = (None, None)
    if len(points) <= _FEW:
        search = NearestNeighbors(n_neighbors=neighbors, algorithm="brute").fit(points)
        distances, indices = search.kneighbors(points)  # a point is a neighbour of its own
        known = (indices, distances)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value", category=UserWarning)
        warnings.filterwarnings(
            "ignore", message="Graph is not fully connected", category=UserWarning
        )
        warnings.filterwarnings("ignore", message="precomputed_knn", category=UserWarning)
        reducer: Any = umap.UMAP(
            n_components=2,
            n_neighbors=neighbors,
            min_dist=0.8,
            spread=1.5,
            metric="euclidean",
            # The spectral start needs more rows than dimensions and fails on tiny or split graphs.
            init="spectral" if len(points) > 4 * _NEIGHBORS else "random",
            random_state=seed,
            n_jobs=1,
            precomputed_knn=known,
        )
        layout = reducer.fit_transform(points)
    return np.ascontiguousarray(layout, dtype=np.float32)


def _principal_axes(points: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    axes = left[:, :2] * sizes[:2]
    out = np.zeros((len(points), 2), dtype=np.float32)
    out[:, : axes.shape[1]] = axes
    return out
