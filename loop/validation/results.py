"""Results: what came of all trainings -> validation.json, schema 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.downstream.scores import worst_group
from gapclose.analysis.downstream.worth import Arm, Worth
from gapclose.loop.validation.arms import REAL
from gapclose.loop.validation.test_photos import TestPhotos
from gapclose.loop.validation.trainings import Outcome

__all__ = ["PRIMARY", "Said", "primary_of", "results"]

PRIMARY: Final = ("tuned", "synthetic", "baseline")
"""The arms that the headline may be of: the first of them that there is."""
_BEFORE: Final = "baseline"

Row = dict[str, Any]
_Cells = Sequence[Sequence[Outcome]]  # draws x seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one classifier said after training on each arm.

    Attributes:
        classifier: Its id.
        outcomes: By arm, of each draw those of all seeds: as many in all arms.
    """

    classifier: str
    outcomes: Mapping[str, _Cells]


def primary_of(arms: Sequence[str]) -> str:
    """Return the arm that the headline is of.

    Raises:
        ValueError: There is none of `PRIMARY`.
    """
    return next(arm for arm in PRIMARY if arm in arms)


def results(said: Sequence[Said], test: TestPhotos) -> dict[str, Any]:
    """Return validation.json, but for what it takes from the run.

    Args:
        said: By classifier; each has the same arms, draws and seeds.
        test: The photos.
    """
    arms = [*said[0].outcomes]
    cells = said[0].outcomes[arms[0]]
    rows = [_Rows(one, test, primary=primary_of(arms)) for one in said]
    return {
        "schema": 1,
        "n_test": len(test.labels),
        "classes": list(test.classes),
        "seeds": len(cells[0]),
        "draws": len(cells),
        "primary": primary_of(arms),
        "arms": [row for one in rows for row in one.arms()],
        "recovered": {key: share for one in rows for key, share in one.recovered().items()},
        "too_easy": [one.of.classifier for one in rows if one.too_easy()],
        "differences": [row for one in rows for row in one.differences()],
        "shortfalls": [row for one in rows for row in one.shortfalls()],
        "reverse": [row for one in rows for row in one.reverse()],
        "groups": [row for one in rows for row in one.groups()],
        "worst_groups": [row for one in rows for row in one.worst_groups()],
    }


class _Rows:
    """The rows of validation.json that are of one classifier."""

    def __init__(self, of: Said, test: TestPhotos, *, primary: str) -> None:
        self.of = of
        self._test, self._primary = test, primary
        self._arms = [*of.outcomes]
        self._both = {_BEFORE, REAL} <= {*self._arms}
        self._n = {arm: _trained_on(cells) for arm, cells in of.outcomes.items()}
        self._worth = Worth(
            [
                Arm(
                    name=arm,
                    n_per_class=int(self._n[arm].min()),
                    predicted=np.array([[cell.predicted for cell in row] for row in cells]),
                )
                for arm, cells in of.outcomes.items()
            ],
            test.labels,
            classes=test.classes,
            classifier=of.classifier,
        )
        # By word group, its groups.
        self._groups = {name: self._worth.groups(of_all) for name, of_all in test.groups.items()}

    def arms(self) -> Iterator[Row]:
        """Score every arm; where classes have different numbers of images, say which."""
        for arm in self._arms:
            row, n = self._worth.score(arm).to_json(), self._n[arm]
            if n.min() < n.max():
                row["images"] = dict(zip(self._test.classes, n.tolist(), strict=True))
            yield row

    def recovered(self) -> dict[str, float | None]:
        """Return the share of the way from the baseline to real photos."""
        if not self._both or self._primary == _BEFORE:
            return {}
        share = self._worth.recovered(self._primary)
        return {self.of.classifier: None if share is None else share.value}

    def too_easy(self) -> bool:
        """Return whether it cannot tell the baseline from real photos."""
        return self._both and self._worth.too_easy()

    def differences(self) -> Iterator[Row]:
        """Hold the primary arm against each other one."""
        for other in self._arms:
            if other != self._primary:
                estimate = self._worth.difference(self._primary, other)
                yield self._row(self._primary) | {"against": other} | estimate.to_json()

    def shortfalls(self) -> Iterator[Row]:
        """Hold each arm against real photos, class by class."""
        for arm in self._arms if REAL in self._arms else ():
            if arm != REAL:
                for shortfall in self._worth.shortfalls(arm):
                    yield self._row(arm) | shortfall.to_json()

    def reverse(self) -> Iterator[Row]:
        """Say what is told right of each pool's images after training on real photos."""
        cells = [cell for row in self.of.outcomes.get(REAL, ()) for cell in row]
        for pool in cells[0].reverse if cells else ():
            right, there = np.sum([cell.reverse[pool] for cell in cells], axis=0).tolist()
            shares = [n / of if of else None for n, of in zip(right, there, strict=True)]
            yield self._row(pool) | {
                "accuracy": sum(right) / sum(there),
                "recall": dict(zip(self._test.classes, shares, strict=True)),
            }

    def groups(self) -> Iterator[Row]:
        """Say how each group of test photos fares."""
        for name, groups in self._groups.items():
            for group in groups:
                yield group.to_json() | {"group": name, "classifier": self.of.classifier}

    def worst_groups(self) -> Iterator[Row]:
        """Name the group that each arm tells worst."""
        kinds = {id(group): name for name, its in self._groups.items() for group in its}
        every = [group for its in self._groups.values() for group in its]
        for arm in self._arms if every else ():
            worst = worst_group(every, arm)
            assert worst is not None, "there is one"
            yield self._row(arm) | {
                "group": kinds[id(worst)],
                "class": worst.cls,
                "name": worst.name,
                "n": worst.n,
                "recall": worst.recall[arm],
            }

    def _row(self, arm: str) -> Row:
        return {"classifier": self.of.classifier, "arm": arm}


def _trained_on(cells: _Cells) -> NDArray[np.int64]:
    """Return the training images of each class in the draw that has fewest: (classes,)."""
    counts: NDArray[np.int64] = np.array([cell.trained_on for row in cells for cell in row])
    fewest: NDArray[np.int64] = counts.min(axis=0)
    return fewest
