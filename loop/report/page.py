"""The report: one page that says what the gap was, what it is now, and how sure we are.

`gapclose report`, `audit` and `tune` call it at their end. It reads the run folder only, writes
RUN/report.html as one file that needs no network, and imports nothing that a config names.
"""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from gapclose.analysis.distances import CAVEAT
from gapclose.analysis.significance import LEVEL
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.storage_url import masked
from gapclose.loop.report import text as wording
from gapclose.loop.report.findings import (
    group_name,
    largest,
    left_out,
    repeat_word,
    stored_words,
    warnings,
)
from gapclose.loop.report.projections import open_run
from gapclose.loop.report.text import (
    TITLES,
    below_floor,
    effect_sort_key,
    first_sentence,
    mattered,
    meaning,
    spread,
    state_of,
    verdict,
    was_tuned,
)
from gapclose.loop.report.thumbnails import Samples
from gapclose.loop.run.events import StopReason
from gapclose.loop.run.files import write_text
from gapclose.loop.run.folder import RunDir

__all__ = ["write_report"]

log = logging.getLogger(__name__)

Row = Mapping[str, Any]

_LIMITS: Final = (StopReason.OUT_OF_BUDGET, StopReason.TOO_LITTLE_TIME, StopReason.LIMIT)
_FEW_CLASSES: Final = 12  # up to here every class is unfolded and gets full sheets
_SHOWN_WORDS: Final = 8
_SHOWN_SHARES: Final = 8  # words of a slot
_NO_WORD: Final = {"negative_prompt": "none", "scheduler": "the generator's own"}
_SHOWN_GROUPS: Final = 6
_SHOWN_LABELS: Final = 2  # beside a class's own
_SHOWN_RECIPES: Final = 12
_SHOWN_OUTLIERS: Final = 12
_SHOWN_REPEATS: Final = 2  # groups of a class, the largest
_SHOWN_FILES: Final = 200  # lines of a fold
_SHOWN_COPIES: Final = 20  # names in a line
_LOWEST_RATIO: Final = 0.3  # left edge of the bars: what is below has no gap to speak of


def write_report(run: Path) -> Path:
    """Writes RUN/report.html from what the run folder holds, whole or not at all.

    Args:
        run: a run folder with a gap.json; trials, mixtures, samples and the map are shown where
            they are there.

    Returns:
        The page's path.

    Raises:
        ConfigError: If there is no run, or nothing in it was measured yet.
    """
    folder = open_run(run)
    page = _template().render(_content(folder))
    path = folder.path / "report.html"
    write_text(path, page)
    return path


# ----------------------------------------------------------------------------------- content


