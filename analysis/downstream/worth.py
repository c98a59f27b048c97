"""Worth: what images are worth as training data, told by a classifier's labels of test images.

An arm is a way to come by training images (baseline, tuned, real ...); its predictions come from
several draws of images and several training seeds. Statistics only: nothing is trained here.

Arms that are trained on synthetic images and tested on real ones give GAN-train (Shmelkov et al.
2018, arXiv 1807.09499; the classification accuracy score of Ravuri and Vinyals 2019, arXiv
1905.10887), which falls with both quality and diversity. The other direction, GAN-test, needs
nothing else: train on real images, predict the synthetic ones, and give those predictions with the
synthetic images' classes as truth. It sees quality, and is blind to diversity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.downstream.bootstrap import resampled_recalls
from gapclose.analysis.downstream.scores import ArmScore, Estimate, GroupRecall, Shortfall
from gapclose.analysis.significance import holm

__all__ = ["CEILING", "MIN_GROUP", "Arm", "Worth"]

RESAMPLES: Final = 2000
CEILING: Final = 0.99
"""Accuracy beyond which arms are not told apart."""
MIN_GROUP: Final = 20
"""Test images of a group that is reported."""
_DOUBTFUL: Final = 0.005  # of the resamples without a way from baseline to real


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What classifiers that were trained on one kind of images say of the test images.

    Attributes:
        name: baseline, tuned, real, few+tuned ...
        n_per_class: Images of a class that each of them was trained on.
        predicted: (draws, seeds, m) labels; the k-th seed is the same in every arm.
    """

    name: str
    n_per_class: int
    predicted: NDArray[np.integer]


