"""The generator: what turns (draw, seeds) into images, and how it fails.

The controller and the exporter call a `Generator`; `registry` makes one from a config. A generator
never sees classes, cameras or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Final, Protocol, runtime_checkable

from gapclose.generators.images import ImageBatch
from gapclose.generators.recipe import Draw

SEED_LIMIT: Final = 2**63
"""Seeds are below this: they fit SQLite's integers, torch's and numpy's."""


class GenerationError(RuntimeError):
    """No images came out: this trial fails and the run goes on."""


class GeneratorConfigError(ValueError):
    """The config asks a generator for what it cannot do: fix the config (exit 2)."""


@runtime_checkable
class Generator(Protocol):
    """Turns draws into images; the contract that every kind is tested against.

    The same draw and seed give the same pixels: to the bit in batches of the same size, within
    1/255 in others. Global random state is neither read nor changed. Images that must not be
    scored are marked in the batch, not raised.
    """

    @property
    def id(self) -> str:
        """Stable name of what draws, e.g. "diffusers:CompVis/stable-diffusion-v1-4"."""

    @property
    def revision(self) -> str | None:
        """Which version of it: a commit, or a digest of its files; None if nobody knows."""

    @property
    def license(self) -> str | None:
        """The licence that the generator came under, as its card names it."""

    @property
    def source_type(self) -> str:
        """IPTC's word for its images: "trainedAlgorithmicMedia" or "digitalCreation"."""

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """One image per seed, in their order.

        Raises:
            ValueError: If the seeds are not distinct integers in [0, 2**63).
            GeneratorConfigError: If the generator cannot do what the draw asks for.
            GenerationError: If no images came out.
        """


@runtime_checkable
class BatchingGenerator(Generator, Protocol):
    """A generator that is faster when it draws for several prompts in one batch."""

    def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
        """One batch per job, in their order; each as `generate` gives it, within 1/255.

        Raises:
            ValueError, GeneratorConfigError, GenerationError: As `generate`, for all jobs at once.
        """


def generate_all(
    generator: Generator, jobs: Sequence[tuple[Draw, Sequence[int]]]
) -> list[ImageBatch]:
    """The images of several draws, in one batch where the generator can."""
    if isinstance(generator, BatchingGenerator):
        return generator.generate_all(jobs)
    return [generator.generate(draw, seeds) for draw, seeds in jobs]


def checked_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """The seeds as plain integers.

    Raises:
        ValueError: If one is no integer, negative, 2**63 or more, or there twice: two images of
            one seed are one image, and kernel means would count it as two.
    """
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, Integral):
            raise ValueError(f"a seed must be an integer, not {seed!r}")
        if not 0 <= seed < SEED_LIMIT:
            raise ValueError(f"a seed must be in [0, 2**63), not {seed!r}")
    plain = tuple(int(seed) for seed in seeds)
    if len(set(plain)) != len(plain):
        raise ValueError("a seed was given twice")
    return plain
