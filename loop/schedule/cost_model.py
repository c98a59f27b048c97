"""The pace: what trials and confirmations take, as measured so far.

The controller notes what took how long, from `trials.jsonl` too when a run is resumed; the budget
weighs gains against it, baselines are sized and time to close is kept back by it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

_LATEST: Final = 50  # trials that a class's pace is read from: machines grow slower and faster
_LATEST_LOOKS: Final = 5
# Reading an image back, for two encoders on slow cores; the pond draws faster than that.
_READING_SECONDS: Final = 0.1
_READING: Final = 0.2  # of a look
# Of `probe` where closing takes what is kept back for it. Where it took 0.028 s, so did closing
# 14 s of ten classes' 49 s; the first time, the map's library is compiled on top.
PROBE_SECONDS: Final = 0.05
_LATEST_PROBES: Final = 5
_FASTEST: Final = 0.6  # part of closing is waiting, or compiling, however fast the machine is


def probe() -> float:
    """Seconds of a fixed piece of arithmetic, such as the report is full of, on one core."""
    start = time.perf_counter()
    rows = np.random.default_rng(0).random((512, 64), dtype=np.float32)
    for _ in range(16):  # longer than a time slice, or it would not see who else wants the core
        np.sort(rows @ rows.T, axis=1)
    return time.perf_counter() - start


@dataclass(slots=True, kw_only=True)
class CostModel:
    """Seconds of trials and looks.

    Attributes:
        trial_images: Images of a trial.
        baseline_images: Of trial 0, where the machine is fast enough.
        look_images: Of a confirmation.
        baseline_seconds: What all baselines have taken.
    """

    trial_images: int
    baseline_images: int
    look_images: int
    baseline_seconds: float = 0.0
    _joint: dict[str, list[float]] = field(default_factory=dict)
    _baseline: list[float] = field(default_factory=list)  # seconds an image
    _small: list[float] = field(default_factory=list)
    _begun: set[str] = field(default_factory=set)  # classes that have had more than a baseline
    _looks: list[tuple[str, float, int]] = field(default_factory=list)  # class, seconds, images
    _probes: list[float] = field(default_factory=list)

    def note_trial(self, row: Mapping[str, Any]) -> None:
        """Keep what a line of `trials.jsonl` took.

        Failures say nothing, nor do stages that draw little anew.
        """
        done, name = row["state"] == "complete", row["class"]
        if row["stage"] == "baseline":
            self.baseline_seconds += row["seconds"]
            self._baseline += [row["seconds"] / len(row["seeds"])] if done else []
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

    def note_probe(self, seconds: float) -> None:
        """Keep what `probe` took."""
        self._probes.append(seconds)

    @property
    def slowness(self) -> float:
        """How many times slower the machine closes now than it is taken to."""
        latest = self._probes[-_LATEST_PROBES:]
        return max(_FASTEST, float(np.median(latest)) / PROBE_SECONDS) if latest else 1.0

    @property
    def baseline_image(self) -> float | None:
        """Seconds of an image of a baseline; None before the first."""
        return float(np.median(self._baseline)) if self._baseline else None

    def trial(self, name: str | None = None) -> float:
        """Seconds of a trial of the class, or of any, or else at the pace of the baselines."""
        took = [self._joint[name]] if name in self._joint else self._joint.values()
        latest = [seconds for of_class in took for seconds in of_class[-_LATEST:]]
        if latest:
            return float(np.median(latest))
        if self.baseline_image is not None:
            return self.baseline_image * self.trial_images
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
        if self.baseline_image is not None and self._small:
            # A look draws in larger batches than a trial.
            small = float(np.median(self._small)) / self.trial_images
            pace *= min(1.0, self.baseline_image / small)
        return pace * self.look_images

    def reading(self, name: str) -> float:
        """Seconds of reading back what a look at a class drew."""
        images = self.look_images + self.baseline_images
        return min(_READING * self.look(name), _READING_SECONDS * images)
