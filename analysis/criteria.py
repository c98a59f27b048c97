"""The criteria: what a class must meet to be confirmed, its closed gap first.

Confirmation asks them all. Another criterion is another class here, named in `CRITERIA`, or one of
your own, given to `tune`; the loop need not know of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from gapclose.analysis.class_gap import ClassGap
from gapclose.analysis.significance import LEVEL

__all__ = ["CRITERIA", "CostsNoRecall", "Criterion", "confirmed", "guard_objections"]

GUARD_SHARE: Final = 0.8
COPIES: Final = 0.01  # of the synthetic images
AGREEMENT_SLACK: Final = 0.05  # how far label agreement may fall below that of real images
INVALID_SHARE: Final = 0.05
RECALL_SLACK: Final = 0.02


class Criterion(Protocol):
    """One thing that a confirmed class must meet."""

    def objections(self, row: ClassGap, *, agreement: float | None) -> Sequence[str] | None:
        """Return in words what is against confirming a class; empty if it meets this.

        Args:
            row: Of the class, judged together with all others.
            agreement: Share of real images that are read as the class; None without a text side.

        Returns:
            None if the row alone shows the failure; all other objections are then dropped.
        """


@dataclass(frozen=True, slots=True)
class GapClosed:
    """No gap is left, and there are images enough to tell."""

    def objections(self, row: ClassGap, *, agreement: float | None) -> Sequence[str] | None:
        """See `Criterion.objections`."""
        return () if row.closed else None


@dataclass(frozen=True, slots=True)
class JudgeAgrees:
    """No judge sees a gap either; of several, those that do are named (see `panel`)."""

    def objections(self, row: ClassGap, *, agreement: float | None) -> Sequence[str]:
        """See `Criterion.objections`."""
        judges = row.judges or (() if row.judge is None else (row.judge,))
        blind = [judge for judge in judges if judge.get("effect", 0.0) is None]
        if blind:  # no image differs from another in its embedding
            named = f" {blind[0]['name']}" if row.judges else ""
            return (f"the judge{named} gives every image the same features",)
        return tuple(
            f"the judge {judge['name'] + ' ' if row.judges else ''}still sees a gap "
            f"(q\N{NO-BREAK SPACE}{judge['q_value']:.3f})"
            for judge in judges
            if judge["q_value"] is not None and judge["q_value"] <= LEVEL
        )


@dataclass(frozen=True, slots=True)
class GuardsPass:
    """The images are no copies, and as varied as real ones."""

    def objections(self, row: ClassGap, *, agreement: float | None) -> Sequence[str]:
        """See `Criterion.objections`."""
        return guard_objections(row)


@dataclass(frozen=True, slots=True)
class LabelKept:
    """The images are read as their class as often as real ones are."""

    def objections(self, row: ClassGap, *, agreement: float | None) -> Sequence[str]:
        """See `Criterion.objections`."""
        own = row.label_agreement
        if agreement is None or own is None or own >= agreement - AGREEMENT_SLACK:
            return ()
        return (f"{own:.0%} are read as {row.name}, of real images {agreement:.0%}",)


@dataclass(frozen=True, slots=True)
class FewInvalid:
    """Next to all images show something."""

    def objections(self, row: ClassGap, *, agreement: float | None) -> Sequence[str]:
        """See `Criterion.objections`."""
        share = row.invalid / max(1, row.invalid + row.n_synthetic)
        return (f"{share:.0%} of its images are invalid",) if share > INVALID_SHARE else ()


@dataclass(frozen=True, slots=True)
class CostsNoRecall:
    """As many real images are told right by synthetic neighbours as by real ones."""

    def objections(self, row: ClassGap, *, agreement: float | None) -> Sequence[str]:
        """See `Criterion.objections`."""
        if row.neighbors is None:
            return ()
        real, synthetic = row.neighbors["recall_real"], row.neighbors["recall_synthetic"]
        if real - synthetic <= RECALL_SLACK or row.neighbors["p_value"] > LEVEL:
            return ()
        return (
            f"its images tell {synthetic:.0%} of unseen real ones right, other real images "
            f"{real:.0%}",
        )


CRITERIA: Final[tuple[Criterion, ...]] = (
    GapClosed(),
    JudgeAgrees(),
    GuardsPass(),
    LabelKept(),
    FewInvalid(),
    CostsNoRecall(),
)


def confirmed(
    row: ClassGap, *, agreement: float | None, criteria: Sequence[Criterion] = CRITERIA
) -> ClassGap:
    """Set `confirmed` in a row: whether the class meets every criterion.

    Args:
        row: Of the class, judged together with all others.
        agreement: As for `Criterion.objections`.
        criteria: What it must meet.
    """
    told: list[str] = []
    for criterion in criteria:
        objections = criterion.objections(row, agreement=agreement)
        if objections is None:
            return replace(row, confirmed=False, objections=())
        told += objections
    return replace(row, confirmed=not told, objections=tuple(told))


def guard_objections(gap: ClassGap) -> list[str]:
    """List what guards say against a class without a gap, as of one that copies real images.

    Precision, recall, coverage and the Vendi ratio (diversity) must be at least 0.8 of what real
    images reach at the same n, and near-copies at most 1 % of the synthetic images. Nothing where
    the guards were not computed.
    """
    named = ("precision", "recall", "coverage")
    shares = {key: (gap.guards or {}).get(key, 1.0) for key in named}
    shares["diversity"] = 1.0 if gap.vendi_ratio is None else gap.vendi_ratio
    told = [
        f"{name} is {share:.2f} of that of real images"
        for name, share in shares.items()
        if share < GUARD_SHARE
    ]
    copies = gap.duplicates or 0
    if copies > COPIES * gap.n_synthetic:
        told.append(f"{copies} of {gap.n_synthetic} images are near-copies of real ones")
    return told
