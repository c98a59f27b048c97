"""Seed blocks: the one place that hands out the seeds of a run's images.

No two uses of a class in a run ever share a seed unless they mean to. A block that is too small
for what is asked of it is an error, never an overlap. Only an export's may meet those of a run,
whose seed is large: it leaves out what its run has used.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gapclose.loop.errors import SeedsExhaustedError

RUN: Final = 20_000_000  # apart between runs of different seeds
TRIALS: Final = 2_000_000  # where the blocks of the trials after the baseline begin
TRIAL: Final = 1_000  # seeds of a trial
FOLDS: Final = 15_000_000  # where those of the folds begin
FOLD: Final = 100_000  # seeds of a fold
VALIDATIONS: Final = 17_000_000  # where those of validations begin
VALIDATION: Final = 100_000  # seeds of a draw of one of its pools
POOLS: Final = 3  # of a validation
EXPORTS: Final = 100_000_000  # where those of exports begin, each class's somewhere in 2**30
MAKEUP: Final = 1_100_000_000  # further on: beyond what any of them begins with
MOST_TRIALS: Final = (FOLDS - TRIALS) // TRIAL


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedBlocks:
    """The blocks of one class of a run; those of its other classes are the same.

    Attributes:
        seed: Of the run.
    """

    seed: int

    def baseline(self, images: int) -> tuple[int, ...]:
        """Return the seeds of trial 0."""
        return self._block(0, images, size=TRIALS)

    def trial(self, number: int, images: int) -> tuple[int, ...]:
        """Return the seeds of a trial, >= 1.

        Raises:
            SeedsExhaustedError: More than `TRIAL` images, or so high a number that the seeds would
                be those of a fold.
        """
        start = TRIALS + number * TRIAL
        if start + TRIAL > FOLDS:
            raise SeedsExhaustedError(
                f"trial {number}: a class has {MOST_TRIALS} trials at most; start a new run with "
                "--out",
                MOST_TRIALS,
            )
        return self._block(start, images, size=TRIAL)

    def fold(self, number: int, images: int) -> tuple[int, ...]:
        """Return the seeds of an evaluation on a fold.

        Raises:
            SeedsExhaustedError: More than `FOLD` images, or more folds than there are blocks.
        """
        start = FOLDS + number * FOLD
        if start + FOLD > VALIDATIONS:
            most = (VALIDATIONS - FOLDS) // FOLD
            raise SeedsExhaustedError(f"fold {number}: a class has {most} folds at most", most)
        return self._block(start, images, size=FOLD)

    def validation(
        self, pool: int, draw: int, images: int, *, pools: int = POOLS
    ) -> tuple[int, ...]:
        """Return the seeds of what a validation trains on.

        Args:
            pool: Number of the pool, below `pools`.
            draw: Number of the draw.
            images: Of the class.
            pools: That a draw has; the same for all draws of a run.

        Raises:
            SeedsExhaustedError: More than `VALIDATION` images, or more draws than there are
                blocks.
        """
        start = VALIDATIONS + (draw * pools + pool) * VALIDATION
        if start + VALIDATION > RUN:
            most = (RUN - VALIDATIONS) // (pools * VALIDATION)
            raise SeedsExhaustedError(f"draw {draw}: a validation has {most} at most", most)
        return self._block(start, images, size=VALIDATION)

    def exported(self, cls: str, *, makeup: bool = False) -> Iterator[int]:
        """Yield the seeds of a class's exported images without end, the same at every call.

        Args:
            cls: The class.
            makeup: Those of the images that replace invalid ones: others.
        """
        text = f"export/{self.seed}/{cls}"
        start = EXPORTS + int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) // 4
        return itertools.count(start + (MAKEUP if makeup else 0))

    def _block(self, start: int, images: int, *, size: int) -> tuple[int, ...]:
        if images > size:
            said = f"{images} images: a block has {size} seeds; ask for fewer"
            raise SeedsExhaustedError(said, size)
        first = self.seed * RUN + start
        return tuple(range(first, first + images))
