from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from gapclose.loop.progress.line_reporter import LineReporter
from gapclose.loop.progress.live_table import LiveTable
from gapclose.loop.progress.reporters import make_reporter
from gapclose.loop.run.notices import ImagesTooFew, WarningRaised
from gapclose.loop.run.reporter import Reporter, SilentReporter


@pytest.mark.parametrize(
    ("out", "err", "kind"),
    [
        (True, True, LiveTable),
        (True, False, LineReporter),
        (False, True, LineReporter),
        (False, False, LineReporter),
    ],
)
def test_it_is_live_where_both_streams_are_terminals(
    out: bool, err: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: out)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: err)
    assert type(make_reporter()) is kind
    assert type(make_reporter(as_json=True)) is LineReporter


def test_lines_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    make_reporter().tell(ImagesTooFew(least=100))
    make_reporter(as_json=True).tell(ImagesTooFew(least=100))
    told = capsys.readouterr()
    plain, row = told.out.splitlines()
    assert plain.endswith(" warning: confirm.images: under 100 images call no gap closed")
    assert json.loads(row)["kind"] == "images_too_few"
    assert told.err == ""


def test_a_name_that_a_pipe_has_no_letters_for_ends_no_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, encoding="ascii"))
    for as_json in (False, True):
        make_reporter(as_json=as_json).tell(WarningRaised(message="\N{FROG FACE}"))
    plain, row = pipe.getvalue().splitlines()
    assert plain.endswith(b" warning: \\U0001f438")
    assert json.loads(row)["message"] == "\N{FROG FACE}"


def test_the_silent_one_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with SilentReporter() as quiet:
        assert isinstance(quiet, Reporter)
        quiet.tell(ImagesTooFew(least=100))
    assert capsys.readouterr() == ("", "")


def test_json_lines_are_alone_on_standard_output_whoever_writes_to_it() -> None:
    script = """
import os, sys
from gapclose.loop.progress.reporters import open_reporter
from gapclose.loop.run.notices import WarningRaised
with open_reporter(as_json=True) as reporter:
    print("a library")
    reporter.tell(WarningRaised(message="\N{FROG FACE}"))
    os.system("echo a program")
    os.write(1, b"native code\\n")
print("afterwards")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    line, last = done.stdout.splitlines()
    assert json.loads(line)["message"] == "\N{FROG FACE}"
    assert last == "afterwards"
    assert {*done.stderr.splitlines()} == {"a library", "a program", "native code"}
