"""Decoding: modes, formats, profiles, sizes and damage."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from gapclose.analysis import decode
from gapclose.analysis.decode import PREFIX, read_rgb, sniff
from gapclose.analysis.errors import InvalidImageError, UnreadableImageError


def save(
    path: Path, colour: tuple[int, int, int] = (10, 200, 30), size: tuple[int, int] = (4, 4)
) -> Path:
    """Write one image of one colour but for its last pixel: one colour alone is no picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, colour)
    image.putpixel((size[0] - 1, size[1] - 1), (255, 0, 255))
    image.save(path)
    return path


RED_HALF = (255, 127, 127)  # red at half opacity on white


def test_modes_become_rgb(tmp_path: Path) -> None:
    quantized = Image.new("RGB", (3, 3), (255, 0, 0))
    quantized.paste((0, 0, 255), (0, 2, 3, 3))
    made = {  # the lowest row is of another colour: one colour alone is no picture
        "L.png": (Image.new("L", (3, 3), 77), 200, (77, 77, 77)),
        "1.png": (Image.new("1", (3, 3), 1), 0, (255, 255, 255)),
        "LA.png": (Image.new("LA", (3, 3), (0, 0)), (9, 255), (255, 255, 255)),
        "RGBA.png": (Image.new("RGBA", (3, 3), (255, 0, 0, 128)), (9, 9, 9, 255), RED_HALF),
        "P.png": (quantized.quantize(4), None, (255, 0, 0)),
        "CMYK.tif": (Image.new("CMYK", (3, 3), (0, 255, 255, 0)), (0, 0, 0, 200), (255, 0, 0)),
        "F.tif": (Image.new("F", (3, 3), 0.5), 0.9, (128, 128, 128)),
        "bmp.bmp": (Image.new("RGB", (3, 3), (1, 2, 3)), (99, 99, 99), (1, 2, 3)),
        "webp.webp": (Image.new("RGBA", (3, 3), (0, 0, 0, 0)), (9, 9, 9, 255), (255, 255, 255)),
        "gif.gif": (quantized, None, (255, 0, 0)),
        "j2k.jp2": (quantized, None, (255, 0, 0)),
        "ppm.ppm": (quantized, None, (255, 0, 0)),
    }
    for name, (image, other, expected) in made.items():
        if other is not None:
            image.paste(other, (0, 2, 3, 3))  # type: ignore[arg-type]
        image.save(tmp_path / name, lossless=True)
        read = read_rgb(tmp_path / name)
        assert read.shape == (3, 3, 3), name
        assert read.dtype == np.uint8
        assert np.abs(read[:2].astype(int) - expected).max() <= 1, name
        assert np.abs(read[2].astype(int) - expected).max() > 50, name


