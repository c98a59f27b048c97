"""The database's mongod: one for a user's processes, behind a socket that is that user's alone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO
from urllib.parse import unquote

import psutil
import pytest
from apart import MONGOD

from gapclose.loop.app.mongod import join_mongod
from gapclose.loop.errors import ViewerError

needs_mongod = pytest.mark.skipif(not MONGOD.is_file(), reason="FiftyOne has no mongod here")

USE = """
import sys
from pathlib import Path
from gapclose.loop.app.mongod import join_mongod
print(join_mongod(Path(sys.argv[1]), Path(sys.argv[2])), flush=True)
sys.stdin.read()
"""
KNOCK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as knock:
    try:
        knock.connect(sys.argv[1])
    except PermissionError:
        sys.exit(13)
"""


class User:
    """A process that uses the database until its stdin is closed, or it is killed."""

    def __init__(self, data: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USE, str(MONGOD), str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def socket(self) -> Path:
        uri = pipe(self.process.stdout).readline().strip()
        return Path(unquote(uri.removeprefix("mongodb://")))

    def leave(self) -> None:
        pipe(self.process.stdin).close()
        self._ended()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self._ended()

    def _ended(self) -> None:
        self.process.wait(timeout=30)
        pipe(self.process.stdout).close()


def pipe(end: IO[str] | None) -> IO[str]:
    assert end is not None
    return end


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as knock:
        return knock.connect_ex(str(path)) == 0


def ends(path: Path, data: Path) -> bool:
    """Whether nothing listens any more, and no mongod is left, in due time."""
    until = time.monotonic() + 30
    while (listens(path) or servers(data)) and time.monotonic() < until:
        time.sleep(0.1)
    return not listens(path) and not servers(data)


def servers(data: Path) -> list[psutil.Process]:
    """Every mongod of a folder of data, and not its keeper."""
    found = psutil.process_iter(["cmdline"])  # one that has been killed has none
    return [p for p in found if (p.info["cmdline"] or ())[1:3] == ["--dbpath", str(data)]]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for temporary files whose path leaves room for the name of a socket."""
    with tempfile.TemporaryDirectory(prefix="gc-", dir="/tmp") as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def user(data: Path) -> Iterator[Callable[[], User]]:
    """Starts a user of the database; what a test leaves of them is ended."""
    users: list[User] = []

    def start() -> User:
        users.append(User(data))
        return users[-1]

    yield start
    for each in users:
        if each.process.poll() is None:
            each.kill()
        pipe(each.process.stdin).close()


@needs_mongod
@pytest.mark.slow
def test_processes_share_one_until_the_last_has_ended_however_it_ends(
    data: Path, user: Callable[[], User]
) -> None:
    users = [user() for _ in range(3)]  # at once
    (path,) = {each.socket() for each in users}
    assert len(servers(data)) == 1
    users[0].leave()
    users[1].kill()
    time.sleep(1)
    assert listens(path)
    users[2].kill()
    assert ends(path, data)
    # And the next starts on what a kill left, also one of mongod itself.
    again = user()
    assert again.socket() == path
    (server,) = servers(data)
    server.kill()
    assert ends(path, data)
    other = user()
    assert other.socket() == path
    again.leave()
    time.sleep(1)
    assert listens(path)
    other.leave()
    assert ends(path, data)


@needs_mongod
@pytest.mark.slow
def test_it_has_no_port_and_a_door_for_one_user(data: Path, user: Callable[[], User]) -> None:
    path = user().socket()
    (server,) = servers(data)
    assert server.net_connections(kind="inet") == []
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin")
    if os.geteuid() == 0 and python is not None:
        command = [python, "-c", KNOCK, str(path)]
        assert subprocess.run(command, check=False, cwd="/").returncode == 0
        refused = subprocess.run(command, check=False, cwd="/", user=65534, group=65534)
        assert refused.returncode == 13


@pytest.mark.parametrize("squatted", ["open", "a link"])
def test_a_folder_that_others_can_enter_is_refused(short: Path, squatted: str) -> None:
    with pytest.raises(ViewerError):  # there is no such program; the folder has been made
        join_mongod(short / "none", short / "data")
    (folder,) = short.glob("gapclose-*")
    if squatted == "open":
        folder.chmod(0o755)
    else:
        folder.rename(short / "theirs")
        folder.symlink_to(short / "theirs")
    with pytest.raises(ViewerError, match="others can enter it"):
        join_mongod(short / "none", short / "data")


def test_one_that_does_not_start_is_one_line_with_its_log(
    short: Path,
) -> None:
    mongod = short / "mongod"
    mongod.write_text("#!/bin/sh\nexit 100\n")
    mongod.chmod(0o755)
    with pytest.raises(ViewerError, match=r"exit code 100.*mongod\.log") as error:
        join_mongod(mongod, short / "data")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_path_that_no_socket_can_have_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 100)))
    with pytest.raises(ViewerError, match="set TMPDIR"):
        join_mongod(tmp_path / "mongod", tmp_path / "data")
