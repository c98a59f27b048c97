"""Source copies: which images that are made from pictures of photos are those photos again.

Trials ask it of what they generated, and confirmations of what they measure. An image's source is
known, so the two are compared as pictures are, which tells more than how far apart features lie:
in those, honest photos of one class are nearer to each other than they look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.errors import UnreadableImageError
from gapclose.analysis.repeats import alike, likeness_of_others, thumbnail
from gapclose.generators.base import Generator
from gapclose.generators.conditioning import FromPhotos
from gapclose.generators.images import Pixels
from gapclose.generators.recipe import Recipe
from gapclose.loop.work.real_data import ClassReference

PHOTOS = 100  # of a tune split, whose pairs tell how alike different photos are


@dataclass(slots=True, kw_only=True)
class SourceCopies:
    """Compares images with the photos that they are made from.

    Attributes:
        generator: Of the run; it knows which photo a seed is given.
        real: By class.
    """

    generator: Generator
    real: Mapping[str, ClassReference]
    _limits: dict[str, float] = field(default_factory=dict)

    def of(
        self, cls: str, images: Sequence[Pixels], made: Sequence[tuple[Recipe, int]]
    ) -> dict[int, str]:
        """Find the images of a class that copy their source.

        An image counts that is as alike to its source, up to a shift, a mirroring and brightness,
        as one in a thousand pairs of different photos of the class are, or more.

        Args:
            cls: The class.
            images: (n,) after the camera.
            made: (n,) the recipe and the seed of each.

        Returns:
            Seed -> photo, of those that do.

        Raises:
            GenerationError: A photo is gone.
        """
        if not isinstance(self.generator, FromPhotos):
            return {}
        photos, generated, sources = [], [], []
        for image, (recipe, seed) in zip(images, made, strict=True):
            group, photo = recipe.draw.photos, self.generator.photo_of(recipe.draw, seed)
            if group is None or photo is None or not recipe.draw.takes_source:
                continue
            photos.append((seed, photo))
            generated.append(thumbnail(image))
            sources.append(thumbnail(self.generator.photos.pixels(group, photo)))
        if not photos:
            return {}
        limit = self._limit(cls)
        near = alike(np.stack(generated), np.stack(sources)) >= limit
        return dict(pair for pair, copied in zip(photos, near, strict=True) if copied)

    def _limit(self, cls: str) -> float:
        """Return how alike an image and its source must be; measured once a session."""
        if cls not in self._limits:
            tune = self.real[cls].tune
            order = sorted(range(len(tune)), key=lambda i: tune.photos[i])[:PHOTOS]
            shown = []
            for i in order:
                try:
                    shown.append(thumbnail(read_rgb(tune.paths[i])))
                except UnreadableImageError:  # it has gone since the session began
                    continue
            self._limits[cls] = likeness_of_others(np.stack(shown))
        return self._limits[cls]
