"""Charts: the numbers that the page's bars and its script plot.

`page` calls it with the rows of gap.json and trials.jsonl. It makes no words and no markup.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gapclose.loop.report.thumbnails import Samples

__all__ = ["Scale", "chart_data"]

Row = Mapping[str, Any]

_POINTS: Final = 1_000  # of a class's course: a browser draws each, and no more can be told apart
_LOWEST_RATIO: Final = 0.3  # left edge of the bars: what is below has no gap to speak of


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The logarithmic axis that all bars of ratios share; the floor is at ratio 1."""

    high: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Scale:
        """Fit the axis to the largest ratio, before or after."""
        ratios = [
            r for row in rows for r in (row.get("ratio"), (row.get("before") or {}).get("ratio"))
        ]
        return cls(high=max([4.0, *(1.5 * r for r in ratios if r is not None)]))

    def at(self, ratio: float | None) -> float | None:
        """Return the percent of the width, 0 to 100; what is below the left edge lies on it."""
        if ratio is None:
            return None
        low = math.log(_LOWEST_RATIO)
        where = (math.log(max(ratio, _LOWEST_RATIO)) - low) / (math.log(self.high) - low)
        return round(100 * where, 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Return powers of ten, at most a few, each with where it lies."""
        values = [10.0**k for k in range(1 + int(math.log10(self.high)))]
        kept = values if len(values) <= 4 else [values[0], *values[1::2]]
        return [(self.at(v) or 0.0, f"{v:,.0f}".replace(",", "\N{THIN SPACE}")) for v in kept]


def chart_data(rows: Sequence[Row], trials: Sequence[Row], samples: Samples) -> dict[str, Any]:
    """Return what the page's script plots, by class in the order of the table."""
    classes = []
    for row in rows:
        own = [t for t in trials if t.get("class") == row["name"] and t.get("state") == "complete"]
        classes.append(
            {
                "name": row["name"],
                "course": _course(row, own),
                "points": samples.points(row["name"]),
                "spectrum": _spectra(row),
            }
        )
    return {"classes": classes}


def _course(row: Row, trials: Sequence[Row]) -> dict[str, Any] | None:
    """Return the gap in floors over images generated; None without a floor to divide by."""
    floor, before = row.get("floor_p95"), row.get("before") or {}
    counted = _thinned([t for t in trials if t.get("images_total") is not None])
    if not floor or not counted:
        return None

    def ratios(key: str) -> list[float | None]:
        return [None if t.get(key) is None else round(t[key] / floor, 4) for t in counted]

    return {
        "images": [t["images_total"] for t in counted],
        "mixture": ratios("mixture_gap"),
        "own": ratios("gap"),
        "stage": [t.get("stage", "") for t in counted],
        "final": row.get("ratio"),
        "final_error": _interval(row, floor),
        "before": before.get("ratio"),
        "before_error": _interval(before, before.get("floor_p95")),
    }


def _thinned(trials: Sequence[Row]) -> Sequence[Row]:
    """Return at most so many trials as are drawn, evenly spaced, the first and the last of all."""
    if len(trials) <= _POINTS:
        return trials
    last = len(trials) - 1
    return [trials[round(i * last / (_POINTS - 1))] for i in range(_POINTS)]


def _interval(row: Row, floor: float | None) -> float | None:
    """Return half the length of the 95 % interval of a gap, in floors."""
    error = row.get("standard_error")
    return round(1.96 * error / floor, 4) if error is not None and floor else None


def _spectra(row: Row) -> dict[str, Any] | None:
    """Return the mean log power by frequency, by stage as the map names them."""
    curves, before = row.get("spectrum"), row.get("before")
    if not curves:
        return None
    stages = {"real": curves["real"]}
    if before is None:
        stages["baseline"] = curves["synthetic"]
    else:
        stages["tuned"] = curves["synthetic"]
        if before.get("spectrum"):
            stages["baseline"] = before["spectrum"]["synthetic"]
    return {
        "frequency": curves["frequency"],
        "stages": {stage: [round(v, 4) for v in values] for stage, values in stages.items()},
    }
