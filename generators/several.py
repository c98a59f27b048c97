"""Several generators as one: each draw is drawn by the one that it names.

A run that has `generators:` makes one of these. Which of them draws is a choice like a word's, so
that a mixture may hold images of all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar, cast

from gapclose.generators.base import Generator, SourcedJob, generate_all, generate_from
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.images import ImageBatch
from gapclose.generators.recipe import Draw

__all__ = ["SeveralGenerators", "Spent", "each_of", "spent_by"]

_Job = TypeVar("_Job", tuple[Draw, Sequence[int]], SourcedJob)

_DRAWN: Final = "trainedAlgorithmicMedia"


@dataclass(frozen=True, slots=True)
class Spent:
    """What a generator has drawn so far.

    Attributes:
        images: How many.
        seconds: That they took, models loaded and batches of one draw included.
    """

    images: int = 0
    seconds: float = 0.0

    def __sub__(self, before: Spent) -> Spent:
        """Return what came after."""
        return Spent(self.images - before.images, self.seconds - before.seconds)

    @property
    def pair(self) -> tuple[int, float]:
        """Images, seconds."""
        return self.images, self.seconds


def each_of(generator: Generator) -> dict[str | None, Generator]:
    """Return several generators by their names, and the only one of a run under None."""
    several = getattr(generator, "wrapped", generator)
    if not isinstance(several, SeveralGenerators):
        return {None: several}
    return {name: several.named(name) for name in several}


def spent_by(generator: Generator) -> dict[str, Spent]:
    """Return what each of several generators has drawn so far, by name; nothing of one alone."""
    return dict(getattr(generator, "spent", {}))


class SeveralGenerators:
    """Generators by their names in the config.

    Attributes:
        spent: By name, what each has drawn.
    """

    def __init__(
        self,
        generators: Mapping[str, Generator],
        *,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take generators, at least one; none is asked for an image.

        Args:
            generators: By the names that draws have.
            now: The clock, in seconds.
        """
        self._generators, self._now = dict(generators), now
        self.spent = dict.fromkeys(generators, Spent())

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._generators)

    def named(self, name: str) -> Generator:
        """Return the generator of a name."""
        return self._generators[name]

    def drawing(self, draw: Draw) -> Generator:
        """Return the generator that draws a draw.

        Raises:
            GeneratorConfigError: The draw names none of them.
        """
        found = self._generators.get(draw.generator or "")
        if found is None:
            known = ", ".join(self._generators)
            raise GeneratorConfigError(
                f"a recipe is of {draw.generator!r}, but there are {known}", key="generators"
            )
        return found

    @property
    def id(self) -> str:
        """All, each by its name: "sd15 diffusers:runwayml/..., blender command:blender"."""
        return self._said(lambda its: its.id)

    @property
    def revision(self) -> str | None:
        """Of all that have one."""
        return self._said(lambda its: its.revision) or None

    @property
    def license(self) -> str | None:
        """Of all, "unknown" of one that has none."""
        return self._said(lambda its: its.license or "unknown")

    @property
    def source_type(self) -> str:
        """That of all, if they have one; see `drawing` for a draw's own."""
        kinds = {its.source_type for its in self._generators.values()}
        return kinds.pop() if len(kinds) == 1 else _DRAWN

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """Generate one image per seed."""
        return self.generate_all([(draw, seeds)])[0]

    def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
        """Generate one batch per job; each generator is asked once."""
        return self._shared_out(jobs, generate_all)

    def generate_from(self, jobs: Sequence[SourcedJob]) -> list[ImageBatch]:
        """Generate one batch per job from pictures; each generator is asked once."""
        return self._shared_out(jobs, generate_from)

    def close(self) -> None:
        """End what programs there are."""
        for generator in self._generators.values():
            if (end := getattr(generator, "close", None)) is not None:
                end()

    def _shared_out(
        self,
        jobs: Sequence[_Job],
        generate: Callable[[Generator, Sequence[_Job]], list[ImageBatch]],
    ) -> list[ImageBatch]:
        own: dict[str, list[int]] = {}
        for place, (draw, *_) in enumerate(jobs):
            self.drawing(draw)
            own.setdefault(draw.generator or "", []).append(place)
        batches: dict[int, ImageBatch] = {}
        for name, places in own.items():
            start, mine = self._now(), [jobs[place] for place in places]
            # A generator is not told its name: it is the same by itself.
            plain = [cast("_Job", (replace(draw, generator=None), *rest)) for draw, *rest in mine]
            found = generate(self._generators[name], plain)
            batches |= dict(zip(places, found, strict=True))
            spent, images = self.spent[name], sum(len(job[1]) for job in mine)
            self.spent[name] = Spent(spent.images + images, spent.seconds + self._now() - start)
        return [batches[place] for place in range(len(jobs))]

    def _said(self, of: Callable[[Generator], str | None]) -> str:
        said = {name: of(its) for name, its in self._generators.items()}
        return ", ".join(f"{name} {own}" for name, own in said.items() if own is not None)
