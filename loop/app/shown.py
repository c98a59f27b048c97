"""What the App shows: the files of samples.jsonl that its server may read.

The viewer asks before it serves a run. Nothing is opened here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.trust import ShownFiles

__all__ = ["name_of", "shown_files"]

log = logging.getLogger(__name__)


def shown_files(
    run: RunDir, rows: Sequence[Mapping[str, Any]], *, trust: bool = False
) -> dict[str, str]:
    """List the files that rows of samples.jsonl show.

    In a person's own folders of images, links are followed wherever they lead, as they were when
    the App was opened: a folder of links is no way out of it.

    Args:
        run: A run folder.
        rows: Of samples.jsonl.
        trust: Show what a run from elsewhere names outside of its folder.

    Returns:
        The real path of each, by the name that FiftyOne has for it.
    """
    files = ShownFiles.of(run, trust=trust)
    named = {name_of(run, row): row["path"] for row in rows}
    found = {name: files.find(path) for name, path in named.items()}
    shown = {name: os.path.realpath(path) for name, path in found.items() if path is not None}
    if len(shown) < len(named):
        log.warning(
            "%d images lie outside of the run and its folders of images: they are not shown; if "
            "you trust whoever made the run, --trust shows those of the folders that it names",
            len(named) - len(shown),
        )
    return shown


def name_of(run: RunDir, row: Mapping[str, Any]) -> str:
    """Return what FiftyOne calls the file of a row: its absolute path, no link followed."""
    return os.path.abspath(run.path / str(row["path"]))  # noqa: PTH100 - links are kept
