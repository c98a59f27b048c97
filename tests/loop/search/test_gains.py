"""Gains: trials are counted from the last one after which the gap was clearly smaller."""

from __future__ import annotations

from gapclose.loop.search.gains import GAIN, Gains


def test_only_a_clear_fall_is_a_gain() -> None:
    gains = Gains(floor=1.0)
    told = []
    for expected in (5.0, 5.0, 4.95, 4.89, 4.80, 6.0, 1.0):
        gains.note(expected)
        told.append((gains.since, gains.best))
    assert told == [
        (0, 5.0), (1, 5.0), (2, 5.0), (0, 4.89), (1, 4.89), (2, 4.89), (0, 1.0)
    ]  # fmt: skip
    assert gains.evidence == 7
    assert 5.0 - 4.89 > GAIN * gains.floor > 4.89 - 4.80
