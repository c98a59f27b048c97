from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from histories import TRIAL
from make_run import add_findings, make_run
from rich.console import Console, RenderableType

from gapclose.loop.config.reading import parse_config
from gapclose.loop.report.status import gap_table, read_status, render_status
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.lock import lock


def text(renderable: RenderableType) -> str:
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(renderable)
    return console.export_text()


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    plain: dict[str, Any] = {
        "real": {"kind": "pond"},
        "generator": {"kind": "diffusers", "model": "pond"},
        "embedder": "pond",
    }
    return create_run(tmp_path / "night", parse_config(plain))


def trial(cls: str, number: int, **fields: Any) -> dict[str, Any]:
    return {**TRIAL, "class": cls, "number": number, "mixture_gap": 0.1, **fields}


def test_a_new_run(run: RunDir) -> None:
    status = read_status(run.path)
    assert (status.stage, status.classes, status.seconds_left) == ("new", (), None)
    assert "new" in text(render_status(status))


def test_trials_are_counted_from_their_log_and_not_from_the_state(run: RunDir) -> None:
    run.write_json(
        "state.json",
        {
            "stage": "tune",
            "seconds_used": 100.0,
            "budget_seconds": 400.0,
            "classes": {
                "frog": {"gap": 0.02, "ratio": 20.0, "trials": 1, "images": 8, "closed": False},
                "ship": {"gap": 0.001, "ratio": 0.5, "closed": True, "confirmed": True},
            },
        },
    )
    run.append_line("trials.jsonl", trial("frog", 0, images_total=8))
    run.append_line(
        "trials.jsonl", trial("frog", 1, images_total=16, state="fail", mixture_gap=None)
    )
    run.append_line("trials.jsonl", trial("cat", 0, images_total=4, mixture_gap=0.3))
    status = read_status(run.path)
    frog, ship, cat = status.classes
    assert (frog.name, frog.trials, frog.failed, frog.images) == ("frog", 2, 1, 16)
    assert frog.gap == 0.02
    assert (cat.name, cat.gap, cat.trials, cat.closed) == ("cat", 0.3, 1, None)
    assert ship.confirmed
    assert status.seconds_left == 300.0  # nobody runs it: the clock stands
    page = text(render_status(status))
    for word in ("frog", "20.0", "confirmed", "5m 00s left", "not running", "1 failed"):
        assert word in page
    json.dumps(status.to_json())


def test_a_running_process_is_seen_without_taking_its_lock(run: RunDir) -> None:
    if not Path("/proc/locks").exists():
        pytest.skip("the system does not tell who holds a lock")
    assert read_status(run.path).running is False
    run.write_json("state.json", {"stage": "tune", "seconds_used": 0, "budget_seconds": 100})
    long_ago = time.time() - 30
    os.utime(run.path / "state.json", (long_ago, long_ago))
    with lock(run):
        status = read_status(run.path)
        assert status.running is True
        assert status.seconds_left is not None
        assert 60 < status.seconds_left <= 70
        assert status.goes_on
    stopped = read_status(run.path)
    assert stopped.running is False
    assert not stopped.goes_on  # nobody who watches it waits for ever
    assert "`tune` again" in text(render_status(stopped))
    run.write_json("state.json", {"stage": "report", "kind": "audit"})
    assert "`audit` again" in text(render_status(read_status(run.path)))


def test_gap_table_sorts_by_effect_and_says_what_closed_means() -> None:
    rows = [
        {"name": "small", "ratio": 0.4, "effect": 0.001, "q_value": 0.9, "closed": True},
        {"name": "big", "ratio": 30.0, "effect": 0.5, "q_value": 1e-3, "closed": False},
        {"name": "few", "ratio": 0.1, "effect": 0.0005, "closed": None, "judge": None},
        {"name": "same", "ratio": None, "effect": None, "closed": None, "p_value": 1.0},
        {"name": "sure", "ratio": 0.2, "effect": 0.01, "closed": True, "confirmed": True},
    ]
    lines = [line.rstrip() for line in text(gap_table({"classes": rows})).splitlines()]
    assert [line.split()[0] for line in lines[1:]] == [
        "big", "sure", "small", "few", "same"
    ]  # fmt: skip
    assert lines[1].endswith("open")
    assert lines[2].endswith("no gap")
    assert lines[4].endswith("too few to tell")
    assert lines[5].endswith("cannot be told")
    assert "before" not in lines[0]


def test_gap_table_of_a_tuned_run_says_what_is_confirmed() -> None:
    row = {"ratio": 0.4, "effect": 0.1, "closed": True, "before": {"ratio": 9.0}}
    rows = [row | {"name": "sure", "confirmed": True}, row | {"name": "odd", "confirmed": False}]
    lines = [line.rstrip() for line in text(gap_table({"classes": rows})).splitlines()]
    assert lines[1].endswith(" confirmed")
    assert lines[2].endswith(" not confirmed")
    nothing = row | {"name": "sure", "ratio": -0.04, "effect": -0.0001, "optimism": -0.04}
    assert "-0.0" not in text(gap_table({"classes": [nothing]}))
    tuned = [{**rows[1], "before": {"ratio": 99.0}}]
    assert "99.0" in text(gap_table({"classes": tuned}))


@pytest.mark.parametrize("tuned", [False, True])
def test_a_finished_run_has_the_same_verdicts_as_its_table(tmp_path: Path, tuned: bool) -> None:
    classes = ("frog", "ship", "truck", "bird", "cat")
    run = make_run(tmp_path / "run", classes=classes, per_class=4, tuned=tuned)
    add_findings(run)
    gap, state = run.read_json("gap.json"), run.read_json("state.json")
    gap["classes"][3] |= {"closed": True, "ratio": 0.5}
    run.write_json("gap.json", gap)
    shown = ("gap", "ratio", "floor_p95", "closed", "confirmed")
    kind = {"kind": "tune" if tuned else "audit"}
    classes_so_far = {row["name"]: {key: row[key] for key in shown} for row in gap["classes"]}
    run.write_json("state.json", state | kind | {"classes": classes_so_far})
    status = read_status(run.path)
    words = {row.name: row.verdict for row in status.classes}
    assert words["ship"] == "open, below its floor"
    assert words["truck"] == "open"
    assert words["cat"] == "cannot be told"
    assert words["bird"] == ("confirmed" if tuned else "no gap")
    table, page = text(gap_table(gap)).splitlines(), text(render_status(status)).splitlines()
    for name, word in words.items():
        for lines in (table, page):
            line = next(line for line in lines if line.startswith(name))
            assert line.rstrip().endswith(f"  {word}")


def test_a_verdict_is_told_once_there_is_one(run: RunDir) -> None:
    rows = {"new": {"gap": 0.1, "ratio": 3.0}, "few": {"closed": None, "confirmed": False}}
    run.write_json("state.json", {"stage": "confirm", "kind": "tune", "classes": rows})
    words = {row.name: row.verdict for row in read_status(run.path).classes}
    assert words == {"new": "", "few": "too few to tell"}
    run.write_json("state.json", {"stage": "report", "kind": "audit", "classes": {
        "cat": {"ratio": 0.4, "closed": True}}})  # fmt: skip
    assert read_status(run.path).classes[0].verdict == "no gap"


def test_a_status_waits_for_no_numbers_package(run: RunDir) -> None:
    code = (
        "import sys; from gapclose.loop.report.status import read_status\n"
        f"read_status({str(run.path)!r})\n"
        "print([name for name in ('numpy', 'scipy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
