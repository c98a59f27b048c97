"""Image batches and how one image is written."""

from __future__ import annotations

import threading
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from gapclose.generators.images import (
    ImageBatch,
    is_one_colour,
    to_pixels,
    write_png,
    write_pngs,
)


def _image(seed: int, shape: tuple[int, int] = (6, 4)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_valid_keeps_images_and_seeds_together() -> None:
    images = tuple(_image(i) for i in range(3))
    batch = ImageBatch(images=images, seeds=(5, 6, 7), invalid=(None, "nan", None))
    valid = batch.valid()
    assert (len(batch), len(valid)) == (3, 2)
    assert valid.seeds == (5, 7)
    assert valid.invalid == (None, None)
    np.testing.assert_array_equal(valid.images[1], images[2])


def test_a_batch_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="one length"):
        ImageBatch(images=(_image(0),), seeds=(1, 2), invalid=(None,))
    with pytest.raises(ValueError, match="uint8 RGB"):
        ImageBatch(images=(_image(0)[..., :1],), seeds=(1,), invalid=(None,))
    with pytest.raises(ValueError, match="uint8 RGB"):
        ImageBatch(images=(_image(0) / 255.0,), seeds=(1,), invalid=(None,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 0, True), (254, 255, True), (7, 9, True), (7, 10, False)]
)
def test_one_colour_forgives_rounding_only(low: int, high: int, expected: bool) -> None:
    image = np.full((4, 4, 3), low, dtype=np.uint8)
    image[1, 2, 0] = high
    assert is_one_colour(image) is expected


def test_a_flat_colour_is_one_colour() -> None:
    assert is_one_colour(np.tile(np.array([9, 200, 30], dtype=np.uint8), (4, 4, 1)))


@pytest.mark.parametrize("side", [4, 400])
def test_several_are_written_and_a_failure_is_told(tmp_path: Path, side: int) -> None:
    images = {tmp_path / f"{i}" / "a.png": _image(i, (side, side)) for i in range(4)}
    write_pngs(images, source_type="digitalCreation")
    for path, image in images.items():
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
    write_pngs({})
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_pngs(images | {tmp_path / "file" / "a.png": _image(9, (side, side))})


def test_png_gives_back_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "1.png"
    write_png(path, _image(1))
    with Image.open(path) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), _image(1))
        assert not image.info
    assert [p.name for p in path.parent.iterdir()] == ["1.png"]


@pytest.mark.parametrize("source_type", ["trainedAlgorithmicMedia", "digitalCreation"])
def test_png_says_what_made_it(tmp_path: Path, source_type: str) -> None:
    write_png(tmp_path / "1.png", _image(1), source_type=source_type)
    with Image.open(tmp_path / "1.png") as image:
        image.load()
        packet = ElementTree.fromstring(image.info["XML:com.adobe.xmp"])
    (description,) = packet.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    value = description.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert value == f"http://cv.iptc.org/newscodes/digitalsourcetype/{source_type}"


def test_an_unknown_source_type_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="madeUp"):
        write_png(tmp_path / "1.png", _image(1), source_type="madeUp")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_png(tmp_path / "1.png", _image(1))
    with pytest.raises(TypeError):
        write_png(tmp_path / "1.png", _image(2).astype(np.float64)[..., None])  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["1.png"]
    with Image.open(tmp_path / "1.png") as image:
        np.testing.assert_array_equal(np.asarray(image), _image(1))


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    write_png(path, _image(0, (64, 64)))
    stop = threading.Event()

    def rewrite() -> None:
        seed = 0
        while not stop.is_set():
            seed += 1
            write_png(path, _image(seed, (64, 64)))

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(50):
            with Image.open(path) as image:
                image.load()
    finally:
        stop.set()
        writer.join()


def test_only_the_bad_image_of_a_batch_is_marked() -> None:
    images = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
    images[1, 3, 3, 0] = np.nan
    images[2, 0, 0, 1] = np.inf
    pixels, invalid = to_pixels(images, flagged=[False, False, False, True])
    assert invalid == [None, "nan", "nan", "safety"]
    np.testing.assert_array_equal(pixels[0], np.rint(images[0] * 255))