def _content(run: RunDir) -> dict[str, Any]:
    gap = _optional(run, "gap.json")
    if gap is None:
        raise run.unmeasured()
    config = _without_password(run.config())
    mixtures = (_optional(run, "mixtures.json") or {}).get("classes", {})
    trials = run.trials()
    rows = sorted(gap["classes"], key=effect_sort_key, reverse=True)
    tuned = was_tuned(rows)
    samples = Samples.read(run)
    full = len(rows) <= _FEW_CLASSES
    scale = _Scale.of(rows)
    per_sheet = 24 if full else 12
    classes = []
    for number, row in enumerate(rows):
        name = row["name"]
        own = [trial for trial in trials if trial.get("class") == name]
        classes.append(
            {
                "id": f"c{number}",
                "row": row,
                "name": name,
                "before": row.get("before"),
                "state": state_of(row, tuned=tuned),
                "verdict": verdict(row, tuned=tuned),
                "meaning": meaning(row, tuned=tuned),
                "below": below_floor(row),
                "bar": {
                    "now": scale.at(row.get("ratio")),
                    "was": scale.at((row.get("before") or {}).get("ratio")),
                },
                "sort": effect_sort_key(row),
                "sheets": samples.sheets(name, per_sheet, small=not full, tuned=tuned),
                "stored": stored_words(row["stored"]) if row.get("stored") else None,
                "witness": _witness(row, samples, small=not full),
                "repeats": _repeats(gap.get("repeats") or (), name, samples, small=not full),
                "words": _words(row),
                "has_words": row.get("attributes") is not None,
                "zeroshot": _zeroshot(row, tuned=tuned),
                "spectrum": bool(row.get("spectrum")),
                "groups": _groups(gap.get("clusters") or (), name, samples, full=full),
                "recipes": _recipes(mixtures.get(name)),
                "weight": _weight(row),
                "trials": len(own),
                "stopped": (gap.get("stopped") or {}).get(name),
                "course": bool(own),
                "open": full or number < 3,
            }
        )
    state = _optional(run, "state.json") or {}
    return {
        "title": run.path.name,
        "sentence": first_sentence(
            rows, tuned=tuned, tried=_tried(gap, trials), skipped=len(gap["skipped"])
        ),
        "tuned": tuned,
        "gap": gap,
        "classes": classes,
        "warnings": warnings(gap),
        "left_out": left_out(gap),
        "folds": _folds(gap),
        "scale": scale,
        "floor": scale.at(1.0),
        "config": config.to_dict(),
        "config_text": config.to_yaml(),
        "state": state,
        "cost": _cost(trials, state),
        "failures": [t for t in trials if t.get("state") == "fail"],
        "environment": _flat(_optional(run, "environment.json") or {}),
        "map": samples.has_map,
        "outliers": samples.outliers(_SHOWN_OUTLIERS),
        "n_real": sum(row["side"] == "real" for row in samples.rows),
        "n_outliers": sum(bool(row.get("outlier")) for row in samples.rows),
        "thinned": samples.thinned,
        "data": _chart_data(rows, trials, samples),
        "caveat": CAVEAT,
        "plotly": _plotly(),
    }


def _tried(gap: Row, trials: Sequence[Row]) -> bool:
    """Whether a run came as far as whole recipes, or ended for another reason than its limits."""
    out = any(why in _LIMITS for why in (gap.get("stop_reasons") or {}).values())
    return not out or any(trial.get("stage") in ("screen", "joint") for trial in trials)


def _optional(run: RunDir, name: str) -> Any:
    try:
        return run.read_json(name)
    except FileNotFoundError:
        return None


def _without_password(config: RunConfig) -> RunConfig:
    if config.storage is None:
        return config
    return config.model_copy(update={"storage": masked(config.storage)})


def _cost(trials: Sequence[Row], state: Row) -> dict[str, Any]:
    images: dict[str, int] = {}
    for trial in trials:
        images[trial["class"]] = max(images.get(trial["class"], 0), trial.get("images_total") or 0)
    return {
        # The state counts what confirming drew as well; a run of an older version has none.
        "images": state.get("images") or sum(images.values()),
        "trials": len(trials),
        "seconds": state.get("seconds_used"),
        "budget": state.get("budget_seconds"),
        "invalid": sum(trial.get("invalid") or 0 for trial in trials),
    }


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested keys as (name, text) pairs, for a list of versions; a run's mark is no version."""
    if isinstance(value, Mapping):
        keys = [k for k in value if not (name == "" and k in ("schema", "origin"))]
        prefix = "" if name == "packages" else f"{name}."
        return [
            pair
            for key in keys
            for pair in _flat(value[key], f"{prefix}{key}" if name else str(key))
        ]
    return [] if value is None else [(name, str(value))]


