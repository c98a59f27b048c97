"""Which reporter a process has: a live table on a terminal, else plain lines; or JSON lines."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from gapclose.loop.progress.json_lines import json_lines
from gapclose.loop.progress.line_reporter import LineReporter
from gapclose.loop.progress.live_table import LiveTable
from gapclose.loop.progress.plain_lines import plain_lines

__all__ = ["JSON_SECONDS", "PLAIN_SECONDS", "make_reporter", "open_reporter"]

PLAIN_SECONDS = 5.0  # between two lines of how far a task is
JSON_SECONDS = 1.0


@contextlib.contextmanager
def open_reporter(*, as_json: bool = False) -> Iterator[LineReporter | LiveTable]:
    """Open the reporter of this process.

    Args:
        as_json: JSON lines, whatever the streams are. What else writes to standard output within,
            a program that a generator starts included, goes to standard error.
    """
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_kept_stdout()) if as_json else sys.stdout
        reporter = make_reporter(as_json=as_json, stream=stream)
        with reporter:
            yield reporter


def make_reporter(
    *, as_json: bool = False, stream: TextIO | None = None
) -> LineReporter | LiveTable:
    """Make the reporter for this process.

    Lines go to standard output, so that standard error has nothing but the line of an error; the
    live table goes to standard error, so that what is piped is whole.

    Args:
        as_json: JSON lines, whatever the streams are.
        stream: Gets lines; standard output by default.
    """
    stream = sys.stdout if stream is None else stream
    if as_json:
        return LineReporter(json_lines, stream=stream, every=JSON_SECONDS)
    if sys.stdout.isatty() and sys.stderr.isatty():
        return LiveTable()
    return LineReporter(plain_lines, stream=_any_text(stream), every=PLAIN_SECONDS)


@contextlib.contextmanager
def _kept_stdout() -> Iterator[TextIO]:
    """Keep standard output for whoever opens this; all others get standard error in its place."""
    real = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        if not _is_descriptor(real, 1):  # a test's or a notebook's
            yield real
            return
        real.flush()
        own = os.dup(1)
        os.dup2(2, 1)
        try:
            with os.fdopen(os.dup(own), "w", encoding="utf-8") as stream:
                yield stream
        finally:
            os.dup2(own, 1)
            os.close(own)


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):  # io.UnsupportedOperation is both
        return False


def _any_text(stream: TextIO) -> TextIO:
    """Have the stream write a class's name also where its encoding has no letter for it."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream
