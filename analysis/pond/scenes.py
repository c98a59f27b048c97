"""Folders of rendered scenes and photos, as the trainers of the pond's encoders read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis.errors import TrainingDataError

__all__ = ["SIZE", "read_photos", "read_scenes"]

SIZE: Final = 32


def read_scenes(folder: Path) -> tuple[NDArray[np.uint8], list[str]]:
    """Read a folder of captioned scenes: `captions.jsonl` with one `{file, caption}` per line.

    Returns:
        (n, 32, 32, 3) pixels and n captions.

    Raises:
        TrainingDataError: If there is no `captions.jsonl`, or it is empty.
    """
    listing = folder / "captions.jsonl"
    if not listing.is_file():
        raise TrainingDataError(folder, "no captions.jsonl; render captioned scenes first")
    rows = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines() if line]
    if not rows:
        raise TrainingDataError(listing, "empty; render captioned scenes first")
    return _read([folder / row["file"] for row in rows]), [str(row["caption"]) for row in rows]


def read_photos(folder: Path) -> NDArray[np.uint8]:
    """Read every PNG below a folder; the names of class folders are not read.

    Returns:
        (n, 32, 32, 3) pixels, in the order of the paths.

    Raises:
        TrainingDataError: If there is none.
    """
    paths = sorted(folder.rglob("*.png"))
    if not paths:
        raise TrainingDataError(folder, "no .png below it; render real photos first")
    return _read(paths)


def _read(paths: Sequence[Path]) -> NDArray[np.uint8]:
    pixels = np.empty((len(paths), SIZE, SIZE, 3), dtype=np.uint8)
    for i, path in enumerate(paths):
        with Image.open(path) as image:
            if image.size != (SIZE, SIZE):
                raise TrainingDataError(path, f"{image.size}, not {SIZE}x{SIZE} pixels")
            pixels[i] = np.asarray(image.convert("RGB"))
    return pixels
