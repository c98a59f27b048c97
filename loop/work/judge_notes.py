"""Judge notes: what speaks against a run's judges before they have judged anything.

Sessions and audits say them at their start and keep them in gap.json. They refuse nothing: that
a judge sees no gap is worth less then, not wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.families import FAMILIES, same_family
from gapclose.analysis.neighbor_recall import neighbor_accuracy
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.work.real_data import ClassReference

__all__ = ["judge_notes", "tune_rows"]

Rows = NDArray[np.float32]

PHOTOS: Final = 100
"""Of a class: of more, any encoder tells a little more."""
ALTOGETHER: Final = 5_000  # photos: all pairs of them are compared
FEWEST: Final = 20  # of a class
SIGHT: Final = 0.3
"""The least share of the way from chance to certainty at which a judge knows its photos.

At 20 and at 100 photos of a class: the pond's judge .16 and .25 on the photos of CIFAR-10, .39 and
.72 on those of the pond; a ResNet-56 that was trained on CIFAR-10 .91 and .88.
"""


def tune_rows(config: RunConfig, real: Mapping[str, ClassReference]) -> dict[str, dict[str, Rows]]:
    """Return the embeddings of the photos that a run searches with, by encoder and class."""
    own = {name: its.tune.rows for name, its in real.items()}
    return {config.embedder: own} | {
        judge: {name: its.tune.judge_rows[judge] for name, its in real.items()}
        for judge in config.judge
    }


def judge_notes(config: RunConfig, rows: Mapping[str, Mapping[str, Rows]]) -> list[str]:
    """Say which judges are of the embedder's family, and which know nothing of the photos.

    Args:
        config: Of the run.
        rows: By encoder of the config and class, the embeddings (n, d) of real photos.

    Returns:
        A line each; of one class alone nothing is known of what a judge sees.
    """
    return [*_of_one_family(config), *_sightless(config, rows)]


def _of_one_family(config: RunConfig) -> list[str]:
    return [
        f"the judge {judge} and the embedder {config.embedder} are of one family "
        f"({FAMILIES[family]}): what fools one is likely to fool the other; `gapclose doctor` "
        "names others"
        for judge in config.judge
        if (family := same_family(config.embedder, judge)) is not None
    ]


def _sightless(config: RunConfig, rows: Mapping[str, Mapping[str, Rows]]) -> list[str]:
    if not config.judge or len(rows[config.embedder]) < 2:
        return []
    chance = 1 / len(rows[config.embedder])
    few = max(FEWEST, min(PHOTOS, ALTOGETHER // len(rows[config.embedder])))
    told = {name: neighbor_accuracy(its, most=few) for name, its in rows.items()}
    return [
        f"the judge {judge} hardly tells the classes of the real photos apart (by nearest "
        f"neighbours {told[judge]:.0%} right; by chance {chance:.0%}, with the embedder "
        f"{told[config.embedder]:.0%}): that it sees no gap says little; put one that was "
        "trained on such photos in its place"
        for judge in config.judge
        if (told[judge] - chance) / (1 - chance) < SIGHT
    ]