def _words(row: Row) -> list[dict[str, Any]]:
    """The words whose shares differ, before or after, the largest difference first."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    before = row.get("before") or {}
    for stage, source in (("was", before), ("now", row)):
        for item in source.get("attributes") or ():
            key = (str(item["group"]), str(item["word"]))
            entry = found.setdefault(key, {"group": key[0], "word": key[1]})
            entry["real"] = item["real"]  # of the later stage: the confirm split
            entry[stage] = item["synthetic"]
            entry[f"{stage}_q"] = item.get("q_value")
            entry[f"{stage}_error"] = item.get("standard_error")
    told = [
        entry
        for entry in found.values()
        if any(_significant(entry.get(q)) for q in ("was_q", "now_q"))
    ]

    def difference(entry: dict[str, Any]) -> float:
        start = entry.get("was", entry.get("now"))
        return abs(float(start or 0) - float(entry["real"] or 0))

    return sorted(told, key=difference, reverse=True)[:_SHOWN_WORDS]


def _zeroshot(row: Row, *, tuned: bool) -> dict[str, Any] | None:
    """What each side is read as: own class first, then what it is most often mistaken for."""
    sides = []
    before = row.get("before") or {}
    for stage, source, side in (
        ("real", row, "real"),
        ("baseline", before if tuned else row, "synthetic"),
        ("tuned", row if tuned else {}, "synthetic"),
    ):
        read = (source.get("zeroshot") or {}).get(side)
        if read:
            n = sum(sum(bands) for bands in read["counts"].values())
            shares = {k: [v / n for v in bands] for k, bands in read["counts"].items()}
            sides.append({"stage": stage, "agreement": read["agreement"], "shares": shares})
    if not sides:
        return None
    total: dict[str, float] = {}
    for entry in sides:
        for label, bands in entry["shares"].items():
            total[label] = max(total.get(label, 0.0), sum(bands))
    others = sorted((k for k in total if k != row["name"]), key=lambda k: -total[k])
    labels = [row["name"], *(k for k in others[:_SHOWN_LABELS] if total[k] >= 0.01)]
    return {"sides": sides, "labels": labels, "n_labels": row["zeroshot"].get("n_labels")}


def _groups(
    clusters: Sequence[Row], name: str, samples: Samples, *, full: bool
) -> list[dict[str, Any]]:
    """A class's clusters with their images, those that are left after tuning first."""
    own = [cluster for cluster in clusters if cluster["class"] == name]
    shown = own[: _SHOWN_GROUPS if full else 2]
    return [
        {
            "stage": "baseline",
            **cluster,
            "title": cluster.get("name") or "unnamed",
            "of": cluster[f"n_{cluster['side']}"],
            "images": samples.strip(cluster["samples"][: 12 if full else 6], small=not full),
        }
        for cluster in shown
    ]


def _witness(row: Row, samples: Samples, *, small: bool) -> list[dict[str, Any]]:
    """The images of each side that are most unlike the other, the generator's first."""
    paths = row.get("witness") or {}
    strips = [
        {"side": side, "title": title, "images": samples.strip(paths.get(side, ()), small=small)}
        for side, title in (
            ("synthetic", "Most unlike the real images"),
            ("real", "Real images most unlike the synthetic ones"),
        )
    ]
    return [strip for strip in strips if strip["images"]]


def _repeats(
    repeats: Sequence[Row], name: str, samples: Samples, *, small: bool
) -> list[dict[str, Any]]:
    """A class's largest groups of images that repeat each other."""
    own = [group for group in repeats if group["class"] == name]
    strips = [
        {
            **group,
            "title": f"{group_name(group)}, {repeat_word(group)}",
            "images": samples.strip([group["kept"], *group["copies"]][:6], small=small),
        }
        for group in largest(own)[:_SHOWN_REPEATS]
    ]
    return [strip for strip in strips if strip["images"]]


def _folds(gap: Row) -> list[dict[str, Any]]:
    """The files that sentences only count, by name: a title, some lines, and how many are left."""
    found = (
        ("unreadable {}", "file", _reasons(gap.get("unreadable"))),
        ("{} left out", "file", _reasons(gap.get("other_files"))),
        ("{} never scored", "image", _reasons(gap.get("invalid_images"))),
        ("{} of repeats", "group", [_members(g) for g in largest(gap.get("repeats") or ())]),
    )
    return [
        {
            "title": f"{len(lines)} {title.format(noun if len(lines) == 1 else f'{noun}s')}",
            "lines": lines[:_SHOWN_FILES],
            "more": max(0, len(lines) - _SHOWN_FILES),
        }
        for title, noun, lines in found
        if lines
    ]


