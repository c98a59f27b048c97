"""The cost model: what trials and confirmations will take, from what they have taken so far.

The budget weighs gains against it, baselines are sized by it, and time for confirming and
reporting is kept back by it. It reads the timings of the run's state and knows no clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from gapclose.loop.run.timings import Timings

# Of `probe` where reporting takes what is kept back for it. Where it took 0.028 s, so did the
# report 14 s of ten classes' 49 s; the first time, the map's library is compiled on top.
PROBE_SECONDS: Final = 0.05
_LATEST_EVALUATIONS: Final = 5
_FASTEST: Final = 0.6  # part of it is waiting, or compiling, however fast the machine is


def probe() -> float:
    """Time a fixed piece of arithmetic, such as the report is full of, in seconds on one core."""
    start = time.perf_counter()
    rows = np.random.default_rng(0).random((512, 64), dtype=np.float32)
    for _ in range(16):  # longer than a time slice, or it would not see who else wants the core
        np.sort(rows @ rows.T, axis=1)
    return time.perf_counter() - start


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Seconds of trials and confirmations.

    Attributes:
        timings: What took how long so far.
        trial_images: Images of a trial.
        confirm_images: Of a confirmation.
    """

    timings: Timings
    trial_images: int
    confirm_images: int

    @cached_property
    def slowness(self) -> float:
        """How many times slower the machine reports now than it is taken to."""
        latest = self.timings.probes
        return max(_FASTEST, float(np.median(latest)) / PROBE_SECONDS) if latest else 1.0

    @cached_property
    def baseline_image(self) -> float | None:
        """Seconds of an image of a baseline; None before the first."""
        each = [seconds / images for seconds, images in self.timings.baselines]
        return float(np.median(each)) if each else None

    def trial(self, name: str | None = None) -> float:
        """Return a trial's seconds: of the class, of any, or else by those of the baselines."""
        if own := self.timings.trials.get(name or ""):
            return float(np.median(own))
        return self._any_trial

    @cached_property
    def _any_trial(self) -> float:
        if latest := [seconds for own in self.timings.trials.values() for seconds in own]:
            return float(np.median(latest))
        if self.baseline_image is not None:
            return self.baseline_image * self.trial_images
        return 1.0

    def confirmation(self, name: str) -> float:
        """Return the seconds of confirming a class: as measured, or at the last trials' rate.

        A class whose trials take longer than those of the classes confirmed so far, for it needs
        more steps, takes so much longer to be confirmed. One whose images were there already says
        nothing.
        """
        known = [row for row in self.timings.evaluations if row[2] >= self.confirm_images / 2]
        if known:
            names, seconds, images = zip(*known[-_LATEST_EVALUATIONS:], strict=True)
            usual = float(np.mean([self.trial(other) for other in names]))
            slower = max(1.0, self.trial(name) / usual) if name in self.timings.trials else 1.0
            return float(np.sum(seconds) / np.sum(images)) * self.confirm_images * slower
        image = self.trial(name) / self.trial_images
        if self.baseline_image is not None and self.timings.first:
            # A confirmation generates in larger batches than a trial.
            small = float(np.median(self.timings.first)) / self.trial_images
            image *= min(1.0, self.baseline_image / small)
        return image * self.confirm_images
