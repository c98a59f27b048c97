"""Pools: where training images come from, class by class, and anew for every draw.

Photos are drawn so that a person's few are among the many. What is generated is generated once,
for all classifiers and for sessions to come.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from gapclose.analysis.decode import read_rgb
from gapclose.generators.images import Pixels
from gapclose.generators.recipe import Recipe
from gapclose.loop.run.notices import Task, TaskStarted
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.search.mixture_weights import allot
from gapclose.loop.search.seeds import POOLS, SeedBlocks
from gapclose.loop.search.trial import Mixture
from gapclose.loop.work.synthesis import Synthesis

__all__ = ["MixturePool", "PhotoPool", "Pool", "generated_pools", "make_ready"]

_NUMBERS: Final = ("baseline", "tuned", "even")


Wanted = Collection[tuple[str, int]]
"""Names of pools, with how many images of a class are wanted of each."""


class Pool(Protocol):
    """Images of every class, as many as are asked for."""

    def key(self, cls: str, *, draw: int, n: int) -> str:
        """Say which images they are: equal keys, equal pixels."""

    def is_ready(self, cls: str, *, draw: int, n: int) -> bool:
        """Return whether images need only be read."""

    def images(self, cls: str, *, draw: int, n: int) -> Iterator[Pixels]:
        """Yield images of a class.

        Raises:
            GenerationError: The generator failed.
            UnreadableImageError: A file has gone since it was listed.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoPool:
    """Files that exist: real photos, or synthetic images that somebody made.

    They lie in one random order, by content, in which the draws begin far apart: at 0, 1/2, 1/4,
    3/4 and on (van der Corput's sequence), so draws share few photos, and one more draw changes
    none. A draw of n is a beginning of the draw of more.

    Attributes:
        paths: By class; readable ones.
        digests: sha256 of each file.
        seed: Of the order.
    """

    paths: Mapping[str, Sequence[Path]]
    digests: Mapping[Path, bytes]
    seed: int

    def key(self, cls: str, *, draw: int, n: int) -> str:
        """Say which images they are."""
        return _digest([self.digests[path].hex() for path in self._chosen(cls, draw, n)])

    def is_ready(self, cls: str, *, draw: int, n: int) -> bool:
        """Return True: they exist."""
        return True

    def images(self, cls: str, *, draw: int, n: int) -> Iterator[Pixels]:
        """Read images of a class; all it has where these are fewer."""
        return map(read_rgb, self._chosen(cls, draw, n))

    def _chosen(self, cls: str, draw: int, n: int) -> list[Path]:
        order = sorted(self.paths[cls], key=lambda path: _placed(self.seed, self.digests[path]))
        bits = f"{draw:b}"
        start = int(bits[::-1], 2) * len(order) // 2 ** len(bits)
        return [*order[start:], *order[:start]][:n]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixturePool:
    """Images that are generated from mixtures, in the shares of their weights, as an export's.

    Attributes:
        mixtures: By class.
        number: Of the pool: pools of a validation share no seed.
        pools: How many there are.
        synthesis: Generates.
        seeds: Of the run.
    """

    mixtures: Mapping[str, Mixture]
    number: int
    pools: int
    synthesis: Synthesis
    seeds: SeedBlocks

    def key(self, cls: str, *, draw: int, n: int) -> str:
        """Say which images they are."""
        generator = self.synthesis.generator
        made = [
            [recipe.to_json(), seeds[0], len(seeds)] for recipe, seeds in self.jobs(cls, draw, n)
        ]
        return _digest([cls, generator.id, generator.revision, made])

    def is_ready(self, cls: str, *, draw: int, n: int) -> bool:
        """Return whether a session has generated them whole."""
        return self.synthesis.rundir.has(self._mark(cls, draw, n))

    def images(self, cls: str, *, draw: int, n: int) -> Iterator[Pixels]:
        """Generate images of a class, or read back what was generated whole.

        Invalid ones are left out.
        """
        jobs = self.jobs(cls, draw, n)
        # Only what was generated whole is read back: of another batch size images differ a little.
        ready = self.is_ready(cls, draw=draw, n=n)
        if ready:
            for recipe, seeds in jobs:
                self.synthesis.remember(cls, recipe.draw.fingerprint(), seeds)
        images = self.synthesis.images(cls, jobs)
        if not ready:
            told = {"class": cls, "images": len(images)}
            self.synthesis.rundir.write_json(self._mark(cls, draw, n), told)
        return iter(images)

    def _mark(self, cls: str, draw: int, n: int) -> str:
        return f"validation/generated/{self.key(cls, draw=draw, n=n)}.json"

    def jobs(self, cls: str, draw: int, n: int) -> list[tuple[Recipe, Sequence[int]]]:
        """Return the recipes that n images of a class come from, with the seeds of each."""
        mixture = self.mixtures[cls]
        left = self.seeds.validation(self.number, draw, n, pools=self.pools)
        jobs: list[tuple[Recipe, Sequence[int]]] = []
        for recipe, count in zip(mixture.recipes, allot(mixture.weights, n), strict=True):
            if count:
                jobs.append((recipe, left[:count]))
            left = left[count:]
        return jobs


def generated_pools(
    mixtures: Mapping[str, Mapping[str, Mixture]], *, synthesis: Synthesis, seeds: SeedBlocks
) -> dict[str, MixturePool]:
    """Make a pool of each set of mixtures, by name; its number gives each its seeds."""
    numbers = [*_NUMBERS, *(name for name in mixtures if name not in _NUMBERS)]
    return {
        name: MixturePool(
            mixtures=by_class,
            number=numbers.index(name),
            pools=max(POOLS, len(numbers)),
            synthesis=synthesis,
            seeds=seeds,
        )
        for name, by_class in mixtures.items()
    }


def make_ready(
    pools: Mapping[str, Pool],
    wanted: Wanted,
    classes: Sequence[str],
    *,
    draw: int,
    reporter: Reporter,
) -> None:
    """Generate what is not there yet of a draw, and say how far it is.

    Raises:
        GenerationError: The generator failed.
    """
    lacking = [
        (name, cls, n)
        for name, n in dict.fromkeys(wanted)
        for cls in classes
        if not pools[name].is_ready(cls, draw=draw, n=n)
    ]
    if not lacking:
        return
    doing = TaskStarted(task=Task.TRAINING_IMAGES)
    reporter.tell(doing)
    done, total = 0, sum(n for *_, n in lacking)
    for name, cls, n in lacking:
        pools[name].images(cls, draw=draw, n=n)
        done += n
        reporter.tell(doing.advanced(done, total))


def _placed(seed: int, digest: bytes) -> bytes:
    return hashlib.sha256(f"{seed}/".encode() + digest).digest()


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