def test_palette_and_true_colour_with_a_transparent_colour(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_rgb(tmp_path / "p.png").tolist() == [[[255, 255, 255], [0, 0, 255]]]
    true_colour = Image.new("RGB", (2, 1), (0, 255, 0))
    true_colour.putpixel((1, 0), (7, 7, 7))
    true_colour.save(tmp_path / "t.png", transparency=(0, 255, 0))
    assert read_rgb(tmp_path / "t.png").tolist() == [[[255, 255, 255], [7, 7, 7]]]


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bits_are_scaled_and_not_cut(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    assert read_rgb(tmp_path / name)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    image = Image.new("CMYK", (32, 16), (255, 0, 255, 0))
    image.paste((0, 0, 0, 255), (16, 0, 32, 16))
    image.save(tmp_path / "a.jpg", quality=95)
    read = read_rgb(tmp_path / "a.jpg").astype(int)
    assert np.abs(read[:, :15] - (0, 255, 0)).max() <= 4
    assert read[:, 17:].max() <= 4


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_is_applied_once(tmp_path: Path, turn: int, suffix: str) -> None:
    upright = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 9
    # How a camera stores it: the inverse of what EXIF 4.6.4 table 6 asks the viewer to do.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a.{suffix}", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / f"a.{suffix}"), upright)


def test_damaged_exif_does_not_lose_the_picture(tmp_path: Path) -> None:
    image = Image.new("RGB", (5, 3), (9, 9, 9))
    image.putpixel((0, 0), (200, 200, 200))
    image.save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff")
    assert read_rgb(tmp_path / "a.jpg").shape == (3, 5, 3)


def test_the_first_of_several_frames(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].putpixel((1, 1), (0, 0, 0))
    for name in ("a.png", "a.tif", "a.webp", "a.gif"):
        lossless = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **lossless)
        assert read_rgb(tmp_path / name)[0, 0].tolist() == [255, 0, 0], name


def test_damaged_files_are_named_with_a_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    cases = {"cut.jpg": whole[: len(whole) // 2], "empty.png": b"", "text.png": b"hello" * 40}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImageError) as caught:
            read_rgb(tmp_path / name)
        assert caught.value.path == tmp_path / name
        assert caught.value.why
        assert str(tmp_path) not in caught.value.why


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_decompression_bomb_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Literal["error", "ignore"]
) -> None:
    warnings.simplefilter(action)
    path = save(tmp_path / "big.png", size=(40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own limit is not asked
    read_rgb(path)
    monkeypatch.setattr(decode, "MAX_PIXELS", 1500)
    with pytest.raises(UnreadableImageError, match="more than 1,500 pixels; may be a decompress"):
        read_rgb(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phone.jpg", "scan.png"])
def test_108_megapixels_are_read_in_bounded_memory(tmp_path: Path, name: str) -> None:
    size = (12_000, 9_000)
    tile = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    image = Image.fromarray(tile).resize(size, Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright
    image.save(tmp_path / name, quality=95, compress_level=1, exif=exif)
    del image
    code = (
        "import resource, sys; from pathlib import Path; "
        "from gapclose.analysis.decode import read_rgb; "
        "from concurrent.futures import ThreadPoolExecutor; "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "shapes = [*ThreadPoolExecutor(4).map(lambda p: read_rgb(Path(p)).shape, sys.argv[1:])]; "
        "print(shapes[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    asked = [sys.executable, "-c", code, *4 * [str(tmp_path / name)]]
    out = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    shape, kib = re.fullmatch(r"(\(.*\)) (\d+)\n", out).groups()  # type: ignore[union-attr]
    assert shape == "(6000, 4500, 3)"
    assert int(kib) < 1.5 * 2**20, "four whole images at once would take 2.4 GiB and more"


def picture(size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Smooth colours, which lossy codecs keep."""
    y, x = np.mgrid[: size[1], : size[0]]
    channels = [200 * x / size[0], 200 * y / size[1], 120 + 0 * x]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("JPEG", "a.jfif"),
        ("JPEG", "no_suffix"),
        ("PNG", "a.txt"),
        ("GIF", "a.gif"),
        ("AVIF", "a.avif"),
        ("HEIF", "a.heic"),
        ("HEIF", "wrong.jpg"),
        ("TIFF", "a.dng.part"),
    ],
)
def test_the_format_is_told_by_content(tmp_path: Path, kind: str, name: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    picture().save(tmp_path / name, kind)
    with (tmp_path / name).open("rb") as file:
        assert sniff(file.read(PREFIX)) == kind
    read = read_rgb(tmp_path / name).astype(int)
    assert np.abs(read - np.asarray(picture(), dtype=int)).mean() < 12, "GIF has 256 colours"


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [picture(), picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    for name in ("a.gif", "a.webp", "a.avif", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        read = read_rgb(tmp_path / name).astype(int)
        assert np.abs(read - np.asarray(frames[0], dtype=int)).mean() < 12, name


def test_postscript_is_not_opened_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(UnreadableImageError, match="not an image of a format that is read"):
        read_rgb(tmp_path / "a.jpg")


@pytest.mark.parametrize("magic", ["P1", "P2", "P3"])
def test_ppm_in_digits_is_not_opened(tmp_path: Path, magic: str) -> None:
    """A few comments in one take Pillow hours."""
    (tmp_path / "a.ppm").write_text(f"{magic}\n2 2\n255\n" + "#\n" * 9 + "0 1 1 0 " * 3)
    with pytest.raises(UnreadableImageError, match="not an image of a format that is read"):
        read_rgb(tmp_path / "a.ppm")


def test_heif_without_its_decoder_says_what_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    picture().save(tmp_path / "a.heic", "HEIF")
    without = {name: pair for name, pair in decode._openers().items() if name != "HEIF"}
    monkeypatch.setattr(decode, "_openers", lambda: without)
    with pytest.raises(UnreadableImageError, match=r"HEIF, which pip install gapclose\[heif\]"):
        read_rgb(tmp_path / "a.heic")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImageError, match="no regular file"):
        read_rgb(tmp_path / "a.jpg")


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (7, 90, 200)])
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_one_colour_is_no_picture(tmp_path: Path, colour: tuple[int, int, int], name: str) -> None:
    Image.new("RGB", (16, 16), colour).save(tmp_path / name)
    with pytest.raises(InvalidImageError, match="one colour"):
        read_rgb(tmp_path / name)
    save(tmp_path / "b.png", colour, (64, 64))  # one pixel is a picture
    assert read_rgb(tmp_path / "b.png").shape == (64, 64, 3)


def test_floats_that_are_not_numbers_are_no_picture(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImageError, match="not numbers"):
        read_rgb(tmp_path / "a.tif")


def wide_profile() -> bytes:
    """A profile with the primaries of Adobe RGB (1998), laid out as ICC.1:2010 says."""

    # D50-adapted colorants of Adobe RGB (1998), gamma 563/256.
    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    xyz = {
        b"rXYZ": (0.60974, 0.31111, 0.01947),
        b"gXYZ": (0.20528, 0.62567, 0.06087),
        b"bXYZ": (0.14919, 0.06322, 0.74457),
        b"wtpt": (0.96420, 1.0, 0.82491),
    }
    tags = {key: b"XYZ \0\0\0\0" + fixed(*value) for key, value in xyz.items()}
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 563) + b"\0\0"
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    name = b"wide"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + b"\0" + bytes(79)
    tags |= {b"desc": described + bytes(-len(described) % 4)}
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for key, content in tags.items():
        table += key + struct.pack(">II", start + len(body), len(content))
        body += content
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s12s4s", size, b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ",
                       bytes(12), b"acsp")  # fmt: skip
    head += bytes(28) + fixed(0.9642, 1.0, 0.82491) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_a_colour_profile_is_converted_to_srgb(tmp_path: Path, name: str) -> None:
    values = np.zeros((16, 16, 3), dtype=np.uint8)
    values[:8], values[8:] = (100, 150, 100), (128, 128, 128)
    how = {"quality": 100, "subsampling": 0} if name == "a.jpg" else {"lossless": True}
    Image.fromarray(values).save(tmp_path / name, icc_profile=wide_profile(), **how)
    read = read_rgb(tmp_path / name).astype(int)
    # Adobe RGB (100, 150, 100) in sRGB, by the two matrices and curves: (66, 151, 97).
    assert np.abs(read[3, 3] - (66, 151, 97)).max() <= 3, read[3, 3]
    assert np.abs(read[12, 3] - 128).max() <= 2, "grey stays grey"
    Image.fromarray(values).save(tmp_path / "plain.png")
    assert read_rgb(tmp_path / "plain.png")[3, 3].tolist() == [100, 150, 100]


def test_profiles_that_say_nothing_new_change_nothing(tmp_path: Path) -> None:
    values = np.asarray(picture())
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, profile in enumerate((srgb, b"no profile at all", wide_profile()[:200])):
        Image.fromarray(values).save(tmp_path / f"{number}.png", icc_profile=profile)
        np.testing.assert_array_equal(read_rgb(tmp_path / f"{number}.png"), values)


def test_a_profile_of_grey_or_of_transparent_images_is_no_trouble(tmp_path: Path) -> None:
    Image.fromarray(np.asarray(picture())[..., 0]).save(
        tmp_path / "grey.png", icc_profile=wide_profile()
    )
    assert np.ptp(read_rgb(tmp_path / "grey.png"), axis=2).max() == 0, (
        "an RGB profile is not for it"
    )
    clear = picture().convert("RGBA")
    clear.putpixel((0, 0), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png", icc_profile=wide_profile())
    assert read_rgb(tmp_path / "clear.png")[0, 0].tolist() == [255, 255, 255]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_gives_an_image_or_the_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / data.draw(
        st.sampled_from(["a.png", "a.jpg", "a.webp", "a.bmp", "a.tif", "a.gif", "a.avif", "a.jp2"])
    )
    pixels = np.random.default_rng(1).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    with suppress(UnreadableImageError):  # anything else fails the test
        assert read_rgb(path).shape[2] == 3


def test_many_threads_read_alike(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", colour=(i, 0, 0)) for i in range(40)]
    seen: list[int] = []

    def work() -> None:
        seen.extend(int(read_rgb(path)[0, 0, 0]) for path in paths)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(list(range(40)) * 4)
