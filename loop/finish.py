"""The last files of a run: the table of shown images, their embeddings and their 2-D map.

`tune` and `audit` write them once, when every image to show exists; report and App read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from gapclose.analysis.projection import fit_umap
from gapclose.loop.rundir import RunDir, write_bytes


def write_map(
    rundir: RunDir,
    rows: Sequence[Mapping[str, Any]],
    embeddings: NDArray[np.float32],
    *,
    seed: int,
) -> None:
    """Write samples.jsonl and, row by row, their embeddings and coordinates.

    Args:
        rundir: The run.
        rows: Of samples.jsonl.
        embeddings: (n, d), one row a sample.
        seed: Of UMAP; it is fitted once, over all sides and stages.
    """
    rundir.write_samples(rows)
    write_bytes(
        rundir.embeddings_path("samples"), save({"embeddings": np.ascontiguousarray(embeddings)})
    )
    coordinates = fit_umap(embeddings, seed=seed)
    write_bytes(
        rundir.path / "projection.safetensors", save({"xy": np.ascontiguousarray(coordinates)})
    )
