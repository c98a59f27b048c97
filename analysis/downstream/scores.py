"""Scores: what `worth` finds, as validation.json has it. They compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["ArmScore", "Estimate", "GroupRecall", "Shortfall", "worst_group"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval over test images, draws and training seeds."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return the figure and its interval as JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmScore:
    """One arm of validation.json.

    Attributes:
        arm: Its name.
        classifier: The classifier's id.
        n_per_class: Training images of a class.
        accuracy: Share of the test images that is told right, mean over runs.
        macro_f1: Mean over classes, then over runs.
        recall: Class -> share of its test images that is told right, mean over runs.
        confusion: Row a true class, column a predicted one: counts over all runs together.
    """

    arm: str
    classifier: str
    n_per_class: int
    accuracy: Estimate
    macro_f1: float
    recall: Mapping[str, float]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Return a row of `arms`."""
        return {
            "arm": self.arm,
            "classifier": self.classifier,
            "n_per_class": self.n_per_class,
            "accuracy": self.accuracy.value,
            "low": self.accuracy.low,
            "high": self.accuracy.high,
            "macro_f1": self.macro_f1,
            "recall": dict(self.recall),
            "confusion": [list(row) for row in self.confusion],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """What an arm lacks of real images' recall in one class.

    Attributes:
        cls: The class.
        recall: Real images' recall minus the arm's; positive where the arm falls short.
        p_value: One-sided, that it does not: the share of resamples at or below 0.
        adjusted_p_value: Holm's over the arm's classes.
    """

    cls: str
    recall: Estimate
    p_value: float
    adjusted_p_value: float

    def to_json(self) -> dict[str, Any]:
        """Return the class with its shortfall."""
        return {
            "class": self.cls,
            "shortfall": self.recall.value,
            "low": self.recall.low,
            "high": self.recall.high,
            "p_value": self.p_value,
            "adjusted_p_value": self.adjusted_p_value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRecall:
    """One group of `groups` in validation.json: test images of one class that share a name.

    Attributes:
        cls: The class.
        name: Of the group: "brown frog".
        n: Test images.
        recall: Arm -> share told right, mean over runs.
    """

    cls: str
    name: str
    n: int
    recall: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return a row of `groups`."""
        return {"class": self.cls, "name": self.name, "n": self.n, "recall": dict(self.recall)}


def worst_group(groups: Sequence[GroupRecall], arm: str) -> GroupRecall | None:
    """Find the group that an arm tells worst; None where there is no group."""
    return min(groups, key=lambda group: group.recall[arm], default=None)
