from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from histories import (
    AWKWARD,
    evaluated,
    every_kind,
    failed,
    mixture,
    opened,
    proposed,
    tried,
    verdict,
)
from pond_config import pond_config

from gapclose.loop.config.identity import measured_as
from gapclose.loop.errors import RunDamagedError, UnwritableError
from gapclose.loop.run.events import (
    ConfirmationFailed,
    Event,
    FoldEvaluated,
    FoldOpened,
    MixturesGiven,
    RunStarted,
    TrialFailed,
    TrialFinished,
    TrialProposed,
    VerdictsReached,
    read_event,
)
from gapclose.loop.run.files import append_line, write_text
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import (
    Head,
    Journal,
    fold_journal,
    fold_run,
    read_heads,
    read_journal,
)
from gapclose.loop.run.shapes import mixture_key
from gapclose.loop.run.state import fold


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def written(path: Path, *events: Event) -> list[Event]:
    journal = Journal(path)
    return [journal.append(event, used=float(n)) for n, event in enumerate(events)]


def test_what_is_appended_is_what_a_reader_gets_event_for_event(path: Path) -> None:
    appended = written(path, *every_kind())
    read = [*read_journal(path)]
    assert read == appended
    assert [event.kind for event in read] == [event.kind for event in every_kind()]
    assert path.read_bytes().count(b"\n") == len(read)
    timeless = {"at", "used"}
    for before, after in zip(every_kind(), read, strict=True):
        assert after.model_dump_json(exclude=timeless) == before.model_dump_json(exclude=timeless)


def test_floats_are_kept_to_the_bit(path: Path) -> None:
    numbers = {f"ship{n}": number for n, number in enumerate(AWKWARD)}
    journal = Journal(path)
    for number in AWKWARD:
        event = journal.append(tried(gap=number), used=number)
        assert isinstance(event, TrialFinished)
        assert (event.gap, event.used) == (number, number)
    assert [event.used.hex() for event in read_journal(path)] == [n.hex() for n in AWKWARD]
    event = journal.append(proposed(params=numbers), used=0.0)
    assert isinstance(event, TrialProposed)
    assert {k: v.hex() for k, v in event.params.items()} == {
        k: v.hex() for k, v in numbers.items()
    }


def test_an_appended_event_comes_back_as_it_is_read_and_not_as_it_was_given(path: Path) -> None:
    """Whoever goes on from it goes on as whoever resumes: what JSON cannot say is lost at once."""
    given = tried(gap=float("nan"))
    event = Journal(path).append(given, used=1.0)
    assert isinstance(event, TrialFinished)
    assert event.gap is None
    assert [event] == [*read_journal(path)]
    assert given.used == 0.0  # it is as it was


def test_an_error_whose_message_is_no_text_ends_no_run(path: Path) -> None:
    event = Journal(path).append(failed(error="GenerationError: half of \ud83d"), used=1.0)
    assert isinstance(event, TrialFailed)
    assert event.error == "GenerationError: half of \\ud83d"
    assert [event] == [*read_journal(path)]


def test_an_event_has_its_time_and_what_was_used_when_it_was_appended(path: Path) -> None:
    before = time.time()
    event = Journal(path).append(RunStarted(run="a", at=3.0, used=9.0), used=12.5)
    assert before - 0.001 <= event.at <= time.time() + 0.001
    assert event.used == 12.5


def test_without_a_file_there_are_no_events_and_none_is_made(path: Path) -> None:
    assert [*read_journal(path)] == []
    Journal(path)
    assert not path.exists()


def test_of_a_torn_last_line_nothing_is_read_wherever_it_was_cut(path: Path) -> None:
    first, last = written(path, RunStarted(run="\N{FROG FACE}"), tried(probe=1 / 3))
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert [*read_journal(path)] == [first], end
        assert path.read_bytes() == whole[:end]  # a reader repairs nothing
    path.write_bytes(whole)
    assert [*read_journal(path)] == [first, last]


def test_a_writer_cuts_a_torn_last_line_wherever_it_was_cut(path: Path) -> None:
    first, _ = written(path, RunStarted(run="\N{FROG FACE}"), tried(probe=1 / 3))
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    with patch("os.fsync"):  # a hundred of them take their time
        for end in range(start, len(whole)):
            path.write_bytes(whole[:end])
            journal = Journal(path)
            assert path.read_bytes() == whole[:start], end
            event = journal.append(tried(number=end), used=0.0)
            assert [*read_journal(path)] == [first, event]


def test_a_first_line_that_is_torn_leaves_an_empty_journal(path: Path) -> None:
    path.write_bytes(b'{"kind": "run_st')
    assert [*read_journal(path)] == []
    Journal(path)
    assert path.read_bytes() == b""


