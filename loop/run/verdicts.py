"""Verdicts: what the evaluations of all classes say together, a pure function of the journal.

Nothing is decided before all classes are in, for their q-values are of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from gapclose.analysis.class_gap import ClassGap, jointly
from gapclose.analysis.criteria import CRITERIA, Criterion, confirmed
from gapclose.analysis.neighbor_recall import NeighborRecall
from gapclose.loop.run.events import ClassVerdict, FoldEvaluated, Recall, VerdictsReached
from gapclose.loop.run.shapes import mixture_key
from gapclose.loop.run.state import RunState


def judge(
    evaluations: Mapping[str, FoldEvaluated],
    *,
    criteria: Sequence[Criterion] = CRITERIA,
    recalls: Mapping[str, NeighborRecall] = MappingProxyType({}),
) -> dict[str, ClassGap]:
    """Judge all evaluated classes together.

    Args:
        evaluations: By class, in the run's order.
        criteria: What a class must meet to be confirmed.
        recalls: By class, where they were asked.

    Returns:
        Rows of gap.json with q-values over all of them, `confirmed` and `before` set.
    """
    befores = jointly([ClassGap.from_json(e.before) for e in evaluations.values()])
    afters = [
        replace(row, neighbors=recalls[row.name].to_json()) if row.name in recalls else row
        for row in jointly([ClassGap.from_json(e.after) for e in evaluations.values()])
    ]
    pairs = zip(evaluations.values(), befores, afters, strict=True)
    return {
        evaluation.cls: replace(
            confirmed(after, agreement=evaluation.agreement, criteria=criteria), before=before
        )
        for evaluation, before, after in pairs
    }


def verdicts_of(
    state: RunState,
    *,
    criteria: Sequence[Criterion] = CRITERIA,
    recalls: Mapping[str, NeighborRecall] = MappingProxyType({}),
) -> VerdictsReached:
    """Reach the verdicts over all classes that have been evaluated.

    Args:
        state: Of the run.
        criteria: What a class must meet to be confirmed.
        recalls: By class, where they were asked.
    """
    told = {
        name: Recall(real=its.real, synthetic=its.synthetic, n=its.n)
        for name, its in recalls.items()
    }
    evaluations = {
        name: evaluation.result
        for name in state.names
        if (evaluation := state.of(name).evaluation) is not None
    }
    return VerdictsReached(
        verdicts={
            name: ClassVerdict(
                fold=evaluations[name].fold,
                gap=row.gap,
                ratio=row.ratio,
                floor_p95=row.floor_p95,
                effect=row.effect,
                q_value=row.p_value if row.q_value is None else row.q_value,
                closed=row.closed,
                confirmed=bool(row.confirmed),
                objections=row.objections,
                recall=told.get(name),
                mixture=mixture_key(evaluations[name].mixture),
            )
            for name, row in judge(evaluations, criteria=criteria, recalls=recalls).items()
        }
    )


def judged_rows(state: RunState) -> dict[str, ClassGap]:
    """Return the judged classes' rows of gap.json, by class in the run's order.

    Their figures are made anew. Whether a class is confirmed, and what objects, is what its
    verdict says: the criteria of the run may have been others.
    """
    judged = {name: e for name in state.names if (e := state.of(name).judged) is not None}
    rows = judge({name: evaluation.result for name, evaluation in judged.items()})
    return {name: _as_recorded(row, judged[name].verdict) for name, row in rows.items()}


def _as_recorded(row: ClassGap, verdict: ClassVerdict | None) -> ClassGap:
    assert verdict is not None, "what is judged has a verdict"
    told = verdict.objections
    if told is None:  # an older journal, of a run whose criteria were those of its version
        told = () if verdict.confirmed else row.objections
    return replace(row, confirmed=verdict.confirmed, objections=told)
