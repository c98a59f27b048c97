"""The gap of a mixture on fresh images of it: the one that a search may believe.

A mixture is held still while images that it was not fitted to are generated and scored, until
they have decided. The weights of few images flatter themselves on those very images, by two floors
and more on photos; on fresh ones they do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.class_gap import MIN_CLOSED
from gapclose.loop.search.score import Score
from gapclose.loop.search.trial import Images, Mixture

CLOSED: Final = 0.5  # floors: with more, a confirmation would see the gap too often
CERTAIN: Final = (
    1.0  # floors of the images so far, beyond CLOSED: above it, more need not be generated
)

Outcome = Literal["more", "open", "closed"]


@dataclass(slots=True)
class Measurement:
    """A mixture that is held still, and the fresh images of it so far.

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
    _sources: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of images so far."""
        return sum(map(len, self._rows))

    def add(self, images: Images, bank: Score) -> None:
        """Take a trial's images in, and score all so far."""
        self._rows.append(images.embeddings)
        self._sources += images.sources
        rows = np.concatenate(self._rows)
        if len(rows) >= 2:
            self.gap = bank.gap_of(rows, sources=self._sources)

    @property
    def missing(self) -> int:
        """Images that it is not whole without."""
        return max(self.confirm_images, MIN_CLOSED) - len(self)

    @property
    def whole(self) -> bool:
        """Whether there are as many images as a confirmation has, and enough to call it closed."""
        return self.missing <= 0

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
class MixtureGap:
    """What fresh images say of a class's gap, one measurement after the other.

    Attributes:
        floor: `floor_p95` at the size of a confirmation.
        confirm_images: Images of a confirmation.
        current: The measurement under way.
        gap: Of the mixture, on images that it was not fitted to; NaN before there are any.
        closed: Whether the last measurement found no gap.
    """

    floor: float
    confirm_images: int
    current: Measurement | None = None
    gap: float = float("nan")
    closed: bool = False
    _ended: bool = False  # whether a measurement has
    _found_closed: Mixture | None = None
    _begun: dict[int, Measurement] = field(default_factory=dict)  # by trial, of those under way

    def under_way(self, mixture: Callable[[], Mixture]) -> Measurement:
        """Return the measurement under way, or begin one with the mixture as it is now."""
        if self.current is None:
            self.current = Measurement(
                mixture=mixture(), floor=self.floor, confirm_images=self.confirm_images
            )
        return self.current

    def begin(self, trial: int, mixture: Callable[[], Mixture]) -> None:
        """Note that a trial of this number generates more images for the measurement."""
        self._begun[trial] = self.under_way(mixture)

    def absorb(self, trial: int, images: Images, bank: Score) -> Outcome:
        """Take in a trial's images, unless what they were generated for has ended meanwhile.

        Returns:
            What the measurement says with them.
        """
        measurement = self._begun.pop(trial)
        if measurement is not self.current:
            return "more"
        measurement.add(images, bank)
        outcome = measurement.outcome(bank.n_real)
        # A few images of the next measurement say less than all of the last one's.
        if measurement.whole or outcome == "open" or not self._ended:
            self.gap = measurement.gap
        self._ended |= outcome != "more"
        self.closed = outcome == "closed"
        self._found_closed = measurement.mixture if self.closed else None
        if outcome != "more":
            self.current = None
        return outcome

    def forget(self, trial: int) -> None:
        """Note that a trial brought no images."""
        self._begun.pop(trial)

    @property
    def measured(self) -> Mixture | None:
        """The mixture under measurement, or the one that the last found closed."""
        return self._found_closed if self.current is None else self.current.mixture

    def refuse(self) -> None:
        """Leave that mixture: it is none that the class may end with."""
        self.current, self.closed, self._found_closed = None, False, None

    def abandon(self) -> None:
        """Leave the measurement under way: its images are not what they were."""
        self.current = None
