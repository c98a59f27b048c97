"""The section on worth: what the page shows of a validation.

`page` asks for it. It chooses, orders and places what is there; sentences come from `worth_text`,
`worth_advice` and `worth_observations`, the markup from report.html.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gapclose.loop.report.text import count, interval, percent, points
from gapclose.loop.report.validation_file import ArmScore
from gapclose.loop.report.worth import ClassifierWorth, Worth
from gapclose.loop.report.worth_arms import ARMS, ShownArm
from gapclose.loop.report.worth_observations import observations
from gapclose.loop.report.worth_text import arm_word, classifier_name, real_word

__all__ = ["worth_section"]

_FEATURES: Final = {"codec": "compression", "color": "colour", "spectrum": "power spectrum"}
_COLUMNS: Final = frozenset(("baseline", "synthetic", "tuned", "even", "real"))  # of classes
_FOLDED: Final = 12  # classes: more are folded
_TICKS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """Shares from `low` to 1 on the bars of all classifiers."""

    low: float

    @classmethod
    def of(cls, scores: Sequence[ArmScore]) -> _Axis:
        lowest = min(min(score.low, score.accuracy) for score in scores)
        return cls(low=min(0.9, max(0.0, math.floor(10 * lowest) / 10)))

    def at(self, value: float) -> float:
        """Return the percent of the width."""
        return round(100 * min(1.0, max(0.0, (value - self.low) / (1 - self.low))), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Return round shares, a few, each with where it lies."""
        tenths = round(10 * (1 - self.low))
        step = next(step for step in (0.2, 1, 2, 2.5, 5) if tenths / step <= _TICKS)
        values = [1 - step * k / 10 for k in range(int(tenths / step + 1e-9) + 1)]
        return [(self.at(v), percent(v)) for v in reversed(values)]


def worth_section(worth: Worth) -> dict[str, Any]:
    """Put the section together."""
    blocks = sorted(worth.classifiers, key=lambda one: one is not worth.headline)
    axis = _Axis.of([score for one in blocks for score in one.scores.values()])
    return {
        "how": _how(worth),
        "ticks": axis.ticks(),
        "blocks": [_block(one, axis) for one in blocks],
        "shortcuts": [
            {
                "feature": _FEATURES.get(row.feature, row.feature),
                "real": row.real,
                "synthetic": row.synthetic,
                "by_real_rule": row.by_real_rule,
                "p_value": row.p_value,
                "objects": bool(row.objection),
            }
            for row in worth.shortcuts
        ],
        "objections": [row.objection for row in worth.shortcuts if row.objection],
        "n_classes": max(len(one.classes) for one in blocks),
    }


def _how(worth: Worth) -> str:
    seeds = f"{worth.seeds} training{'' if worth.seeds == 1 else 's'}"
    draws = f"{worth.draws} draw{'' if worth.draws == 1 else 's'}"
    said = (
        f"Classifiers, trained on each kind of images and tested on {count(worth.n_test)} real "
        f"photos that no search saw: {seeds} on each of {draws} of images. "
        "Intervals are 95 %, over photos, draws and trainings"
    )
    if 1 in (worth.seeds, worth.draws):
        once = "training" if worth.seeds == 1 else "draw"
        said += f"; of one {once} alone, what another would change is in none of them"
    return f"{said}."


def _block(said: ClassifierWorth, axis: _Axis) -> dict[str, Any]:
    name = classifier_name(said.id)
    real = said.accuracy("real")
    encoder = said.id.partition(":")[2] if not said.learns_features else ""
    return {
        "title": f"{name[0].upper()}{name[1:]}",
        "what": f"on the features of {encoder}" if encoder else (
            "learns its own features" if said.learns_features else ""
        ),
        "ceiling": None if real is None else axis.at(real),
        "ceiling_title": f"{real_word(said)} photos",
        "arms": [_arm(said, score, axis) for score in said.scores.values()],
        "doubt": _doubt(said),
        "said": observations(said),
        "columns": [(arm, ARMS[arm].title.removesuffix(" photos").removeprefix("every prompt "),
                     ARMS[arm].mark) for arm in _columns(said)],
        "classes": _classes(said),
        "primary": said.primary,
        "primary_word": arm_word(said.primary),
        "folded": len(said.classes) > _FOLDED,
    }  # fmt: skip


def _doubt(said: ClassifierWorth) -> str | None:
    """Say why nothing is told; None where something is."""
    if not said.too_easy:
        return None
    if said.at_ceiling:
        return "too easy to tell"
    return "real photos are not worth more than plain images beyond chance"


def _arm(said: ClassifierWorth, score: ArmScore, axis: _Axis) -> dict[str, Any]:
    shown = ARMS.get(score.arm, ShownArm(score.arm, "", "other"))
    worst, worst_recall = said.worst_class(score.arm)
    return {
        "title": shown.title,
        "what": shown.what,
        "mark": shown.mark,
        "n": score.n_per_class,
        "accuracy": score.accuracy,
        "at": axis.at(score.accuracy),
        "span": (axis.at(score.low), axis.at(score.high)),
        "interval": interval(score.low, score.high),
        "macro_f1": score.macro_f1,
        "worst": worst,
        "worst_recall": worst_recall,
        "is_primary": score.arm == said.primary,
    }


def _columns(said: ClassifierWorth) -> list[str]:
    return [arm for arm in said.scores if arm in _COLUMNS]


def _classes(said: ClassifierWorth) -> list[dict[str, Any]]:
    """Return a row for each class, that which falls short most first."""
    short = {row.cls for row in said.short()}
    rows = []
    for cls in said.classes:
        recalls = {arm: said.scores[arm].recall[cls] for arm in _columns(said)}
        real = recalls.get("real")
        shortfall = None if real is None else real - said.scores[said.primary].recall[cls]
        rows.append(
            {
                "name": cls,
                "recalls": recalls,
                "order": -math.inf if shortfall is None else shortfall,
                "shortfall": points(shortfall),
                "significant": cls in short,
            }
        )
    return sorted(rows, key=lambda row: -row["order"]) if "real" in said.scores else rows