def _reasons(files: Sequence[Row] | None) -> list[str]:
    return [f"{file['path']}: {file['why']}" for file in files or ()]


def _members(group: Row) -> str:
    """A group of repeats, all names of one that is no larger than a line bears."""
    copies = group["copies"][:_SHOWN_COPIES]
    rest = len(group["copies"]) - len(copies)
    names = ", ".join([group["kept"], *copies])
    more = f" and {rest} more" if rest else ""
    return f"{group['class']}, {group['side']}, {repeat_word(group)}: {names}{more}"


def _significant(q_value: float | None) -> bool:
    return q_value is not None and q_value <= LEVEL


def _recipes(mixture: Row | None) -> dict[str, Any] | None:
    if not mixture or not mixture.get("recipes"):
        return None
    rows = sorted(mixture["recipes"], key=lambda item: -item["weight"])
    shown = []
    for item in rows[:_SHOWN_RECIPES]:
        recipe = item["recipe"]
        draw, camera = recipe.get("draw", recipe), recipe.get("camera", {})
        shown.append({"weight": item["weight"], "draw": draw, "camera": _camera(camera)})
    return {
        "rows": shown,
        "columns": [
            (key, TITLES.get(key, key))
            for key in ("negative_prompt", "guidance_scale", "num_inference_steps", "scheduler")
            if any(row["draw"].get(key) not in (None, "") for row in shown)
        ],
        "more": len(rows) - len(shown),
        "more_weight": sum(item["weight"] for item in rows[_SHOWN_RECIPES:]),
        "effective": mixture.get("effective"),
        "json": json.dumps(dict(mixture), ensure_ascii=False, indent=2),
    }


def _weight(row: Row) -> dict[str, Any] | None:
    """Where a mixture's weight lies beside its baseline's; what mattered most comes first."""
    both = row.get("shares")
    if not both:
        return None
    now, was, importances = both["mixture"], both["baseline"], row.get("importances") or {}
    slots = [
        {"name": name, "title": TITLES.get(name, name), **_slot(name, part, now=now, was=was)}
        for part in ("words", "choices")
        for name in now[part]
    ]
    numbers = [
        {
            "name": name,
            "title": TITLES.get(name, name),
            "now": spread(moments["mean"], moments["sd"]),
            "was": spread(was["numbers"][name]["mean"], 0.0),
        }
        for name, moments in now["numbers"].items()
    ]

    if not slots and not numbers:
        return None

    def importance(entry: Row) -> float:
        return -float(importances.get(entry["name"], 0.0))

    return {
        "slots": sorted(slots, key=importance),
        "numbers": sorted(numbers, key=importance),
        "mattered": mattered(importances) if importances else None,
    }


def _slot(name: str, part: str, *, now: Row, was: Row) -> dict[str, Any]:
    """The words of a slot or the choices of a setting, the largest share first."""
    after, before = now[part][name], was[part][name]
    shares = [
        {
            "word": word.strip() or _NO_WORD.get(name, "no word"),
            "named": bool(word.strip()),
            "now": after.get(word, 0.0),
            "was": before.get(word, 0.0),
        }
        for word in {**after, **before}
    ]
    shares.sort(key=lambda share: (-share["now"], -share["was"]))
    lost = {stage: side["unread"].get(name, 0.0) for stage, side in (("now", now), ("was", was))}
    rest = shares[_SHOWN_SHARES:]
    return {
        "rows": shares[:_SHOWN_SHARES],
        "more": len(rest),
        "more_now": sum(share["now"] for share in rest),
        "more_was": sum(share["was"] for share in rest),
        "unread": lost if part == "words" and any(lost.values()) else None,
    }


