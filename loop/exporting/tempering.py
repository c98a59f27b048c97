"""Tempering: the share of even prompts in an export, and what was measured to choose it.

`tempering_choice` measures it. What it chose is kept in the run folder, and read back as long as
it follows from the same mixtures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gapclose.generators.base import Generator
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.exporting.plan import ClassPlan
from gapclose.loop.run.folder import RunDir
from gapclose.loop.search.space import Space

__all__ = [
    "QUARTERS",
    "TEMPERING",
    "Tempering",
    "keep_tempering",
    "kept_tempering",
    "tempering_key",
]

TEMPERING: Final = "tempering.json"
QUARTERS: Final = 4
"""Steps of the share."""
_VERSION: Final = 3  # of how prompts and shares are chosen: what another one chose is not read


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempering:
    """The share of even prompts that was chosen, and why.

    Attributes:
        share: In [0, 1], in steps of 1 / `QUARTERS`.
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


_Count = Annotated[int, Field(ge=1, le=10**9)]


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class _Measured(_Row):
    share: float
    accuracy: Annotated[float, Field(ge=0, le=1)]


class _File(_Row):
    """The file as `keep_tempering` writes it; it may have been written by others."""

    key: str
    share: float
    accuracies: list[_Measured]
    lost: dict[str, list[str]]
    images: _Count
    photos: _Count

    @property
    def has_all_shares(self) -> bool:
        """Whether every blend was measured, and one of them chosen."""
        shares = [row.share for row in self.accuracies]
        every = [quarters / QUARTERS for quarters in range(QUARTERS + 1)]
        return shares == every and self.share in every

    def tempering(self) -> Tempering:
        """Return what it says."""
        return Tempering(
            share=self.share,
            accuracies={row.share: row.accuracy for row in self.accuracies},
            lost={name: tuple(prompts) for name, prompts in self.lost.items()},
            images=self.images,
            photos=self.photos,
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


def kept_tempering(rundir: RunDir, key: str, plans: Sequence[ClassPlan]) -> Tempering | None:
    """Read what was chosen before; None if nothing was, or of something else, or nonsense.

    Args:
        rundir: Of the run.
        key: What `tempering_key` returns.
        plans: The classes.
    """
    try:
        kept = _File.model_validate(rundir.read_json(TEMPERING))
    except (FileNotFoundError, RunDamagedError, ValidationError):
        return None
    if kept.key != key or not kept.has_all_shares or not _are_prompts(kept.lost, rundir, plans):
        return None
    return kept.tempering()


def _are_prompts(
    lost: Mapping[str, Sequence[str]], rundir: RunDir, plans: Sequence[ClassPlan]
) -> bool:
    """Return whether each class is one of the plans', and its prompts are its own."""
    if not lost.keys() <= {plan.name for plan in plans}:
        return False
    config = rundir.config()
    spaces = {name: Space.of(config, name) for name in lost}
    return all(
        {*prompts} <= {*map(spaces[name].asked, spaces[name].prompts())}
        for name, prompts in lost.items()
    )


def keep_tempering(rundir: RunDir, key: str, chosen: Tempering) -> None:
    """Write RUN/tempering.json; the run's lock is held."""
    rundir.write_json(TEMPERING, {"schema": 1, "key": key} | chosen.to_json())
