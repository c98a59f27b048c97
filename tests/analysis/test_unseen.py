"""What a line of text may show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapclose.analysis.unseen import UNSEEN, one_line, replaced


@pytest.mark.parametrize(
    "text",
    [
        "a frog",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Farsi, with a joiner
        "\u0915\u094d\u200d\u0937",  # Hindi
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family
        "so\u00adft\u00a0hyphen",
        "\u05d0\u200f!",  # Hebrew, with its mark
    ],
)
def test_what_is_written_in_the_worlds_languages_stays(text: str) -> None:
    assert one_line(text) == text
    assert UNSEEN.search(text) is None


@pytest.mark.parametrize("odd", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2067", "\ud83d"])
def test_what_cannot_be_seen_becomes_a_space(odd: str) -> None:
    assert one_line(f"a{odd}{odd}b") == "a b"
    assert UNSEEN.search(f"a{odd}b") is not None


def test_white_space_is_seen_and_on_one_line_none_the_less() -> None:
    assert UNSEEN.search("a\t\r\n\x0b\x0cb") is None
    assert one_line("a\t\r\nb") == "a b"


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1
    assert one_line(one_line(text)) == one_line(text)
    one_line(text).encode()


def test_in_a_text_of_lines_what_cannot_be_seen_is_replaced() -> None:
    assert replaced("a\x1b[2J\r\nb\rc\td\u202e\n") == "a\ufffd[2J\nb\ufffdc\td\ufffd\n"
