"""Closing: what stands apart in a tuning run's last looks, what the map shows, why it stopped.

The controller calls it once no class is to be searched in any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.embedding import Embedder
from gapclose.loop.run.folder import RunDir
from gapclose.loop.work.cluster_report import find_groups
from gapclose.loop.work.evaluation import witness_scores
from gapclose.loop.work.holdout import Look, sample_row

SHOWN_REAL: Final = 100  # real images per class on the map
NAMED: Final = 5  # classes that a reason for stopping names

Looks = Mapping[str, tuple[Look, Look]]
"""Class -> its baseline's look and its mixture's, at the same part of the confirm split."""


def clusters_of(
    looks: Looks,
    *,
    embedder: Embedder,
    groups: Mapping[str, Sequence[str]],
    nouns: Mapping[str, str],
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """What stands apart after tuning, then what stood apart before.

    Returns:
        Rows of gap.json's `clusters`, and the clusters of every path.
    """
    clusters: list[dict[str, Any]] = []
    members: dict[str, list[int]] = {}
    for stage, number in (("tuned", 1), ("baseline", 0)):
        found, its = find_groups(
            [pair[number].evidence(nouns[name]) for name, pair in looks.items()],
            stage=stage,
            embedder=embedder,
            groups=groups,
            first_id=len(clusters),
            seed=seed,
        )
        clusters += found
        for path, ids in its.items():
            members[path] = members.get(path, []) + ids
    return clusters, members


def shown_samples(
    rundir: RunDir, looks: Looks, members: Mapping[str, list[int]], nouns: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[NDArray[np.float32]]]:
    """Rows of samples.jsonl and their embeddings: real images, the baseline's, the mixture's.

    Args:
        rundir: The run.
        looks: By class.
        members: The clusters of every path.
        nouns: By class.
    """
    scores: dict[str, float] = {}
    for number in (0, 1):  # of a photo, how unlike the mixture it is
        pairs = looks.items()
        scores |= witness_scores([pair[number].evidence(nouns[name]) for name, pair in pairs])
    rows: list[dict[str, Any]] = []
    embeddings: list[NDArray[np.float32]] = []
    for name, pair in looks.items():
        part = pair[1].real.parts[pair[1].part]
        for path, row in list(zip(part.paths, part.rows, strict=True))[:SHOWN_REAL]:
            rows.append(sample_row(rundir, path, name, "real", None, None))
            embeddings.append(row)
        for look in pair:
            rows.extend(look.rows)
            embeddings.extend(look.shot.embeddings)
    told = [
        row | {"clusters": members.get(row["path"], []), "witness": scores.get(row["path"])}
        for row in rows
    ]
    return told, embeddings


def in_short(reasons: Mapping[str, str]) -> str:
    """Why several classes got no more trials, each reason once.

    Args:
        reasons: Class -> why.
    """
    classes: dict[str, list[str]] = {}
    for name, why in reasons.items():
        classes.setdefault(why, []).append(name)
    return "; ".join(
        f"{', '.join(names[:NAMED])}"
        f"{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}: {why}"
        for why, names in classes.items()
    )
