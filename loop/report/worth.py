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
from gapclose.loop.report.projections import Verdicts, read_verdicts
from gapclose.loop.report.validation_file import (
    ArmScore,
    ClassShortfall,
    Difference,
    GroupRecalls,
    Shortcut,
    ValidationFile,
    read_validation,
)
from gapclose.loop.report.worth_arms import in_order
from gapclose.loop.run.folder import RunDir

__all__ = ["ClassifierWorth", "Problem", "Worth", "believed", "read_worth"]

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
            nothing was tuned in baseline.
        classes: That were tested.
        scores: By arm, in the order in which they are shown; the primary one is among them.
        differences: Of the primary arm, by what it is held against.
        shortfalls: Of the primary arm, by class.
        groups: Of test photos.
        reverse: Trained on real photos: the share that it tells right of an arm's images, by arm
            in the same order.
        recovered: Share of the way from the baseline to real photos.
        too_easy: Whether it cannot tell the arms apart.
    """

    id: str
    primary: str
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
        from gapclose.analysis.downstream.worth import CEILING  # numpy: `status` need not wait

        both = (self.accuracy("baseline"), self.accuracy("real"))
        return self.too_easy and all(value is not None and value > CEILING for value in both)

    @property
    def has_as_many_real(self) -> bool:
        """Whether the real photos that it was trained on are as many as the primary arm's images.

        There may be fewer; then what they reach is no measure of what images can.
        """
        real = self.scores.get("real")
        return real is not None and real.n_per_class == self.scores[self.primary].n_per_class

    def accuracy(self, arm: str) -> float | None:
        """Share of the test photos told right; None of no such arm."""
        score = self.scores.get(arm)
        return None if score is None else score.accuracy

    def recall(self, arm: str, cls: str) -> float | None:
        """Share of a class's test photos told right; None of no such arm."""
        score = self.scores.get(arm)
        return None if score is None else score.recall[cls]

    def gains(self, arm: str, other: str) -> list[tuple[float, str, float, float]]:
        """Hold one arm's recalls against another's: (gain, class, from, to), the least first.

        There are none where there is no such arm.
        """
        return sorted(
            (now - was, cls, was, now)
            for cls in self.classes
            if (was := self.recall(other, cls)) is not None
            and (now := self.recall(arm, cls)) is not None
        )

    def short(self) -> list[ClassShortfall]:
        """Return the classes that fall short of real photos beyond chance, the worst first."""
        found = [row for row in self.shortfalls.values() if row.is_sure]
        return sorted(found, key=lambda row: -row.shortfall)

    def worst_class(self, arm: str) -> tuple[str, float]:
        """Return the class that an arm tells worst, and its recall.

        Raises:
            KeyError: There is no such arm.
        """
        recall = self.scores[arm].recall
        worst = min(self.classes, key=lambda cls: (recall[cls], cls))
        return worst, recall[worst]

    def worst_group(self, arm: str, cls: str | None = None) -> GroupRecalls | None:
        """Return the group that an arm tells worst, of one class or of all; None if there is none.

        What most photos of a class share is no group of it.
        """
        known = [
            group
            for group in self.groups
            if arm in group.recall and cls in (None, group.cls) and group.name != group.cls
        ]
        return min(known, key=lambda group: group.recall[arm], default=None)

    def confusions(self, arm: str, cls: str) -> list[tuple[str, float]]:
        """Return what an arm takes a class's photos for: (class, share), the commonest first.

        Raises:
            KeyError: There is no such arm.
        """
        row = self.scores[arm].confusion[self.classes.index(cls)]
        total = max(1, sum(row))
        shares = [(name, n / total) for name, n in zip(self.classes, row, strict=True)]
        return sorted(((n, s) for n, s in shares if n != cls), key=lambda pair: -pair[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What a validation found.

    Attributes:
        n_test: Real photos that all classifiers were tested on.
        seeds: Trainings of each draw.
        draws: Draws of training images.
        classifiers: In the order of the file; at least one.
        shortcuts: What low-level features tell of the classes.
    """

    n_test: int
    seeds: int
    draws: int
    classifiers: tuple[ClassifierWorth, ...]
    shortcuts: tuple[Shortcut, ...]

    @classmethod
    def of(cls, file: ValidationFile) -> Worth:
        """Look up what a file holds."""
        names = dict.fromkeys(row.classifier for row in file.arms)
        return cls(
            n_test=file.n_test,
            seeds=file.seeds,
            draws=file.draws,
            classifiers=tuple(_classifier(file, name) for name in names),
            shortcuts=file.shortcuts,
        )

    @property
    def headline(self) -> ClassifierWorth:
        """The classifier that is quoted first: one that learns its own features, if there is."""
        return next((one for one in self.classifiers if one.learns_features), self.classifiers[0])

    @property
    def accuracies(self) -> dict[str, dict[str, float]]:
        """By classifier and arm, the share of the test photos told right."""
        return {
            one.id: {arm: score.accuracy for arm, score in one.scores.items()}
            for one in self.classifiers
        }


def read_worth(
    rundir: RunDir, verdicts: Verdicts | None = None
) -> tuple[Worth | None, Problem | None]:
    """Read what somebody has validated of a run.

    Args:
        rundir: The run.
        verdicts: Its verdicts; they are read where they are not given and somebody has.

    Returns:
        None where nobody has, or where the file is left out; and what is wrong with it.

    Raises:
        RunDamagedError: The verdicts cannot be read.
    """
    try:
        file = read_validation(rundir)
    except RunDamagedError:
        return None, Problem.DAMAGED
    return (None, None) if file is None else believed(file, verdicts or read_verdicts(rundir))


def believed(file: ValidationFile, verdicts: Verdicts) -> tuple[Worth | None, Problem | None]:
    """Hold a validation against the verdicts of its run; returns what `read_worth` does."""
    if not _same_classes(file, verdicts.files.get(GAP, {})):
        return None, Problem.OTHER_CLASSES
    mixtures = verdicts.files.get(MIXTURES, {}).get("classes")
    # Of an audit there are none: one that was tuned since is outdated, too.
    outdated = bool(mixtures) and file.mixtures != mixtures_key(mixtures or {})
    return Worth.of(file), Problem.OUTDATED if outdated else None


def _same_classes(file: ValidationFile, gap: Mapping[str, Any]) -> bool:
    """Return whether all classes were tested that have a gap, and no strange ones."""
    measured = {row.get("name") for row in gap.get("classes") or ()}
    skipped = {row.get("class") for row in gap.get("skipped") or ()}
    if not measured:
        return True  # nothing to hold them against
    return measured <= {*file.classes} <= measured | skipped


def _classifier(file: ValidationFile, name: str) -> ClassifierWorth:
    scores = {row.arm: row for row in file.arms if row.classifier == name}
    reverse = {row.arm: row.accuracy for row in file.reverse if row.classifier == name}
    own = (name, file.primary)
    return ClassifierWorth(
        id=name,
        primary=file.primary,
        classes=file.classes,
        scores={arm: scores[arm] for arm in in_order(scores)},
        differences={
            row.against: row for row in file.differences if (row.classifier, row.arm) == own
        },
        shortfalls={row.cls: row for row in file.shortfalls if (row.classifier, row.arm) == own},
        groups=tuple(row for row in file.groups if row.classifier == name),
        reverse={arm: reverse[arm] for arm in in_order(reverse)},
        recovered=file.recovered.get(name),
        too_easy=name in file.too_easy,
    )
