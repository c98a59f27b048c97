"""Remeasuring: gap.json once more, where a run folder has lost it.

`gapclose report` calls it. Of a tuned run it is written from the journal; an audit is measured
anew, and its images are generated again only where they are lost as well.
"""

from __future__ import annotations

from pathlib import Path

from gapclose.loop.auditing import audit_config
from gapclose.loop.report.projections import open_run, read_gap, read_state
from gapclose.loop.report.run_view import Run
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.run.trust import check_trust


def remeasure(path: Path, *, trust: bool = False, reporter: Reporter | None = None) -> Run:
    """Bring a run's gap.json back.

    Args:
        path: The run folder.
        trust: Let an audit that was made elsewhere import the code its config names.
        reporter: Receives what happens.

    Raises:
        ConfigError: There is no run, it has confirmed nothing yet, or it was made elsewhere and
            names code.
        UnwritableError: The folder cannot be written.
        RunBusyError: Another process is writing it.
    """
    run = open_run(path)
    if run.has("gap.json"):
        return Run(run.path)
    if read_state(run).get("kind") != "audit":
        read_gap(run)
        return Run(run.path)
    config = run.config()
    check_trust(run, config, trust=trust)
    return audit_config(config, out=run.path, reporter=reporter)
