"""The generators of a run on the page: what each is, and what each comes to in a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gapclose.generators.licenses import terms_of
from gapclose.loop.config.schema import RunConfig

__all__ = ["class_generators", "run_generators"]

Row = Mapping[str, Any]


def run_generators(gap: Row, config: RunConfig) -> list[dict[str, Any]]:
    """Return what each generator of a run is, with what its licence says of training.

    Args:
        gap: gap.json, which describes several generators once a run has ended.
        config: Of the run.
    """
    described = {its["name"]: its for its in gap.get("generators") or ()}
    found = []
    for name, spec in config.drawn_by.items():
        own = described.get(name, {})
        terms = terms_of(own.get("license"))
        said = spec.model_dump(mode="json", exclude_defaults=True)
        found.append(
            {
                "name": name,
                "spec": ", ".join(f"{key} {_plain(value)}" for key, value in said.items()),
                "license": own.get("license"),
                "terms": None if terms is None else terms.said,
                "seconds": own.get("seconds_per_image"),
            }
        )
    return found


def class_generators(row: Row) -> dict[str, Any] | None:
    """Return what each of several generators comes to in a class, in floors; None of one.

    Args:
        row: Of the class in gap.json.
    """
    found = row.get("generators")
    if not found:
        return None
    floor = row.get("floor_p95") or found["floor_p95"]
    return {
        "together": _ratio(found.get("together"), floor),
        "alone": [
            {
                "name": its["name"],
                "weight": its["weight"],
                "images": its["images"],
                "ratio": _ratio(its.get("gap"), floor),
            }
            for its in sorted(found["alone"], key=lambda its: -its["weight"])
        ],
    }


def _ratio(gap: float | None, floor: float) -> float | None:
    return None if gap is None else gap / max(floor, 1e-9)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_plain, value))
    if isinstance(value, Mapping):
        return " ".join(f"{key} {own}" for key, own in value.items())
    return str(value)
