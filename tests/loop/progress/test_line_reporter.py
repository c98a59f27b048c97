"""When a log gets a line: the clock is the test's own."""

from __future__ import annotations

import io
import json
import threading
import time
from dataclasses import dataclass

import pytest
from histories import every_kind, every_notice, opened, proposed, run_state, tried

from gapclose.loop.progress.json_lines import json_lines
from gapclose.loop.progress.line_reporter import LineReporter, Lines
from gapclose.loop.progress.plain_lines import plain_lines
from gapclose.loop.progress.under_way import Reported
from gapclose.loop.run.events import read_event
from gapclose.loop.run.notices import Notice, StillWorking, Task, TaskStarted, read_notice
from gapclose.loop.run.reporter import Reporter

STATE = run_state({})
EMBEDDING = TaskStarted(task=Task.EMBEDDING, side="real")
SEVEN = 19 * 3600 + 120.0  # 19:02, where the time is UTC


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@dataclass
class Log:
    """A reporter that writes here, and its clock."""

    lines: Lines = plain_lines
    every: float = 5.0
    now: float = 0.0

    def __post_init__(self) -> None:
        self.stream = io.StringIO()
        self.reporter = LineReporter(
            self.lines,
            stream=self.stream,
            every=self.every,
            now=lambda: self.now,
            wall=lambda: SEVEN + self.now,
        )

    def tell(self, notice: Notice, *, at: float) -> None:
        self.now = at
        self.reporter.tell(notice)

    def quiet_until(self, at: float) -> None:
        """What the reporter's own thread does meanwhile."""
        while self.now < at:
            self.now += 1.0
            self.reporter.beat()

    @property
    def said(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def test_plain_lines_have_the_time_of_day() -> None:
    log = Log()
    assert isinstance(log.reporter, Reporter)
    log.tell(EMBEDDING, at=0.0)
    for done in range(100, 5_001, 100):  # in 68 seconds
        log.tell(EMBEDDING.advanced(done, 5_000), at=68.0 * done / 5_000)
    assert log.said[0] == "19:02 embedding real photos"
    assert log.said[6] == "19:02 embedding real photos: 2,400 of 5,000, 0:35 left"
    assert log.said[-1] == "19:03 embedding real photos: 5,000 of 5,000 in 1:08"
    assert 12 <= len(log.said) <= 15  # of 50 notices: one in five seconds


def test_progress_is_said_every_second_and_at_its_end_in_json() -> None:
    log = Log(json_lines, every=1.0)
    for number in range(1, 12):
        log.tell(TaskStarted(task=Task.EXPORTING).advanced(number, 11), at=0.25 * number)
    rows = [json.loads(line) for line in log.said]
    assert [row["done"] for row in rows] == [1, 5, 9, 11]
    assert rows[1]["left"] == pytest.approx(1.5)
    assert rows[0]["left"] is None  # what was there before says nothing of the rate


def test_what_takes_no_time_is_said_once() -> None:
    log = Log()
    log.tell(EMBEDDING, at=0.0)
    log.tell(EMBEDDING.advanced(80, 80), at=0.2)
    assert log.said == ["19:02 embedding real photos"]


def test_a_count_that_was_told_is_told_to_its_end_however_soon_that_comes() -> None:
    log, exporting = Log(), TaskStarted(task=Task.EXPORTING)
    log.tell(exporting, at=0.0)
    log.tell(TaskStarted(task=Task.LOADING, message="loading the pond"), at=0.1)
    log.tell(exporting.advanced(179, 200), at=1.0)
    log.tell(exporting.advanced(190, 200), at=1.1)
    log.tell(exporting.advanced(200, 200), at=1.2)
    assert log.said[2:] == [
        "19:02 exporting: 179 of 200",
        "19:02 exporting: 200 of 200 in 0:00",
    ]


def test_a_silence_of_20_seconds_is_told_twice() -> None:
    log = Log()
    log.tell(TaskStarted(task=Task.LOADING, message="loading the encoder pond"), at=0.0)
    log.quiet_until(20.0)
    assert log.said == [
        "19:02 loading the encoder pond",
        "19:02 still loading the encoder pond, 0:08 so far",
        "19:02 still loading the encoder pond, 0:16 so far",
    ]


def test_a_stream_that_breaks_silences_the_reporter_and_stops_no_work() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    reporter = LineReporter(plain_lines, stream=Broken(), every=5.0)
    with reporter:
        for _ in range(3):
            reporter.tell(EMBEDDING)
            reporter.follow(tried("frog", 2), STATE)


def test_a_trial_that_takes_long_is_named_though_its_proposal_says_nothing() -> None:
    log = Log()
    log.reporter.follow(tried("frog", 2), STATE)
    log.now = 4.0
    log.reporter.follow(proposed("frog", 3), STATE)
    log.quiet_until(12.0)
    assert log.said[1:] == ["19:02 still at frog, trial 3, 0:04 so far"]
    log.now = 13.0
    log.reporter.follow(opened("frog", photos=("a", "b")), STATE)
    log.quiet_until(21.0)
    assert log.said[-1] == "19:02 still confirming frog on unseen photos, 0:08 so far"


def test_a_trial_that_is_run_as_soon_as_it_is_proposed_is_said_once() -> None:
    for lines, count in ((plain_lines, 1), (json_lines, 2)):
        log = Log(lines=lines)
        for number in (3, 4):
            log.reporter.follow(proposed("frog", number), STATE)
            log.tell(TaskStarted(task=Task.TRIAL, cls="frog", number=number), at=1.0)
            log.reporter.follow(tried("frog", number), STATE)
        assert len(log.said) == 2 * count
        # One that another session proposed, or that waited for its turn, is named.
        log.tell(TaskStarted(task=Task.TRIAL, cls="frog", number=5), at=2.0)
        assert len(log.said) == 2 * count + 1


def test_progress_that_is_not_worth_a_line_does_not_count_as_one() -> None:
    log = Log(every=60.0)
    log.tell(EMBEDDING, at=0.0)
    for second in range(1, 10):
        log.tell(EMBEDDING.advanced(second, 100), at=float(second))
    log.quiet_until(10.0)
    assert log.said[1:] == ["19:02 still embedding real photos: 9 of 100, 0:10 so far"]


def test_before_anything_is_told_silence_is_nothing_to_tell() -> None:
    log = Log()
    log.quiet_until(30.0)
    assert log.said == []


def test_in_json_silence_is_a_notice() -> None:
    log = Log(json_lines)
    log.tell(EMBEDDING, at=0.0)
    log.quiet_until(8.0)
    assert read_notice(log.said[-1]) == StillWorking(task=Task.EMBEDDING, side="real", seconds=8.0)


@pytest.mark.parametrize("told", [*every_kind(), *every_notice()], ids=lambda told: told.kind)
def test_a_json_line_is_the_events_own_json_and_its_time(told: Reported) -> None:
    (line,) = json_lines(told, None, 12.3456)
    assert line.isascii()
    row = json.loads(line)
    assert (row.pop("time"), [*json.loads(line)][:2]) == (12.346, ["time", "kind"])
    assert row == json.loads(told.model_dump_json())
    read = read_notice if told in every_notice() else read_event
    assert read(line) == told


def reporters() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "reporter"]


def test_the_thread_is_there_while_it_is_open_and_gone_after() -> None:
    log = Log()
    with log.reporter:
        assert reporters() == ["reporter"]
    assert reporters() == []
    with pytest.raises(KeyboardInterrupt), log.reporter:
        raise KeyboardInterrupt
    assert reporters() == []


def test_the_thread_says_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    log, heard = Log(), threading.Event()
    log.tell(EMBEDDING, at=0.0)
    log.now = 10.0
    write = log.stream.write

    def noting(text: str) -> int:
        heard.set()
        return write(text)

    monkeypatch.setattr(log.stream, "write", noting)
    with log.reporter:
        assert heard.wait(20.0)
    assert log.said[1] == "19:02 still embedding real photos, 0:10 so far"


def test_a_reader_who_is_gone_is_told_nothing_more() -> None:
    log = Log()
    log.tell(EMBEDDING, at=0.0)
    log.now = 10.0
    log.stream.close()
    with log.reporter:  # an error in a thread fails the test
        time.sleep(1.2)
        log.reporter.tell(EMBEDDING)
    assert reporters() == []
