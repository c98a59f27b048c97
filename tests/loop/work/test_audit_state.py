from __future__ import annotations

import json
from pathlib import Path

import pytest

from gapclose.loop.run.folder import RunDir
from gapclose.loop.work.audit_state import AuditState


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_an_interrupted_audit_knows_what_it_drew(run: RunDir) -> None:
    assert AuditState.resume(run).drawn == set()
    state = AuditState(run)
    for name in ("ship", "frog"):
        state.drawn.add(name)
        state.write("baseline")
    assert AuditState.resume(run).drawn == {"frog", "ship"}
    written = json.loads((run.path / "state.json").read_text())
    assert (written["kind"], written["stage"], written["drawn"]) == (
        "audit",
        "baseline",
        ["frog", "ship"],
    )
    assert written["seconds_used"] >= 0.0
    assert written["budget_seconds"] is None


def test_a_whole_audit_draws_anew_unless_its_scores_are_lost(run: RunDir) -> None:
    state = AuditState(run, drawn={"frog"})
    run.write_json("gap.json", {"classes": []})
    state.write("done", {"frog": {"gap": 0.1}})
    assert AuditState.resume(run).drawn == set()
    (run.path / "gap.json").unlink()
    assert AuditState.resume(run).drawn == {"frog"}
