"""The pace: what trials and confirmations take, as measured so far.

The controller notes what took how long, from `trials.jsonl` too when a run is resumed; the budget
weighs gains against it, and time to close is kept back by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

_LATEST: Final = 50  # trials that a class's pace is read from: machines grow slower and faster


@dataclass(slots=True, kw_only=True)
class Pace:
    """Seconds of trials and looks.

    Attributes:
        trial_images: Images of a trial.
        baseline_images: Of trial 0.
        look_images: Of a confirmation.
    """

    trial_images: int
    baseline_images: int
    look_images: int
    _joint: dict[str, list[float]] = field(default_factory=dict)
    _baseline: list[float] = field(default_factory=list)
    _small: list[float] = field(default_factory=list)
    _looks: list[float] = field(default_factory=list)

    def note_trial(self, row: Mapping[str, Any]) -> None:
        """Keep what a line of `trials.jsonl` took; stages that draw little anew say nothing."""
        done = row["state"] == "complete"
        if row["number"] == 1 and done:
            # Trial 1 draws at the baseline's settings, whatever its stage, but in small batches.
            self._small.append(row["seconds"])
        if row["stage"] == "joint":
            self._joint.setdefault(row["class"], []).append(row["seconds"])
        elif row["stage"] == "baseline" and done:
            self._baseline.append(row["seconds"])

    def note_look(self, seconds: float) -> None:
        """Keep what confirming a class took."""
        self._looks.append(seconds)

    def trial(self, name: str | None = None) -> float:
        """Seconds of a trial of the class, or of any, or else at the pace of the baselines."""
        every = [seconds for took in self._joint.values() for seconds in took[-_LATEST:]]
        took = self._joint.get(name or "", every)[-_LATEST:]
        if took or every:
            return float(np.median(took or every))
        if self._baseline:
            return float(np.median(self._baseline)) / self.baseline_images * self.trial_images
        return 1.0

    def look(self) -> float:
        """Seconds of confirming a class: as measured, or at the pace of the last trials."""
        if self._looks:
            return float(np.median(self._looks))
        pace = self.trial() / self.trial_images
        if self._baseline and self._small:
            # A look draws in larger batches than a trial.
            large = float(np.median(self._baseline)) / self.baseline_images
            pace *= min(1.0, large / (float(np.median(self._small)) / self.trial_images))
        return pace * self.look_images
