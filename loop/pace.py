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
_LATEST_LOOKS: Final = 5
# Reading an image back, for two encoders on slow cores; the pond draws faster than that.
_READING_SECONDS: Final = 0.1
_READING: Final = 0.2  # of a look


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
    _begun: set[str] = field(default_factory=set)  # classes that have had more than a baseline
    _looks: list[tuple[str, float, int]] = field(default_factory=list)  # class, seconds, images

    def note_trial(self, row: Mapping[str, Any]) -> None:
        """Keep what a line of `trials.jsonl` took.

        Failures say nothing, nor do stages that draw little anew.
        """
        done, name = row["state"] == "complete", row["class"]
        if row["stage"] == "baseline":
            self._baseline += [row["seconds"]] if done else []
            return
        if done and name not in self._begun:
            # It draws at the baseline's settings, whatever its stage, but in small batches.
            self._small.append(row["seconds"])
        self._begun.add(name)
        if done and row["stage"] == "joint":
            self._joint.setdefault(name, []).append(row["seconds"])

    def note_look(self, name: str, seconds: float, *, images: int) -> None:
        """Keep what confirming a class took; one that was mostly read back says nothing."""
        if images >= self.look_images / 2:
            self._looks.append((name, seconds, images))

    def trial(self, name: str | None = None) -> float:
        """Seconds of a trial of the class, or of any, or else at the pace of the baselines."""
        took = [self._joint[name]] if name in self._joint else self._joint.values()
        latest = [seconds for of_class in took for seconds in of_class[-_LATEST:]]
        if latest:
            return float(np.median(latest))
        if self._baseline:
            return float(np.median(self._baseline)) / self.baseline_images * self.trial_images
        return 1.0

    def look(self, name: str) -> float:
        """Seconds of confirming a class: as measured, or at the pace of the last trials.

        A class whose trials take longer than those of the classes looked at, for it needs more
        steps, takes so much longer to be looked at.
        """
        if self._looks:
            names, seconds, images = zip(*self._looks[-_LATEST_LOOKS:], strict=True)
            known = float(np.mean([self.trial(known) for known in names]))
            slower = max(1.0, self.trial(name) / known) if name in self._joint else 1.0
            return float(np.sum(seconds) / np.sum(images)) * self.look_images * slower
        pace = self.trial(name) / self.trial_images
        if self._baseline and self._small:
            # A look draws in larger batches than a trial.
            large = float(np.median(self._baseline)) / self.baseline_images
            pace *= min(1.0, large / (float(np.median(self._small)) / self.trial_images))
        return pace * self.look_images

    def reading(self, name: str) -> float:
        """Seconds of reading back what a look at a class drew."""
        images = self.look_images + self.baseline_images
        return min(_READING * self.look(name), _READING_SECONDS * images)
