from __future__ import annotations

import json
import os

import pytest
from histories import failed
from pydantic import BaseModel

from gapclose.loop.run.events import (
    ConfirmationFailed,
    Stopped,
    StopReason,
    TrialFailed,
    read_event,
)
from gapclose.loop.run.fact import Fact, as_utf8
from gapclose.loop.run.notices import WarningRaised

HALF = "half of \ud83d, and " + os.fsdecode(b"caf\xe9.png")
ESCAPED = r"half of \ud83d, and caf\udce9.png"


def test_text_that_utf8_can_hold_is_as_it_was() -> None:
    for text in ("", "a frog", "Fr\N{LATIN SMALL LETTER O WITH DIAERESIS} \N{FROG FACE}\n\0"):
        assert as_utf8(text) == text


def test_what_utf8_cannot_hold_is_escaped_once() -> None:
    assert as_utf8(HALF) == ESCAPED
    assert as_utf8(ESCAPED) == ESCAPED


@pytest.mark.parametrize(
    ("fact", "name"),
    [
        (failed(error=HALF), "error"),
        (ConfirmationFailed(cls="frog", fold=0, error=HALF), "error"),
        (Stopped(reason=StopReason.FAILURES, detail=HALF), "detail"),
        (WarningRaised(message=HALF), "message"),
        (WarningRaised(message="", source=HALF), "source"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseModel) else value,
)
def test_text_from_outside_can_be_written(fact: Fact, name: str) -> None:
    assert json.loads(fact.model_dump_json())[name] == ESCAPED
    if isinstance(fact, TrialFailed | ConfirmationFailed):
        assert read_event(fact.model_dump_json()) == fact
