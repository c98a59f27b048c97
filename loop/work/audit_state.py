"""The state of an audit: RUN/state.json, which `status` shows and a later start goes on with.

An audit keeps no journal: which classes it has generated is all that a later start needs to know.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gapclose.loop.run.folder import RunDir


@dataclass(slots=True)
class AuditState:
    """Where an audit stands.

    Attributes:
        rundir: The run.
        drawn: Classes whose images lie there: from now on they are read, not generated.
        started: Monotonic seconds.
    """

    rundir: RunDir
    drawn: set[str] = field(default_factory=set)
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def resume(cls, rundir: RunDir) -> AuditState:
        """Begin, or go on with what an audit was interrupted at.

        Empty for a completed audit: a repetition implies that the generator was changed.
        """
        state = rundir.read_json("state.json") if rundir.has("state.json") else {}
        if state.get("stage") == "done" and rundir.has("gap.json"):
            return cls(rundir)
        return cls(rundir, drawn=set(state.get("drawn", ())))

    def write(self, stage: str, classes: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Write it.

        Args:
            stage: baseline, report or done.
            classes: What is known of each.
        """
        self.rundir.write_json(
            "state.json",
            {
                "kind": "audit",
                "stage": stage,
                "seconds_used": time.monotonic() - self.started,
                "budget_seconds": None,
                "classes": dict(classes or {}),
                "drawn": sorted(self.drawn),
            },
        )
