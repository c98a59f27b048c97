"""What the values of a config's keys may be."""

from __future__ import annotations

import pytest

from gapclose.loop.config.values import parse_seconds, template_slots


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 28800), ("5m", 300), ("90s", 90), ("1h30m", 5400), ("1.5h", 5400), (60, 60), ("7", 7)],
)
def test_seconds(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "h", "8x", "-5m", 0, -1, True, "1:30", float("inf"), [], 10**400]
)
def test_no_seconds(text: object) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["\u00b2", "\u0664h", "9" * 400 + "h", "\u00bd"])
def test_digits_that_are_no_plain_ones_are_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        parse_seconds(text)


def test_template_slots() -> None:
    assert template_slots("a {b} {class} {b} {{c}}") == ("b", "class")
    assert template_slots("plain") == ()
    for bad in ("{", "{}", "{0}", "{a.b}", "{a[0]}", "{a:3}"):
        with pytest.raises(ValueError, match=r"no template|no slot"):
            template_slots(bad)
