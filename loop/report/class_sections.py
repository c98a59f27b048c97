"""The sections of the page: what it says and shows of one class.

`page` makes one per row of gap.json. It chooses and orders what is there; the words come from
`text` and `findings`, the markup from report.html.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gapclose.analysis.significance import LEVEL
from gapclose.loop.config.parameters import PREFIX
from gapclose.loop.report.charts import Scale
from gapclose.loop.report.findings import group_name, largest, repeat_word, stored_words
from gapclose.loop.report.generators import class_generators
from gapclose.loop.report.panel import agreement, panel_rows
from gapclose.loop.report.text import (
    below_floor,
    effect_sort_key,
    mattered,
    meaning,
    spread,
    state_of,
    title,
    verdict,
)
from gapclose.loop.report.thumbnails import Samples
from gapclose.loop.run.photo_groups import PhotoGroup

__all__ = ["ClassSections"]

Row = Mapping[str, Any]

_SHOWN_WORDS: Final = 8
_SHOWN_SHARES: Final = 8  # words of a slot
_NO_WORD: Final = {"negative_prompt": "none", "scheduler": "the generator's own"}
_SHOWN_GROUPS: Final = 6
_SHOWN_LABELS: Final = 2  # beside a class's own
_SHOWN_RECIPES: Final = 12
_SETTINGS: Final = (
    "generator",
    "negative_prompt",
    "guidance_scale",
    "num_inference_steps",
    "scheduler",
    "strength",
    "ip_adapter_scale",
)
_SHOWN_CAPTIONS: Final = 2
_LONG: Final = 90  # characters of a caption
ELLIPSIS: Final = " \N{HORIZONTAL ELLIPSIS}"
_SHOWN_REPEATS: Final = 2  # groups of a class, the largest
_UNFOLDED: Final = 3  # classes of many, the first ones


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSections:
    """The sections of a run's classes, from what the run folder holds of all of them.

    Attributes:
        gap: gap.json.
        mixtures: By class, as in mixtures.json.
        trials: The lines of trials.jsonl.
        samples: The images that are shown.
        scale: The axis of the bars.
        is_tuned: Whether there is a before and an after.
        is_full: Whether there are so few classes that each is unfolded and gets full sheets.
        groups: Photo groups that recipes name, by digest.
    """

    gap: Row
    mixtures: Row
    trials: Sequence[Row]
    samples: Samples
    scale: Scale
    is_tuned: bool
    is_full: bool
    groups: Mapping[str, PhotoGroup] = field(default_factory=dict)

    def section(self, number: int, row: Row) -> dict[str, Any]:
        """Put together one class's section.

        Args:
            number: Its place on the page, from 0.
            row: Its row of gap.json.
        """
        name, samples, tuned, small = row["name"], self.samples, self.is_tuned, not self.is_full
        own = [trial for trial in self.trials if trial.get("class") == name]
        return {
            "id": f"c{number}",
            "row": row,
            "name": name,
            "before": row.get("before"),
            "judges": panel_rows(row),
            "agreement": agreement(row),
            "agreement_before": agreement(row.get("before") or {}),
            "state": state_of(row, tuned=tuned),
            "verdict": verdict(row, tuned=tuned),
            "meaning": meaning(row, tuned=tuned),
            "below": below_floor(row),
            "bar": {
                "now": self.scale.at(row.get("ratio")),
                "was": self.scale.at((row.get("before") or {}).get("ratio")),
            },
            "sort": effect_sort_key(row),
            "sheets": samples.sheets(name, 12 if small else 24, small=small, tuned=tuned),
            "stored": stored_words(row["stored"]) if row.get("stored") else None,
            "witness": _witness(row, samples, small=small),
            "copies": _copies(row, samples, small=small),
            "repeats": _repeats(self.gap.get("repeats") or (), name, samples, small=small),
            "words": _words(row),
            "has_words": row.get("attributes") is not None,
            "zeroshot": _zeroshot(row, tuned=tuned),
            "spectrum": bool(row.get("spectrum")),
            "groups": _groups(self.gap.get("clusters") or (), name, samples, full=not small),
            "recipes": _recipes(self.mixtures.get(name), self.groups),
            "weight": _weight(row),
            "generators": class_generators(row),
            "trials": len(own),
            "stopped": (self.gap.get("stopped") or {}).get(name),
            "course": bool(own),
            "open": self.is_full or number < _UNFOLDED,
        }


def _words(row: Row) -> list[dict[str, Any]]:
    """Return the words whose shares differ, before or after, the largest difference first."""
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
    entries = [
        entry
        for entry in found.values()
        if any(_significant(entry.get(q)) for q in ("was_q", "now_q"))
    ]

    def difference(entry: dict[str, Any]) -> float:
        start = entry.get("was", entry.get("now"))
        return abs(float(start or 0) - float(entry["real"] or 0))

    return sorted(entries, key=difference, reverse=True)[:_SHOWN_WORDS]


def _zeroshot(row: Row, *, tuned: bool) -> dict[str, Any] | None:
    """Return what each side is read as: own class first, then the commonest confusions."""
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
    """Return a class's clusters with their images, those that are left after tuning first."""
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
    """Return the images of each side that are most unlike the other, the generator's first."""
    paths = row.get("witness") or {}
    strips = [
        {"side": side, "title": title, "images": samples.strip(paths.get(side, ()), small=small)}
        for side, title in (
            ("synthetic", "Most unlike the real images"),
            ("real", "Real images most unlike the synthetic ones"),
        )
    ]
    return [strip for strip in strips if strip["images"]]


