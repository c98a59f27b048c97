"""Rescoring: gap.json once more, from the images that a run folder holds.

`gapclose report` calls it where gap.json is lost. Nothing is searched for, and a tuned class's
images, or an audit's, are drawn again only where they are lost as well.
"""

from __future__ import annotations

from pathlib import Path

from gapclose.loop.auditing import audit_config
from gapclose.loop.report.progress import Reporter
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.run import Run
from gapclose.loop.tuning import tune


def remeasure(path: Path, *, trust: bool = False, reporter: Reporter | None = None) -> Run:
    """Measure a run's confirmed images, or an audit's, anew.

    Args:
        path: The run folder.
        trust: As for `tune`.
        reporter: Told what happens.

    Raises:
        ConfigError: There is no run, it has confirmed nothing yet, or it was made elsewhere and
            names code.
        RunBusyError: Another process is writing it.
    """
    run = RunDir.open(path)
    config = run.config()
    state = run.read_json("state.json") if run.has("state.json") else {}
    audited = state.get("kind") == "audit"
    if not audited and not state.get("looks"):
        raise run.unmeasured()
    if audited:
        run.check_trust(config, trust=trust)
        return audit_config(config, out=run.path, reporter=reporter)
    return tune(config, out=run.path, trust=trust, search=False, reporter=reporter)