def _camera(camera: Row) -> str:
    parts = []
    if camera.get("resize"):
        parts.append(f"{camera['resize']} px {camera.get('kernel', '')}".strip())
    if camera.get("jpeg_quality"):
        parts.append(f"JPEG {camera['jpeg_quality']}")
    if camera.get("noise"):
        parts.append(f"noise {camera['noise']:.3f}")
    if camera.get("saturation") not in (None, 1.0, 1):
        parts.append(f"saturation {camera['saturation']:.2f}")
    return ", ".join(parts)


# ------------------------------------------------------------------------------------- charts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """The logarithmic axis that all bars of ratios share; the floor is at ratio 1."""

    high: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Scale:
        ratios = [
            r for row in rows for r in (row.get("ratio"), (row.get("before") or {}).get("ratio"))
        ]
        return cls(high=max([4.0, *(1.5 * r for r in ratios if r is not None)]))

    def at(self, ratio: float | None) -> float | None:
        """Percent of the width, 0 to 100; what is at or below the left edge lies on it."""
        if ratio is None:
            return None
        low = math.log(_LOWEST_RATIO)
        where = (math.log(max(ratio, _LOWEST_RATIO)) - low) / (math.log(self.high) - low)
        return round(100 * where, 2)

    def ticks(self) -> list[tuple[float, str]]:
        values = [10.0**k for k in range(1 + int(math.log10(self.high)))]
        kept = values if len(values) <= 4 else [values[0], *values[1::2]]
        return [(self.at(v) or 0.0, f"{v:,.0f}".replace(",", "\N{THIN SPACE}")) for v in kept]


def _chart_data(rows: Sequence[Row], trials: Sequence[Row], samples: Samples) -> dict[str, Any]:
    """What the page's script draws, by class in the order of the table."""
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
    """The gap in floors over images generated; None where there is no floor to divide by."""
    floor, before = row.get("floor_p95"), row.get("before") or {}
    told = [t for t in trials if t.get("images_total") is not None]
    if not floor or not told:
        return None

    def ratios(key: str) -> list[float | None]:
        return [None if t.get(key) is None else round(t[key] / floor, 4) for t in told]

    return {
        "images": [t["images_total"] for t in told],
        "mixture": ratios("mixture_gap"),
        "own": ratios("gap"),
        "stage": [t.get("stage", "") for t in told],
        "final": row.get("ratio"),
        "final_error": _interval(row, floor),
        "before": before.get("ratio"),
        "before_error": _interval(before, before.get("floor_p95")),
    }


def _interval(row: Row, floor: float | None) -> float | None:
    """Half the length of the 95 % interval of a gap, in floors."""
    error = row.get("standard_error")
    return round(1.96 * error / floor, 4) if error is not None and floor else None


def _spectra(row: Row) -> dict[str, Any] | None:
    """Mean log power by frequency, by stage as the map names them."""
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


# ------------------------------------------------------------------------------------ template


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # Keys come by `|get`: a dot would find a dict's method before a key of the same name.
    environment.filters["get"] = lambda mapping, key, default=None: mapping.get(key, default)
    for name in ("chance", "count", "effect", "number", "percent", "ratio", "seconds", "signed"):
        environment.filters[name] = getattr(wording, name)
    text = (
        resources.files("gapclose.loop.report").joinpath("report.html").read_text(encoding="utf-8")
    )
    return environment.from_string(text)


@functools.cache
def _plotly() -> str:
    """plotly.js, once per page; a closing tag inside it would end the page's script early."""
    try:
        from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]
    except ImportError as error:  # a page without charts still says what was found
        log.warning("the charts are left out: plotly cannot be imported (%s)", error)
        return ""

    return str(get_plotlyjs()).replace("</script", "<\\/script")
