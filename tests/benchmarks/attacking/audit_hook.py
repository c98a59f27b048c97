"""An audit hook of Python: which files a process opens, lists and changes, and what it runs.

`watched.py` adds it in the fork that becomes a command. It refuses nothing: it only tells.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["Hook"]

# What a process of Python reads for itself, whatever it is given.
_READ: Final = (
    *(sys.prefix, sys.base_prefix, "/proc", "/sys", "/usr", "/lib", "/etc/ssl"),
    *("/etc/localtime", "/etc/mime.types", "/etc/os-release", "/etc/ld.so", "/etc/fonts"),
    *("/etc/lsb-release", "/etc/debian_version", "/etc/host", "/etc/nsswitch", "/etc/passwd"),
    *("/dev/null", "/dev/urandom", "/dev/shm", "/dev/tty"),
)
_WRITTEN: Final = ("/dev/null", "/dev/shm", "/dev/tty")
_CHANGES: Final = frozenset(
    f"os.{name}"
    for name in ("mkdir", "rename", "remove", "rmdir", "link", "symlink", "truncate", "chmod")
) | {"os.chown", "os.utime", "os.mkfifo", "os.mknod", "sqlite3.connect"}
_RUNS: Final = frozenset(
    {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.startfile"}
)
_TALKS: Final = frozenset({"socket.connect", "socket.bind"})


class Hook:
    """Writes a line for each thing that is not the command's business."""

    def __init__(self, seen: int, *, folder: Path, reads: Sequence[Path], code: bool) -> None:
        """Watch over a command.

        Args:
            seen: The descriptor that lines are written to.
            folder: All that the command may write, and read.
            reads: What else it may read.
            code: May the generator of its run be imported?
        """
        self._seen, self._code, self._busy = seen, code, False
        own = str(folder.resolve())
        repository = str(Path(__file__).resolve().parents[3])
        self._read = (own, *(str(path.resolve()) for path in reads), *_READ, repository)
        self._written = (own, *_WRITTEN)
        self._looked_at: dict[str, Callable[[str, tuple[Any, ...]], None]] = {
            **{"open": self._open, "ctypes.dlopen": self._load},
            **dict.fromkeys(("os.listdir", "os.scandir"), self._list),
            **dict.fromkeys(_CHANGES, self._change),
            **dict.fromkeys(_RUNS, self._run),
            **dict.fromkeys(_TALKS, self._talk),
        }

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self._busy or event not in self._looked_at:
            return
        self._busy = True
        try:
            self._looked_at[event](event, args)
        except (ValueError, OSError):
            pass  # a path that is none is the command's business
        except Exception as error:  # noqa: BLE001 - or it would be the command's
            self._tell(f"the hook failed: {event} {args!r}: {error!r}")
        finally:
            self._busy = False

    def _tell(self, what: str) -> None:
        line = what.encode("utf-8", "backslashreplace").replace(b"\n", b"\\n")
        os.write(self._seen, line[:400] + b"\n")

    def _open(self, event: str, args: tuple[Any, ...]) -> None:
        path, flags = _path(args[0]), args[2] or 0
        if path is None:
            return
        real = os.path.realpath(path)
        # A link may be opened only to be refused: the canary's times tell whether it was read.
        # Devices and pipes cost time or memory, which is watched.
        if real != os.path.abspath(path) or _is_device(real):  # noqa: PTH100
            return
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            if not real.startswith(self._written):
                self._tell(f"opened to write: {real}")
        elif not real.startswith(self._read):
            self._tell(f"opened: {real}")
        if not self._code and real.endswith("/drawn.py"):
            self._tell(f"imported the code of a run from elsewhere: {real}")

    def _list(self, event: str, args: tuple[Any, ...]) -> None:
        path = _path(args[0])
        if path is None:
            return
        real = os.path.realpath(path)
        if not real.startswith(self._read) and not _is_device(real):
            self._tell(f"listed: {real}")

    def _change(self, event: str, args: tuple[Any, ...]) -> None:
        names = args[1:2] if event == "os.symlink" else args[:2]  # what a link says is only text
        for path in filter(None, map(_path, names)):
            if path == ":memory:":
                continue
            folder, last = os.path.split(os.path.abspath(path))  # noqa: PTH100
            real = str(Path(os.path.realpath(folder)) / last)
            if not real.startswith(self._written):
                self._tell(f"{event}: {real}")

    def _run(self, event: str, args: tuple[Any, ...]) -> None:
        self._tell(f"ran: {args[:2]!r}")

    def _talk(self, event: str, args: tuple[Any, ...]) -> None:
        if args[1] == ("::1", 0):
            return  # urllib3 asks so, when it is imported, whether there is IPv6
        if not str(args[1]).startswith(self._written):
            self._tell(f"{event}: {args[1]!r}")

    def _load(self, event: str, args: tuple[Any, ...]) -> None:
        path = _path(args[0])
        if path and "/" in path and not path.startswith(self._read):
            self._tell(f"loaded a library: {path}")


def _path(value: object) -> str | None:
    return os.fsdecode(value) if isinstance(value, str | bytes | os.PathLike) else None


def _is_device(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)
