"""Tags: what a person tagged in the App, as RUN/tags.json holds it.

`export` leaves out what is tagged `reject`; `tune` works on a selection tagged `gap`. The file is
there once the run has an App dataset, or somebody wrote it by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.shapes import TagsFile

__all__ = ["GAP", "REJECT", "read_tags", "tagged_dataset", "tagged_images", "write_tags"]

REJECT: Final = "reject"
GAP: Final = "gap"
_FILE: Final = "tags.json"


def read_tags(run: RunDir) -> dict[str, list[str]]:
    """Read the tags by image, named as in samples.jsonl; empty without a tags.json.

    Raises:
        RunDamagedError: The file is no tags.json.
    """
    if not run.has(_FILE):
        return {}
    return {row["path"]: list(row["tags"]) for row in _read(run)["samples"]}


def tagged_images(run: RunDir, tag: str) -> set[str]:
    """Name the images that bear a tag, as samples.jsonl does.

    Raises:
        RunDamagedError: The file is no tags.json.
    """
    return {path for path, given in read_tags(run).items() if tag in given}


def tagged_dataset(run: RunDir) -> str | None:
    """Name the App's dataset that the tags were read from; None if they are of none.

    Raises:
        RunDamagedError: The file is no tags.json.
    """
    if not run.has(_FILE):
        return None
    dataset = _read(run).get("dataset")
    return str(dataset) if dataset else None


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


def _read(run: RunDir) -> dict[str, Any]:
    try:
        value: dict[str, Any] = run.read_json(_FILE, TagsFile)
    except RunDamagedError:
        why = "is no list of tagged samples; remove it and tag again"
        raise RunDamagedError(run.path / _FILE, why) from None
    return value
