"""Trials as values: what is proposed, what came of it, and the mixture that a search ends with.

The search makes them, the session runs them and journals them. They hold no state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapclose.generators.recipe import Recipe
from gapclose.loop.run.events import Stage
from gapclose.loop.search.mixture_weights import effective_number
from gapclose.loop.search.optuna_record import derive_seed
from gapclose.loop.search.recording import Recording
from gapclose.loop.search.space import Params


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A trial to run: recipes with the seeds each gets."""

    number: int
    stage: Stage
    params: Params
    jobs: tuple[tuple[Recipe, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The part of a `SampleBatch` that a search keeps.

    Attributes:
        embeddings: (n, d) unit rows.
        recipes: (n,) numbers of their jobs.
        seeds: (n,).
        copied: Seeds of those that copy the photo that they are made from.
        sources: (n,) the photo of the tune split that each owes its caption or picture to, by its
            row among the real images, -1 of none; empty in a class where none may.
        recording: What a search computed when it absorbed them, if one has.
        drawn: (n,) `pixel_digest` of each before the camera; empty where nobody noted it.
        shown: (n,) `pixel_digest` of each after the camera, which a person sees of a fold's.
    """

    embeddings: NDArray[np.float32]
    recipes: tuple[int, ...]
    seeds: tuple[int, ...]
    copied: frozenset[int] = frozenset()
    sources: tuple[int, ...] = ()
    recording: Recording | None = None
    drawn: tuple[int, ...] = ()
    shown: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Return their number."""
        return len(self.seeds)

    def of_job(self, job: int) -> Images:
        """Return those of one job."""
        return self.at([i for i, r in enumerate(self.recipes) if r == job])

    def with_more(self, others: Images) -> Images:
        """Return these and others of the same recipes."""
        return Images(
            embeddings=np.concatenate([self.embeddings, others.embeddings]),
            recipes=self.recipes + others.recipes,
            seeds=self.seeds + others.seeds,
            copied=self.copied | others.copied,
            sources=self.sources + others.sources,
        )

    def at(self, places: Sequence[int]) -> Images:
        """Return some of them, without what was computed of all."""
        return Images(
            embeddings=self.embeddings[[*places]],
            recipes=tuple(self.recipes[i] for i in places),
            seeds=tuple(self.seeds[i] for i in places),
            copied=self.copied,
            sources=tuple(self.sources[i] for i in places) if self.sources else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a trial showed.

    Attributes:
        gap: Squared MMD of the trial's own images to the tune split.
        value: What Optuna's record holds: the gap, what settings change of it, or the
            Frank-Wolfe score of an atom.
        mixture_gap: Of the class's mixture, on images that it was not fitted to.
        recording: What was computed for it.
    """

    gap: float
    value: float
    mixture_gap: float
    recording: Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Recipes with weights that sum to 1.

    Attributes:
        gap_tune: Squared MMD to the tune split of images that it was not fitted to; NaN where
            there are none yet.
    """

    recipes: tuple[Recipe, ...]
    weights: tuple[float, ...]
    gap_tune: float

    @property
    def effective(self) -> float:
        """Effective number of recipes."""
        return effective_number(np.asarray(self.weights))

    def jobs(self, seeds: Sequence[int]) -> list[tuple[Recipe, Sequence[int]]]:
        """Sample the mixture: each seed's recipe by weight, the same for the same seeds.

        Images in exact shares scatter less than independent ones do, and the unbiased MMD^2,
        which counts on those, comes out too small: by half a floor for some thirty recipes.
        """
        names = [recipe.fingerprint() for recipe in self.recipes]
        rng = np.random.default_rng(derive_seed(seeds[0], *names))
        shares = np.asarray(self.weights) / np.sum(self.weights)
        jobs, start = [], 0
        for recipe, count in zip(self.recipes, rng.multinomial(len(seeds), shares), strict=True):
            if count:
                jobs.append((recipe, seeds[start : start + count]))
            start += count
        return jobs

    def to_json(self) -> dict[str, Any]:
        """Return it as in `mixtures.json`."""
        return {
            "recipes": [
                {"fingerprint": r.fingerprint(), "weight": w, "recipe": r.to_json()}
                for r, w in zip(self.recipes, self.weights, strict=True)
            ],
            "gap_tune": None if math.isnan(self.gap_tune) else self.gap_tune,
            "effective": self.effective,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Mixture:
        """Read what `to_json` wrote."""
        rows, gap = value["recipes"], value["gap_tune"]
        return cls(
            recipes=tuple(Recipe.from_json(r["recipe"]) for r in rows),
            weights=tuple(float(r["weight"]) for r in rows),
            gap_tune=math.nan if gap is None else float(gap),
        )
