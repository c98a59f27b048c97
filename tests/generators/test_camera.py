"""The camera against closed forms: box means, noise moments, Pillow's own JPEG."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from gapclose.generators.camera import apply_camera
from gapclose.generators.recipe import KERNELS, Camera

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def test_the_default_camera_gives_the_image_itself() -> None:
    assert apply_camera(Camera(), IMAGE, seed=1) is IMAGE
    assert apply_camera(Camera(kernel="lanczos"), IMAGE, seed=1) is IMAGE


def test_area_is_the_mean_of_each_box() -> None:
    small = apply_camera(Camera(resize=16, kernel="area"), IMAGE, seed=1)
    means = IMAGE.reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    assert small.shape == (16, 24, 3)
    assert np.abs(small - means).max() <= 1.0


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k != "nearest"])
def test_reductions_are_antialiased(kernel: str) -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    small = apply_camera(Camera(resize=16, kernel=kernel), stripes, seed=1)
    assert np.abs(small[:, 2:-2].astype(float) - 127.5).max() < 8


def test_nearest_aliases_and_makes_no_new_tone() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    small = apply_camera(Camera(resize=16, kernel="nearest"), stripes, seed=1)
    assert set(np.unique(small)) <= {0, 255}


@pytest.mark.parametrize(("shape", "expected"), [((64, 64), (32, 32)), ((20, 10), (64, 32))])
def test_resize_sets_the_shorter_side(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), dtype=np.uint8)
    assert apply_camera(Camera(resize=32), image, seed=1).shape[:2] == expected


def test_noise_has_the_deviation_asked_for_and_no_bias() -> None:
    gray = np.full((200, 200, 3), 128, dtype=np.uint8)
    noisy = apply_camera(Camera(noise=0.02), gray, seed=4).astype(float) - 128
    # 120,000 values: the deviation's own error is 0.2 %; rounding adds 1/12.
    assert noisy.std() == pytest.approx(np.hypot(0.02 * 255, 12**-0.5), rel=0.01)
    assert abs(noisy.mean()) < 0.06
    channels = noisy.reshape(-1, 3)
    assert np.abs(np.corrcoef(channels.T) - np.eye(3)).max() < 0.02


def test_noise_is_clipped_not_wrapped() -> None:
    white = np.full((50, 50, 3), 255, dtype=np.uint8)
    assert apply_camera(Camera(noise=0.05), white, seed=1).min() > 180


def test_noise_follows_the_seed() -> None:
    camera = Camera(noise=0.05)
    one, same, other = (apply_camera(camera, IMAGE, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).mean() > 0.5


def test_saturation_goes_to_grey_and_beyond() -> None:
    gray = apply_camera(Camera(saturation=0.0), IMAGE, seed=1)
    assert (gray[..., 0] == gray[..., 1]).all()
    assert (gray[..., 1] == gray[..., 2]).all()

    def spread(image: np.ndarray) -> float:
        return float(np.ptp(image.astype(int), axis=-1).mean())

    vivid = apply_camera(Camera(saturation=1.5), IMAGE, seed=1)
    assert spread(vivid) > spread(IMAGE)


def test_jpeg_is_pillows_round_trip() -> None:
    stream = io.BytesIO()
    Image.fromarray(IMAGE).save(stream, format="JPEG", quality=80)
    with Image.open(stream) as expected:
        got = apply_camera(Camera(jpeg_quality=80), IMAGE, seed=1)
        np.testing.assert_array_equal(got, np.asarray(expected))


def test_the_order_is_that_of_a_real_camera() -> None:
    whole = Camera(resize=32, saturation=0.5, noise=0.03, jpeg_quality=85)
    steps = [
        Camera(resize=32),
        Camera(saturation=0.5),
        Camera(noise=0.03),
        Camera(jpeg_quality=85),
    ]
    image = IMAGE
    for step in steps:
        image = apply_camera(step, image, seed=9)
    np.testing.assert_array_equal(apply_camera(whole, IMAGE, seed=9), image)


def test_the_input_is_left_alone() -> None:
    before = IMAGE.copy()
    apply_camera(Camera(noise=0.1, saturation=0.2, jpeg_quality=50), IMAGE, seed=1)
    np.testing.assert_array_equal(IMAGE, before)
