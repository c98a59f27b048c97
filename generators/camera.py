"""The camera: resize, saturation, sensor noise and JPEG, in the order of a real one.

The controller and the exporter put it on generated images, so that both sides went through the
same imaging. It reads nothing from disk and never generates.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from PIL import Image, ImageEnhance
from PIL.Image import Resampling

from gapclose.generators.images import Pixels
from gapclose.generators.recipe import Camera

_NOISE_STREAM: Final = 0xCA3E7A  # keeps sensor noise apart from other uses of an image's seed


def apply_camera(camera: Camera, image: Pixels, *, seed: int) -> Pixels:
    """Put an image through a camera: resize, saturation, noise (sensor), then JPEG (codec).

    Args:
        camera: What to do; the camera that changes nothing returns `image` itself.
        image: uint8 (h, w, 3), left as it is.
        seed: The image's seed: the same seed gives the same noise.

    Returns:
        uint8 (h', w', 3). `resize` makes the shorter side that many pixels and keeps the aspect.
        JPEG is Pillow's default: chroma at half resolution (4:2:0) at every quality.
    """
    if camera.is_identity:
        return image
    photo = Image.fromarray(image)
    if camera.resize is not None:
        photo = _resize(photo, camera.resize, camera.kernel)
    if camera.saturation != 1.0:
        photo = ImageEnhance.Color(photo).enhance(camera.saturation)
    if camera.noise > 0.0:
        photo = _expose(photo, camera.noise, seed)
    if camera.jpeg_quality is not None:
        stream = io.BytesIO()
        photo.save(stream, format="JPEG", quality=camera.jpeg_quality)
        photo = Image.open(stream)
    return np.array(photo, dtype=np.uint8)


def _resize(photo: Image.Image, shorter: int, kernel: str) -> Image.Image:
    scale = shorter / min(photo.size)
    width, height = (max(1, round(side * scale)) for side in photo.size)
    if (width, height) == photo.size:
        return photo
    # Pillow widens every kernel but nearest to the scale of a reduction: antialiased, unlike the
    # resizers that clean-fid warns of (arXiv 2104.11222). Its name for "area" is box.
    return photo.resize((width, height), Resampling["BOX" if kernel == "area" else kernel.upper()])


def _expose(photo: Image.Image, noise: float, seed: int) -> Image.Image:
    rng = np.random.default_rng([seed, _NOISE_STREAM])
    pixels = np.asarray(photo, dtype=np.float64)
    noisy = pixels + 255.0 * noise * rng.standard_normal(pixels.shape)
    return Image.fromarray(np.rint(noisy).clip(0, 255).astype(np.uint8))
