"""The reserve: time that the search leaves for confirming, the map and the report.

What a confirmation leaves of its time is searched in before the next, so their order matters.
Before the first round comes a baseline of every class, no larger than leaves time to search in. It
reckons in seconds that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

# Clusters, map and report took 48 s of ten classes on slow cores: part for the map's library.
REPORT_SECONDS: Final = 16.0
REPORT_SECONDS_PER_CLASS: Final = 3.3
MOST_REPORT: Final = 0.6  # of the budget
SLACK: Final = 0.15  # of the confirmations: they may take longer than the trials suggest
WHOLE_BASELINES: Final = 0.5  # of the time to search in; where they take more, they are cut to
FEW_BASELINES: Final = 0.25  # this: under 100 images only rank the classes by their gaps
FEWEST_BASELINE: Final = 24  # images: a gap needs 20, and a few may be invalid
WORTHWHILE: Final = 1.5  # of what is kept back: with less time, there is too little to search in


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassProgress:
    """Where a class that has its baseline stands.

    Attributes:
        name: The class.
        gain: What there is to gain if it is searched on; see `Objective`.
        gap: In floors, on the tune split or as the last fold saw it, whichever is more.
        seconds: Of confirming it.
        tried: Whether anything but the baseline was tried; if not, a confirmation costs nothing.
        new: Whether it has a mixture that no fold has judged.
    """

    name: str
    gain: float
    gap: float
    seconds: float
    tried: bool
    new: bool

    @property
    def turn(self) -> tuple[bool, float, float]:
        """The sort key of confirmations: those with something to judge, those with least to gain.

        A class that comes late is searched on in the time that the others leave. Of those with
        nothing to gain, those with the least gap come first.
        """
        return not self.new, self.gain, self.gap


def baseline_images(
    whole: int,
    *,
    left: float,
    spent: float,
    reserve: float,
    seconds: float | None,
    classes: int,
) -> int:
    """Size the next baseline: a few images where whole ones would take most of the time.

    Args:
        whole: Images of a whole one.
        left: Seconds left.
        spent: Seconds that baselines have taken so far.
        reserve: Seconds kept back for confirming and reporting.
        seconds: What an image takes; None before the first baseline, which is a whole one.
        classes: All of the run.
    """
    time = left + spent - reserve
    if seconds is None or whole * seconds * classes <= WHOLE_BASELINES * time:
        return whole
    fitting = FEW_BASELINES * time / (seconds * classes)
    return int(min(max(fitting, FEWEST_BASELINE), whole))


def confirmation_reserve(
    due: Collection[ClassProgress],
    *,
    classes: int,
    slowness: float = 1.0,
    budget: float = math.inf,
) -> float:
    """Return the seconds kept back for confirming, the map and the report.

    Args:
        due: The classes that are still to be confirmed.
        classes: All of the run.
        slowness: How many times slower the machine is now than reporting was measured on.
        budget: Seconds of the run: the report gets no more than its share, or a very slow machine
            would try nothing.
    """
    seconds = sum(progress.seconds for progress in due if progress.tried)
    # Of the classes that nothing was tried for, the next one to be picked will want to be
    # confirmed.
    seconds += max((progress.seconds for progress in due if not progress.tried), default=0.0)
    report = slowness * (REPORT_SECONDS + REPORT_SECONDS_PER_CLASS * classes)
    report = min(report, MOST_REPORT * budget)
    return (1.0 + SLACK) * seconds + report


def reopen_candidates(
    held: Collection[ClassProgress],
    due: Sequence[ClassProgress],
    *,
    left: float,
    reserve: Callable[[Sequence[ClassProgress]], float],
) -> list[str]:
    """Choose the classes to search on in, those with most to gain, as many as there is time for.

    Args:
        held: The classes that could be searched on in.
        due: Those that will be confirmed anyhow.
        left: Seconds left.
        reserve: Seconds kept back if these are due.
    """
    chosen: list[ClassProgress] = []
    for progress in sorted(held, key=lambda its: (its.gain, its.gap), reverse=True):
        if left >= WORTHWHILE * reserve([*due, *chosen, progress]):
            chosen.append(progress)
    return [progress.name for progress in chosen]
