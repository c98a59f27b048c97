"""Draws from photos: what a draw that names a photo group means for one seed.

The controller and the exporter wrap a run's generator in `FromPhotos`, with photos of the tune
split. A seed's photo gives the caption in the prompt and, where the draw takes one, the source
picture. Which photo a seed gets, and where photos are kept, is `Photos`' business; nothing here
reads a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import numpy as np

from gapclose.generators.base import Generator, checked_seeds, generate_all, generate_from
from gapclose.generators.errors import GenerationError
from gapclose.generators.images import ImageBatch, Pixels
from gapclose.generators.recipe import Draw

_NOTHING: Final = np.zeros((1, 1, 3), dtype=np.uint8)
_CAPTION: Final = re.compile(r"\{captions of[^{}]*\}")


class Photos(Protocol):
    """Groups of photos by their digests."""

    def pick(self, group: str, seed: int) -> str:
        """Return the id of a seed's photo, the same for the same group and seed.

        Raises:
            GenerationError: If there is no such group.
        """

    def caption(self, group: str, photo: str) -> str | None:
        """Return a photo's caption, None if it has none.

        Raises:
            GenerationError: If there is no such photo.
        """

    def pixels(self, group: str, photo: str) -> Pixels:
        """Return a photo, uint8 (h, w, 3).

        Raises:
            GenerationError: If it is gone, or cannot be read.
        """


def takes_caption(prompt: str) -> bool:
    """Tell whether a prompt holds a segment that stands for a photo's caption."""
    return _CAPTION.search(prompt) is not None


def captions_segment(group: str) -> str:
    """Return the segment of a prompt that stands for the captions of a group, by its name."""
    return f"{{captions of {group}}}"


def fill_caption(prompt: str, caption: str) -> str:
    """Put a caption in place of "{captions of ...}": "a photo, {captions of group 3}"."""
    return _CAPTION.sub(lambda _: caption, prompt)


class FromPhotos:
    """A generator whose draws may name a photo group; draws that name none pass unchanged.

    Whatever else the wrapped generator has (`check`, `check_schedulers`, `generate_from`, ...) is
    found here too.

    Args:
        generator: What generates.
        photos: The groups that draws name.

    Attributes:
        photos: The same.
    """

    def __init__(self, generator: Generator, photos: Photos) -> None:
        """Wrap; nothing is read or loaded yet."""
        self._generator = generator
        self.photos = photos

    @property
    def wrapped(self) -> Generator:
        """What generates."""
        return self._generator

    @property
    def id(self) -> str:
        """The wrapped generator's."""
        return self._generator.id

    @property
    def revision(self) -> str | None:
        """The wrapped generator's."""
        return self._generator.revision

    @property
    def license(self) -> str | None:
        """The wrapped generator's."""
        return self._generator.license

    @property
    def source_type(self) -> str:
        """The wrapped generator's."""
        return self._generator.source_type

    def __getattr__(self, name: str) -> Any:
        """Return what only the wrapped generator has."""
        if name.startswith("_"):  # also while a copy of this is made, before there is one wrapped
            raise AttributeError(name)
        return getattr(self._generator, name)

    def photo_of(self, draw: Draw, seed: int) -> str | None:
        """Return the id of the photo that a seed owes its caption or picture to, if to any.

        Raises:
            GenerationError: If there is no such group.
        """
        return None if draw.photos is None else self.photos.pick(draw.photos, seed)

    def resolve(self, draw: Draw, seed: int) -> tuple[Draw, str | None]:
        """Return what is generated for one seed, and the id of the photo that it comes from.

        Returns:
            The draw without its photo group, the photo's caption in its prompt; the draw itself
            and None where it names no group.

        Raises:
            GenerationError: If the photo is gone, or lacks the caption that the prompt asks for.
        """
        photo = self.photo_of(draw, seed)
        if draw.photos is None or photo is None:
            return draw, None
        prompt = draw.prompt
        if takes_caption(prompt):
            caption = self.photos.caption(draw.photos, photo)
            if caption is None:
                raise GenerationError(f"photo {photo} has no caption for {prompt!r}")
            prompt = fill_caption(prompt, caption)
        return replace(draw, prompt=prompt, photos=None), photo

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """Generate one image per seed, each from its own photo where the draw names a group.

        Raises:
            ValueError: If the seeds are not distinct integers in [0, 2**63).
            GeneratorConfigError: As the wrapped generator, or if it takes no pictures.
            GenerationError: As the wrapped generator, or if a photo lacks the caption asked for.
                An image whose photo is gone comes back marked.
        """
        return self.generate_all([(draw, seeds)])[0]

    def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
        """Generate several draws: all from text alone in one call, all from pictures in another.

        Raises:
            ValueError, GeneratorConfigError, GenerationError: As `generate`.
        """
        plain = [checked_seeds(seeds) for _, seeds in jobs]
        # By what is generated: the job that asked, the draw, and its seeds with their sources.
        found: list[dict[int, tuple[Pixels, str | None]]] = [{} for _ in jobs]
        texts: dict[tuple[int, Draw], list[int]] = {}
        pictures: dict[tuple[int, Draw], dict[int, Pixels]] = {}
        for job, ((draw, _), seeds) in enumerate(zip(jobs, plain, strict=True)):
            for seed in seeds:
                concrete, photo = self.resolve(draw, seed)
                if draw.photos is not None and photo is not None and draw.takes_source:
                    try:
                        source = self.photos.pixels(draw.photos, photo)
                    except GenerationError as error:  # the others' photos are there
                        found[job][seed] = _NOTHING, str(error)
                        continue
                    pictures.setdefault((job, concrete), {})[seed] = source
                else:
                    texts.setdefault((job, concrete), []).append(seed)
        if texts:
            wanted = [(draw, own) for (_, draw), own in texts.items()]
            _file(found, texts, generate_all(self._generator, wanted))
        if pictures:
            sourced = [(draw, [*own], [*own.values()]) for (_, draw), own in pictures.items()]
            _file(found, pictures, generate_from(self._generator, sourced))
        return [ImageBatch.gather(seeds, own) for seeds, own in zip(plain, found, strict=True)]


def _file(
    found: Sequence[dict[int, tuple[Pixels, str | None]]],
    asked: Iterable[tuple[int, Draw]],
    batches: Sequence[ImageBatch],
) -> None:
    """Give each job, the first of what was asked for, its images by their seeds."""
    for (job, _), batch in zip(asked, batches, strict=True):
        images = zip(batch.images, batch.invalid, strict=True)
        found[job].update(zip(batch.seeds, images, strict=True))
