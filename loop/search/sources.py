"""Sources: which photos of the tune split generated images owe their captions or pictures to.

`class_search` names them for what trials bring, and the bank leaves each image's own out where it
compares images with photos. Which photo a seed is given follows from the recipe: nothing of this
is journaled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gapclose.generators.recipe import Recipe
from gapclose.loop.run.photo_groups import PhotoGroup
from gapclose.loop.search.trial import Images

Jobs = Sequence[tuple[Recipe, tuple[int, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The photos of one class that recipes may name.

    Attributes:
        groups: Photo groups, by digest.
        rows: The place of each photo among the real images, by `photo_id`.
    """

    groups: Mapping[str, PhotoGroup] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    def named(self, images: Images, jobs: Jobs) -> Images:
        """Return images with the source of each.

        Args:
            images: Of the class.
            jobs: That they number.
        """
        if not self.groups:
            return images
        groups = [recipe.draw.photos for recipe, _ in jobs]
        pairs = zip(images.recipes, images.seeds, strict=True)
        return replace(images, sources=tuple(self._row(groups[job], seed) for job, seed in pairs))

    def of(self, jobs: Jobs) -> set[int]:
        """Return the sources of whatever is generated for some jobs, by row."""
        groups = ((recipe.draw.photos, seeds) for recipe, seeds in jobs)
        return {self._row(group, seed) for group, seeds in groups for seed in seeds} - {-1}

    def _row(self, digest: str | None, seed: int) -> int:
        group = None if digest is None else self.groups.get(digest)
        return -1 if group is None else self.rows.get(group.pick(seed), -1)


NO_SOURCES: Final = Sources()
