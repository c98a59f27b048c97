"""Worth: what classifiers said of a run's images, looked up by classifier and arm.

`read_worth` also says whether the file can be believed: it may be damaged, of other classes, or of
mixtures that the search has left behind. Words are in `worth_text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gapclose.loop.errors import RunDamagedError
from gapclose.loop.report.contents import GAP, MIXTURES, mixtures_key
from gapclose.loop.report.validation_file import (
    ArmScore,
    ClassShortfall,
    Difference,
    GroupRecalls,
    Shortcut,
    ValidationFile,
    read_validation,
)
from gapclose.loop.run.folder import RunDir

__all__ = ["ARMS", "ClassifierWorth", "Problem", "Worth", "read_worth"]

ARMS: Final = (
    "baseline",
    "synthetic",
    "tuned",
    "mixed",
    "even",
    "real",
    "few",
    "few+synthetic",
    "few+tuned",
)
"""In the order in which they are shown."""
_PRIMARY: Final = ("tuned", "synthetic", "baseline")  # of a file that does not say
_LINEAR: Final = "linear:"


class Problem(StrEnum):
    """Why a validation cannot be believed as it stands."""

    DAMAGED = "damaged"
    OTHER_CLASSES = "other classes"
    OUTDATED = "outdated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierWorth:
    """What one classifier said.

    Attributes:
        id: As in validation.json.
        primary: The arm that all else is held against: tuned, of folders synthetic, of a run that
            nothing was tuned in baseline; None where none of them was trained on.
        classes: That were tested.
        scores: By arm, in the order of `ARMS`.
        differences: Of the primary arm, by what it is held against.
        shortfalls: Of the primary arm, by class.
        groups: Of test photos.
        reverse: Trained on real photos: the share that it tells right of an arm's images.
        recovered: Share of the way from the baseline to real photos.
        too_easy: Whether it cannot tell the arms apart.
    """

    id: str
    primary: str | None
    classes: tuple[str, ...]
    scores: Mapping[str, ArmScore]
    differences: Mapping[str, Difference]
    shortfalls: Mapping[str, ClassShortfall]
    groups: tuple[GroupRecalls, ...]
    reverse: Mapping[str, float]
    recovered: float | None
    too_easy: bool

    @property
    def learns_features(self) -> bool:
        """Whether it is trained from nothing, not on what an encoder sees."""
        return not self.id.startswith(_LINEAR)

    @property
    def at_ceiling(self) -> bool:
        """Whether the baseline and real photos both tell nearly all, so that nothing is told."""
        from gapclose.analysis.downstream.worth import CEILING  # numpy, too

        both = (self.accuracy("baseline"), self.accuracy("real"))
        return self.too_easy and all(value is not None and value > CEILING for value in both)

    def accuracy(self, arm: str | None) -> float | None:
        """Share of the test photos told right; None of no such arm."""
        score = self._score(arm)
        return None if score is None else score.accuracy

    def recall(self, arm: str | None, cls: str) -> float | None:
        """Share of a class's test photos told right; None of no such arm or class."""
        score = self._score(arm)
        return None if score is None else score.recall.get(cls)

    def gains(self, arm: str | None, other: str | None) -> list[tuple[float, str, float, float]]:
        """Hold one arm's recalls against another's: (gain, class, from, to), the least first."""
        return sorted(
            (now - was, cls, was, now)
            for cls in self.classes
            if (was := self.recall(other, cls)) is not None
            and (now := self.recall(arm, cls)) is not None
        )

    def short(self) -> list[ClassShortfall]:
        """Return the classes that fall short of real photos beyond chance, the worst first."""
        from gapclose.analysis.significance import LEVEL  # numpy, which `status` need not wait for

        found = [
            row
            for row in self.shortfalls.values()
            if row.adjusted_p_value is not None and row.adjusted_p_value <= LEVEL
        ]
        return sorted(found, key=lambda row: -(row.shortfall or 0.0))

    def worst_class(self, arm: str | None) -> tuple[str, float] | None:
        """Return the class that an arm tells worst, and its recall."""
        known = [(recall, cls) for cls in self.classes
                 if (recall := self.recall(arm, cls)) is not None]  # fmt: skip
        return (min(known)[1], min(known)[0]) if known else None

    def worst_group(self, arm: str | None, cls: str | None = None) -> GroupRecalls | None:
        """Return the group that an arm tells worst, of one class or of all."""
        known = [
            (recall, number)
            for number, group in enumerate(self.groups)
            if (recall := group.recall.get(arm or "")) is not None
            and cls in (None, group.cls)
            and group.name not in ("", group.cls)  # a word that most photos of a class share
        ]
        return self.groups[min(known)[1]] if known else None

    def confusions(self, arm: str | None, cls: str) -> list[tuple[str, float]]:
        """Return what an arm takes a class's photos for: (class, share), the commonest first."""
        names = self.classes
        score = self._score(arm)
        table = () if score is None else score.confusion
        if cls not in names or len(table) != len(names):
            return []
        row = table[names.index(cls)]
        if len(row) != len(names) or not sum(row):
            return []
        shares = [(name, n / sum(row)) for name, n in zip(names, row, strict=True) if name != cls]
        return sorted(shares, key=lambda pair: -pair[1])

    def _score(self, arm: str | None) -> ArmScore | None:
        return None if arm is None else self.scores.get(arm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What a validation found.

    Attributes:
        n_test: Real photos that all classifiers were tested on.
        seeds: Trainings of each draw.
        draws: Draws of training images.
        classifiers: In the order of the file.
        shortcuts: What low-level features tell of the classes.
        outdated: Whether the search has gone on since.
    """

    n_test: int | None
    seeds: int | None
    draws: int | None
    classifiers: tuple[ClassifierWorth, ...]
    shortcuts: tuple[Shortcut, ...]
    outdated: bool

    @classmethod
    def of(cls, file: ValidationFile, *, outdated: bool = False) -> Worth:
        """Look up what a file holds."""
        names = dict.fromkeys(row.classifier for row in file.arms if row.classifier)
        return cls(
            n_test=file.n_test,
            seeds=file.seeds,
            draws=file.draws,
            classifiers=tuple(_classifier(file, name) for name in names),
            shortcuts=tuple(row for row in file.shortcuts if row.feature),
            outdated=outdated,
        )

    @property
    def headline(self) -> ClassifierWorth | None:
        """The classifier that is quoted first: one that learns its own features, if there is."""
        known = [one for one in self.classifiers if one.accuracy(one.primary) is not None]
        return next((one for one in known if one.learns_features), known[0] if known else None)

    @property
    def accuracies(self) -> dict[str, dict[str, float]]:
        """By classifier and arm, the share of the test photos told right."""
        known = {
            one.id: {arm: score.accuracy for arm, score in one.scores.items()
                     if score.accuracy is not None}
            for one in self.classifiers
        }  # fmt: skip
        return {name: arms for name, arms in known.items() if arms}


def read_worth(rundir: RunDir) -> tuple[Worth | None, Problem | None]:
    """Read what somebody has validated of a run.

    Returns:
        None where nobody has, or where the file is left out; and what is wrong with it.
    """
    try:
        file = read_validation(rundir)
    except RunDamagedError:
        return None, Problem.DAMAGED
    if file is None:
        return None, None
    if not _same_classes(file, _stored(rundir, GAP)):
        return None, Problem.OTHER_CLASSES
    mixtures = _stored(rundir, MIXTURES).get("classes") or {}
    outdated = bool(file.mixtures and mixtures) and file.mixtures != mixtures_key(mixtures)
    return Worth.of(file, outdated=outdated), Problem.OUTDATED if outdated else None


def _same_classes(file: ValidationFile, gap: Mapping[str, Any]) -> bool:
    """Return whether all classes were tested that have a gap, and no strange ones."""
    measured = {row.get("name") for row in gap.get("classes") or ()}
    skipped = {row.get("class") for row in gap.get("skipped") or ()}
    if not file.classes or not measured:
        return True  # nothing to hold against each other
    return measured <= {*file.classes} <= measured | skipped


def _stored(rundir: RunDir, name: str) -> dict[str, Any]:
    """Read a file of a run; empty where it is gone or damaged."""
    try:
        value = rundir.read_json(name)
    except (FileNotFoundError, RunDamagedError):
        return {}
    return value if isinstance(value, dict) else {}


def _classifier(file: ValidationFile, name: str) -> ClassifierWorth:
    known = {row.arm: row for row in file.arms if row.classifier == name and row.arm}
    order = [*(arm for arm in ARMS if arm in known), *(arm for arm in known if arm not in ARMS)]
    primary = next((arm for arm in (file.primary, *_PRIMARY) if arm in known), None)
    classes = dict.fromkeys(cls for row in known.values() for cls in row.recall)
    return ClassifierWorth(
        id=name,
        primary=primary,
        classes=file.classes or tuple(classes),
        scores={arm: known[arm] for arm in order},
        differences={
            row.against: row
            for row in file.differences
            if (row.classifier, row.arm) == (name, primary)
        },
        shortfalls={
            row.cls: row
            for row in file.shortfalls
            if (row.classifier, row.arm) == (name, primary) and row.cls
        },
        groups=tuple(row for row in file.groups if row.classifier == name),
        reverse={
            row.arm: row.accuracy
            for row in file.reverse
            if row.classifier == name and row.accuracy is not None
        },
        recovered=file.recovered.get(name),
        too_easy=name in file.too_easy,
    )
