"""The table of classes that the live display and `gapclose status` show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gapclose.analysis.unseen import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["class_table"]


def class_table(classes: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    """Lay out the classes: gap, ratio, trials, images, and what is known of closing.

    Args:
        classes: Per class any of gap, ratio, trials, images, verdict.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for name in ("gap", "ratio", "trials", "images"):
        table.add_column(name, justify="right")
    table.add_column("")
    for name, row in classes.items():
        table.add_row(
            Text(one_line(name)),
            _number(row.get("gap"), ".4f"),
            _number(row.get("ratio"), ".1f"),
            _number(row.get("trials"), "d"),
            _number(row.get("images"), "d"),
            row.get("verdict", ""),
        )
    return table


def _number(value: Any, form: str) -> str:
    if not isinstance(value, int | float):
        return "-"
    return format(int(value) if form == "d" else float(value), form)
