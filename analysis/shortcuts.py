"""Shortcuts: does anything low-level tell the classes of synthetic images that does not in real?

Audits, tuning runs at their end and validations ask it. Classes that were exported under cameras
of their own differ in noise, and a network learns that instead of the frog. The objection is to
what tells classes from each other, never to what tells synthetic from real: a fault that all
classes share teaches no class. Content is low-level, too (ships are blue of water), so real images
set the measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.class_probe import Layout, Rules, in_own_units
from gapclose.analysis.gap import MIN_IMAGES
from gapclose.analysis.low_level import FEATURES, GROUPS, measure_files
from gapclose.analysis.significance import LEVEL, holm
from gapclose.analysis.subsets import spread

__all__ = ["Difference", "ShortcutProbe", "measure_classes", "probe_shortcuts"]

_MOST: Final = 2_000  # images a side that enter, over all classes
_MOST_CLASSES: Final = 100  # of more, so many stand for all: the time grows with their square
_LEAST: Final = 1 / 3  # of the images of one class: what is told beyond real is less to notice
_NAMED: Final = 3  # classes that an objection names
_CHUNK: Final = 2_000_000  # numbers that a batch of arrangements may hold
_TIE: Final = 1e-9
_SPOKEN: Final = {
    "spectrum": "the spectrum",
    "codec": "compression",
    "size": "the size",
    "color": "colour",
}

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """In what the synthetic images of a class differ from real ones most, and from other classes.

    Attributes:
        cls: The class.
        how: As of `Feature`: "noisier".
    """

    cls: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortcutProbe:
    """How well one group of low-level features tells the classes of either side.

    Shares are of held-out images, averaged over classes, at the same n on both sides.

    Attributes:
        feature: The group: noise, spectrum, codec, size or color.
        real: Share of real images whose class it tells.
        synthetic: Share of synthetic images, by a rule learnt from synthetic ones.
        by_real_rule: Share of synthetic images, by the rule learnt from real ones.
        p_value: Of the excess, under sides that are alike; after Holm over the features.
        n_classes: How many classes there are to tell.
        differs: The classes that differ most; empty where p_value is above the level.
    """

    feature: str
    real: float
    synthetic: float
    by_real_rule: float
    p_value: float
    n_classes: int
    differs: tuple[Difference, ...] = ()

    @property
    def excess(self) -> float:
        """Share of synthetic images told beyond what real images explain; negative for none."""
        return self.synthetic - max(self.real, self.by_real_rule)

    def objection(self) -> str | None:
        """Say in words what is against training on these images; None if nothing is.

        The excess must be significant, and as large as if a third of the images of one class were
        told and nothing else: any two cameras differ by a little.
        """
        if self.p_value > LEVEL or self.excess * self.n_classes < _LEAST:
            return None
        name = _SPOKEN.get(self.feature, self.feature)
        told = (
            f"{name} tells the classes of the synthetic images apart ({self.synthetic:.0%} right, "
            f"real images {self.real:.0%}): a classifier may learn it instead of the class"
        )
        by_how: dict[str, list[str]] = {}
        for difference in self.differs:
            by_how.setdefault(difference.how, []).append(difference.cls)
        named = [f"{', '.join(classes)}: {how}" for how, classes in by_how.items()]
        return f"{told} ({'; '.join(named)})" if named else told

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as in the `shortcuts` of gap.json and validation.json."""
        return {
            "feature": self.feature,
            "real": self.real,
            "synthetic": self.synthetic,
            "by_real_rule": self.by_real_rule,
            "p_value": self.p_value,
            "differs": [{"class": one.cls, "how": one.how} for one in self.differs],
            "objection": self.objection(),
        }


def measure_classes(files: Mapping[str, Sequence[Path]], *, most: int = _MOST) -> dict[str, Rows]:
    """Measure one side's image files for `probe_shortcuts`; only those that can enter are read.

    Args:
        files: Paths by class, the same classes in the same order on both sides.
        most: Images over all classes, but no fewer than 20 of each.
    """
    classes = spread([*files], _MOST_CLASSES)
    each = _each(len(classes), most)
    return {cls: measure_files(spread(files[cls], each)) for cls in classes}


