"""Test photos: the real photos that all classifiers of a comparison are tested on.

No classifier is trained on them. A validation takes photos that no search has seen either, nor a
photo that repeats one of them; the choice of a tempering takes those of the tune split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.embedding import Embedder, TextEmbedder
from gapclose.analysis.errors import RealDataError
from gapclose.loop.validation.word_groups import WordGroups, read_groups
from gapclose.loop.work.real_data import FEWEST_TO_TEST
from gapclose.loop.work.sides import Side

__all__ = ["TestPhotos"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPhotos:
    """Photos and the classes that they are of.

    Attributes:
        classes: All of them, in the run's order.
        paths: Of the photos, class by class.
        labels: (m,) indices into `classes`.
        groups: By word group ("color"), the name of each photo's group ("brown frog").
        key: What they are: of equal keys they are the same.
    """

    __test__ = False  # pytest would take it for a test

    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    groups: Mapping[str, tuple[str | None, ...]]
    key: str

    @classmethod
    def of(
        cls,
        paths: Mapping[str, Sequence[Path]],
        side: Side,
        *,
        embedder: Embedder,
        groups: Mapping[str, WordGroups],
    ) -> TestPhotos:
        """Take photos of every class.

        Args:
            paths: By class.
            side: That they are of.
            embedder: That the side was read with; one with a text side tells the groups.
            groups: By class.

        Raises:
            RealDataError: There are fewer than `FEWEST_TO_TEST` of a class.
        """
        for name, mine in paths.items():
            if len(mine) < FEWEST_TO_TEST:
                raise RealDataError(
                    f"class {name} has {len(mine)} test photos; a test needs {FEWEST_TO_TEST} of "
                    "each class: add photos",
                    path=side.images.root,
                )
        said = [(name, side.digests[path].hex()) for name, mine in paths.items() for path in mine]
        return cls(
            classes=tuple(paths),
            paths=tuple(path for mine in paths.values() for path in mine),
            labels=np.repeat(np.arange(len(paths)), [len(mine) for mine in paths.values()]),
            groups=_read(paths, side, embedder, groups),
            key=hashlib.sha256(repr(said).encode()).hexdigest()[:32],
        )


def _read(
    paths: Mapping[str, Sequence[Path]],
    side: Side,
    embedder: Embedder,
    groups: Mapping[str, WordGroups],
) -> dict[str, tuple[str | None, ...]]:
    """Name the groups of all photos; none without a text encoder."""
    if not isinstance(embedder, TextEmbedder):
        return {}
    names = dict.fromkeys(name for its in groups.values() for name in its)
    found: dict[str, list[str | None]] = {name: [] for name in names}
    for cls, mine in paths.items():
        rows = np.stack([side.rows[path] for path in mine])
        read = read_groups(rows, embedder, groups[cls])
        for name, so_far in found.items():
            so_far += read.get(name, [None] * len(mine))
    return {name: tuple(of_all) for name, of_all in found.items()}
