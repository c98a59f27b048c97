"""Tempering: the share of even prompts in an export, and what was measured to choose it.

`tempering_choice` measures it. What it chose is kept in the run folder, and read back as long as
it follows from the same mixtures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gapclose.generators.base import Generator
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.exporting.plan import ClassPlan
from gapclose.loop.run.folder import RunDir

__all__ = ["TEMPERING", "Tempering", "keep_tempering", "kept_tempering", "tempering_key"]

TEMPERING: Final = "tempering.json"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempering:
    """The share of even prompts that was chosen, and why.

    Attributes:
        share: In [0, 1].
        accuracies: By share, of the networks that were trained on that blend.
        lost: By class, the prompts whose images are not told as the class: no part of it.
        images: Of a class, that each network was trained on.
        photos: That they were tested on.
    """

    share: float
    accuracies: Mapping[float, float]
    lost: Mapping[str, tuple[str, ...]]
    images: int
    photos: int

    def to_json(self) -> dict[str, Any]:
        """Return it as in tempering.json."""
        return {
            "share": self.share,
            "accuracies": [
                {"share": share, "accuracy": value} for share, value in self.accuracies.items()
            ],
            "lost": {name: list(prompts) for name, prompts in self.lost.items()},
            "images": self.images,
            "photos": self.photos,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tempering:
        """Read what `to_json` wrote."""
        return cls(
            share=float(value["share"]),
            accuracies={float(r["share"]): float(r["accuracy"]) for r in value["accuracies"]},
            lost={name: tuple(prompts) for name, prompts in value["lost"].items()},
            images=int(value["images"]),
            photos=int(value["photos"]),
        )


def tempering_key(
    rundir: RunDir, plans: Sequence[ClassPlan], generator: Generator, *, images: int
) -> str:
    """Name what a choice follows from; photos that come and go do not make it another.

    Args:
        rundir: Of the run.
        plans: The classes.
        generator: The run's.
        images: Of a class that networks are trained on.
    """
    config = rundir.config()
    mixtures = [[plan.name, plan.mixture.to_json()] for plan in plans]
    space = config.model_dump(mode="json", include={"space", "baseline", "embedder"})
    made = [_VERSION, mixtures, space, config.tune.seed, generator.id, generator.revision, images]
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:32]


def kept_tempering(rundir: RunDir, key: str) -> Tempering | None:
    """Read what was chosen before; None if nothing was, or of something else."""
    try:
        kept = rundir.read_json(TEMPERING)
        return Tempering.from_json(kept) if kept["key"] == key else None
    except (FileNotFoundError, RunDamagedError, KeyError, TypeError, ValueError, AttributeError):
        return None


def keep_tempering(rundir: RunDir, key: str, chosen: Tempering) -> None:
    """Write RUN/tempering.json; the run's lock is held."""
    rundir.write_json(TEMPERING, {"schema": 1, "key": key} | chosen.to_json())
