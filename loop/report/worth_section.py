"""The section on worth: what the page shows of a validation.

`page` asks for it. It chooses, orders and places what is there; sentences come from `worth_text`,
`worth_advice` and `worth_observations`, the markup from report.html.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gapclose.loop.report.text import count, percent, points
from gapclose.loop.report.validation_file import ArmScore
from gapclose.loop.report.worth import ClassifierWorth, Problem, Worth
from gapclose.loop.report.worth_observations import observations
from gapclose.loop.report.worth_text import PROBLEMS, arm_word, classifier_name

__all__ = ["worth_section"]

# arm -> its title, what it is, its mark on the page
_ARMS: Final = {
    "baseline": ("plain", "the untouched baseline prompt", "baseline"),
    "synthetic": ("synthetic", "the images as they are", "baseline"),
    "tuned": ("tuned", "the mixtures, in their shares", "tuned"),
    "mixed": ("half and half", "half tuned, half every prompt evenly", "other"),
    "even": ("every prompt evenly", "as one would do by hand", "other"),
    "real": ("real photos", "what there is to reach", "real"),
    "few": ("few real photos", "of somebody who has no more", "real hollow"),
    "few+synthetic": ("few real and synthetic", "the same few, and the images", "baseline"),
    "few+tuned": ("few real and tuned", "the same few, and the tuned images", "tuned hollow"),
}
_FEATURES: Final = {"codec": "compression", "color": "colour", "spectrum": "power spectrum"}
_COLUMNS: Final = ("baseline", "synthetic", "tuned", "even", "real")  # of the classes' table
_FOLDED: Final = 12  # classes: more are folded
_TICKS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """Shares from `low` to 1 on the bars of all classifiers."""

    low: float

    @classmethod
    def of(cls, scores: Sequence[ArmScore]) -> _Axis:
        known = [v for s in scores for v in (s.low, s.accuracy) if v is not None]
        lowest = min(known, default=0.0)
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


def worth_section(worth: Worth) -> dict[str, Any] | None:
    """Put the section together; None where no classifier has said anything."""
    blocks = [one for one in worth.classifiers if one.scores]
    if not blocks:
        return None
    axis = _Axis.of([score for one in blocks for score in one.scores.values()])
    blocks.sort(key=lambda one: one is not worth.headline)
    return {
        "how": _how(worth),
        "outdated": PROBLEMS[Problem.OUTDATED] if worth.outdated else None,
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
    on = "real photos" if worth.n_test is None else f"{count(worth.n_test)} real photos"
    said = f"Classifiers, trained on each kind of images and tested on {on} that no search saw"
    if worth.seeds and worth.draws:
        seeds = f"{worth.seeds} training{'' if worth.seeds == 1 else 's'}"
        draws = f"{worth.draws} draw{'' if worth.draws == 1 else 's'}"
        said += f": {seeds} on each of {draws} of images"
    said += ". Intervals are 95 %, over photos, draws and trainings"
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
        "arms": [_arm(said, score, axis) for score in said.scores.values()],
        "doubt": _doubt(said),
        "said": observations(said),
        "columns": [(arm, _ARMS[arm][0].removesuffix(" photos").removeprefix("every prompt "),
                     _ARMS[arm][2]) for arm in _columns(said)],
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
    title, what, mark = _ARMS.get(score.arm, (score.arm, "", "other"))
    worst = said.worst_class(score.arm)
    low, high = score.low, score.high
    return {
        "title": title,
        "what": what,
        "mark": mark,
        "n": score.n_per_class,
        "accuracy": score.accuracy,
        "at": None if score.accuracy is None else axis.at(score.accuracy),
        "span": None if low is None or high is None else (axis.at(low), axis.at(high)),
        "interval": None if low is None or high is None
        else f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f}",
        "macro_f1": score.macro_f1,
        "worst": None if worst is None else worst[0],
        "worst_recall": None if worst is None else worst[1],
        "is_primary": score.arm == said.primary,
    }  # fmt: skip


def _columns(said: ClassifierWorth) -> list[str]:
    return [arm for arm in _COLUMNS if arm in said.scores]


def _classes(said: ClassifierWorth) -> list[dict[str, Any]]:
    """Return a row for each class, that which falls short most first."""
    short = {row.cls for row in said.short()}
    rows = []
    for cls in said.classes:
        recalls = {arm: said.recall(arm, cls) for arm in _columns(said)}
        now, real = recalls.get(said.primary or ""), recalls.get("real")
        shortfall = None if now is None or real is None else real - now
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
