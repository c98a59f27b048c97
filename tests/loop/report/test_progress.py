from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from gapclose.loop.report.progress import (
    JsonReporter,
    TerminalReporter,
    make_reporter,
    spoken_seconds,
)
from gapclose.loop.run.reporter import Reporter, SilentReporter


def test_off_a_terminal_each_event_is_one_json_line() -> None:
    stream = io.StringIO()
    with JsonReporter(stream) as reporter:
        reporter.event("trial", cls="frog", gap=np.float32(0.5), ratio=float("nan"))
        reporter.event("done", message="two\nlines")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["cls"], first["gap"]) == ("trial", "frog", 0.5)
    assert first["ratio"] is None
    assert second["message"] == "two\nlines"


def test_a_log_gets_progress_once_a_second_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 100.0, 0.25))
    monkeypatch.setattr("gapclose.loop.report.progress.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    reporter = JsonReporter(stream)
    for done in range(1, 12):
        reporter.event("progress", what="exported", done=done, total=11)
    told = [json.loads(line)["done"] for line in stream.getvalue().splitlines()]
    assert told == [1, 5, 9, 11]


def test_the_live_table_shows_classes_pace_and_time_left() -> None:
    console = Console(width=100, force_terminal=True, file=io.StringIO(), record=True)
    with TerminalReporter(console) as reporter:
        reporter.event("stage", name="tune")
        reporter.event("budget", seconds_used=10.0, budget_seconds=310.0)
        reporter.event("trial", cls="frog", number=0, gap=0.5, images=8)
        reporter.event("trial", cls="frog", number=1, gap=0.25, ratio=12.0, images=16)
        reporter.event("class", cls="ship", closed=True)
        reporter.event("progress", what="embedded", done=3, total=9)
        reporter.event("warning", message="[b]odd[/b] class")
        console.print(reporter._draw())
    page = console.export_text()
    frog = next(line for line in page.splitlines() if line.startswith("frog"))
    assert frog.split() == ["frog", "0.2500", "12.0", "2", "16"]
    for words in ("closed", "images/s", "left", "embedded 3 of 9", "warning: [b]odd[/b] class"):
        assert words in page


def test_captured_output_is_no_terminal() -> None:
    assert isinstance(make_reporter(), JsonReporter)
    quiet = make_reporter(quiet=True)
    assert isinstance(quiet, SilentReporter)
    quiet.event("anything", x=object())
    assert isinstance(quiet, Reporter)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (59.4, "59s"), (60, "1m 00s"), (3599, "59m 59s"), (27000, "7h 30m"), (-3, "0s")],
)
def test_spoken_seconds(seconds: float, words: str) -> None:
    assert spoken_seconds(seconds) == words
