"""What libraries and the rooms below say comes through the reporter, each line once."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator

import pytest

from gapclose.loop.progress.log_capture import captured_logs
from gapclose.loop.run.notices import Notice, Task, TaskStarted, WarningRaised
from gapclose.loop.run.reporter import SilentReporter


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.told: list[Notice] = []

    def tell(self, notice: Notice) -> None:
        self.told.append(notice)


@pytest.fixture
def library() -> Iterator[logging.Logger]:
    """A library that writes to the console by a handler of its own, as transformers does."""
    logger = logging.getLogger("some_library")
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    logger.propagate = True


def test_warnings_of_python_come_through_once(capsys: pytest.CaptureFixture[str]) -> None:
    listener = Listener()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with captured_logs(listener):
            for _ in range(3):
                warnings.warn("odd", RuntimeWarning, stacklevel=1)
            warnings.warn("old", FutureWarning, stacklevel=1)
    assert listener.told == [
        WarningRaised(message="odd", source="RuntimeWarning"),
        WarningRaised(message="old", source="FutureWarning"),
    ]
    assert capsys.readouterr() == ("", "")


def test_a_library_with_a_handler_of_its_own_comes_through_and_gets_it_back(
    library: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    listener, before = Listener(), [*library.handlers]
    deep = logging.getLogger("some_library.tokenizers.clip")
    with captured_logs(listener):
        deep.warning("truncated to %d tokens", 77)
        deep.warning("truncated to %d tokens", 77)
        library.info("nothing that anybody waits for")
    assert listener.told == [
        WarningRaised(message="truncated to 77 tokens", source="some_library")
    ]
    assert capsys.readouterr() == ("", "")
    assert ({*library.handlers}, library.propagate) == ({*before}, False)


def test_a_library_that_is_set_up_meanwhile_is_heard_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listener, late = Listener(), logging.getLogger("late_library")
    with captured_logs(listener):
        handler = logging.StreamHandler()
        late.addHandler(handler)
        late.propagate = False
        root = logging.StreamHandler()
        logging.getLogger().addHandler(root)  # as open_clip does; nothing is said twice
        late.error("no such file")
    logging.getLogger().removeHandler(root)
    late.removeHandler(handler)
    late.propagate = True
    assert listener.told == [WarningRaised(message="no such file", source="late_library")]
    assert capsys.readouterr() == ("", "")


def test_what_a_log_file_gets_it_still_gets(library: logging.Logger) -> None:
    kept: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record.getMessage())

    handler = Kept()
    library.addHandler(handler)
    with captured_logs(Listener()):
        library.warning("odd")
    library.removeHandler(handler)
    assert kept == ["odd"]


def test_a_logger_that_is_silent_by_choice_stays_so() -> None:
    silent, listener = logging.getLogger("silent_library"), Listener()
    silent.propagate = False
    silent.addHandler(logging.NullHandler())
    with captured_logs(listener):
        silent.warning("psst")
    assert (listener.told, silent.propagate) == ([], False)


def test_ours_say_what_takes_long_and_warn_without_a_source() -> None:
    listener, ours = Listener(), logging.getLogger("gapclose")
    with captured_logs(listener):
        logging.getLogger("gapclose.analysis.embedding").info("loading the encoder %s", "pond")
        logging.getLogger("gapclose.generators.diffusion").warning("memory is out")
    assert listener.told == [
        TaskStarted(task=Task.LOADING, message="loading the encoder pond"),
        WarningRaised(message="memory is out"),
    ]
    assert (ours.handlers, ours.level, ours.propagate) == ([], logging.NOTSET, True)


def test_everything_is_as_before_also_after_an_error() -> None:
    root = logging.getLogger()
    before = (root.handlers[:], logging.getLogRecordFactory(), warnings.showwarning)
    with pytest.raises(KeyboardInterrupt), captured_logs(Listener()):
        raise KeyboardInterrupt
    assert before == (root.handlers, logging.getLogRecordFactory(), warnings.showwarning)


def test_a_warning_that_is_to_go_to_a_file_goes_there(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[object, ...]] = []
    monkeypatch.setattr(warnings, "showwarning", lambda *given: shown.append(given))
    listener = Listener()
    with captured_logs(listener):
        warnings.showwarning("odd", UserWarning, "x.py", 3, file=sys.stderr)
    assert listener.told == []
    assert shown == [("odd", UserWarning, "x.py", 3, sys.stderr, None)]


def test_a_message_that_cannot_be_formed_fails_nobodys_work(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listener = Listener()
    with captured_logs(listener):
        ours = logging.getLogger().handlers[-1]  # pytest has its own beside it, which raises
        for message in ("%d images", "whole"):
            record = logging.LogRecord("some", logging.WARNING, "f", 1, message, ("x",), None)
            ours.handle(
                record
                if "%" in message
                else logging.makeLogRecord(
                    {"name": "some", "levelno": logging.WARNING, "msg": message}
                )
            )
    assert listener.told == [WarningRaised(message="whole", source="some")]
    assert "Logging error" in capsys.readouterr().err


def test_a_logged_exception_is_named(library: logging.Logger) -> None:
    listener = Listener()
    with captured_logs(listener):
        try:
            raise ValueError("why")
        except ValueError:
            library.exception("it failed")
    assert listener.told == [
        WarningRaised(message="it failed (ValueError: why)", source="some_library")
    ]
