"""What every test may ask for: a cache of its own, and the data beside the project if it is there.

Tests that need the shared photos or encoders take `shared`, and skip with a reason without them.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
collect_ignore = ["_typing"]  # links to the packages, for mypy

# Two busy cores make single examples slow now and then; that is no failure.
hypothesis.settings.register_profile("gapclose", deadline=None, derandomize=True)
hypothesis.settings.load_profile("gapclose")

os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache; subprocesses inherit the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPCLOSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def fiftyone_alone() -> Iterator[None]:
    """One file of tests at a time has FiftyOne, from nothing: it joins any database that runs."""
    lock = Path(tempfile.gettempdir()) / f"gapclose-fiftyone-{os.getuid()}.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _wait_for_no_database()
        yield
        _wait_for_no_database()


def _wait_for_no_database() -> None:
    """Until the service of FiftyOne's that outlives its last user for some seconds has ended."""
    until = time.monotonic() + 60

    def runs(process: psutil.Process) -> bool:
        return any("fiftyone/service/main.py" in word for word in process.info["cmdline"] or ())

    while any(map(runs, psutil.process_iter(["cmdline"]))) and time.monotonic() < until:
        time.sleep(0.5)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real photos and encoders that may lie beside the project."""
    folder = Path(os.environ.get("GAPCLOSE_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder.name}/data; set GAPCLOSE_SHARED")
    return folder
