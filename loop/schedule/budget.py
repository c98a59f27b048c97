"""The budget: which class gets the next trial, how much its settings stage may cost, when to stop.

The controller asks it before every trial. With `tune.trials` or `tune.images` set and no time
limit reached, no answer depends on the clock, so that a resumed run equals an unbroken one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gapclose.loop.config.schema import TuneConfig

if TYPE_CHECKING:
    from gapclose.loop.search.class_search import ClassSearch

SETTINGS_SHARE: Final = 1 / 3  # of a class's trials goes to the settings they all share
FEWEST_SETTINGS: Final = 4
MOST_SETTINGS: Final = 8
FADING: Final = 0.85  # how fast a class without gain loses its turn, per trial
FAIR_SHARE: Final = 0.25  # of an even share of the trials, which no class falls behind
FEWEST_FAIR: Final = 6  # that something comes of: the fewest settings trials, some whole recipes


@dataclass(slots=True)
class Budget:
    """Time and images of one run.

    Attributes:
        limits: What the config allows.
        used_before: Seconds that earlier sessions of the run took.
        now: The clock; monotonic seconds.
    """

    limits: TuneConfig
    used_before: float = 0.0
    now: Callable[[], float] = time.monotonic
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        """Start the clock."""
        self._started = self.now()

    @property
    def used(self) -> float:
        """Seconds used over all sessions."""
        return self.used_before + self.now() - self._started

    @property
    def left(self) -> float:
        """Seconds left; infinite without a time budget."""
        return float("inf") if self.limits.budget is None else self.limits.budget - self.used

    @property
    def by_clock(self) -> bool:
        """Whether nothing but time ends the search."""
        return self.limits.trials is None and self.limits.images is None

    def spent(self, search: ClassSearch) -> bool:
        """Whether a class has had what the config allows it."""
        trials, images = self.limits.trials, self.limits.images
        return (trials is not None and search.number >= trials) or (
            images is not None and search.images >= images
        )

    def settings_trials(
        self, search: ClassSearch, *, trial_seconds: float, open_classes: int, reserve: float
    ) -> int:
        """Trials of a class's settings stage.

        Args:
            search: The class.
            trial_seconds: What a trial has taken so far.
            open_classes: Classes that share what time is left.
            reserve: Seconds kept back for confirming and reporting.
        """
        total = (self.left - reserve) / max(trial_seconds, 1e-3) / max(open_classes, 1)
        most = MOST_SETTINGS
        if not self.by_clock:
            in_time = total
            per_trial = search.images_per_trial
            trials = [self.limits.trials] if self.limits.trials is not None else []
            if self.limits.images is not None:
                trials.append((self.limits.images - search.baseline_images) // per_trial)
            # The clock is heeded only where it clearly ends the search before the limit does:
            # up to there a run that is started again must decide as one that was not.
            limit = float(min(trials))
            total = in_time if search.number + in_time < limit / 2 else limit
            # A handful of trials must leave some for whole recipes, or nothing can be mixed.
            most = max(1, min(trials) // 2)
        return int(min(max(total * SETTINGS_SHARE, FEWEST_SETTINGS), MOST_SETTINGS, most))

    def pick(
        self, searches: Mapping[str, ClassSearch], *, seconds: Mapping[str, float] | None = None
    ) -> str | None:
        """The class whose next trial is worth most, or None when no class wants one.

        First every baseline, in order; then what a person pointed at; then classes that have had
        under a quarter of an even share of the trials. Among those, or else among all, the class
        with the largest gap in floors (on the tune split, or where the last confirmation saw more,
        there), a class that has not gained for a while fading behind the others.

        Args:
            searches: The classes that may have one.
            seconds: What a trial of a class takes, its own time and what it takes of others';
                where time is what ends the run, a gain is weighed against it.
        """
        wanting = {
            name: s for name, s in searches.items() if s.stopped() is None and not self.spent(s)
        }
        for name, search in wanting.items():
            if not search.has_baseline:
                return name
        for name, search in wanting.items():
            if search.pending:
                return name
        if not wanting:
            return None

        def worth(name: str) -> float:
            search = wanting[name]
            gap = max(search.expected, search.unseen_gap, 0.0) / search.floor
            cost = (seconds or {}).get(name, 1.0) if self.by_clock else 1.0
            return gap * FADING**search.since_gain / max(cost, 1e-3)

        # A trial or two would only cost the class a look: nothing comes of so few.
        fair = FAIR_SHARE * sum(search.number for search in wanting.values()) / len(wanting)
        behind = [n for n, s in wanting.items() if s.number < fair and fair >= FEWEST_FAIR]
        return max(behind or wanting, key=worth)
