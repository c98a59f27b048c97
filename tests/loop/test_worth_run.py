"""A run for worth, killed where its recalls are measured: the same command goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from rig import command, finished, here, written

from gapclose.loop.report.run_view import Run
from gapclose.loop.run.events import RecallsMeasured, VerdictsReached
from gapclose.loop.run.journal import read_journal

MEASURE = "gapclose.loop.work.recalls:Recalls.measure"


@pytest.mark.slow
def test_a_run_for_worth_that_is_killed_ends_as_one_that_was_not(
    photos: Path, tmp_path: Path
) -> None:
    config = written(tmp_path / "worth.yaml", photos)
    words = ("tune", config, "--set", "tune.objective=worth", "--set", "tune.trials=4", "--out")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert here(*words, whole)[0] == 0
    events = [*read_journal(whole / "journal.jsonl")]
    measured = [event for event in events if isinstance(event, RecallsMeasured)]
    assert {*measured[0].recalls} == {"frog", "ship"}
    assert all(event.seconds > 0 for event in measured)
    verdicts = [event for event in events if isinstance(event, VerdictsReached)]
    assert all(its.recall is not None for its in verdicts[-1].verdicts.values())
    for place in (f"{MEASURE}:after:1", f"{MEASURE}:before:1"):
        code, err = finished(command(*words, killed, KILL_AT=place))
        assert code == -signal.SIGKILL, err
    code, err = here(*words, killed)
    assert code == 0, err
    mine, theirs = (
        [e.recalls for e in read_journal(run / "journal.jsonl") if isinstance(e, RecallsMeasured)]
        for run in (killed, whole)
    )
    assert mine == theirs
    assert Run.open(killed).mixtures == Run.open(whole).mixtures
    stopped = json.loads((whole / "gap.json").read_text())["stopped"]
    assert {*stopped} == {"frog", "ship"}
