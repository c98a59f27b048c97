"""Shown images: those that confirmed a run's mixtures, read as what they were.

`data_set` puts them into an export, where a damaged one must not stand for what was confirmed. It
generates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.errors import UnreadableImageError
from gapclose.generators.images import Pixels, pixel_digest
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.events import FoldEvaluated
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import read_journal
from gapclose.loop.work.evidence import Evidence

__all__ = ["ShownImages"]


@dataclass(frozen=True, slots=True)
class ShownImages:
    """What the images of a run's folds must be.

    Attributes:
        digests: By the folder of a fold's images, and by seed, their `pixel_digest`; of an earlier
            version's folds there is none.
    """

    digests: Mapping[Path, Mapping[int, int]]

    @classmethod
    def of(cls, run: RunDir) -> Self:
        """Read them from the evidence; where that is damaged, no image is vouched for."""
        found: dict[Path, Mapping[int, int]] = {}
        evidence = Evidence(run)
        for event in read_journal(run.journal_path):
            if not isinstance(event, FoldEvaluated) or "tuned" not in event.digests:
                continue
            name, fold = event.cls, event.fold
            try:
                folder = run.confirm_path(name, fold, "tuned", 0).parent.resolve()
            except ValueError:  # no class of any run of ours is called so
                continue
            try:
                found[folder] = evidence.shown(name, fold, "tuned", event.digests["tuned"])
            except RunDamagedError:
                found[folder] = {}
        return cls(found)

    def read(self, path: Path | None) -> Pixels | None:
        """Read an image; None where it is missing, unreadable, or not the one that was shown."""
        if path is None:
            return None
        try:
            image = read_rgb(path)
        except UnreadableImageError:
            return None
        own = self.digests.get(path.parent.resolve())
        if own is None:
            return image
        known = own.get(int(path.stem)) if path.stem.isdecimal() else None
        return image if known == pixel_digest(image) else None
