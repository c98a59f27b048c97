"""The loop, and its Python interface: `tune`, `audit` and `Run` for notebooks.

They are imported on first use, so that importing this package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gapclose.analysis  # noqa: F401 - how torch's threads wait is settled before torch loads

if TYPE_CHECKING:
    from gapclose.loop.auditing import audit
    from gapclose.loop.report.run_view import Run
    from gapclose.loop.tuning import tune

__all__ = ["Run", "audit", "tune"]

_PUBLIC = {
    "Run": "gapclose.loop.report.run_view",
    "audit": "gapclose.loop.auditing",
    "tune": "gapclose.loop.tuning",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
