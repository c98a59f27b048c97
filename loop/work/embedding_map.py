"""The embedding map: the table of shown images, their embeddings and their 2-D map.

`tune` and `audit` write it once, when every image to show exists; report and App read it. A row
holds what the text encoder reads in the image and how far the nearest real one is; a real outlier
of its class, how far out it is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from gapclose.analysis.embedding import Embedder, TextEmbedder
from gapclose.analysis.outliers import find_outliers
from gapclose.analysis.projection import fit_umap
from gapclose.analysis.zeroshot import read_labels
from gapclose.loop.run.files import write_bytes
from gapclose.loop.run.folder import RunDir

log = logging.getLogger(__name__)


def write_map(
    rundir: RunDir,
    rows: Sequence[Mapping[str, Any]],
    embeddings: NDArray[np.float32],
    *,
    embedder: Embedder,
    nouns: Mapping[str, str],
    seed: int,
) -> None:
    """Write samples.jsonl and, row by row, their embeddings and coordinates.

    Where no map can be made there is none: a night of results does not hang on a picture.

    Args:
        rundir: The run.
        rows: Of samples.jsonl.
        embeddings: (n, d) unit rows, one a sample.
        embedder: Made them; one with a text side reads labels in them.
        nouns: Class -> noun of every class of the run.
        seed: Of UMAP; it is fitted once, over all sides and stages.
    """
    distances = _nearest(rows, embeddings)
    described = [{**row, "nearest_real": d} for row, d in zip(rows, distances, strict=True)]
    if isinstance(embedder, TextEmbedder) and len(nouns) > 1:
        names = list(nouns)
        pairs = zip(*read_labels(embeddings, embedder, nouns=nouns), strict=True)
        read = [{"label": names[i], "confidence": round(float(sure), 4)} for i, sure in pairs]
        described = [row | label for row, label in zip(described, read, strict=True)]
    for i, distance in _outliers(rows, embeddings).items():
        described[i]["outlier"] = round(distance, 2)
    # Whatever ends this halfway must not leave the one's rows beside the other's images.
    for name in ("projection.safetensors", "embeddings/samples.safetensors"):
        rundir.remove(name)
    rundir.write_samples(described)
    rundir.write_embeddings("samples", save({"embeddings": np.ascontiguousarray(embeddings)}))
    log.info("fitting the map of %d images", len(embeddings))
    try:
        coordinates = fit_umap(embeddings, seed=seed)
    except Exception as error:  # noqa: BLE001 - a library's, or its compiler's on a read-only disk
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        log.warning("the map is left out: %s; `gapclose doctor` says what to do", why)
        return
    write_bytes(
        rundir.path / "projection.safetensors", save({"xy": np.ascontiguousarray(coordinates)})
    )


def _outliers(
    rows: Sequence[Mapping[str, Any]], embeddings: NDArray[np.float32]
) -> dict[int, float]:
    """Find the real images that are outliers of their class, by row."""
    own: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row["side"] == "real":
            own.setdefault(row["class"], []).append(i)
    return {
        members[i]: d for members in own.values() for i, d in find_outliers(embeddings[members])
    }


def _nearest(
    rows: Sequence[Mapping[str, Any]], embeddings: NDArray[np.float32]
) -> list[float | None]:
    """Return each image's cosine distance to the nearest other real one of its class shown."""
    classes = np.array([row["class"] for row in rows])
    real = np.array([row["side"] == "real" for row in rows])
    found: list[float | None] = [None] * len(rows)
    for cls in dict.fromkeys(classes.tolist()):
        own, others = np.flatnonzero(classes == cls), np.flatnonzero((classes == cls) & real)
        likeness = embeddings[own] @ embeddings[others].T
        likeness[own[:, None] == others[None, :]] = -np.inf
        for i, best in zip(own, likeness.max(axis=1, initial=-np.inf), strict=True):
            found[i] = round(1.0 - float(best), 4) if np.isfinite(best) else None
    return found
