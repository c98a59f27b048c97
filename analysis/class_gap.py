"""A class's row of gap.json, and what several classes' rows say together.

`audit_embeddings` makes a row; audits and verdicts judge those of a run jointly, for q-values are
of all its classes. It sees no embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from gapclose.analysis.attributes import AttributeGap, adjust
from gapclose.analysis.significance import LEVEL, benjamini_hochberg, panel

__all__ = ["MIN_CLOSED", "ClassGap", "jointly", "with_q"]

MIN_CLOSED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassGap:
    """One class's row of gap.json (schema 1), in its order; None is what was not computed.

    Attributes:
        name: the class.
        n_real: readable real images, all of them, also where fewer entered the tests.
        n_synthetic: the same of synthetic images.
        gap: unbiased MMD^2, may be slightly negative; lower is better.
        floor_p95: what the same estimator says of real against real at these sizes, 95th
            percentile.
        ratio: gap / floor_p95, for reading, never a test. None where the floor is 0.
        effect: gap / (1 - mean kernel of two real images). None where real is one point.
        detectable: the gap seen with 80 % power at these sizes.
        p_value: by permutation, several kernels together (`two_sample`).
        q_value: Benjamini-Hochberg over the run's scored classes (`with_q`); of a class alone, its
            p-value.
        closed: False if q <= 0.05, else None ("too few to tell") under 100 images a side, or where
            every image of both sides has one embedding ("cannot be told"; `effect` is None), else
            True.
        confirmed: set after tuning, by confirmation.
        auc: of a linear probe that tells the sides apart, cross-validated; 0.5 is none.
        precision: share of synthetic images among real ones.
        recall: share of real images that synthetic ones reach.
        density: as precision, weighed by how many real images are near.
        coverage: share of real images with a synthetic image near.
        vendi_ratio: diversity of synthetic over real at one n.
        label_agreement: share of synthetic images that a classifier takes for this class.
        spectrum_gap: distance of the mean power spectra, over its real-real floor.
        duplicates: synthetic images that are near-copies of real ones.
        invalid: synthetic images that show nothing; counted, never scored.
        judge: the same figures in the judge's embedding (`as_judge`); of several judges, those of
            the first, as in `judges`.
        attributes: words whose shares differ.
        invalid_real: as `invalid`, of real images.
        repeats: by side, images that repeat another one; left out.
        stored: how the sides' files differ, and the gap without it; None if they do not.
        witness: by side, the images most unlike the other one, most unlike first; of a class that
            is open.
        guards: precision, recall, density, coverage over real-real at one n.
        reference: KID, FID and a CMMD-compatible figure, for comparison with other tools.
        spectrum: frequency, real and synthetic mean log power.
        zeroshot: per side, agreement and counts by label and confidence.
        standard_error: of the gap, by the jackknife over images.
        objections: what keeps a closed class from being confirmed, in words.
        before: the same row for the baseline recipe, after tuning.
        neighbors: of real images, `recall_real` and `recall_synthetic`, the shares that other real
            ones and synthetic ones tell right, and the `p_value` of the difference (see
            `neighbor_recall`); None where it was not asked.
        judges: of several judges, in the config's order, each with its `name` and its p-value
            `adjusted` over the judges of the class (see `panel`); None for one or none.
        copies: of a confirmation's images some near-copies, each a `synthetic` image and the
            `real` one that it copies, as paths; None where there is none, and elsewhere.
    """

    name: str
    n_real: int
    n_synthetic: int
    gap: float
    floor_p95: float
    ratio: float | None
    effect: float | None
    detectable: float | None
    p_value: float
    q_value: float | None = None
    closed: bool | None = None
    confirmed: bool | None = None
    auc: float | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    vendi_ratio: float | None = None
    label_agreement: float | None = None
    spectrum_gap: float | None = None
    duplicates: int | None = None
    invalid: int = 0
    judge: Mapping[str, Any] | None = None
    attributes: tuple[AttributeGap, ...] | None = None
    invalid_real: int = 0
    repeats: Mapping[str, int] | None = None
    stored: Mapping[str, Any] | None = None
    witness: Mapping[str, Sequence[str]] | None = None
    guards: Mapping[str, float] | None = None
    reference: Mapping[str, float] | None = None
    spectrum: Mapping[str, Sequence[float]] | None = None
    zeroshot: Mapping[str, Any] | None = None
    standard_error: float | None = None
    objections: tuple[str, ...] = ()
    before: ClassGap | None = None
    neighbors: Mapping[str, float] | None = None
    judges: tuple[Mapping[str, Any], ...] | None = None
    copies: tuple[Mapping[str, str], ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers, None if missing or not finite; the last four only if set."""
        out: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "before":
                if value is not None:
                    out["before"] = value.to_json()
            elif field.name in ("neighbors", "judges", "copies") and value is None:
                continue
            elif field.name == "attributes":
                out["attributes"] = None if value is None else [row.to_json() for row in value]
            else:
                out[field.name] = _plain(value)
        return out

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ClassGap:
        """Read what `to_json` wrote."""
        known = {field.name for field in fields(cls)}
        read = {key: entry for key, entry in value.items() if key in known}
        if read.get("before") is not None:
            read["before"] = cls.from_json(read["before"])
        if read.get("attributes") is not None:
            read["attributes"] = tuple(map(AttributeGap.from_json, read["attributes"]))
        read["objections"] = tuple(read.get("objections") or ())
        for key in ("judges", "copies"):
            if read.get(key) is not None:
                read[key] = tuple(read[key])
        return cls(**read)

    def judged_by(self, seen: Mapping[str, ClassGap]) -> ClassGap:
        """Add what the judges see, q-values those of the class alone.

        Args:
            seen: By judge, the row in its embedding.
        """
        if not seen:
            return self
        if len(seen) == 1:
            (only,) = seen.values()
            return replace(self, judge=only.as_judge())
        judges = tuple({"name": name} | row.as_judge() for name, row in seen.items())
        return _judged([replace(self, judges=judges)])[0]

    def as_judge(self) -> dict[str, float | None]:
        """Return, of a row in the judge's embedding, the `judge` of the tuning embedder's."""
        return {
            "gap": self.gap,
            "floor_p95": self.floor_p95,
            "ratio": self.ratio,
            "effect": self.effect,
            "p_value": self.p_value,
            "q_value": self.q_value,
        }


