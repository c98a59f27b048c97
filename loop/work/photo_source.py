"""The source of captions and pictures that single real photos give to generated images.

`open_generator` puts it before a run's generator. It reads the photo groups of the run folder and
the photos where they lie; every photo that it gives is one of a group, hence of a tune split.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from gapclose.analysis.decode import read_within
from gapclose.analysis.errors import RealDataError, UnreadableImageError
from gapclose.analysis.image_folder import digest
from gapclose.generators.base import Generator
from gapclose.generators.conditioning import FromPhotos
from gapclose.generators.errors import GenerationError
from gapclose.generators.images import Pixels
from gapclose.generators.recipe import Draw
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.photo_groups import PhotoGroup, read_group
from gapclose.loop.work.real_data import real_folder, run_photos
from gapclose.loop.work.run_generators import make_generators
from gapclose.loop.work.sides import photo_id

__all__ = ["PhotoSource", "gone_photos", "made_from", "open_generator"]


def open_generator(
    config: RunConfig, rundir: RunDir, *, photos: Mapping[str, Path] | None = None
) -> Generator:
    """Make the generator of a run, which may be given the captions and pictures of its photos.

    Args:
        config: Of the run.
        rundir: Its folder.
        photos: Where each photo of its tune splits lies, by `photo_id`; found in the real folder
            by default.

    Raises:
        GeneratorConfigError: The generator cannot be made here.
    """
    generator = make_generators(config, rundir)
    if not config.space.needs_photos:
        return generator
    return FromPhotos(generator, PhotoSource(rundir, lambda: photos or find_photos(rundir)))


def find_photos(rundir: RunDir) -> dict[str, Path]:
    """Return where the photos of a run lie, by `photo_id`; every one is read for it.

    Raises:
        RealDataError: The folder is gone, or holds no image.
    """
    found = {}
    for file in run_photos(rundir).files:
        with suppress(OSError):  # what cannot be read was no photo of the search, either
            found[photo_id(bytes.fromhex(digest(file.path)))] = file.path
    return found


def made_from(generator: Generator, draw: Draw, seed: int) -> dict[str, str]:
    """Return what a row of metadata.jsonl says of what the generator was given for a seed.

    Returns:
        "text": the prompt, the caption of a photo filled in. Of a draw that names a photo group
        also "photo", the photo's name as `photo_id` gives it, and "photo_path", where it lies in
        the folder of real photos ("" if it is gone).
    """
    if not isinstance(generator, FromPhotos):
        return {"text": draw.prompt}
    given, photo = generator.resolve(draw, seed)
    if photo is None:
        return {"text": given.prompt}
    source = generator.photos
    assert isinstance(source, PhotoSource), "open_generator made it"
    return {"text": given.prompt, "photo": photo, "photo_path": source.path(photo)}


def gone_photos(generator: Generator, draw: Draw) -> frozenset[str]:
    """Return the photos whose pictures a draw is made from, and which are not there any more.

    Raises:
        RealDataError: The folder of real photos is gone, or all photos of the draw are.
        RunDamagedError: Its photo group is gone from the run folder.
    """
    if not isinstance(generator, FromPhotos) or draw.photos is None:
        return frozenset()
    source = generator.photos
    assert isinstance(source, PhotoSource), "open_generator made it"
    return source.gone(draw.photos, pictures=draw.takes_source)


MOST: Final = 1 << 20
"""Pixels of a source: hundreds of photos are in memory at once, and none is generated larger."""


class PhotoSource:
    """What a recipe's photo group stands for: see `FromPhotos`."""

    def __init__(self, rundir: RunDir, photos: Callable[[], Mapping[str, Path]]) -> None:
        """Read nothing yet.

        Args:
            rundir: Where the groups are kept.
            photos: Where each photo lies, by `photo_id`; asked for once a picture is.
        """
        self._rundir, self._photos = rundir, cache(photos)
        self._groups: dict[str, PhotoGroup] = {}

    def pick(self, group: str, seed: int) -> str:
        """Return the photo of a group that a seed is given.

        Raises:
            GenerationError: The group is gone from the run folder.
        """
        return self._group(group).pick(seed)

    def caption(self, group: str, photo: str) -> str | None:
        """Return the caption of a photo; None of one without.

        Raises:
            GenerationError: The group is gone from the run folder.
        """
        return self._group(group).captions[photo]

    def pixels(self, group: str, photo: str) -> Pixels:
        """Read a photo.

        Raises:
            GenerationError: It is gone, or is another one now.
        """
        try:
            path = self._photos().get(photo)
        except RealDataError as error:
            raise GenerationError(f"photo {photo} of the tune split is gone: {error}") from error
        try:
            if path is not None and photo_id(bytes.fromhex(digest(path))) == photo:
                return read_within(path, MOST)
        except (OSError, UnreadableImageError):
            pass
        raise GenerationError(
            f"photo {photo} of the tune split, which images are made from, is gone"
            + (f" or changed: {path}" if path else "; put it back")
        )

    def gone(self, group: str, *, pictures: bool) -> frozenset[str]:
        """Return the photos of a group that are not there any more, where pictures are needed.

        Raises:
            RealDataError: All are gone.
            RunDamagedError: The group is gone from the run folder.
        """
        wanted = read_group(self._rundir, group)
        if not pictures:
            return frozenset()
        there = self._photos()
        gone = frozenset(photo for photo in wanted.captions if photo not in there)
        if len(gone) == len(wanted):
            raise RealDataError(
                f"none of its {len(gone)} tune photos, which images are made from, lies in "
                f"{real_folder(self._rundir)} any more; put them back",
                cls=wanted.cls,
            )
        return gone

    def path(self, photo: str) -> str:
        """Name a photo's file, relative to the folder of real photos; "" of one that is gone."""
        try:
            path = self._photos().get(photo)
        except RealDataError:  # the folder is gone: captions do not need it
            return ""
        root = real_folder(self._rundir)
        return "" if path is None else Path(os.path.relpath(path, root)).as_posix()

    def _group(self, digest: str) -> PhotoGroup:
        if digest not in self._groups:
            try:
                self._groups[digest] = read_group(self._rundir, digest)
            except RunDamagedError as error:
                raise GenerationError(str(error)) from error
        return self._groups[digest]