def _each(classes: int, most: int) -> int:
    """Return how many images of a class may enter."""
    return max(MIN_IMAGES, most // max(1, classes))


def probe_shortcuts(
    *,
    real: Mapping[str, Rows],
    synthetic: Mapping[str, Rows],
    permutations: int = 399,
    seed: int = 0,
) -> tuple[ShortcutProbe, ...]:
    """Probe each group of low-level features for what it tells of the class.

    The statistic is how much better the group tells synthetic classes, by a linear discriminant
    learnt from synthetic images, than it tells real ones, and than the discriminant learnt from
    real ones tells the synthetic: the larger of both is taken off. The first says that it tells
    more than it does in real; the second, that it does so by another rule, for what tells classes
    in real may tell them better once a camera adds no noise. Under the null hypothesis the sides
    of a class are exchangeable: its p-value is of permutations within classes, (1 + #) / (1 + B).
    Synthetic images that vary half as much as real ones are objected to more often than the level
    says, for their rule is the better estimated.

    Args:
        real: By class (n, len(FEATURES)) rows of `measure`.
        synthetic: By class. Of both sides as many enter as the smaller has, at most 2,000 over
            all classes but no fewer than 20 a class; of more than 100 classes every second,
            third ... enters.
        permutations: B.
        seed: Of the permutations, the folds and which images enter.

    Returns:
        In the order of `GROUPS`; empty if fewer than two classes have 20 images on both sides.

    Raises:
        ValueError: Rows of another width, or that are not finite.
    """
    random = np.random.default_rng(seed)
    classes, drawn = _drawn(real, synthetic, random)
    if len(classes) < 2:
        return ()
    layout = Layout.of([len(rows) for rows in drawn[0]])
    points = np.stack([layout.arranged(side) for side in drawn])
    arrangements = _arrangements(layout, permutations, random)
    columns = {g: [i for i, f in enumerate(FEATURES) if f.group == g] for g in GROUPS}
    shares = [_shares(points[..., columns[group]], layout, arrangements) for group in GROUPS]
    adjusted = holm([_p_value(share) for share in shares])
    return tuple(
        ShortcutProbe(
            feature=group,
            real=float(share[0, 0]),
            synthetic=float(share[1, 0]),
            by_real_rule=float(share[2, 0]),
            p_value=p_value,
            n_classes=len(classes),
            differs=_differences(drawn, classes, columns[group]) if p_value <= LEVEL else (),
        )
        for group, share, p_value in zip(GROUPS, shares, adjusted, strict=True)
    )


def _drawn(
    real: Mapping[str, Rows], synthetic: Mapping[str, Rows], random: np.random.Generator
) -> tuple[list[str], list[list[Rows]]]:
    """Draw as many rows from either side of each class that has enough, and name the classes."""
    sides = [
        {cls: _checked(cls, rows) for cls, rows in side.items()} for side in (real, synthetic)
    ]
    n = {cls: min(len(rows), len(sides[1].get(cls, ()))) for cls, rows in sides[0].items()}
    classes = spread([cls for cls, size in n.items() if size >= MIN_IMAGES], _MOST_CLASSES)
    each = _each(len(classes), _MOST)
    drawn = [
        [side[cls][random.permutation(len(side[cls]))[: min(n[cls], each)]] for cls in classes]
        for side in sides
    ]
    return classes, drawn


def _checked(cls: str, rows: Rows) -> Rows:
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(FEATURES) or not np.isfinite(rows).all():
        raise ValueError(f"{cls}: rows must be finite and of {len(FEATURES)} features")
    return rows


def _arrangements(
    layout: Layout, permutations: int, random: np.random.Generator
) -> NDArray[np.intp]:
    """Say which image stands where: (1 + B, 2 n), the sides as they are, then exchanged."""
    n = len(layout.cls)
    out = np.tile(np.arange(2 * n), (1 + permutations, 1))
    for number in range(layout.counts.shape[1]):
        own = np.flatnonzero(layout.cls == number)
        both = np.concatenate([own, n + own])
        out[1:, both] = random.permuted(np.tile(both, (permutations, 1)), axis=1)
    return out


def _shares(points: Rows, layout: Layout, arrangements: NDArray[np.intp]) -> Rows:
    """Compute the shares told right in each arrangement.

    Args:
        points: (2, n, d) of both sides.
        layout: Of the n.
        arrangements: (1 + B, 2 n).

    Returns:
        (3, 1 + B): real by the real rule, synthetic by the synthetic, synthetic by the real.
    """
    n = len(layout.cls)
    flat = points.reshape(2 * n, -1)
    flat = flat[:, np.ptp(flat, axis=0) > 0]  # what never varies tells nothing
    if not flat.shape[1]:
        return np.full((3, len(arrangements)), 1.0 / layout.counts.shape[1])
    step = max(1, _CHUNK // flat.size)
    found = []
    for start in range(0, len(arrangements), step):
        arranged = flat[arrangements[start : start + step]]
        real, synthetic = (in_own_units(s, layout) for s in (arranged[:, :n], arranged[:, n:]))
        of_real, of_synthetic = Rules(real, layout), Rules(synthetic, layout)
        shares = (of_real, real), (of_synthetic, synthetic), (of_real, synthetic)
        found.append(np.stack([rules.share_right(side) for rules, side in shares]))
    return np.concatenate(found, axis=1)


def _p_value(shares: Rows) -> float:
    real, synthetic, by_real_rule = shares
    excess = synthetic - np.maximum(real, by_real_rule)
    return float((excess >= excess[0] - _TIE).mean())  # the first reaches itself: the 1 +


def _differences(
    drawn: Sequence[Sequence[Rows]], classes: Sequence[str], columns: Sequence[int]
) -> tuple[Difference, ...]:
    """Name the classes that differ most from real, beyond what half of the classes share."""
    real, synthetic = (np.stack([rows[:, columns].mean(axis=0) for rows in s]) for s in drawn)
    spread = np.concatenate([rows[:, columns] for side in drawn for rows in side]).std(axis=0)
    apart = (synthetic - real) / np.where(spread > 0, spread, np.inf)
    apart = apart - np.median(apart, axis=0)
    feature = np.abs(apart).argmax(axis=1)
    most = apart[np.arange(len(classes)), feature]
    order = [i for i in np.argsort(-np.abs(most)) if abs(most[i]) >= np.abs(most).max() / 2]
    words = [FEATURES[columns[feature[i]]] for i in order]
    return tuple(
        Difference(cls=classes[i], how=word.more if most[i] > 0 else word.less)
        for i, word in zip(order[:_NAMED], words, strict=False)
    )
