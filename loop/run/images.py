"""Images: how those that a run generates are written into its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gapclose.generators.images import Pixels, write_pngs
from gapclose.loop.run.files import kept
from gapclose.loop.run.folder import RunDir

__all__ = ["write_images"]


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
