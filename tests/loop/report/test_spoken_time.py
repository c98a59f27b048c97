from __future__ import annotations

import time

import pytest

from gapclose.loop.report.spoken_time import clock_time, countdown, spoken_seconds


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (59.4, "59s"), (60, "1m 00s"), (3599, "59m 59s"), (27000, "7h 30m"), (-3, "0s")],
)
def test_spoken_seconds(seconds: float, words: str) -> None:
    assert spoken_seconds(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "digits"),
    [(-3, "0:00"), (41.2, "0:41"), (59.6, "1:00"), (303, "5:03"), (25920, "7:12:00")],
)
def test_countdown(seconds: float, digits: str) -> None:
    assert countdown(seconds) == digits


def test_clock_time_is_that_of_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert clock_time(19 * 3600 + 2 * 60 + 59.9) == "19:02"
    monkeypatch.undo()
    time.tzset()
