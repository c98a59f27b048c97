"""Tags: what a person tagged in the App, as RUN/tags.json holds it.

`export` leaves out what is tagged `reject`; `tune` works on a selection tagged `gap`. Both pull
the tags as they start, by a process of its own: only the viewer imports fiftyone. The file is
there once the run has an App dataset, or somebody wrote it by hand.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gapclose.loop.run.files import RunDamagedError
from gapclose.loop.run.folder import RunDir

__all__ = ["GAP", "REJECT", "pulled_tags", "read_tags", "write_tags"]

logger = logging.getLogger(__name__)

REJECT: Final = "reject"
GAP: Final = "gap"
_FILE: Final = "tags.json"
_SECONDS: Final = 120.0  # fiftyone and its mongod start in some


def read_tags(run: RunDir) -> dict[str, list[str]]:
    """Tags by image, named as in samples.jsonl; empty without a tags.json.

    Raises:
        RunDamagedError: The file is no tags.json.
    """
    if not run.has(_FILE):
        return {}
    try:
        rows = run.read_json(_FILE)["samples"]
        return {str(row["path"]): [str(tag) for tag in row["tags"]] for row in rows}
    except (KeyError, TypeError):
        raise RunDamagedError(
            f"{run.path / _FILE}: is no list of tagged samples; remove it and tag again"
        ) from None


def write_tags(
    run: RunDir, tags: Mapping[str, Sequence[str]], *, dataset: str | None = None
) -> None:
    """Replace RUN/tags.json; images without a tag are not named.

    Args:
        run: A run folder.
        tags: By image, named as in samples.jsonl.
        dataset: The App's dataset that they were read from; it is asked again next time.
    """
    rows = [{"path": path, "tags": list(given)} for path, given in tags.items() if given]
    run.write_json(_FILE, {"schema": 1, "dataset": dataset, "samples": rows})


def pulled_tags(run: RunDir, *wanted: str) -> dict[str, set[str]]:
    """What is tagged now, by tag: the App's tags, or the file as it stands where it has none.

    Args:
        run: A run folder.
        wanted: The tags that are asked for.

    Returns:
        For each wanted tag the images that bear it, as samples.jsonl names them.
    """
    tags = read_tags(run)
    if run.has(_FILE) and run.read_json(_FILE).get("dataset"):
        _pull(run)
        tags = read_tags(run)
    return {tag: {path for path, given in tags.items() if tag in given} for tag in wanted}


def _pull(run: RunDir) -> None:
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
        logger.warning("the App's tags cannot be read (%s): tags.json is used as it stands", why)


def _last(lines: Iterable[str]) -> str:
    told = [line.strip() for line in lines if line.strip()]
    return told[-1][:200] if told else "it said nothing"
