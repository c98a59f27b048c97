"""Confounds: how two sides are stored, and one form for both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gapclose.analysis.confounds import (
    Confounds,
    Form,
    Header,
    common_form,
    describe_confounds,
    differences,
    equalize,
    read_confounds,
    read_header,
    resize,
)
from gapclose.analysis.image_folder import ImageSet, scan


def stored(*sides: ImageSet) -> list[Confounds]:
    return [read_confounds([file.path for file in side.files]) for side in sides]


def described(real: ImageSet, synthetic: ImageSet) -> list[str]:
    """As one class."""
    ours, theirs = stored(real, synthetic)
    return describe_confounds({"all": ours}, {"all": theirs})


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
    assert described(real, synthetic) == ["synthetic: png 64x48, real: jpeg 32x32"]
    assert common_form(*stored(real, synthetic)) == Form(size=(32, 32), quality=85)


@pytest.mark.parametrize("worse", ["real", "synthetic"])
def test_jpeg_quality_is_told_and_both_sides_get_the_lower(tmp_path: Path, worse: str) -> None:
    quality = {"real": 95, "synthetic": 95} | {worse: 30}
    real = scan(folder_of(tmp_path / "r", "jpg", [(32, 32)] * 30, quality=quality["real"]))
    synthetic = scan(
        folder_of(tmp_path / "s", "jpg", [(32, 32)] * 30, quality=quality["synthetic"])
    )
    assert described(real, synthetic) == [
        f"synthetic: jpeg quality {quality['synthetic']} 32x32, "
        f"real: jpeg quality {quality['real']} 32x32"
    ]
    assert differences(*stored(real, synthetic)) == ("quality",)
    assert common_form(*stored(real, synthetic)) == Form(size=None, quality=30)


def test_a_side_of_two_qualities_is_put_through_the_lower(tmp_path: Path) -> None:
    real = scan(folder_of(tmp_path / "r", "jpg", [(32, 32)] * 60, quality=90))
    folder_of(tmp_path / "s", "jpg", [(32, 32)] * 30, quality=90)
    synthetic = scan(folder_of(tmp_path / "s" / "below", "jpg", [(32, 32)] * 30, quality=40))
    both = ImageSet(root=tmp_path, files=(*scan(tmp_path / "s").files, *synthetic.files))
    assert common_form(*stored(real, both)) == Form(size=None, quality=40)


def test_chroma_subsampling_counts(tmp_path: Path) -> None:
    sizes = [(32, 32)] * 30
    real = scan(folder_of(tmp_path / "r", "jpg", sizes, quality=90, subsampling=2))
    synthetic = scan(folder_of(tmp_path / "s", "jpg", sizes, quality=90, subsampling=0))
    assert differences(*stored(real, synthetic)) == ("chroma",)
    assert described(real, synthetic) == ["synthetic: jpeg 4:4:4 32x32, real: jpeg 4:2:0 32x32"]
    assert common_form(*stored(real, synthetic)) == Form(size=None, quality=90, chroma="4:2:0")


def test_codecs_that_lose_nothing_are_as_one(tmp_path: Path) -> None:
    real = scan(folder_of(tmp_path / "r", "png", [(32, 32)] * 30))
    synthetic = scan(folder_of(tmp_path / "s", "bmp", [(32, 32)] * 30))
    assert described(real, synthetic) == []
    assert common_form(*stored(real, synthetic)) is None


def test_a_single_jpeg_a_side_tells_no_quality() -> None:
    def side(quality: int) -> Confounds:
        return Confounds(
            codecs=("png",) * 99 + ("jpeg",),
            heights=(32,) * 100,
            widths=(32,) * 100,
            qualities=(quality,),
            chromas=("4:2:0",),
        )

    assert differences(side(40), side(95)) == ()


def test_one_class_of_ten_is_named(tmp_path: Path) -> None:
    like = stored(scan(folder_of(tmp_path / "a", "png", [(32, 32)] * 30)))[0]
    small = stored(scan(folder_of(tmp_path / "b", "jpg", [(16, 16)] * 30, quality=35)))[0]
    real = {f"class {i}": like for i in range(10)}
    assert describe_confounds(real, real) == []
    assert describe_confounds(real, real | {"class 3": small}) == [
        "class 3: synthetic: jpeg 16x16, real: png 32x32"
    ]
    assert describe_confounds(real, dict.fromkeys(real, small)) == [
        "synthetic: jpeg 16x16, real: png 32x32"
    ]


def test_halves_of_one_folder_are_rarely_called_different() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        real, synthetic = (
            Confounds(
                codecs=tuple(rng.choice(["jpeg", "png"], 60)),
                heights=tuple(rng.integers(200, 600, 60)),
                widths=tuple(rng.integers(200, 600, 60)),
                qualities=tuple(rng.choice([75, 85, 90, 95], 60)),
                chromas=tuple(rng.choice(["4:2:0", "4:4:4"], 60)),
            )
            for _ in range(2)
        )
        wrong += bool(differences(real, synthetic))
    assert wrong <= 8, "one in a hundred by its level"


def test_equal_sides_have_no_confounds(tmp_path: Path) -> None:
    sizes = [(20 + i % 7, 30 + i % 5) for i in range(60)]
    real = scan(folder_of(tmp_path / "r", "png", sizes))
    synthetic = scan(folder_of(tmp_path / "s", "png", sizes[3:] + sizes[:3]))
    assert described(real, synthetic) == []
    assert common_form(*stored(real, synthetic)) is None
    assert described(real, real) == []


def test_aspect_alone_counts_and_lossless_codecs_need_no_jpeg(tmp_path: Path) -> None:
    real = scan(folder_of(tmp_path / "r", "png", [(40, 20)] * 10))
    synthetic = scan(folder_of(tmp_path / "s", "bmp", [(20, 40)] * 10))
    assert described(real, synthetic) == ["synthetic: bmp 20x40, real: png 40x20"]
    assert common_form(*stored(real, synthetic)) == Form(size=(20, 20), quality=None)


def test_orientation_counts_as_it_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for side in ("r", "s"):
        (tmp_path / side).mkdir()
    for i in range(10):
        Image.new("RGB", (20, 40)).save(tmp_path / "r" / f"{i}.jpg")
        Image.new("RGB", (40, 20)).save(tmp_path / "s" / f"{i}.jpg", exif=exif)
    assert described(scan(tmp_path / "r"), scan(tmp_path / "s")) == []


def test_unreadable_files_are_no_confound(tmp_path: Path) -> None:
    real = scan(folder_of(tmp_path / "r", "png", [(8, 8)] * 4))
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.png").write_bytes(b"")
    assert described(real, scan(tmp_path / "s")) == []


def test_equalize_gives_both_sides_one_size_and_one_codec() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    form = Form(size=(32, 32), quality=80)
    out = equalize(image, form)
    assert out.shape == (32, 32, 3)
    np.testing.assert_array_equal(out, equalize(image, form))
    np.testing.assert_array_equal(equalize(image, Form(size=(64, 96), quality=None)), image)
    plain = equalize(image, Form(size=(32, 32), quality=None))
    whole = equalize(image, Form(size=(32, 32), quality=80, chroma="4:4:4"))
    assert np.abs(whole.astype(int) - plain).mean() < np.abs(out.astype(int) - plain).mean()
    assert np.abs(out.astype(int) - plain).max() > 3  # the round trip leaves its mark


def test_resize_cuts_the_middle_and_is_antialiased() -> None:
    image = np.zeros((100, 300, 3), dtype=np.uint8)
    image[:, 100:200] = 255  # a white square in the middle of a black band
    assert resize(image, size=(10, 10)).min() >= 230  # the kernel reaches past the cut
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = resize(np.repeat(board[:, :, None], 3, axis=2), size=(16, 16))
    assert np.abs(small.astype(int) - 127.5).max() <= 2


def test_a_header_is_that_of_one_file(tmp_path: Path) -> None:
    folder_of(tmp_path / "a", "jpg", [(40, 30)], quality=75, subsampling=1)
    assert read_header(tmp_path / "a" / "0.jpg") == Header(
        codec="jpeg", height=30, width=40, quality=75, chroma="4:2:2"
    )
    folder_of(tmp_path / "b", "png", [(40, 30)])
    assert read_header(tmp_path / "b" / "0.png") == Header(codec="png", height=30, width=40)
    gray = tmp_path / "gray.jpg"
    Image.new("L", (8, 9)).save(gray, quality=30)
    assert read_header(gray) == Header(codec="jpeg", height=9, width=8, quality=30)
    with pytest.raises(OSError, match="gone"):
        read_header(tmp_path / "gone.jpg")
