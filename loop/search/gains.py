"""Gains: how long ago a class's gap fell, which says whether it deserves another trial."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

GAIN: Final = 0.1  # what counts as a gain, in floors


@dataclass(slots=True)
class Gains:
    """The gap of one class over its trials, as far as it is known.

    Attributes:
        floor: `floor_p95` at the size of a confirmation.
        evidence: How many times the mixture has been fitted or scored anew.
        since: Trials since the gap fell.
        best: What it fell to.
    """

    floor: float
    evidence: int = 0
    since: int = 0
    best: float = math.inf

    def note(self, expected: float) -> None:
        """Count a trial that the mixture learned from.

        Args:
            expected: What is believed of the gap after it.
        """
        self.evidence += 1
        self.since += 1
        if expected < self.best - GAIN * self.floor:
            self.since, self.best = 0, expected
