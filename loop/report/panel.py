"""Panel: what several judges say of the classes, in words and as the rows of a table.

The page, the console's table and the findings call it. Of one judge or none it says nothing: that
one has a column of its own, and its objection is among those of its class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gapclose.analysis.significance import LEVEL

__all__ = ["agreement", "panel_rows", "panel_sentence"]

Row = Mapping[str, Any]


def agreement(row: Row) -> str:
    """Say how many judges see no gap in a class, as in 2 of 3; empty without several."""
    judges = row.get("judges") or ()
    return f"{_agreeing(row)} of {len(judges)}" if judges else ""


def panel_sentence(rows: Sequence[Row], *, tuned: bool) -> str:
    """Say how many classes all judges agree on.

    Args:
        rows: The classes of gap.json.
        tuned: Whether they were tuned: then what is confirmed counts.

    Returns:
        A sentence; empty without several judges.
    """
    judged = [row for row in rows if row.get("judges")]
    if not judged:
        return ""
    m, n = len(judged[0]["judges"]), len(rows)
    if n == 1:
        k = _agreeing(judged[0])
        if k == m:
            return f"{'Both' if m == 2 else f'All {m}'} judges see no gap."
        return f"{m - k} of {m} judges {'sees' if m - k == 1 else 'see'} one."
    agreed = sum(_agreeing(row) == m for row in judged)
    said = f"In {agreed} of {n} classes none of the {m} judges sees a gap"
    if not tuned:
        return f"{said}."
    k = sum(row.get("confirmed") is True for row in rows)
    return f"{said}; {k} {'is' if k == 1 else 'are'} confirmed."


def panel_rows(row: Row) -> list[dict[str, Any]]:
    """Return a class's judges with their figures, and `was` of the baseline's; `agrees` if so."""
    before = row.get("before") or {}
    was = {judge["name"]: judge.get("ratio") for judge in before.get("judges") or ()}
    return [
        {**judge, "was": was.get(judge["name"]), "agrees": _agrees(judge)}
        for judge in row.get("judges") or ()
    ]


def _agreeing(row: Row) -> int:
    return sum(map(_agrees, row["judges"]))


def _agrees(judge: Row) -> bool:
    if judge.get("effect", 0.0) is None:  # it gives every image the same features
        return False
    return judge.get("q_value") is None or judge["q_value"] > LEVEL
