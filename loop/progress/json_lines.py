"""JSON lines: what `--json` prints, each journal event's and notice's own JSON with its time."""

from __future__ import annotations

import json
from collections.abc import Iterator

from gapclose.loop.progress.under_way import Reported
from gapclose.loop.run.state import RunState

__all__ = ["json_lines"]


def json_lines(reported: Reported, state: RunState | None, at: float) -> Iterator[str]:
    """Form the one line: ASCII, so that it is the same whatever a pipe's encoding is.

    Args:
        reported: An event of the journal or a notice; see `read_event` and `read_notice`.
        state: Not needed: an event says all.
        at: Unix time, `time` of the line.
    """
    facts = json.loads(reported.model_dump_json())
    yield json.dumps({"time": round(at, 3), "kind": reported.kind, **facts})
