"""Timings: what the work of a run has taken, of which its cost model is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from gapclose.loop.run.events import TrialProposed

__all__ = ["Timings"]

_RECENT_TRIALS: Final = 50  # for a class's seconds per trial: machines grow slower and faster
_RECENT_EVALUATIONS: Final = 50
_RECENT_PROBES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """What took how long, in seconds; `CostModel` reads it.

    Attributes:
        baselines: Seconds and images of each that succeeded.
        baseline_seconds: Of all baselines, failed ones too.
        first: Of each class's first trial after its baseline: the baseline's settings in small
            batches.
        begun: Classes that have had one.
        trials: By class, of its latest whole recipes.
        evaluations: Class, seconds and generated images of the latest.
        probes: The latest.
        recalls: Of the last measurement of recalls.
        generators: Images and seconds of the latest trials that each of several generators drew
            for; one that loaded its model is left out.
    """

    baselines: tuple[tuple[float, int], ...] = ()
    baseline_seconds: float = 0.0
    first: tuple[float, ...] = ()
    begun: frozenset[str] = frozenset()
    trials: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    evaluations: tuple[tuple[str, float, int], ...] = ()
    probes: tuple[float, ...] = ()
    recalls: float = 0.0
    generators: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)

    def with_trial(self, trial: TrialProposed, seconds: float, *, done: bool) -> Timings:
        """Note a trial. Failures say nothing, nor do stages that generate little anew."""
        cls = trial.cls
        if trial.stage == "baseline":
            images = sum(len(job.seeds) for job in trial.jobs)
            return replace(
                self,
                baseline_seconds=self.baseline_seconds + seconds,
                baselines=(*self.baselines, (seconds, images)) if done else self.baselines,
            )
        if trial.stage == "given":  # in large batches, at settings of another run
            return replace(self, begun=self.begun | {cls})
        first, trials = self.first, self.trials
        if done and cls not in self.begun:
            first = (*first, seconds)
        if done and trial.stage == "joint":
            trials = {**trials, cls: (*trials.get(cls, ()), seconds)[-_RECENT_TRIALS:]}
        return replace(self, first=first, trials=trials, begun=self.begun | {cls})

    def with_costs(self, costs: Mapping[str, tuple[int, float]]) -> Timings:
        """Note what generators have drawn in a trial."""
        known = dict(self.generators)
        for name, cost in costs.items():
            # The first loads the model: it is known by then that there is one, and no more.
            known[name] = (*known[name], cost)[-_RECENT_TRIALS:] if name in known else ()
        return replace(self, generators=known)

    def prices(self) -> dict[str, float]:
        """Return the seconds of an image by generator, of those that have a price."""
        return {
            name: sum(seconds for _, seconds in its) / sum(images for images, _ in its)
            for name, its in self.generators.items()
            if its
        }

    def with_evaluation(self, cls: str, seconds: float, images: int) -> Timings:
        """Note an evaluation."""
        recent = (*self.evaluations, (cls, seconds, images))[-_RECENT_EVALUATIONS:]
        return replace(self, evaluations=recent)

    def with_probe(self, seconds: float | None) -> Timings:
        """Note what `probe()` took, where it was asked."""
        if seconds is None:
            return self
        return replace(self, probes=(*self.probes, seconds)[-_RECENT_PROBES:])
