"""FiftyOne and browsers: what tests of the App and of pages share."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

FIFTYONE = importlib.util.find_spec("fiftyone")
MONGOD = (
    Path(next(iter(FIFTYONE.submodule_search_locations or ()))) / "db/bin/mongod"
    if FIFTYONE
    else Path("missing")
)


def run_apart(script: str, *arguments: str, database: Path) -> dict[str, Any]:
    """Runs FiftyOne code in its own process and database; the last line it prints is JSON."""
    environment = os.environ | {"FIFTYONE_DATABASE_DIR": str(database)}
    environment.pop("FIFTYONE_DATABASE_URI", None)
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said
