"""A watched process: one command line in a fork that has imported all, and what it was seen doing.

`attacks.py` makes cases and hands each to `run_case`. An audit hook in the fork reports files
that it opens, lists or writes outside of what it was given, programs, sockets and libraries; the
canary, a tree that nothing names on a command line, tells by its times and contents what the hook
cannot see. The parent ends what takes too long or too much memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from audit_hook import Hook

__all__ = ["MARK", "Canary", "Case", "Outcome", "clear", "run_case"]

CONFIG: Final = "config"
"""In the cache of who makes runs: where their secret lies."""
MARK: Final = "CANARY-SECRET-91c7"
"""In every text of the canary; in nothing that a command may write."""

SECONDS: Final = 20.0
MOST_MEMORY: Final = 3 * 2**30  # bytes, resident
_LONGEST: Final = 2300  # characters of the one line
_OLD: Final = 978_307_200  # 2001: with relatime, a time of access this old moves at every read
_SHOWN: Final = ("report.html", "README.md", "metadata.jsonl")

_STRANGE: Final = re.compile(
    r"Traceback|Exception ignored|site-packages|\w\.py:\d+|"
    r"\b(?:Key|Type|Attribute|Index|Value|Assertion|Name|Unicode\w*|OS|Recursion)Error\b"
)
_RAW: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_SCRIPT: Final = re.compile(r"<script\b.*?</script>", re.DOTALL)
_LIBRARY: Final = 1_000_000  # characters: a script so long is the page's library of charts


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A command to watch.

    Attributes:
        name: `kind:number`, for `--only`.
        what: The mutations, in words.
        words: Of the command line, after `gapclose`.
        folder: All that it may read and write; it starts in `work` below.
        reads: Other folders that it was given.
        run: The run folder, where one was attacked.
        code: May the generator of the run be imported?
        plain_user: Whether it runs as one whom permissions bind.
        confirmed: By (recipe, seed), the pixels that may be exported as confirmed; None if
            anything may. Of mixtures in YAML: by class, what may be said to be confirmed.
    """

    name: str
    what: str
    words: Sequence[str]
    folder: Path
    reads: Sequence[Path] = ()
    run: Path | None = None
    code: bool = True
    plain_user: bool = False
    confirmed: frozenset[tuple[str, int, str]] | None = None
    mixtures: dict[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a case; `failures` holds (kind, what) of all that must not be."""

    code: int | None
    seconds: float
    memory: int
    out: str
    err: str
    failures: list[tuple[str, str]] = field(default_factory=list)


class Canary:
    """A tree outside of every case; any read of it moves a time, any write its contents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = self._contents()
        self.reset()

    def reset(self) -> None:
        """Make all that was read long ago."""
        for path in (self.folder, *self.folder.rglob("*")):
            os.utime(path, (_OLD, _OLD + 1), follow_symlinks=False)

    def touched(self) -> list[str]:
        """Say what was read, written, made or removed since."""
        said = []
        for path in (self.folder, *self.folder.rglob("*")):
            found = path.lstat()
            if stat.S_ISFIFO(found.st_mode):
                continue
            if found.st_mtime != _OLD + 1:
                said.append(f"wrote {path}")
            elif found.st_atime != _OLD and not path.is_dir():
                said.append(f"read {path}")
        if {*self._before} != {str(p) for p in self.folder.rglob("*")}:
            said.append("made or removed files of the canary")
            self._repair()
        self.reset()
        return said

    def _contents(self) -> set[str]:
        return {str(path) for path in self.folder.rglob("*")}

    def _repair(self) -> None:
        for path in {str(p) for p in self.folder.rglob("*")} - self._before:
            with contextlib.suppress(OSError):
                Path(path).unlink()


def run_case(case: Case, canary: Canary) -> Outcome:
    """Run a command as watched, and say all that is wrong with how it went."""
    said = case.folder / "said"
    said.mkdir(exist_ok=True)
    for name in ("work", "home", "tmp"):
        (case.folder / name).mkdir(exist_ok=True)
    time.sleep(0.02)  # what is written from now on is younger than what was attacked
    began = time.time()
    child = os.fork()
    if child == 0:
        _become(case, said)
    code, seconds, memory = _wait(child)
    out, err = (_text(said / name) for name in ("out", "err"))
    outcome = Outcome(code=code, seconds=seconds, memory=memory, out=out, err=err)
    failed = outcome.failures
    if code is None:
        over = memory > MOST_MEMORY
        failed.append(("memory" if over else "timeout", f"{seconds:.0f} s, {memory >> 20} MiB"))
    elif code not in (0, 1, 2):
        failed.append(("exit", f"exit code {code}"))
    failed += _said_wrong(code, err)
    for stream, text in (("stdout", out), ("stderr", err)):
        if raw := _RAW.search(text):
            failed.append(("control", f"{stream}: U+{ord(raw[0]):04X} in {_around(text, raw)}"))
    for line in dict.fromkeys(_text(said / "seen").splitlines()):
        failed.append(("escape", line))
    failed += [("escape", line) for line in canary.touched()]
    failed += _wrote_wrong(case, began, (out, err))
    if code == 0:
        failed += _confirmed_wrongly(case, out)
    return outcome


# ------------------------------------------------------------------------------ in the fork


def _become(case: Case, said: Path) -> None:
    """Be the command, and end."""
    code = 1
    try:
        os.setsid()
        seen = os.open(said / "seen", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for number, name in enumerate(("out", "err"), start=1):
            os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT, 0o666), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        home = case.folder / "home"
        os.environ |= {"HOME": str(home), "TMPDIR": str(case.folder / "tmp"), "TERM": "dumb"}
        cache = case.folder / "cache"
        os.environ |= {"GAPCLOSE_CACHE": str(cache), "XDG_CONFIG_HOME": str(cache / CONFIG)}
        os.environ |= {"HF_HUB_OFFLINE": "1"}
        tempfile.tempdir = None
        os.chdir(case.folder / "work")
        if case.plain_user:
            _obey_permissions()
        sys.argv = ["gapclose", *case.words]
        from gapclose.loop.cli import app

        sys.addaudithook(Hook(seen, folder=case.folder, reads=case.reads, code=case.code))
        try:
            app([*case.words], prog_name="gapclose")
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:  # noqa: BLE001 - as the interpreter ends
            traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _obey_permissions() -> None:
    """Give up what lets root pass over the permissions of files."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, of this process
    data = (ctypes.c_uint32 * 6)()
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    for word in (0, 1):  # effective and permitted: CAP_DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
        data[word] &= ~0b1110
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


# ------------------------------------------------------------------------------ in the parent


def _wait(child: int) -> tuple[int | None, float, int]:
    """Return the exit code, None of what was ended here, seconds, and the most memory in bytes.

    Seconds are those of a machine with nothing else to do: waiting for a processor is none.
    """
    most, waited, nap = 0, 0.0, 0.005
    started = time.monotonic()
    while True:
        pid, status, _ = os.wait4(child, os.WNOHANG)
        seconds = time.monotonic() - started - waited
        if pid:
            code: int | None = os.waitstatus_to_exitcode(status)
            break
        most = max(most, _resident(child))
        waited = max(waited, _waited(child))
        if seconds > SECONDS or most > MOST_MEMORY:
            code = None
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(nap)
        nap = min(nap * 1.3, 0.02)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # what it may have left behind
    return code, seconds, most


def _waited(pid: int) -> float:
    """Seconds that the main thread was ready to run and did not."""
    try:
        text = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return int(text.split()[1]) / 1e9


def _resident(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * resource.getpagesize()


def _own_script(found: re.Match[str]) -> str:
    return "" if len(found[0]) > _LIBRARY else found[0]


def _text(path: Path) -> str:
    try:
        return path.read_bytes()[:2_000_000].decode("utf-8", "backslashreplace")
    except OSError:
        return ""


def _around(text: str, found: re.Match[str]) -> str:
    return ascii(text[max(0, found.start() - 30) : found.end() + 20])


def _said_wrong(code: int | None, err: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in err.split("\n") if line.strip()]
    if strange := next((line for line in lines if _STRANGE.search(line)), None):
        last = lines[-1] if "Traceback" in strange else strange
        where = [line.strip() for line in lines if line.lstrip().startswith("File ")]
        own = [line for line in where if re.search(r"/(loop|analysis|generators)/", line)]
        yield "traceback", f"{last[:200]} {own[-1][-90:] if own else ''}"
        return
    told = [line for line in lines if line.startswith("error: ")]
    if code in (1, 2):
        if len(told) != 1 or told[0] != lines[-1]:
            yield "line", f"exit {code}, but not one last line: {lines[-3:]!r}"[:300]
        elif not 20 <= len(told[0]) <= _LONGEST:
            yield "line", f"{len(told[0])} characters: {told[0][:200]!r}"
    elif told:
        yield "line", f"exit {code}, but {told[0][:200]!r}"


def _wrote_wrong(case: Case, began: float, streams: tuple[str, str]) -> Iterator[tuple[str, str]]:
    mark = MARK.encode()
    if any(MARK in text for text in streams):
        yield "escape", "the canary's text is on a stream"
    for place, _, names in os.walk(case.folder):
        for name in names:
            path = Path(place) / name
            with contextlib.suppress(OSError):
                found = path.lstat()
                young = found.st_mtime >= began - 0.01 and found.st_size < 2**25
                if not (path.is_file() and not path.is_symlink() and young):
                    continue
                data = path.read_bytes()
                if mark in data:
                    yield "escape", f"the canary's text is in {path.relative_to(case.folder)}"
                is_ours = name in _SHOWN or (path.parent.name == "work" and path.suffix == ".yaml")
                text = data.decode("utf-8", "replace") if is_ours else ""
                if name == "report.html":
                    text = _SCRIPT.sub(_own_script, text)
                if raw := _RAW.search(text):
                    yield "control", f"{name}: U+{ord(raw[0]):04X} in {_around(text, raw)}"


def _confirmed_wrongly(case: Case, out: str) -> Iterator[tuple[str, str]]:
    import hashlib

    from PIL import Image

    if case.confirmed is not None and case.run is not None:
        exported = case.folder / "work" / "out"
        if (exported / "metadata.jsonl").is_file():
            for line in (exported / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                if row.get("confirmed") is not True:
                    continue
                with Image.open(exported / row["file_name"]) as image:
                    pixels = hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
                key = (row["recipe_fingerprint"], row["seed"], pixels)
                if key not in case.confirmed and not _drawn_anew(key, row, case.confirmed):
                    yield "false", f"confirmed: true of {row['file_name']}: {row['recipe']}"[:300]
                    break
    if case.mixtures is not None and (case.folder / "work/out.yaml").is_file():
        import yaml

        told = yaml.safe_load((case.folder / "work/out.yaml").read_text(encoding="utf-8"))
        right = [row["recipes"] for row in case.mixtures.values() if row.get("confirmed") is True]
        for name, row in told["classes"].items():
            if row.get("confirmed") is True and row["recipes"] not in right:
                yield "false", f"out.yaml: confirmed: true of {name}: {row['recipes']}"[:300]


def _drawn_anew(
    key: tuple[str, int, str], row: Any, confirmed: frozenset[tuple[str, int, str]]
) -> bool:
    """Whether an image with a seed of its own is one of a mixture that was confirmed."""
    import hashlib

    from drawn import Drawn

    from gapclose.generators.recipe import Recipe

    fingerprint, seed, pixels = key
    if not any(fingerprint == its and seed != other for its, other, _ in confirmed):
        return False
    if any(seed == other and fingerprint == its for its, other, _ in confirmed):
        return False  # it was shown, and looked otherwise
    [image] = Drawn().generate(Recipe.from_json(row["recipe"]).draw, [seed]).images
    return hashlib.sha256(image.tobytes()).hexdigest() == pixels


def clear(folder: Path) -> None:
    """Remove what is left of a case, however deep it is."""
    subprocess.run(["chmod", "-R", "u+rwX", folder], capture_output=True, check=False)
    subprocess.run(["rm", "-rf", folder], check=True)
