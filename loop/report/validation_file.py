"""The validation file: RUN/validation.json as a reader may rely on it.

Keys that a later version may add are skipped. What lacks a key or a row that loop/validation
always writes is refused, and so is what has figures that cannot be. `worth` looks things up in it.
"""

from __future__ import annotations

from itertools import product
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gapclose.loop.errors import RunDamagedError
from gapclose.loop.report.contents import VALIDATION
from gapclose.loop.run.folder import RunDir

__all__ = [
    "ArmScore",
    "ClassShortfall",
    "Difference",
    "GroupRecalls",
    "Reverse",
    "Shortcut",
    "ValidationFile",
    "read_validation",
]

_ROUNDING: Final = 1e-9  # a recall of 1 is summed up to a little more
_MOST: Final = 10**9  # of images, test photos ...
_TIMES: Final = 10**4  # of trainings and draws

Share = Annotated[float, Field(ge=-_ROUNDING, le=1 + _ROUNDING)]  # 0 to 1
Gain = Annotated[float, Field(ge=-1 - _ROUNDING, le=1 + _ROUNDING)]  # of two shares
Bound = Annotated[float, Field(ge=-2, le=2)]  # of a gain; resamples may leave its range
Count = Annotated[int, Field(ge=0, le=_MOST)]
Times = Annotated[int, Field(ge=1, le=_TIMES)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ArmScore(_Row):
    """What one classifier reaches after training on one arm; see analysis/downstream/scores.py."""

    arm: str
    classifier: str
    n_per_class: Count
    accuracy: Share
    low: Share
    high: Share
    macro_f1: Share
    recall: dict[str, Share]
    confusion: tuple[tuple[Count, ...], ...]


class Difference(_Row):
    """An arm's accuracy minus another's, with its 95 % interval."""

    classifier: str
    arm: str
    against: str
    value: Gain
    low: Bound
    high: Bound

    @property
    def is_more(self) -> bool:
        """Whether it is above 0 beyond chance."""
        return self.low > 0

    @property
    def is_less(self) -> bool:
        """Whether it is below 0 beyond chance."""
        return self.high < 0


class ClassShortfall(_Row):
    """What an arm lacks of real photos' recall in one class."""

    classifier: str
    arm: str
    cls: str = Field(alias="class")
    shortfall: Gain
    adjusted_p_value: Share

    @property
    def is_sure(self) -> bool:
        """Whether it holds over all classes (Holm)."""
        from gapclose.analysis.significance import LEVEL  # numpy, which `status` need not wait for

        return self.adjusted_p_value <= LEVEL


class GroupRecalls(_Row):
    """A group of test photos of one class, and the share told right, by arm."""

    classifier: str
    cls: str = Field(alias="class")
    name: str
    n: Count
    recall: dict[str, Share]


class Reverse(_Row):
    """What a classifier that was trained on real photos tells right of an arm's images."""

    classifier: str
    arm: str
    accuracy: Share


class Shortcut(_Row):
    """How well one kind of low-level features tells the classes, and what is said against it."""

    feature: str
    real: Share
    synthetic: Share
    by_real_rule: Share
    p_value: Share
    objection: str | None


class ValidationFile(_Row):
    """The whole file.

    Attributes:
        n_test: Real photos that all classifiers were tested on.
        seeds: Trainings of each draw.
        draws: Draws of training images.
        primary: The arm that the headline is of; each classifier has it.
        mixtures: `contents.mixtures_key` of what was validated; None of folders.
        arms: Of each classifier the same.
        differences: Of the primary arm and each other one, at least.
        too_easy: Classifiers that cannot tell the arms apart.
        recovered: By classifier, the share of the way from the baseline to real photos; it may
            be below 0, or above 1. None where there is no such way, absent where it is not asked.
    """

    n_test: Count
    classes: tuple[str, ...] = Field(min_length=1)
    seeds: Times
    draws: Times
    primary: str
    mixtures: str | None
    arms: tuple[ArmScore, ...] = Field(min_length=1)
    differences: tuple[Difference, ...]
    shortfalls: tuple[ClassShortfall, ...]
    groups: tuple[GroupRecalls, ...]
    reverse: tuple[Reverse, ...]
    shortcuts: tuple[Shortcut, ...]
    recovered: dict[str, float | None]
    too_easy: tuple[str, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """Refuse a file that lacks rows, so that whoever looks something up finds it.

        Raises:
            ValueError: It does.
        """
        classifiers = {row.classifier for row in self.arms}
        arms = {row.arm for row in self.arms}
        cells = {(row.classifier, row.arm) for row in self.arms}
        if not len(cells) == len(self.arms) == len(classifiers) * len(arms):
            raise ValueError("not every classifier has each arm once")
        if self.primary not in arms:
            raise ValueError("the primary arm is missing")
        size = len(self.classes)
        for row in self.arms:
            shape = {len(row.confusion), *map(len, row.confusion)}
            if row.recall.keys() != {*self.classes} or shape != {size}:
                raise ValueError("an arm is not of the classes of the file")
        told = {(row.classifier, row.against) for row in self.differences
                if row.arm == self.primary}  # fmt: skip
        if not {*product(classifiers, arms - {self.primary})} <= told:
            raise ValueError("the primary arm is not held against every other one")
        if not all(arms <= group.recall.keys() for group in self.groups):
            raise ValueError("a group of photos has not every arm")
        return self


def read_validation(rundir: RunDir) -> ValidationFile | None:
    """Read it; None where nobody has validated the run.

    Raises:
        RunDamagedError: It is no such file.
    """
    if not rundir.has(VALIDATION):
        return None
    value = rundir.read_json(VALIDATION)
    try:
        return ValidationFile.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        why = f"is damaged ({where + ': ' if where else ''}{first['msg']})"
        raise RunDamagedError(rundir.path / VALIDATION, why) from None
