"""Real photos of an export: which ones count, and how they come to lie beside synthetic images.

`balance` counts them, `tempering` tests on some of them. They are read, linked or copied, never
changed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gapclose.analysis.decode import PREFIX, sniff
from gapclose.analysis.embedding import Embedder
from gapclose.analysis.image_folder import digest, scan
from gapclose.loop.config.sources import PondReal
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import Task, TaskStarted
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.work.real_data import cut_test, real_folder, run_photos
from gapclose.loop.work.sides import Side, read_side

__all__ = ["WAYS", "place_photos", "read_real"]

WAYS: Final = ("none", "link", "copy")
"""How real photos come to lie beside synthetic images."""

_SUFFIXES: Final = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}


def read_real(
    rundir: RunDir,
    classes: Sequence[str],
    *,
    embedder: Embedder,
    reporter: Reporter,
    folder: Path | None = None,
) -> Side:
    """Read the photos of some classes, as the run's tuning embedder sees them.

    What `real.test_share` cuts off is left out, and equal files in another folder: nothing may be
    trained on it.

    Args:
        rundir: Of the run.
        classes: That are wanted.
        embedder: The run's.
        reporter: Receives the progress.
        folder: Of class folders; the run's own photos by default.

    Raises:
        RealDataError: There is no such folder, or no image in it.
    """
    reporter.tell(TaskStarted(task=Task.READING_PHOTOS))
    config = rundir.config()
    rendered = folder is None and isinstance(config.real, PondReal)
    side = read_side(
        run_photos(rundir) if folder is None else scan(folder),
        classes,
        name="real",
        config=config.model_copy(update={"judge": ()}),  # it has no say here
        reporter=reporter,
        loaded={config.embedder: embedder},
        repeats=not rendered,  # scene by scene there are none
    )
    share = config.real.test_share
    if not share:
        return side
    if folder is None:
        cut = {name: cut_test(paths, share)[0] for name, paths in side.paths.items()}
        return replace(side, paths=cut)
    own = scan(real_folder(rundir))
    kept = {
        bytes.fromhex(digest(path))
        for name in classes
        for path in cut_test([p for p in own.of(name) if os.access(p, os.R_OK)], share)[1]
    }
    return replace(
        side,
        paths={
            name: tuple(path for path in paths if side.digests[path] not in kept)
            for name, paths in side.paths.items()
        },
    )


def place_photos(
    side: Side, classes: Sequence[str], out: Path, folders: Mapping[str, str], *, way: str
) -> list[dict[str, Any]]:
    """Link or copy photos into OUT/<class>/real-<nnnnn>.<format>.

    Args:
        side: The photos.
        classes: Whose photos.
        out: The data set's folder.
        folders: Of the classes in it.
        way: `link` or `copy`, a word of `WAYS`.

    Returns:
        Their rows of metadata.jsonl.
    """
    rows = []
    for cls in classes:
        (out / folders[cls]).mkdir(exist_ok=True)
        for number, path in enumerate(side.paths[cls]):
            name = f"{folders[cls]}/real-{number:05d}.{_suffix(path)}"
            if way == "link":
                (out / name).symlink_to(path.resolve())
            else:
                shutil.copyfile(path, out / name)
            rows.append(
                {
                    "file_name": name,
                    "label": cls,
                    "side": "real",
                    "content": side.digests[path].hex(),
                    "license": "unknown",
                }
            )
    return rows


def _suffix(path: Path) -> str:
    """Return what readers that go by names need: the suffix of the format that a file has."""
    with path.open("rb") as file:
        kind = sniff(file.read(PREFIX)) or ""
    return _SUFFIXES.get(kind, kind.lower())
