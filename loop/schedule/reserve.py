"""A round: classes are tried, then looked at one by one; the time kept back for the looks.

What a look leaves of its time is searched in before the next, so the order matters. Before the
first round comes a baseline of every class, no larger than leaves time to search in. It reckons
in seconds that it is given; it draws nothing and knows no clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

# Groups, map and report took 48 s of ten classes on slow cores: part for the map's library.
CLOSING_SECONDS: Final = 16.0
CLOSING_SECONDS_PER_CLASS: Final = 3.3
MOST_CLOSING: Final = 0.6  # of the budget
SLACK: Final = 0.15  # of the looks: they may take longer than trials told
WHOLE_BASELINES: Final = 0.5  # of the time to search in; where they take more, they are cut to
FEW_BASELINES: Final = 0.25  # this: under 100 images only rank the classes by their gaps
FEWEST_BASELINE: Final = 24  # images: a gap needs 20, and a few may be invalid
WORTHWHILE: Final = 1.5  # of what is kept back: with less time, there is too little to search in


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassProgress:
    """Where a class that has its baseline stands.

    Attributes:
        name: The class.
        gap: In floors, on the tune split or as the last look saw it, whichever is more.
        look: Seconds of a look at it.
        tried: Whether anything but the baseline is in its bank; if not, a look costs nothing.
        new: Whether its bank has what no look has seen.
    """

    name: str
    gap: float
    look: float
    tried: bool
    new: bool

    @property
    def turn(self) -> tuple[bool, float]:
        """Sorts the looks: those with something to see, those nearest closed.

        Who comes late is searched in with what the others leave.
        """
        return not self.new, self.gap


def baseline_images(
    whole: int,
    *,
    left: float,
    spent: float,
    reserve: float,
    seconds: float | None,
    classes: int,
) -> int:
    """Images of the next baseline: a few where whole ones would take most of the time.

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
    reading: float,
    classes: int,
    slowness: float = 1.0,
    budget: float = math.inf,
) -> float:
    """Seconds kept back for confirming, the map and the report.

    Args:
        due: The classes that are still to be looked at.
        reading: Seconds of reading back the looks of classes that rest.
        classes: All of the run.
        slowness: How many times slower the machine is now than closing was measured on.
        budget: Seconds of the run: closing gets no more than its share, or a very slow machine
            would try nothing.
    """
    looks = sum(standing.look for standing in due if standing.tried)
    # Of the classes that nothing was tried for, the next one to be picked will want a look.
    looks += max((standing.look for standing in due if not standing.tried), default=0.0)
    closing = slowness * (CLOSING_SECONDS + CLOSING_SECONDS_PER_CLASS * classes)
    closing = min(closing, MOST_CLOSING * budget)
    return (1.0 + SLACK) * looks + reading + closing


def reopen_candidates(
    held: Collection[ClassProgress],
    due: Sequence[ClassProgress],
    *,
    left: float,
    reserve: Callable[[Sequence[ClassProgress]], float],
) -> list[str]:
    """Of classes that did not hold, the worst, as many as there is time to search for and look at.

    Args:
        held: The classes that could be searched on in.
        due: Those that will be looked at anyhow.
        left: Seconds left.
        reserve: Seconds kept back if these are due.
    """
    chosen: list[ClassProgress] = []
    for standing in sorted(held, key=lambda standing: standing.gap, reverse=True):
        if left >= WORTHWHILE * reserve([*due, *chosen, standing]):
            chosen.append(standing)
    return [standing.name for standing in chosen]