def with_q(gaps: Sequence[ClassGap]) -> list[ClassGap]:
    """Set `q_value` and `closed` in the rows of one run, in the order given."""
    q_values = benjamini_hochberg([row.p_value for row in gaps])
    return [
        replace(row, q_value=q, closed=_closed(q, row))
        for row, q in zip(gaps, q_values, strict=True)
    ]


def jointly(gaps: Sequence[ClassGap]) -> list[ClassGap]:
    """Set every q-value of one run's rows over all of them, in the order given.

    Those of the gap, of each judge's and of the words each are a family of their own. Images most
    unlike the other side are named of a class that is open alone.
    """
    rows = _judged(with_q(gaps))
    words = iter(adjust([row.attributes for row in rows if row.attributes is not None]))
    rows = [
        row if row.attributes is None else replace(row, attributes=tuple(next(words)))
        for row in rows
    ]
    return [row if row.closed is False else replace(row, witness=None) for row in rows]


def _judged(rows: Sequence[ClassGap]) -> list[ClassGap]:
    """Set the q-values of the judges, by `panel`."""
    found = panel([_p_values(row) for row in rows])
    return [_with_verdicts(row, its) for row, its in zip(rows, found, strict=True)]


def _p_values(row: ClassGap) -> dict[str, float]:
    judges = row.judges or (() if row.judge is None else (row.judge,))
    return {_name(judge): float(judge["p_value"] or 0.0) for judge in judges}


def _with_verdicts(row: ClassGap, found: Mapping[str, tuple[float, float]]) -> ClassGap:
    if row.judges is None:
        if row.judge is None:
            return row
        return replace(row, judge={**row.judge, "q_value": found[_name(row.judge)][1]})
    judges = tuple(
        {**judge, "adjusted": found[_name(judge)][0], "q_value": found[_name(judge)][1]}
        for judge in row.judges
    )
    return replace(row, judge=judges[0], judges=judges)


def _name(judge: Mapping[str, Any]) -> str:
    """Return a judge's name; a single one has none in its row."""
    return str(judge.get("name", ""))


def _closed(q_value: float, row: ClassGap) -> bool | None:
    if q_value <= LEVEL:
        return False
    if row.effect is None:  # one point on both sides: an embedder that sees nothing tells nothing
        return None
    return True if min(row.n_real, row.n_synthetic) >= MIN_CLOSED else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Sequence):
        return [_plain(entry) for entry in value]
    if isinstance(value, int | np.integer):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None
