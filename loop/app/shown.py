"""What the App shows: the files of samples.jsonl that its server may read.

The viewer asks before it serves a run. Nothing is opened here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.sources import FolderSpec, RealFolder
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.trust import made_here

__all__ = ["shown_files"]

log = logging.getLogger(__name__)


def shown_files(run: RunDir, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """List the files that rows of samples.jsonl show.

    A file of the run's has to lie in the run when links are followed. One from outside has to lie
    in a folder of images that the config names, in a run that was made here: a run from elsewhere
    could name any file. There, links are followed wherever they lead, as they were when its images
    were read: a person's own folder of links is no way out of it.

    Args:
        run: A run folder.
        rows: Of samples.jsonl.

    Returns:
        The real path of each, by the name that FiftyOne has for it.
    """
    home, inside = run.path, Path(os.path.realpath(run.path))
    folders = _folders(run.config()) if made_here(run) else ()
    named = {os.path.abspath(run.resolve(row["path"])) for row in rows}  # noqa: PTH100 - as there
    shown: dict[str, str] = {}
    for name in named:
        path, target = Path(name), os.path.realpath(name)
        if path.is_relative_to(home):
            admitted = Path(target).is_relative_to(inside)
        else:
            admitted = any(map(path.is_relative_to, folders))
        if admitted:
            shown[name] = target
    if len(shown) < len(named):
        log.warning(
            "%d images lie outside of the run and its folders of images: they are not shown",
            len(named) - len(shown),
        )
    return shown


def _folders(config: RunConfig) -> tuple[Path, ...]:
    """Return the folders of images that a config names."""
    sources = (config.real, config.generator)
    return tuple(Path(s.path) for s in sources if isinstance(s, RealFolder | FolderSpec))
