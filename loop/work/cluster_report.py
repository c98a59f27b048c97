"""The cluster report: the clusters of a run as `gap.json` holds them, named, with example images.

Audits and diagnostics call it once the images of a stage are known. The groups and their
q-values come from `analysis.clusters`, the names from the attribute words.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from gapclose.analysis.attributes import name_group
from gapclose.analysis.clusters import Cluster, find_clusters
from gapclose.analysis.embedding import Embedder, TextEmbedder
from gapclose.loop.work.evaluation import EvaluationInput

EXAMPLES: Final = 24  # paths a cluster names, of the side that is more frequent in it


def find_groups(
    evidence: Sequence[EvaluationInput],
    *,
    stage: str,
    embedder: Embedder,
    groups: Mapping[str, Sequence[str]],
    first_id: int = 0,
    seed: int = 0,
) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """Return the clusters of one stage's images against the real ones.

    Args:
        evidence: The classes, with the paths of their images as samples.jsonl has them.
        stage: "baseline" or "tuned": whose images the synthetic side is.
        embedder: One with a text side names the clusters.
        groups: Attribute groups and their words.
        first_id: Of the clusters' numbers.
        seed: Of the permutations and of the examples.

    Returns:
        Rows of gap.json's `clusters`, most telling first, and the clusters of every path.
    """
    text = embedder if isinstance(embedder, TextEmbedder) else None
    by_class = {e.cls: e for e in evidence}
    found = find_clusters({e.cls: (e.real, e.synthetic) for e in evidence}, seed=seed)
    rows: list[dict[str, Any]] = []
    members: dict[str, list[int]] = {}
    for number, cluster in enumerate(found, start=first_id):
        e = by_class[cluster.cls]
        real = [e.real_paths[i] for i in cluster.real]
        synthetic = [e.synthetic_paths[i] for i in cluster.synthetic]
        shown = synthetic if cluster.side == "synthetic" else real
        chosen = random.Random(f"{seed}/{number}").sample(shown, min(EXAMPLES, len(shown)))
        rows.append(
            {
                "id": number,
                "size": cluster.size,
                "n_real": len(real),
                "n_synthetic": len(synthetic),
                "class": cluster.cls,
                "class_share": 1.0,  # clusters are found class by class
                "side": cluster.side,
                "q_value": cluster.q_value,
                "name": None if text is None else _name(cluster, e, text, groups),
                "stage": stage,
                "samples": chosen,
            }
        )
        for path in real + synthetic:
            members.setdefault(path, []).append(number)
    return rows, members


def _name(
    cluster: Cluster, e: EvaluationInput, text: TextEmbedder, groups: Mapping[str, Sequence[str]]
) -> str:
    real_inside = np.zeros(len(e.real), dtype=bool)
    real_inside[list(cluster.real)] = True
    synthetic_inside = np.zeros(len(e.synthetic), dtype=bool)
    synthetic_inside[list(cluster.synthetic)] = True
    return name_group(
        inside=np.concatenate([e.real[real_inside], e.synthetic[synthetic_inside]]),
        outside=np.concatenate([e.real[~real_inside], e.synthetic[~synthetic_inside]]),
        text=text,
        noun=e.noun,
        groups=groups,
    )
