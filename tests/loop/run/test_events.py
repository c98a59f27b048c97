from __future__ import annotations

import json
import math
from enum import StrEnum
from typing import Any, get_args

import pytest
from histories import AWKWARD, as_read, every_kind, tried
from pydantic import BaseModel, ValidationError

from gapclose.loop.report.text import stopped_text
from gapclose.loop.run.events import Event, Progress, Stopped, StopReason, read_event

KINDS = get_args(get_args(Event)[0])


def test_the_examples_are_of_every_kind() -> None:
    assert {type(event) for event in every_kind()} == {*KINDS}


@pytest.mark.parametrize("event", every_kind(), ids=lambda event: event.kind)
def test_an_event_is_read_as_it_was_written(event: Event) -> None:
    read = as_read(event)
    assert type(read) is type(event)
    assert read == event
    # Equal numbers may yet be other bits: -0.0 is 0.0.
    assert read.model_dump_json() == event.model_dump_json()
    assert "\n" not in event.model_dump_json()


@pytest.mark.parametrize("number", AWKWARD)
def test_floats_are_kept_to_the_bit(number: float) -> None:
    read = as_read(tried(gap=number, progress=Progress(gap=number)))
    for found in (read.gap, read.progress.gap):  # type: ignore[union-attr]
        assert found is not None
        assert (found, math.copysign(1.0, found)) == (number, math.copysign(1.0, number))


def test_what_is_not_finite_is_written_as_null_for_json_has_no_word_for_it() -> None:
    line = tried(gap=math.nan, value=math.inf).model_dump_json()
    assert (json.loads(line)["gap"], json.loads(line)["value"]) == (None, None)


def widened(value: Any) -> Any:
    """As JSON, every model in it with a field more."""
    if isinstance(value, BaseModel):
        known = {name: widened(getattr(value, name)) for name in type(value).model_fields}
        return known | {"added_later": {"of": "anything"}}
    if isinstance(value, dict):
        return {key: widened(below) for key, below in value.items()}
    return [*map(widened, value)] if isinstance(value, tuple | list) else value


@pytest.mark.parametrize("event", every_kind(), ids=lambda event: event.kind)
def test_what_a_newer_version_adds_is_ignored_at_every_depth(event: Event) -> None:
    assert read_event(json.dumps(widened(event))) == event


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"null",
        b"[1, 2]",
        b'"run_started"',
        b'{"kind": "run_ended"}',
        b'{"kind": "run_started"}',  # of which run?
        b'{"kind": "run_started", "run": 3}',
        b'{"kind": "run_started", "run": "a"} {}',
        b'{"kind": "confirmation_failed", "cls": "frog", "fold": "first", "error": ""}',
        b'{"kind": "run_finished", "stopped": {"frog": {"reason": "bored"}}}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's, which is one
        read_event(line)


def test_events_are_facts_and_cannot_be_changed() -> None:
    for event in every_kind():
        with pytest.raises(ValidationError):
            event.used = 3.0


def test_every_reason_has_words_and_no_two_the_same() -> None:
    assert issubclass(StopReason, StrEnum)
    said = [stopped_text(Stopped(reason=reason, detail="E: no frog")) for reason in StopReason]
    assert len({*said}) == len(said)
    assert not any("{" in text for text in said)
    assert stopped_text(Stopped(reason=StopReason.FAILURES, detail="E: no frog")).endswith(
        "of which the last: E: no frog"
    )
