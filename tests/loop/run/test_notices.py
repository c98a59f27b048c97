from __future__ import annotations

import json
from typing import get_args

import pytest
from histories import every_notice
from pydantic import ValidationError

from gapclose.loop.run.events import Event, read_event
from gapclose.loop.run.notices import Notice, Task, TaskStarted, WarningRaised, read_notice

KINDS = get_args(get_args(Notice)[0])


def kinds(union: object) -> list[str]:
    return [model.model_fields["kind"].default for model in get_args(get_args(union)[0])]


def test_the_examples_are_of_every_kind() -> None:
    assert {type(notice) for notice in every_notice()} == {*KINDS}


@pytest.mark.parametrize("notice", every_notice(), ids=lambda notice: notice.kind)
def test_a_notice_is_read_as_it_was_written_and_is_no_event(notice: Notice) -> None:
    line = notice.model_dump_json()
    assert read_notice(line) == notice
    assert type(read_notice(line)) is type(notice)
    with pytest.raises(ValidationError):
        read_event(line)
    with pytest.raises(ValidationError):
        notice.kind = "another"  # type: ignore[assignment]


def test_events_and_notices_are_one_vocabulary() -> None:
    every = kinds(Event) + kinds(Notice)
    assert len({*every}) == len(every)


def test_a_name_that_is_no_utf8_is_told_all_the_same() -> None:
    notice = WarningRaised(message=b"caf\xe9.png".decode("utf-8", "surrogateescape"))
    assert json.loads(notice.model_dump_json())["message"] == "caf\\udce9.png"


def test_how_far_a_task_is_is_of_the_same_task() -> None:
    task = TaskStarted(task=Task.EMBEDDING, side="real", encoder="pond-judge")
    assert task.advanced(3, 9).is_of(task)
    assert (task.advanced(3, 9).done, task.advanced(3, 9).total) == (3, 9)
    assert not task.is_of(TaskStarted(task=Task.EMBEDDING, side="real"))
