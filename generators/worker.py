"""A worker: a program that is given jobs as JSON lines and answers each with one.

`command` starts one and asks it. It is started without a shell, in a process group of its own, so
that whatever it starts ends with it. What it says besides its answers is kept: programs chatter.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from gapclose.generators.errors import GenerationError

_LONGEST: Final = 1 << 20  # bytes of a line; of a longer one the rest is dropped
_WORDS: Final = 400  # characters of what a program said last
_LINES: Final = 8  # that are looked at for it
_PACE: Final = 0.5  # seconds between two looks at whether it has ended
_GRACE: Final = 5.0  # seconds that a program has to end by itself


class Worker:
    """A running program.

    Attributes:
        args: What it was started with.
    """

    def __init__(
        self, args: Sequence[str], *, folder: Path | None, log: Callable[[bytes], None]
    ) -> None:
        """Start it.

        Args:
            args: The program and its arguments.
            folder: Where it works; None is where this process does.
            log: Is given every line that is no answer.

        Raises:
            GenerationError: It cannot be started.
        """
        self.args = tuple(args)
        self._log = log
        self._said: deque[str] = deque(maxlen=_LINES)
        self._parts: dict[int, bytearray] = {}
        self._waiting = memoryview(b"")
        try:
            self._process = subprocess.Popen(
                self.args,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise GenerationError(f"{self.args[0]} cannot be started: {why}") from None
        for stream in self._streams:
            os.set_blocking(stream.fileno(), False)

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked once more."""
        return self._process.poll() is None and not self._stdin.closed

    def ask(self, job: Mapping[str, Any], *, timeout: float, last: bool) -> dict[str, Any] | None:
        """Give it a job, and wait for the answer.

        Args:
            job: With a number under "job", which the answer repeats.
            timeout: Seconds that it may take.
            last: Close its input afterwards; its answer may then be that it ends.

        Returns:
            What it answered; None where it ended with exit code 0 instead.

        Raises:
            GenerationError: It ended, or was silent for too long; it has been ended then.
        """
        try:
            return self._ask(job, time.monotonic() + timeout, last=last)
        except TimeoutError:
            self.end(grace=0.0)
            raise GenerationError(
                f"{self._name} has not answered for {timeout:g} s, and was ended{self.last_words}"
            ) from None
        except BaseException:
            self.end(grace=0.0)
            raise

    def end(self, *, grace: float = _GRACE) -> None:
        """End it, and all that it has started: by its input's end, then by force."""
        with contextlib.suppress(OSError):
            self._stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        # Also of one that has ended: what it has started may go on.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.close()

    @property
    def last_words(self) -> str:
        """What it said last, in a form that ends a sentence; "" if nothing."""
        said = " ".join(" | ".join(self._said).split())
        return f"; it said last: {said[-_WORDS:]}" if said else ""

    def _ask(self, job: Mapping[str, Any], until: float, *, last: bool) -> dict[str, Any] | None:
        self._waiting = memoryview(json.dumps(job).encode() + b"\n")
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdin, selectors.EVENT_WRITE)
            for stream in (self._stdout, self._stderr):
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                events = selector.select(min(left, _PACE))
                if not events and self._process.poll() is not None:
                    break  # what it has started holds its outputs open
                said = [self._attend(selector, key.fileobj, last=last) for key, _ in events]
                heard = [self._heard(*line, job["job"]) for lines in said for line in lines]
                if answer := next(filter(None, heard), None):
                    return answer
        self._check_ended(until)
        return None

    def _attend(
        self, selector: selectors.BaseSelector, stream: Any, *, last: bool
    ) -> list[tuple[Any, bytes]]:
        """Write or read what can be; return the lines that came, each with where it came from."""
        if stream is self._stdin:
            self._write()
            if not self._waiting:
                selector.unregister(stream)
                if last:
                    stream.close()
            return []
        lines, is_open = self._read(stream)
        if not is_open:
            selector.unregister(stream)
        return [(stream, line) for line in lines]

    def _write(self) -> None:
        try:
            self._waiting = self._waiting[os.write(self._stdin.fileno(), self._waiting) :]
        except BlockingIOError:
            pass
        except OSError:  # it has closed its input, and may answer all the same
            self._waiting = self._waiting[:0]

    def _read(self, stream: IO[bytes]) -> tuple[list[bytes], bool]:
        """Return the whole lines that have come, and whether there may be more."""
        part = self._parts.setdefault(stream.fileno(), bytearray())
        try:
            chunk = os.read(stream.fileno(), 1 << 16)
        except BlockingIOError:
            return [], True
        except OSError:
            chunk = b""
        if not chunk:
            rest = bytes(part)
            part.clear()
            return [rest] if rest else [], False
        *lines, rest = chunk.split(b"\n")
        whole = []
        for line in lines:
            whole.append(bytes(part + line)[:_LONGEST])
            part.clear()
        part += rest[: _LONGEST - len(part)]
        return whole, True

    def _heard(self, stream: IO[bytes], line: bytes, number: int) -> dict[str, Any] | None:
        """Return a line that answers a job; keep any other."""
        if stream is self._stdout and line.lstrip()[:1] == b"{":
            with contextlib.suppress(ValueError, RecursionError):
                answer = json.loads(line)
                if isinstance(answer, dict) and answer.get("job") == number:
                    return answer
        self._log(line)
        if text := line.decode("utf-8", "replace").strip():
            self._said.append(text[-_WORDS:])
        return None

    def _check_ended(self, until: float) -> None:
        """Wait for its end, now that its outputs have ended without an answer.

        Raises:
            GenerationError: It has another exit code than 0.
        """
        try:
            code = self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        if code:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise GenerationError(f"{self._name} {how}{self.last_words}")

    @property
    def _name(self) -> str:
        return Path(self.args[0]).name

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def _stderr(self) -> IO[bytes]:
        assert self._process.stderr is not None
        return self._process.stderr

    @property
    def _streams(self) -> tuple[IO[bytes], ...]:
        return self._stdin, self._stdout, self._stderr
