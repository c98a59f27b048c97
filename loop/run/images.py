"""Images: how those that a run generates are written into its folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from gapclose.generators.base import Generator, drawing
from gapclose.generators.images import Pixels, write_pngs
from gapclose.generators.recipe import Draw
from gapclose.loop.run.files import kept
from gapclose.loop.run.folder import RunDir

__all__ = ["write_drawn", "write_images"]


def write_drawn(
    run: RunDir, generator: Generator, files: Iterable[tuple[Path, Pixels, Draw]]
) -> None:
    """Write images that draws were made of; each says what kind of generator drew it.

    Args:
        run: The run.
        generator: Of the run.
        files: Path, image and draw of each.

    Raises:
        UnwritableError: The system does not let them be written.
    """
    by_type: dict[str, dict[Path, Pixels]] = {}
    for path, image, draw in files:
        by_type.setdefault(drawing(generator, draw).source_type, {})[path] = image
    for source_type, images in by_type.items():
        write_images(run, images, source_type=source_type)


def write_images(run: RunDir, images: Mapping[Path, Pixels], *, source_type: str) -> None:
    """Write images, each whole or not at all.

    Args:
        run: The run.
        images: By the path that the run has for each.
        source_type: IPTC's word for what they are, which each file carries.

    Raises:
        UnwritableError: The system does not let them be written.
    """
    with kept(run.path / "images"):
        write_pngs(images, source_type=source_type)
