"""Squares: images of any sizes as networks take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis.confounds import resize

__all__ = ["to_squares"]


def to_squares(images: Sequence[NDArray[np.uint8]], *, side: int) -> NDArray[np.uint8]:
    """Bring images to one size: (n, side, side, 3).

    They are cut in the middle to a square, and averaged over areas where they are larger, bicubic
    where they are smaller, so that sets of images that come in several sizes are seen alike.

    Args:
        images: (h, w, 3) each.
        side: Pixels.
    """
    squares = np.empty((len(images), side, side, 3), dtype=np.uint8)
    for square, image in zip(squares, images, strict=True):
        enlarged = min(image.shape[:2]) < side
        kernel = Image.Resampling.BICUBIC if enlarged else Image.Resampling.BOX
        same = image.shape[:2] == (side, side)
        square[:] = image if same else resize(image, size=(side, side), kernel=kernel)
    return squares
