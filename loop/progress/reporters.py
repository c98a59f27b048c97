"""Which reporter a process has: a live table on a terminal, else plain lines; or JSON lines."""

from __future__ import annotations

import io
import sys
from typing import TextIO

from gapclose.loop.progress.json_lines import json_lines
from gapclose.loop.progress.line_reporter import LineReporter
from gapclose.loop.progress.live_table import LiveTable
from gapclose.loop.progress.plain_lines import plain_lines

__all__ = ["JSON_SECONDS", "PLAIN_SECONDS", "make_reporter"]

PLAIN_SECONDS = 5.0  # between two lines of how far a task is
JSON_SECONDS = 1.0


def make_reporter(*, as_json: bool = False) -> LineReporter | LiveTable:
    """Make the reporter for this process.

    Lines go to standard output, so that standard error has nothing but the line of an error; the
    live table goes to standard error, so that what is piped is whole.

    Args:
        as_json: JSON lines, whatever the streams are.
    """
    if as_json:
        return LineReporter(json_lines, stream=sys.stdout, every=JSON_SECONDS)
    if sys.stdout.isatty() and sys.stderr.isatty():
        return LiveTable()
    return LineReporter(plain_lines, stream=_any_text(sys.stdout), every=PLAIN_SECONDS)


def _any_text(stream: TextIO) -> TextIO:
    """Have the stream write a class's name also where its encoding has no letter for it."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream
