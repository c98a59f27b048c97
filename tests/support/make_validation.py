"""A hand-made validation.json, for tests of what reads one. No classifier is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CLASSES = ("cat", "dog", "frog")
RECALLS: Mapping[str, Sequence[float]] = {
    "baseline": (0.8, 0.6, 0.1),
    "tuned": (0.9, 0.55, 0.8),
    "even": (0.7, 0.5, 0.6),
    "real": (0.9, 0.8, 0.85),
}


def make_validation(
    recalls: Mapping[str, Sequence[float]] = RECALLS,
    *,
    classifiers: Sequence[str] = ("cnn",),
    classes: Sequence[str] = CLASSES,
    width: float = 0.01,
    n: int = 200,
    **more: Any,
) -> dict[str, Any]:
    """Put a file together as loop/validation writes it.

    Args:
        recalls: By arm, of each class.
        classifiers: Their ids; all say the same.
        classes: Names.
        width: Half of every interval.
        n: Training images of a class; `few` have 20.
        more: Keys that replace what comes of the recalls; `mixtures` are of folders by default.
    """
    accuracy = {arm: sum(values) / len(values) for arm, values in recalls.items()}
    primary = next(arm for arm in ("tuned", "synthetic", "baseline") if arm in recalls)
    made: dict[str, Any] = {
        "schema": 1,
        "n_test": 600,
        "classes": list(classes),
        "seeds": 3,
        "draws": 2,
        "primary": primary,
        "mixtures": None,
        "arms": [], "differences": [], "shortfalls": [], "groups": [], "reverse": [],
        "recovered": {}, "too_easy": [], "shortcuts": [], "worst_groups": [],
    }  # fmt: skip
    for classifier in classifiers:
        of = {"classifier": classifier}
        for arm, values in recalls.items():
            made["arms"].append(
                of
                | {"arm": arm, "n_per_class": 20 if arm == "few" else n}
                | {"accuracy": accuracy[arm], "macro_f1": accuracy[arm]}
                | {"low": max(accuracy[arm] - width, 0), "high": min(accuracy[arm] + width, 1)}
                | {"recall": dict(zip(classes, values, strict=True))}
                | {"confusion": _confusion(values)}
            )
            if arm != primary:
                value = accuracy[primary] - accuracy[arm]
                interval = {"value": value, "low": value - width, "high": value + width}
                made["differences"].append(of | {"arm": primary, "against": arm} | interval)
        for cls, now, real in zip(
            classes, recalls[primary], recalls.get("real", ()), strict=False
        ):
            made["shortfalls"].append(
                of
                | {"arm": primary, "class": cls, "shortfall": real - now}
                | {"adjusted_p_value": 0.001 if real - now > 0.2 else 1.0}
            )
        made["groups"].append(
            of
            | {"group": "color", "class": "dog", "name": "black dog", "n": 40}
            | {"recall": {arm: values[:2][-1] / 2 for arm, values in recalls.items()}}
        )
    return made | more


def _confusion(values: Sequence[float]) -> list[list[int]]:
    """Spread what is not told right over the other classes, the next one taking most."""
    rows = []
    for i, value in enumerate(values):
        row = [0] * len(values)
        row[i] = round(1000 * value)
        row[(i + 1) % len(values)] += round(750 * (1 - value))
        row[(i + 2) % len(values)] += 1000 - sum(row)
        rows.append(row)
    return rows
