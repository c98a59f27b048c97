"""The budget: which class gets the next trial, how much its settings stage may cost, when to stop.

With `tune.trials` or `tune.images` set and no time limit reached, no answer depends on the clock,
so that a resumed run equals an unbroken one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gapclose.loop.config.schema import TuneConfig
from gapclose.loop.run.class_state import FAILURES, ClassState
from gapclose.loop.run.events import Stopped, StopReason
from gapclose.loop.schedule.objective import OBJECTIVE, Objective
from gapclose.loop.search.seeds import MOST_TRIALS, TRIAL

SETTINGS_SHARE: Final = 1 / 3  # of a class's trials goes to the settings they all share
FEWEST_SETTINGS: Final = 4
MOST_SETTINGS: Final = 8
FADING: Final = 0.85  # how fast a class without gain loses its turn, per trial
FAIR_SHARE: Final = 0.25  # of an even share of the trials, which no class falls behind
FEWEST_FAIR: Final = 6  # that something comes of: the fewest settings trials, some whole recipes
BASELINE_IMAGES: Final = 100  # enough to call a class closed or not
MOST_BATCH: Final = TRIAL
MOST_PROPOSALS: Final = 3  # of a class
PROPOSALS_APART: Final = 12  # trials: what was proposed before has had its effect by then


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassLimits:
    """What is fixed of a class before its search begins.

    Attributes:
        floor: What real images score at the size of a confirmation, 95th percentile; the unit of
            gains.
        folds: Of its confirm split, spent ones included.
        gap_unit: What a gap of 1, a squared MMD, is in units of the score: the floor of the one
            is that of the other.
    """

    floor: float
    folds: int
    gap_unit: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may use; no event changes it.

    Attributes:
        tune: Time, trials and images that the config allows.
        confirm_images: Images of a confirmation.
        classes: In the run's order.
        cameras: Whether the config has cameras to choose from.
        proposer: Whether it names one that proposes prompts.
        objective: What the classes are searched for.
        in_flight: Trials that may be under way at once.
    """

    tune: TuneConfig
    confirm_images: int
    classes: Mapping[str, ClassLimits]
    cameras: bool = False
    proposer: bool = False
    objective: Objective = OBJECTIVE
    in_flight: int = 1

    def left(self, used: float) -> float:
        """Return the seconds left; infinite without a time budget."""
        return math.inf if self.tune.budget is None else self.tune.budget - used

    @property
    def by_clock(self) -> bool:
        """Whether nothing but time ends the search."""
        return self.tune.trials is None and self.tune.images is None

    def wants_proposals(self, cls: ClassState) -> bool:
        """Return whether a proposer is to be asked what an open class lacks."""
        if not self.proposer or cls.proposals >= MOST_PROPOSALS:
            return False
        if cls.progress.winner is None or cls.progress.pending or cls.progress.closed:
            return False  # what it lacks is told once its settings are chosen
        return not cls.proposals or cls.trials >= cls.proposed_at + PROPOSALS_APART

    def limit(self, cls: ClassState) -> StopReason | None:
        """Return which limit a class has reached: of its seeds, or of the config."""
        if cls.proposed >= MOST_TRIALS:
            return StopReason.SEEDS_SPENT
        trials, images = self.tune.trials, self.tune.images
        reached = (trials is not None and cls.proposed >= trials) or (
            images is not None and cls.images >= images
        )
        return StopReason.LIMIT if reached else None

    def spent(self, cls: ClassState) -> bool:
        """Return whether a class has had all that it may have."""
        return self.limit(cls) is not None

    def gain(self, name: str, cls: ClassState) -> float:
        """Return what there is to gain in a class, by what its search and its folds saw."""
        limits = self.classes[name]
        cls = replace(cls, unseen_gap=cls.unseen_gap * limits.gap_unit)
        return self.objective.gain(cls, floor=limits.floor)

    def stopped(self, name: str, cls: ClassState) -> Stopped | None:
        """Return why the search of a class has ended, if it has; what it may use is not asked."""
        if cls.failures >= FAILURES:
            return Stopped(reason=StopReason.FAILURES, detail=cls.error)
        if not cls.has_baseline or cls.progress.pending:
            return None
        return self.objective.stopped(cls, floor=self.classes[name].floor)

    def wants_trial(self, name: str, cls: ClassState) -> bool:
        """Return whether the search of a class goes on, and may."""
        return self.stopped(name, cls) is None and not self.spent(cls)


