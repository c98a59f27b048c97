"""Refresh: RUN/tags.json as the App's dataset has it now.

`tune` and `export` call it before they read tags. It asks a process of its own, since only the
viewer imports fiftyone; a run that no App has shown has nothing to refresh.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterable
from typing import Final

from gapclose.loop.app.names import dataset_name
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.tags import tagged_dataset

__all__ = ["refresh_tags"]

log = logging.getLogger(__name__)

_SECONDS: Final = 120.0  # fiftyone and its mongod start in some


def refresh_tags(run: RunDir) -> None:
    """Have the viewer write tags.json anew; where it cannot, the file stays as it is.

    Args:
        run: A run folder.

    Raises:
        RunDamagedError: Its tags.json cannot be read.
    """
    if tagged_dataset(run) != dataset_name(run.path):
        return  # none, or of another run: this one may come from elsewhere
    # -P: the folder that a person stands in may be a run from elsewhere, and hold any module.
    command = [sys.executable, "-P", "-m", "gapclose.loop.app.viewer", str(run.path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        why = None if done.returncode == 0 else _last(done.stderr.splitlines())
    except subprocess.TimeoutExpired:
        why = f"no answer in {_SECONDS:.0f} s"
    if why is not None:
        log.warning("the App's tags cannot be read (%s): tags.json is used as it stands", why)


def _last(lines: Iterable[str]) -> str:
    written = [line.strip() for line in lines if line.strip()]
    return written[-1][:200] if written else "it said nothing"
