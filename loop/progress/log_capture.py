"""Log capture: warnings and logging, of libraries too, reach the reporter and not the console.

Libraries write to standard error as they please, with handlers of their own. While a run reports,
theirs are set aside, and each line comes through its reporter once, with its source.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from gapclose.loop.run.notices import Task, TaskStarted, WarningRaised
from gapclose.loop.run.reporter import Reporter

__all__ = ["captured_logs"]

_OURS = "gapclose"


@contextmanager
def captured_logs(reporter: Reporter) -> Iterator[None]:
    """Pass on to the reporter what is logged and warned of within."""
    capture = _Capture(reporter)
    ours, factory, show = (
        logging.getLogger(_OURS),
        logging.getLogRecordFactory(),
        warnings.showwarning,
    )
    level = ours.level

    def made(name: str, *args: Any, **options: Any) -> logging.LogRecord:
        # The one moment at which a library surely has set up its own handlers, and has not
        # written by them yet.
        if name:  # makeLogRecord gives none
            capture.set_aside(name)
        return factory(name, *args, **options)

    def shown(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is not None:  # who names a file wants it there
            show(message, category, filename, lineno, file, line)
        else:
            capture.warn(str(message), category.__name__)

    logging.getLogger().addHandler(capture)
    logging.setLogRecordFactory(made)
    warnings.showwarning = shown
    ours.setLevel(logging.INFO)  # where the rooms below say what takes long
    try:
        yield
    finally:
        ours.setLevel(level)
        warnings.showwarning = show
        logging.setLogRecordFactory(factory)
        logging.getLogger().removeHandler(capture)
        capture.restore()


class _Capture(logging.Handler):
    """The handler of all logging, in place of those that write to the console."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter
        self._heard: set[tuple[str, str | None]] = set()
        self._aside: list[tuple[logging.Logger, list[logging.Handler], bool]] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._pass_on(record)
        except Exception:  # noqa: BLE001 - a library's faulty message fails no work of ours
            self.handleError(record)

    def _pass_on(self, record: logging.LogRecord) -> None:
        ours = record.name.partition(".")[0] == _OURS
        if record.levelno >= logging.WARNING:
            message = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:  # log.exception
                cause = record.exc_info[1]
                message += f" ({type(cause).__name__}: {cause})"
            self.warn(message, None if ours else record.name.partition(".")[0])
        elif ours:
            self._reporter.tell(TaskStarted(task=Task.LOADING, message=record.getMessage()))

    def warn(self, message: str, source: str | None) -> None:
        """Pass a warning on, if it is new."""
        if (message, source) not in self._heard:
            self._heard.add((message, source))
            self._reporter.tell(WarningRaised(message=message, source=source))

    def set_aside(self, name: str) -> None:
        """Have what a library logs come here, and nowhere else on the console."""
        for logger in (logging.getLogger(), logging.getLogger(name.partition(".")[0])):
            spoken = [handler for handler in logger.handlers if _on_console(handler)]
            if spoken:  # one that is silent by choice stays so
                self._aside.append((logger, spoken, logger.propagate))
                for handler in spoken:
                    logger.removeHandler(handler)
                logger.propagate = True

    def restore(self) -> None:
        """Give the libraries their handlers back."""
        for logger, spoken, propagate in reversed(self._aside):
            for handler in spoken:
                logger.addHandler(handler)
            logger.propagate = propagate


def _on_console(handler: logging.Handler) -> bool:
    return type(handler) is logging.StreamHandler  # handlers of files are of other types