def test_a_whole_journal_is_left_as_it_is_by_whoever_opens_it(path: Path) -> None:
    written(path, *every_kind())
    whole = path.read_bytes()
    Journal(path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "damage", [b"{}", b"", b"\xff", b'{"kind": "run_started"}', b'{"kind": "ru']
)
def test_a_damaged_line_in_the_middle_is_named(path: Path, damage: bytes) -> None:
    """Behind it there may be anything: nothing is made of the rest."""
    events = written(path, *every_kind()[:5])
    lines = path.read_bytes().split(b"\n")
    lines[2] = damage
    path.write_bytes(b"\n".join(lines))
    reader = read_journal(path)
    assert [next(reader), next(reader)] == events[:2]
    with pytest.raises(RunDamagedError) as error:
        next(reader)
    assert str(error.value).startswith(f"{path}, line 3: is damaged; restore the file from a copy")
    assert error.value.__cause__ is None  # one line, and no library's story
    with pytest.raises(RunDamagedError):
        fold(read_journal(path))
    kept = path.read_bytes()
    Journal(path)
    assert path.read_bytes() == kept


@pytest.mark.parametrize(
    "missing", [TrialProposed, FoldOpened, FoldEvaluated], ids=lambda kind: kind.__name__
)
def test_a_line_that_is_missing_is_missed(path: Path, missing: type[Event]) -> None:
    told: list[Event] = [RunStarted(run="a"), proposed(number=0), tried(number=0)]
    told += [opened(), evaluated()]
    told.append(VerdictsReached(verdicts={"frog": verdict()}))
    written(path, *told)
    assert fold_journal(path) == fold(read_journal(path))
    number = [type(event) for event in told].index(missing) + 1
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: number - 1] + lines[number:]))
    with pytest.raises(
        RunDamagedError, match=rf"line {number}: does not follow from the lines before"
    ):
        fold_journal(path)


def test_a_result_is_of_the_trial_that_was_proposed(path: Path) -> None:
    written(path, proposed(number=0), tried(number=0), tried(number=0))
    with pytest.raises(RunDamagedError, match=r"line 3: does not follow from the lines before it"):
        fold_journal(path)


@pytest.mark.parametrize(
    "last",
    [
        proposed(number=2),
        proposed(number=0),
        tried(number=1),
        failed(number=1),
        opened(fold=2),
        evaluated(fold=1),
        ConfirmationFailed(cls="frog", fold=0, error="E: no"),
        VerdictsReached(verdicts={"frog": verdict(fold=1)}),
        VerdictsReached(verdicts={"ship": verdict()}),
        MixturesGiven(source="other", mixtures={}),
    ],
    ids=lambda event: f"{event.kind} {getattr(event, 'number', getattr(event, 'fold', ''))}",
)
def test_a_line_that_does_not_follow_is_told(path: Path, last: Event) -> None:
    """Of frog trial 0 has ended and fold 0 has judged it; ship is new."""
    written(path, proposed(number=0), tried(number=0), opened(), evaluated(), last)
    with pytest.raises(RunDamagedError, match=r"line 5: does not follow from the lines before"):
        fold_journal(path)


def test_mixtures_are_given_once_and_before_any_trial(path: Path) -> None:
    given = MixturesGiven(source="other", mixtures={"frog": ({"weight": 1.0, "prompt": "a"},)})
    written(path, RunStarted(run="a"), given, proposed(number=0))
    assert fold_journal(path).given is not None
    path.unlink()
    written(path, RunStarted(run="a"), given, given)
    with pytest.raises(RunDamagedError, match="line 3: does not follow"):
        fold_journal(path)


def test_results_come_in_the_order_proposed(path: Path) -> None:
    written(path, *(proposed(number=n) for n in range(2)), tried(number=1))
    with pytest.raises(RunDamagedError, match="line 3: does not follow"):
        fold_journal(path)


def test_what_could_not_be_read_is_not_appended(path: Path) -> None:
    """A float that a reader needs cannot be NaN: JSON has no word for it."""
    (event,) = written(path, tried())
    with pytest.raises(ValueError, match="seconds"):
        Journal(path).append(tried(seconds=float("nan")), used=1.0)
    assert [*read_journal(path)] == [event]


@pytest.mark.parametrize("used", ["null", "x104", "1-2"])
def test_a_time_that_is_no_number_is_damage(path: Path, used: str) -> None:
    path.write_text(f'{{"at":1.0,"used":{used},"kind":"run_started","run":"a"}}\n')
    with pytest.raises(RunDamagedError, match="line 1: is damaged"):
        [*read_heads(path)]


def test_a_word_of_a_newer_version_is_told_from_damage(path: Path) -> None:
    written(path, proposed())
    path.write_bytes(path.read_bytes().replace(b'"stage":"joint"', b'"stage":"polish"'))
    with pytest.raises(RunDamagedError, match="tells of 'polish', which this gapclose does not"):
        [*read_journal(path)]


