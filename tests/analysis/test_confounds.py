"""Confounds: how two sides are stored, and one form for both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from gapclose.analysis.confounds import (
    Confounds,
    Form,
    common_form,
    describe_confounds,
    equalize,
    read_confounds,
    resize,
)
from gapclose.analysis.image_folder import ImageSet, scan


def save(
    path: Path, colour: tuple[int, int, int] = (10, 200, 30), size: tuple[int, int] = (4, 4)
) -> Path:
    """Write one image of one colour but for its last pixel: one colour alone is no picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, colour)
    image.putpixel((size[0] - 1, size[1] - 1), (255, 0, 255))
    image.save(path)
    return path


def stored(*sides: ImageSet) -> list[Confounds]:
    return [read_confounds(side) for side in sides]


def folder_of(folder: Path, suffix: str, sizes: list[tuple[int, int]], **how: int) -> Path:
    """A folder with one noisy image per size."""
    folder.mkdir()
    rng = np.random.default_rng(len(sizes))
    for i, (width, height) in enumerate(sizes):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.{suffix}", **how)
    return folder


def test_codec_and_size_are_named_and_removed(tmp_path: Path) -> None:
    real = scan(folder_of(tmp_path / "r", "jpg", [(32, 32)] * 12, quality=85))
    synthetic = scan(folder_of(tmp_path / "s", "png", [(64, 48)] * 9))
    assert describe_confounds(*stored(real, synthetic)) == [
        "synthetic: png 64x48, real: jpeg 32x32"
    ]
    assert common_form(*stored(real, synthetic)) == Form(size=(32, 32), quality=85)


def test_equal_sides_have_no_confounds(tmp_path: Path) -> None:
    sizes = [(20 + i % 7, 30 + i % 5) for i in range(60)]
    real = scan(folder_of(tmp_path / "r", "png", sizes))
    synthetic = scan(folder_of(tmp_path / "s", "png", sizes[3:] + sizes[:3]))
    assert describe_confounds(*stored(real, synthetic)) == []
    assert common_form(*stored(real, synthetic)) is None
    assert describe_confounds(*stored(real, real)) == []


def test_aspect_alone_counts_and_lossless_codecs_need_no_jpeg(tmp_path: Path) -> None:
    real = scan(folder_of(tmp_path / "r", "png", [(40, 20)] * 10))
    synthetic = scan(folder_of(tmp_path / "s", "bmp", [(20, 40)] * 10))
    assert describe_confounds(*stored(real, synthetic)) == [
        "synthetic: bmp 20x40, real: png 40x20"
    ]
    assert common_form(*stored(real, synthetic)) == Form(size=(20, 20), quality=None)


def test_orientation_counts_as_it_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for side in ("r", "s"):
        (tmp_path / side).mkdir()
    for i in range(10):
        Image.new("RGB", (20, 40)).save(tmp_path / "r" / f"{i}.jpg")
        Image.new("RGB", (40, 20)).save(tmp_path / "s" / f"{i}.jpg", exif=exif)
    assert describe_confounds(*stored(scan(tmp_path / "r"), scan(tmp_path / "s"))) == []


def test_unreadable_files_are_no_confound(tmp_path: Path) -> None:
    real = scan(folder_of(tmp_path / "r", "png", [(8, 8)] * 4))
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.png").write_bytes(b"")
    assert describe_confounds(*stored(real, scan(tmp_path / "s"))) == []


def test_equalize_gives_both_sides_one_size_and_one_codec() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    out = equalize(image, size=(32, 32), quality=80)
    assert out.shape == (32, 32, 3)
    np.testing.assert_array_equal(out, equalize(image, size=(32, 32), quality=80))
    np.testing.assert_array_equal(equalize(image, size=(64, 96), quality=None), image)
    plain = equalize(image, size=(32, 32), quality=None)
    assert np.abs(out.astype(int) - plain).max() > 3  # the round trip leaves its mark


def test_resize_cuts_the_middle_and_is_antialiased() -> None:
    image = np.zeros((100, 300, 3), dtype=np.uint8)
    image[:, 100:200] = 255  # a white square in the middle of a black band
    assert resize(image, size=(10, 10)).min() >= 230  # the kernel reaches past the cut
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = resize(np.repeat(board[:, :, None], 3, axis=2), size=(16, 16))
    assert np.abs(small.astype(int) - 127.5).max() <= 2