class Worth:
    """What one classifier makes of several arms, on the same test images.

    Intervals are percentiles of a bootstrap over test images (within classes), draws and training
    seeds (`bootstrap`). Simulated, with two draws and three seeds, 95 % intervals of accuracies
    and differences cover in 95 to 99 % of cases where test images are most of the noise: they are
    a quarter too wide, because where runs disagree on single images is counted by every factor. In
    87 to 93 % they cover where draws and seeds are most of it: so few say little of their own
    variance. What one draw or one seed alone leaves open is in no interval.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        truth: NDArray[np.integer],
        *,
        classes: Sequence[str],
        classifier: str,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> None:
        """Resample once for all that is asked.

        Args:
            arms: Of different names.
            truth: (m,), 0 to len(classes) - 1, of every class at least one image.
            classes: Their names.
            classifier: Its id.
            resamples: How many; at least 40 a class are taken, for Holm needs 20.
            seed: Of the resampling.

        Raises:
            ValueError: Two arms of one name, an arm that is not (draws, seeds, m), a label out of
                range, or a class without a test image.
        """
        self._arms = {arm.name: arm for arm in arms}
        if len(self._arms) < len(arms):
            raise ValueError("two arms have one name")
        labels = range(len(classes))
        if missing := [classes[i] for i in labels if not (truth == i).any()]:
            raise ValueError(f"no test image of {', '.join(missing)}")
        for arm in arms:
            if arm.predicted.ndim != 3 or arm.predicted.shape[2] != len(truth):
                raise ValueError(f"{arm.name}: {arm.predicted.shape} labels of {truth.shape}")
        for told in (truth, *(arm.predicted for arm in arms)):
            if told.size == 0 or told.min() < 0 or told.max() >= len(classes):
                raise ValueError(f"a label is none of {len(classes)} classes, or there is none")
        self._truth = truth
        self._classes = tuple(classes)
        self._classifier = classifier
        self._right = {arm.name: arm.predicted == truth for arm in arms}
        self._shares = np.bincount(truth, minlength=len(classes)) / len(truth)
        self._recalls = resampled_recalls(
            self._right,
            truth,
            classes=len(classes),
            resamples=max(resamples, 40 * len(classes)),
            seed=seed,
        )

    def score(self, arm: str) -> ArmScore:
        """Score one arm."""
        confusion = self._confusion(arm)  # (draws, seeds, K, K)
        low, high = _interval(self._recalls[arm] @ self._shares)
        return ArmScore(
            arm=arm,
            classifier=self._classifier,
            n_per_class=self._arms[arm].n_per_class,
            accuracy=Estimate(value=self._accuracy(arm), low=max(low, 0.0), high=min(high, 1.0)),
            macro_f1=_macro_f1(confusion),
            recall=dict(zip(self._classes, map(float, self._recall(arm)), strict=True)),
            confusion=tuple(tuple(map(int, row)) for row in confusion.sum(axis=(0, 1))),
        )

    def difference(self, arm: str, other: str) -> Estimate:
        """Subtract the other's accuracy from an arm's, paired by test image and training seed."""
        low, high = _interval((self._recalls[arm] - self._recalls[other]) @ self._shares)
        return Estimate(value=self._accuracy(arm) - self._accuracy(other), low=low, high=high)

    def shortfalls(self, arm: str, *, real: str = "real") -> tuple[Shortfall, ...]:
        """Subtract an arm's recall from real images' in each class, paired as `difference` is."""
        missing = self._recall(real) - self._recall(arm)
        resampled = self._recalls[real] - self._recalls[arm]
        low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
        p_values = (1 + (resampled <= 0).sum(axis=0)) / (1 + len(resampled))
        adjusted = holm(list(p_values))
        return tuple(
            Shortfall(
                cls=cls,
                recall=Estimate(value=float(missing[i]), low=float(low[i]), high=float(high[i])),
                p_value=float(p_values[i]),
                adjusted_p_value=adjusted[i],
            )
            for i, cls in enumerate(self._classes)
        )

    def recovered(
        self, arm: str, *, baseline: str = "baseline", real: str = "real"
    ) -> Estimate | None:
        """Divide what an arm gains on the baseline by what real images gain on it.

        0 is the baseline and 1 real images; it may be less, or more.

        Returns:
            None where the way from baseline to real is not clearly there: it is 0 or less in more
            than one of 200 resamples, and a share of it means nothing.
        """
        way = self._accuracy(real) - self._accuracy(baseline)
        ways = (self._recalls[real] - self._recalls[baseline]) @ self._shares
        gains = (self._recalls[arm] - self._recalls[baseline]) @ self._shares
        if way <= 0 or (ways <= 0).mean() > _DOUBTFUL:
            return None
        low, high = _interval(gains[ways > 0] / ways[ways > 0])
        value = (self._accuracy(arm) - self._accuracy(baseline)) / way
        return Estimate(value=value, low=low, high=high)

    def too_easy(self, *, baseline: str = "baseline", real: str = "real") -> bool:
        """Tell whether this classifier on these test images cannot tell arms apart.

        So it is where the baseline and real images both reach `CEILING`, or where the 95 %
        interval of what real images gain on the baseline is not above 0.
        """
        if min(self._accuracy(baseline), self._accuracy(real)) > CEILING:
            return True
        return self.difference(real, baseline).low <= 0

    def groups(self, names: Sequence[str | None]) -> tuple[GroupRecall, ...]:
        """Say how each group of test images fares, in the order of classes, then of names.

        Args:
            names: (m,), None for an image of no group. Images of two classes are two groups.

        Returns:
            Groups of `MIN_GROUP` images or more.

        Raises:
            ValueError: Not one name an image.
        """
        if len(names) != len(self._truth):
            raise ValueError(f"{len(names)} names of {len(self._truth)} test images")
        members: dict[tuple[int, str], list[int]] = {}
        for index, name in enumerate(names):
            if name is not None:
                members.setdefault((int(self._truth[index]), name), []).append(index)
        return tuple(
            GroupRecall(
                cls=self._classes[label],
                name=name,
                n=len(rows),
                recall={
                    arm: float(right[:, :, rows].mean()) for arm, right in self._right.items()
                },
            )
            for (label, name), rows in sorted(members.items())
            if len(rows) >= MIN_GROUP
        )

    def _accuracy(self, arm: str) -> float:
        return float(self._right[arm].mean())

    def _recall(self, arm: str) -> NDArray[np.float64]:
        """Average over runs: (classes,)."""
        by_image = self._right[arm].mean(axis=(0, 1))
        right = np.bincount(self._truth, weights=by_image, minlength=len(self._classes))
        return np.asarray(right / (self._shares * len(self._truth)))

    def _confusion(self, arm: str) -> NDArray[np.int64]:
        """Count by run: (draws, seeds, true class, predicted class)."""
        predicted = self._arms[arm].predicted.astype(np.int64)
        n = len(self._classes)
        runs = np.arange(predicted[:, :, 0].size).reshape(*predicted.shape[:2], 1)
        cells = (runs * n + self._truth) * n + predicted
        counts = np.bincount(cells.ravel(), minlength=runs.size * n * n)
        return counts.reshape(*predicted.shape[:2], n, n)


def _interval(resampled: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def _macro_f1(confusion: NDArray[np.int64]) -> float:
    """Average 2 tp / (predicted + true) over classes, then over runs; 0 where nothing is told."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    both = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    return float((2 * hits / both).mean())  # every class has test images, so `both` is above 0