def test_a_fork_of_the_process_writes_nothing(path: Path) -> None:
    """A generator may fork and forget to end the child, which goes on as if it were the run."""
    journal = Journal(path)
    child = os.fork()
    if child == 0:
        journal.append(proposed(), used=1.0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert [*read_journal(path)] == []


def test_nothing_is_written_through_a_link(path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "thesis.txt"
    outside.write_text("a line\nno end")
    path.symlink_to(outside)
    for write in (Journal, lambda path: append_line(path, b"{}")):
        with pytest.raises(RunDamagedError, match="is a link"):
            write(path)
    with pytest.raises(RunDamagedError, match="is a link"):
        [*read_journal(path)]
    assert outside.read_text() == "a line\nno end"


@pytest.mark.parametrize("read", [read_journal, read_heads])
def test_an_event_of_a_newer_version_is_told_from_damage(
    path: Path, read: Callable[[Path], Iterator[Any]]
) -> None:
    written(path, RunStarted(run="a"))
    with path.open("ab") as file:
        file.write(b'{"at":1.0,"used":2.0,"kind":"image_captioned","cls":"frog"}\n')
    with pytest.raises(RunDamagedError) as error:
        [*read(path)]
    assert str(error.value) == (
        f"{path}, line 2: tells of 'image_captioned', which this gapclose does not know; go on "
        "with the newer one"
    )


def test_what_a_newer_version_adds_to_a_line_is_ignored(path: Path) -> None:
    event, *_ = written(path, RunStarted(run="a"))
    line = path.read_bytes()
    path.write_bytes(line.replace(b"{", b'{"seed": {"of": [1, 2]}, ', 1))
    assert [*read_journal(path)] == [event]


def test_what_cannot_be_written_is_told_and_cut_by_the_next_writer(path: Path) -> None:
    first, *_ = written(path, RunStarted(run="a"))
    whole = path.read_bytes()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with patch("os.fsync", side_effect=full), pytest.raises(UnwritableError, match=str(path)):
        Journal(path).append(tried(), used=0.0)
    # As a full disk leaves it: a part of the line.
    path.write_bytes(whole + path.read_bytes()[len(whole) : -9])
    Journal(path)
    assert [*read_journal(path)] == [first]
    assert path.read_bytes() == whole


def test_a_line_is_on_the_disk_when_append_returns(path: Path) -> None:
    synced: list[bytes] = []

    def fsync(handle: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112
            synced.append(path.read_bytes())

    with patch("os.fsync", fsync):
        event = Journal(path).append(RunStarted(run="a"), used=0.0)
    assert [read_event(line) for line in synced] == [event]


def test_the_heads_are_told_without_reading_the_lines(path: Path) -> None:
    assert [*read_heads(path)] == []
    events = written(path, *every_kind())
    with patch("gapclose.loop.run.journal.read_event", side_effect=AssertionError):
        heads = [*read_heads(path)]
    assert [(head.kind, head.used) for head in heads] == [(type(e), e.used) for e in events]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])  # torn
    assert [*read_heads(path)] == heads[:-1]


def test_a_head_is_of_its_event_whatever_words_stand_in_it(path: Path) -> None:
    kind, line = '{"at":0.0,"used":9.0,"kind":"run_started"', '"kind":"trial_finished"'
    written(path, proposed(params={"kind": "trial_finished", line: kind}), failed(error=kind))
    assert [head.kind for head in read_heads(path)] == [TrialProposed, TrialFailed]


def test_a_line_that_begins_otherwise_is_read_whole(path: Path) -> None:
    event, *_ = written(path, RunStarted(run="a"))
    path.write_bytes(path.read_bytes().replace(b"{", b'{"seed": {"of": [1, 2]}, ', 1))
    assert [*read_heads(path)] == [Head(RunStarted, event.used)]
    path.write_bytes(b'{"used":0.0,"kind":"run_started"}\n')
    with pytest.raises(RunDamagedError, match="line 1: is damaged"):
        [*read_heads(path)]


def test_a_journal_of_another_config_is_told(run: RunDir) -> None:
    Journal(run.journal_path).append(
        RunStarted(run="a", config=measured_as(run.config())), used=0.0
    )
    assert fold_run(run).run == "a"
    moved = pond_config(generator={"kind": "diffusers", "model": "moved/elsewhere"})
    write_text(run.config_path, moved.to_yaml())
    assert fold_run(run).run == "a"  # a model may lie elsewhere by now
    write_text(run.config_path, pond_config(tune={"seed": 7}).to_yaml())
    with pytest.raises(RunDamagedError, match="is of another config than config"):
        fold_run(run)


def test_a_verdict_of_another_mixture_does_not_follow(path: Path) -> None:
    own = verdict(mixture=mixture_key(mixture("mixed")))
    other = verdict(mixture=mixture_key(mixture("other")))
    for said, ok in ((own, True), (other, False)):
        path.unlink(missing_ok=True)
        written(path, opened(), evaluated(), VerdictsReached(verdicts={"frog": said}))
        if ok:
            assert fold_journal(path).of("frog").judged is not None
        else:
            with pytest.raises(RunDamagedError, match="line 3: does not follow"):
                fold_journal(path)