def settings_trials(
    cls: ClassState, limits: Limits, *, time: float, trial_seconds: float, open_classes: int
) -> int:
    """Return the number of trials of a class's settings stage.

    Args:
        cls: The class.
        limits: Of the run.
        time: Seconds left to search in.
        trial_seconds: What a trial has taken so far.
        open_classes: Classes that share the time.
    """
    total = time / max(trial_seconds, 1e-3) / max(open_classes, 1)
    most = MOST_SETTINGS
    if not limits.by_clock:
        in_time = total
        trials = [limits.tune.trials] if limits.tune.trials is not None else []
        if limits.tune.images is not None:
            trials.append((limits.tune.images - BASELINE_IMAGES) // limits.tune.images_per_trial)
        # The clock is heeded only where it clearly ends the search before the limit does: up to
        # there a run that is started again must decide as one that was not.
        limit = float(min(trials))
        total = in_time if cls.trials + in_time < limit / 2 else limit
        # A handful of trials must leave some for whole recipes, or nothing can be mixed.
        most = max(1, min(trials) // 2)
    return int(min(max(total * SETTINGS_SHARE, FEWEST_SETTINGS), MOST_SETTINGS, most))


def batch_images(limits: Limits, *, time: float, trial_seconds: float) -> int | None:
    """Return the images of a mixture that there is time for; None for as many as are usual.

    Args:
        limits: Of the run.
        time: Seconds left to search in.
        trial_seconds: What a trial of the class takes.
    """
    if not limits.by_clock:
        return None
    images = limits.tune.images_per_trial
    fitting = time / max(trial_seconds / images, 1e-6)
    return int(min(max(fitting, images), MOST_BATCH))


def pick(
    candidates: Sequence[str],
    classes: Mapping[str, ClassState],
    limits: Limits,
    *,
    seconds: Mapping[str, float],
) -> str | None:
    """Pick the class whose next trial is worth most, or None when no class wants one.

    First every baseline, in order; then prioritized prompts, and mixtures that were given, which
    the choice of a camera would measure anew; then classes that have had under a quarter of an
    even share of the trials. Among those, or else among all, the class with the most to gain (see
    `Objective`), a class that has not gained for a while fading behind the others.

    Args:
        candidates: The classes that may have one, in order.
        classes: Their states.
        limits: Of the run.
        seconds: What a trial of a class takes, its own time and what it takes of others'; where
            time is what ends the run, a gain is weighed against it.
    """
    wanting = [name for name in candidates if limits.wants_trial(name, classes[name])]
    for name in wanting:
        if not classes[name].has_baseline:
            return name
    for name in wanting:
        if classes[name].progress.pending:
            return name
    for name in wanting:
        if classes[name].progress.given:
            return name
    if not wanting:
        return None

    def worth(name: str) -> float:
        cls = classes[name]
        cost = seconds.get(name, 1.0) if limits.by_clock else 1.0
        return limits.gain(name, cls) * FADING**cls.progress.since_gain / max(cost, 1e-3)

    # A trial or two would only cost the class a confirmation: nothing comes of so few.
    fair = FAIR_SHARE * sum(classes[name].proposed for name in wanting) / len(wanting)
    behind = [n for n in wanting if classes[n].proposed < fair and fair >= FEWEST_FAIR]
    return max(behind or wanting, key=worth)
