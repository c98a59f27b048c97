"""mongod: the database of FiftyOne, behind a socket in a folder that nobody else may enter.

`database` asks for it. FiftyOne's own service listens on a TCP port without a password, and beside
it unpickles whatever any user of the machine sends (fiftyone/service/ipc.py), so it never runs.
Processes of one user share one mongod. As a program, this module is its keeper: it ends mongod
when the last process that asked for it has ended, however that ended. It opens no TCP port.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gapclose.loop.errors import ViewerError

__all__ = ["join_mongod"]

_SECONDS: Final = 60.0  # until it listens; it may have a crash to recover from
_LONGEST: Final = 103  # bytes of a socket's path: macOS has the least
_READY: Final = "ready"
_held: list[int] = []  # the lock of this process, which ends with it


def join_mongod(mongod: Path, data: Path) -> str:
    """Start mongod, or join the one of this user that has the same data.

    Args:
        mongod: The program.
        data: Where its data lies; made if it is missing.

    Returns:
        The URI of its socket. mongod stays until this process has ended.

    Raises:
        ViewerError: It does not start, with the reason.
    """
    data = data.resolve()
    folder = _private_folder(data)
    with _locked(folder / "starting"):
        if not _held:
            # While the keeper of an earlier mongod ends it, this waits.
            _held.append(_lock(folder / "users", fcntl.LOCK_SH))
        if not _listens(_socket(folder)):
            _start(mongod, data, folder)
    return f"mongodb://{quote(str(_socket(folder)), safe='')}"


def _private_folder(data: Path) -> Path:
    """Make the folder of the socket: its name is the same for every process of this user.

    It does not lie beside the data, where its path may be too long for a socket.
    """
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"gapclose-{os.getuid()}-{digest}"
    if len(os.fsencode(_socket(folder))) > _LONGEST:
        raise ViewerError(f"{folder}: too long a path for a socket; set TMPDIR to a shorter one")
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
    except OSError as error:
        said = f"{error.filename}: cannot be made: {error.strerror}; make room for FiftyOne's data"
        raise ViewerError(said) from None
    # Whoever made it first would have the database.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ViewerError(f"{folder}: others can enter it; remove it, or set TMPDIR to a folder")
    return folder


def _socket(folder: Path) -> Path:
    return folder / "mongod.sock"


def _lock(path: Path, kind: int) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    fcntl.flock(handle, kind)
    return handle


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = _lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _start(mongod: Path, data: Path, folder: Path) -> None:
    # -P: the folder that a person stands in may be a run from elsewhere, and hold any module.
    command = [sys.executable, "-P", "-m", "gapclose.loop.app.mongod"]
    keeper = subprocess.Popen(
        [*command, str(mongod), str(data), str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for one of the processes that share it
        text=True,
    )
    assert keeper.stdout is not None
    with keeper.stdout as said:
        why = said.readline().strip()
    if why != _READY:
        keeper.wait()
        raise ViewerError(
            f"FiftyOne has no database: its mongod does not start ({why or 'it said nothing'}); "
            f"{data / 'mongod.log'} says why; another mongod may be using {data}: end it"
        )
    keeper.returncode = 0  # it outlives this process, which is no fault to be warned of


def _keep(mongod: str, data: Path, folder: Path) -> str | None:
    """Run mongod until nobody holds the lock of its users.

    Returns:
        Why it could not be started.
    """
    listens = _socket(folder)
    command = [mongod, "--dbpath", str(data), "--logpath", str(data / "mongod.log"), "--logappend"]
    command += ["--bind_ip", str(listens), "--nounixsocket"]  # it listens there and nowhere else
    quiet = subprocess.DEVNULL
    try:
        child = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
    except OSError as error:
        return str(error.strerror)
    try:
        until = time.monotonic() + _SECONDS
        while not _listens(listens):
            if child.poll() is not None:
                return f"exit code {child.returncode}"
            if time.monotonic() > until:
                return f"no answer in {_SECONDS:.0f} s"
            time.sleep(0.05)
        sys.stdout.write(f"{_READY}\n")
        sys.stdout.close()
        _lock(folder / "users", fcntl.LOCK_EX)  # until mongod has ended: the next waits for that
    finally:
        child.terminate()
        child.wait()
    return None


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    problem = _keep(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    if problem is not None:
        sys.stdout.write(f"{problem}\n")
        raise SystemExit(1)
