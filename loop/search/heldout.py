"""A mixture held still while fresh images of it are scored: the gap that a search may believe.

`class_search` opens a round when a mixture is fitted, feeds it images that the mixture was not
fitted to, and closes it when they have decided. The weights of few images flatter themselves on
those very images, by two floors and more on photos; on fresh ones they do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.class_gap import MIN_CLOSED
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.trial import Images, Mixture

CLOSED: Final = 0.5  # floors: with more, a confirmation would see the gap too often
CERTAIN: Final = (
    1.0  # floors of the images so far, beyond CLOSED: above it, more need not be generated
)

Outcome = Literal["more", "open", "closed"]


@dataclass(slots=True)
class Round:
    """A mixture, and the fresh images of it so far.

    Attributes:
        mixture: Whose weights stay as they are.
        floor: `floor_p95` at the size of a confirmation.
        confirm_images: Images of a confirmation.
    """

    mixture: Mixture
    floor: float
    confirm_images: int
    gap: float = float("nan")  # squared MMD of the images so far
    _rows: list[NDArray[np.float32]] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of images so far."""
        return sum(map(len, self._rows))

    def add(self, images: Images, bank: AtomBank) -> None:
        """Take a trial's images in, and score all so far."""
        self._rows.append(images.embeddings)
        rows = np.concatenate(self._rows)
        if len(rows) >= 2:
            self.gap = bank.gap_of(rows)

    @property
    def whole(self) -> bool:
        """Whether there are as many images as a confirmation has, and enough to call it closed."""
        return len(self) >= max(self.confirm_images, MIN_CLOSED)

    def outcome(self, n_real: int) -> Outcome:
        """Return what the images so far say of the gap."""
        if self.whole:
            return "closed" if self.gap <= CLOSED * self.floor else "open"
        if len(self) < 2:
            return "more"
        scatter = (
            self.floor * (1 / n_real + 1 / len(self)) / (1 / n_real + 1 / self.confirm_images)
        )
        return "open" if self.gap > CLOSED * self.floor + CERTAIN * scatter else "more"


@dataclass(slots=True)
class Heldout:
    """What fresh images say of a class's gap, round by round.

    Attributes:
        floor: `floor_p95` at the size of a confirmation.
        confirm_images: Images of a confirmation.
        round: The one under way.
        gap: Of the mixture, on images that it was not fitted to; NaN before there are any.
        closed: Whether the last round found no gap.
    """

    floor: float
    confirm_images: int
    round: Round | None = None
    gap: float = float("nan")
    closed: bool = False
    _ended: bool = False  # whether a round has

    def begin(self, mixture: Callable[[], Mixture]) -> Round:
        """Return the round under way, or begin one with the mixture as it is now."""
        if self.round is None:
            self.round = Round(
                mixture=mixture(), floor=self.floor, confirm_images=self.confirm_images
            )
        return self.round

    def absorb(self, images: Images, bank: AtomBank) -> None:
        """Take in fresh images of the round's mixture."""
        assert self.round is not None, "a round begins when its first images are proposed"
        self.round.add(images, bank)
        outcome = self.round.outcome(len(bank.real))
        # A few images of the next round say less than all of the last one's.
        if self.round.whole or outcome == "open" or not self._ended:
            self.gap = self.round.gap
        self._ended |= outcome != "more"
        self.closed = outcome == "closed"
        if outcome != "more":
            self.round = None

    def abandon(self) -> None:
        """Leave the round under way: its images are not what they were."""
        self.round = None
