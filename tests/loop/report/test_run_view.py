from __future__ import annotations

from pathlib import Path

import pytest
from make_run import make_run

from gapclose.loop.errors import ConfigError
from gapclose.loop.report.run_view import Run


def test_a_run_is_what_its_folder_says(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", classes=("frog", "ship"))
    run = Run.open(tmp_path / "run")
    assert run.path == made.path
    assert run.config == made.config()
    assert {row["name"] for row in run.gap["classes"]} == {"frog", "ship"}
    assert run.gap == made.read_json("gap.json")
    assert set(run.mixtures["classes"]) == {"frog", "ship"}
    assert run.trials == made.trials() != []
    assert run.state == made.read_json("state.json")
    assert run.report == made.path / "report.html"


def test_opening_writes_nothing(tmp_path: Path) -> None:
    make_run(tmp_path / "run", classes=("frog",))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    run = Run.open(str(tmp_path / "run"))
    assert run.gap
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        Run.open(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"no config\.yaml"):
        Run.open(tmp_path)
