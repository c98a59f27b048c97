"""Seed blocks: the one place that hands out the seeds of a run's images.

No two uses of a class ever share a seed unless they mean to. A block that is too small for what is
asked of it is an error, never an overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gapclose.loop.errors import SeedsExhaustedError

RUN: Final = 20_000_000  # apart between runs of different seeds
TRIALS: Final = 2_000_000  # where the blocks of the trials after the baseline begin
TRIAL: Final = 1_000  # seeds of a trial
FOLDS: Final = 15_000_000  # where those of the folds begin
FOLD: Final = 100_000  # seeds of a fold
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
        if start + FOLD > RUN:
            most = (RUN - FOLDS) // FOLD
            raise SeedsExhaustedError(f"fold {number}: a class has {most} folds at most", most)
        return self._block(start, images, size=FOLD)

    def _block(self, start: int, images: int, *, size: int) -> tuple[int, ...]:
        if images > size:
            said = f"{images} images: a block has {size} seeds; ask for fewer"
            raise SeedsExhaustedError(said, size)
        first = self.seed * RUN + start
        return tuple(range(first, first + images))