def _copies(row: Row, samples: Samples, *, small: bool) -> list[dict[str, Any]]:
    """Return near-copies, each beside the real image that it copies."""
    shown = []
    for pair in row.get("copies") or ():
        images = samples.strip([pair["synthetic"], pair["real"]], small=small)
        if len(images) == 2:
            shown.append({"images": images})
    return shown


def _repeats(
    repeats: Sequence[Row], name: str, samples: Samples, *, small: bool
) -> list[dict[str, Any]]:
    """Return a class's largest groups of images that repeat each other."""
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


def _significant(q_value: float | None) -> bool:
    return q_value is not None and q_value <= LEVEL


def _recipes(mixture: Row | None, groups: Mapping[str, PhotoGroup]) -> dict[str, Any] | None:
    if not mixture or not mixture.get("recipes"):
        return None
    rows = sorted(mixture["recipes"], key=lambda item: -item["weight"])
    shown = []
    for item in rows[:_SHOWN_RECIPES]:
        recipe = item["recipe"]
        draw, camera = recipe.get("draw", recipe), recipe.get("camera", {})
        shown.append(
            {
                "weight": item["weight"],
                "prompt": draw["prompt"],
                "settings": _settings(draw),
                "camera": _camera(camera),
                "photos": _photos(groups.get(draw.get("photos", ""))),
            }
        )
    own = sorted({key for row in shown for key in row["settings"]} - {*_SETTINGS})
    return {
        "rows": shown,
        "columns": [
            {"key": key, "title": title(key), "numeric": any(_numeric(row, key) for row in shown)}
            for key in (*_SETTINGS, *own)
            if any(row["settings"].get(key) not in (None, "") for row in shown)
        ],
        "more": len(rows) - len(shown),
        "more_weight": sum(item["weight"] for item in rows[_SHOWN_RECIPES:]),
        "effective": mixture.get("effective"),
        "json": json.dumps(dict(mixture), ensure_ascii=False, indent=2),
    }


def _settings(draw: Row) -> dict[str, Any]:
    """Return the settings of a draw, and its parameters, by the search's names."""
    own = draw.get("parameters") or {}
    return {key: draw.get(key) for key in _SETTINGS} | {PREFIX + k: v for k, v in own.items()}


def _numeric(row: Row, key: str) -> bool:
    value = row["settings"].get(key)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _photos(group: PhotoGroup | None) -> str | None:
    """Say what photos a recipe is made from, with the captions that are there most often."""
    if group is None:
        return None
    captions = Counter(text for text in group.captions.values() if text)
    said = [
        f"\N{LEFT DOUBLE QUOTATION MARK}{text if len(text) <= _LONG else text[:_LONG] + ELLIPSIS}"
        "\N{RIGHT DOUBLE QUOTATION MARK}"
        for text, _ in captions.most_common(_SHOWN_CAPTIONS)
    ]
    photos = f"{len(group)} {'photo' if len(group) == 1 else 'photos'}"
    return f"{photos}: {', '.join(said)}" if said else photos


def _weight(row: Row) -> dict[str, Any] | None:
    """Show where a mixture's weight lies beside its baseline's; what mattered most comes first."""
    both = row.get("shares")
    if not both:
        return None
    now, was = both["mixture"], both["baseline"]
    explained = [row.get(key) or {} for key in ("importances", "parameter_importances")]
    importances = {name: share for its in explained for name, share in its.items()}
    slots = [
        {"name": name, "title": title(name), **_slot(name, part, now=now, was=was)}
        for part in ("words", "choices")
        for name in now[part]
    ]
    numbers = [
        {
            "name": name,
            "title": title(name),
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
        "mattered": "; of the generator's own: ".join(map(mattered, filter(None, explained))),
    }


def _slot(name: str, part: str, *, now: Row, was: Row) -> dict[str, Any]:
    """Return the words of a slot or the choices of a setting, the largest share first."""
    after, before = now[part][name], was[part].get(name, {})
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
