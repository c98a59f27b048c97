"""The validation file: RUN/validation.json as a reader may rely on it.

What an older version or a budget left out is empty or None here, unknown keys are skipped, and
what is no such file at all, or has figures that cannot be, is refused. `worth` looks things up in
it.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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

Share = Annotated[float, Field(ge=-_ROUNDING, le=1 + _ROUNDING)] | None  # 0 to 1
Gain = Annotated[float, Field(ge=-1 - _ROUNDING, le=1 + _ROUNDING)] | None  # of two shares
Bound = Annotated[float, Field(ge=-2, le=2)] | None  # of a gain; resamples may leave its range
Count = Annotated[int, Field(ge=0, le=_MOST)]
Times = Annotated[int, Field(ge=1, le=_TIMES)]


class _Row(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, allow_inf_nan=False
    )


class ArmScore(_Row):
    """What one classifier reaches after training on one arm; see analysis/downstream/scores.py."""

    arm: str = ""
    classifier: str = ""
    n_per_class: Count | None = None
    accuracy: Share = None
    low: Share = None
    high: Share = None
    macro_f1: Share = None
    recall: dict[str, Share] = {}
    confusion: tuple[tuple[Count, ...], ...] = ()


class Difference(_Row):
    """An arm's accuracy minus another's, with its 95 % interval."""

    classifier: str = ""
    arm: str = ""
    against: str = ""
    value: Gain = None
    low: Bound = None
    high: Bound = None

    @property
    def is_more(self) -> bool:
        """Whether it is above 0 beyond chance."""
        return self.low is not None and self.low > 0

    @property
    def is_less(self) -> bool:
        """Whether it is below 0 beyond chance."""
        return self.high is not None and self.high < 0


class ClassShortfall(_Row):
    """What an arm lacks of real photos' recall in one class."""

    classifier: str = ""
    arm: str = ""
    cls: str = Field(default="", alias="class")
    shortfall: Gain = None
    adjusted_p_value: Share = None


class GroupRecalls(_Row):
    """A group of test photos of one class, and the share told right, by arm."""

    classifier: str = ""
    cls: str = Field(default="", alias="class")
    name: str = ""
    n: Count = 0
    recall: dict[str, Share] = {}


class Reverse(_Row):
    """What a classifier that was trained on real photos tells right of an arm's images."""

    classifier: str = ""
    arm: str = ""
    accuracy: Share = None


class Shortcut(_Row):
    """How well one kind of low-level features tells the classes, and what is said against it."""

    feature: str = ""
    real: Share = None
    synthetic: Share = None
    by_real_rule: Share = None
    p_value: Share = None
    objection: str | None = None


class ValidationFile(_Row):
    """The whole file.

    Attributes:
        primary: The arm that the headline is of.
        mixtures: `contents.mixtures_key` of what was validated; None of folders.
        too_easy: Classifiers that cannot tell the arms apart.
        recovered: By classifier, the share of the way from the baseline to real photos; it may
            be below 0, or above 1.
    """

    n_test: Count | None = None
    classes: tuple[str, ...] = ()
    seeds: Times | None = None
    draws: Times | None = None
    primary: str | None = None
    mixtures: str | None = None
    arms: tuple[ArmScore, ...] = ()
    differences: tuple[Difference, ...] = ()
    shortfalls: tuple[ClassShortfall, ...] = ()
    groups: tuple[GroupRecalls, ...] = ()
    reverse: tuple[Reverse, ...] = ()
    shortcuts: tuple[Shortcut, ...] = ()
    recovered: dict[str, float | None] = {}
    too_easy: tuple[str, ...] = ()


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
