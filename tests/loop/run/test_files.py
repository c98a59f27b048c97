"""Whatever dies or refuses while a file is written, what was there before is whole."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapclose.loop.errors import REMEDIES, RunDamagedError, UnwritableError
from gapclose.loop.run.faults import is_machines_fault
from gapclose.loop.run.files import (
    append_line,
    count_lines,
    cut_torn_line,
    kept,
    plain,
    read_lines,
    remove,
    to_json,
    write_bytes,
    write_text,
)


def refusing(number: int) -> Callable[..., Any]:
    def refuses(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return refuses


def test_a_file_is_replaced_whole_and_synchronised_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new" / "a.json"
    seen: list[tuple[str, bytes | None]] = []

    def note(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            seen.append((what, file.read_bytes() if file.exists() else None))
            return real(*args, **options)

        return noted

    write_bytes(file, b"old")
    monkeypatch.setattr(os, "fsync", note("fsync", os.fsync))
    monkeypatch.setattr(Path, "replace", note("replace", Path.replace))
    write_bytes(file, b"new")
    assert seen == [("fsync", b"old"), ("replace", b"old"), ("fsync", b"new")]
    assert file.read_bytes() == b"new"
    assert list(file.parent.iterdir()) == [file]


def test_what_need_not_be_durable_is_replaced_whole_and_waits_for_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, lines = tmp_path / "new" / "a.json", tmp_path / "new" / "a.jsonl"
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    write_bytes(file, b"old", durable=False)
    before = file.stat().st_ino
    write_text(file, "new", durable=False)
    assert file.read_bytes() == b"new"
    assert file.stat().st_ino != before  # another file: a reader of the old one reads it whole
    for line in (b"one", b"two"):
        append_line(lines, line, durable=False)
    assert lines.read_bytes() == b"one\ntwo\n"
    assert {*file.parent.iterdir()} == {file, lines}
    monkeypatch.setattr(Path, "replace", refusing(errno.ENOSPC))
    with pytest.raises(UnwritableError, match=r"a\.json: cannot be written"):
        write_bytes(file, b"newer", durable=False)
    assert file.read_bytes() == b"new"
    assert {*file.parent.iterdir()} == {file, lines}


@pytest.mark.parametrize("step", ["fdopen", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_write_that_ends_early_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    file = tmp_path / "a.json"
    write_bytes(file, b"old")
    handles: list[int] = []

    def ends(*args: Any) -> Any:
        handles.extend(arg for arg in args[:1] if step == "fdopen")
        raise error

    monkeypatch.setattr(Path if step == "replace" else os, step, ends)
    with pytest.raises(UnwritableError if isinstance(error, OSError) else KeyboardInterrupt):
        write_bytes(file, b"new")
    for handle in handles:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(handle)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_is_as_readable_as_the_user_has_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "\N{FROG FACE}")
        assert os.umask(0o027) == 0o027  # it is as it was
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "a").read_bytes() == "\N{FROG FACE}".encode()


def test_a_line_is_synchronised_and_so_is_the_name_of_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, synced = tmp_path / "a.jsonl", []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    append_line(file, b"one")
    assert synced == [file, tmp_path]
    append_line(file, b"two")
    assert synced == [file, tmp_path, file]
    assert file.read_bytes() == b"one\ntwo\n"


def test_a_line_that_is_refused_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jsonl"
    append_line(file, b"one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refusing(errno.EIO))
        with pytest.raises(UnwritableError, match=r"a\.jsonl: cannot be written") as told:
            append_line(file, b"two")
    assert (told.value.errno, told.value.filename) == (errno.EIO, str(file))


@pytest.mark.parametrize("lines", [[], ["one"], ["one", "", "\N{FROG FACE} three"]])
def test_a_torn_line_is_cut_at_whatever_byte_it_ends(tmp_path: Path, lines: list[str]) -> None:
    file, whole = tmp_path / "a.jsonl", "".join(f"{line}\n" for line in lines).encode()
    torn = '{"é": 1}'.encode()
    for end in range(len(torn) + 1):
        file.write_bytes(whole + torn[:end])
        cut_torn_line(file)
        assert file.read_bytes() == whole, end
    file.write_bytes(whole + torn + b"\n")
    cut_torn_line(file)
    assert file.read_bytes() == whole + torn + b"\n"


def test_of_no_file_nothing_is_cut_and_none_is_made(tmp_path: Path) -> None:
    cut_torn_line(tmp_path / "none")
    remove(tmp_path / "none")
    assert read_lines(tmp_path / "none") == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "some").touch()
    remove(tmp_path / "some")
    assert list(tmp_path.iterdir()) == []


def test_a_whole_file_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.jsonl"
    append_line(file, b"one")
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    cut_torn_line(file)  # a reader's disk may be full


@pytest.mark.parametrize("bad", [b"xx", b"[1]", b"\xff", b""])
def test_a_line_that_is_no_object_is_told_with_its_place(tmp_path: Path, bad: bytes) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"n": 1}\n' + bad + b'\n{"n": 3}\ntorn')
    with pytest.raises(RunDamagedError, match=r"a\.jsonl, line 2: is damaged; restore the file"):
        read_lines(file)
    file.write_bytes(b'{"n": 1}\n{"n": 3}\n' + bad)
    assert read_lines(file) == [{"n": 1}, {"n": 3}]


def test_lines_are_counted_unless_zeros_stand_among_them(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    assert count_lines(file) == 0
    for text, lines in ((b"", 0), (b"torn", 0), (b'{"n": 1}\n', 1), (b'"\\u0000"\n\ntorn', 2)):
        file.write_bytes(text)
        assert count_lines(file) == lines
    for text in (bytes(9), b"1\n" + bytes(9), b"1\n" + bytes(9) + b"\n3\n"):
        file.write_bytes(text)
        assert count_lines(file) is None


def test_what_the_system_refuses_is_an_error_that_names_the_file_and_the_remedy() -> None:
    place = Path("runs/a")
    with pytest.raises(UnwritableError) as told, kept(place):
        raise OSError(errno.ENOSPC, "No space left on device", "elsewhere")
    assert str(told.value) == (
        "runs/a: cannot be written: No space left on device; free some space, then the same "
        "command goes on"
    )
    with pytest.raises(UnwritableError, match=r"; make it writable, then"), kept(place):
        raise OSError(errno.EROFS, "Read-only file system")
    with pytest.raises(UnwritableError, match="cannot be written: no number"), kept(place):
        raise OSError("no number")
    # The innermost knows best which file it was, and what is no file's fault is let through.
    with pytest.raises(UnwritableError, match=r"^inner: "), kept(place), kept(Path("inner")):
        raise OSError(errno.EIO, "Input/output error")
    with pytest.raises(ValueError, match="a recipe"), kept(place):
        raise ValueError("a recipe")
    with kept(place):
        pass


def test_only_a_full_or_failing_disk_is_the_machines_fault() -> None:
    assert all(is_machines_fault(OSError(number, "x")) for number in REMEDIES)
    assert is_machines_fault(UnwritableError(errno.EROFS, "x", "y"))
    assert not is_machines_fault(OSError(errno.ENOENT, "x"))
    assert not is_machines_fault(OSError("no number"))
    assert not is_machines_fault(RuntimeError("CUDA out of memory"))
    assert not is_machines_fault(MemoryError())


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
)


@given(values)
def test_what_json_can_say_is_said_as_it_is(value: Any) -> None:
    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(below) for key, below in value.items()}
        if isinstance(value, list):
            return [finite(below) for below in value]
        return None if isinstance(value, float) and math.isinf(value) else value

    assert plain(value) == finite(value)
    assert to_json(value) == json.dumps(finite(value), ensure_ascii=False)


def test_what_json_cannot_say_becomes_what_it_can() -> None:
    assert plain({1: {2}, "p": Path("a/b"), "n": np.float32("nan"), "x": np.eye(2)}) == {
        "1": [2],
        "p": "a/b",
        "n": None,
        "x": [[1.0, 0.0], [0.0, 1.0]],
    }
    assert to_json({"\N{FROG FACE}": (np.int64(1),)}) == '{"\N{FROG FACE}": [1]}'
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        plain([object()])


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.json"
    write_text(file, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnwritableError, match=r"a\.json: cannot be written: No space left"):
        write_bytes(file, b"new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
