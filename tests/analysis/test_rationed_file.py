"""A rationed file: many small parts are refused soon, and no honest image is."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gapclose.analysis import decode
from gapclose.analysis.decode import read_rgb
from gapclose.analysis.errors import UnreadableImageError
from gapclose.analysis.rationed_file import RationedFile

PARTS = 450_000
TOO_MANY = "too many parts for an image of its size"
PICTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def stored(form: str, pixels: np.ndarray = PICTURE, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def runs(data: bytes, side: int) -> bytes:
    """A BMP of runs."""
    palette = b"".join(bytes([grey, grey, grey, 0]) for grey in range(256))
    sizes = (40, side, side, 1, 8, 1, len(data), 2835, 2835, 256, 0)
    head = struct.pack("<IiiHHIIiiII", *sizes)
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + palette + data


def bomb(kind: str) -> bytes:
    gif, png, jpeg = stored("GIF"), stored("PNG"), stored("JPEG")
    colors = 13 + 3 * (2 << (gif[10] & 7))  # where the table of colours ends
    pixels, end = png.index(b"IDAT") - 4, png.rindex(b"IEND") - 4
    return {
        "comments.gif": gif[:colors] + b"!\xfe\x01a\x00" * PARTS + gif[colors:],
        "chunks.png": png[:pixels] + chunk(b"juNK") * PARTS + png[pixels:],
        "empty.png": png[:pixels] + chunk(b"IDAT") * PARTS + png[pixels:],
        "tail.png": png[:end] + chunk(b"juNK") * PARTS + png[end:],
        "fill.jpg": jpeg[:2] + b"\xff" * PARTS + jpeg[2:],
        "segments.jpg": jpeg[:2] + b"\xff\xe5\x00\x02" * PARTS + jpeg[2:],
        "exif.jpg": jpeg[:2] + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)) * 420 + jpeg[2:],
        "lines.bmp": runs(b"\0\0" * PARTS * 2, 16),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "comments.gif",
        "chunks.png",
        "empty.png",
        "tail.png",
        "fill.jpg",
        "segments.jpg",
        "exif.jpg",
        "lines.bmp",
    ],
)
def test_an_image_of_many_small_parts_is_unreadable(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    path.write_bytes(bomb(kind))
    with pytest.raises(UnreadableImageError, match=TOO_MANY):
        read_rgb(path)


@pytest.mark.parametrize("form", ["QOI", "PPM"])
def test_what_is_decoded_pixel_by_pixel_may_be_only_so_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    path = tmp_path / "x"
    path.write_bytes(
        stored("QOI") if form == "QOI" else b"P6 16 16 200\n" + (PICTURE // 2).tobytes()
    )
    pixels = read_rgb(path)
    assert pixels.shape == PICTURE.shape
    if form == "QOI":
        assert (pixels == PICTURE).all()
    monkeypatch.setattr(decode, "_MAX_BY_PYTHON", PICTURE.size // 3 - 1)
    with pytest.raises(UnreadableImageError, match=f"more than 255 pixels, for a {form}"):
        read_rgb(path)


def test_runs_of_one_pixel_are_read(tmp_path: Path) -> None:
    grey = PICTURE[..., 0]
    rows = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in grey)
    (tmp_path / "x.bmp").write_bytes(runs(rows + b"\0\1", 16))
    assert (read_rgb(tmp_path / "x.bmp")[::-1, :, 0] == grey).all()


def test_pixels_may_come_in_small_chunks(tmp_path: Path) -> None:
    """Some encoders cut their data into chunks of 256 bytes; there may be many of these."""
    pixels = np.random.default_rng(1).integers(0, 256, (3072, 3072, 3), dtype=np.uint8)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 3072, 3072, 8, 2, 0, 0, 0))
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # a filter's number, then the row
    whole = zlib.compress(rows, level=0)
    parts = (whole[at : at + 256] for at in range(0, len(whole), 256))
    cut = b"".join(chunk(b"IDAT", part) for part in parts)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + cut + chunk(b"IEND"))
    assert (read_rgb(tmp_path / "x.png") == pixels).all()


def test_a_few_large_parts_are_no_trouble(tmp_path: Path) -> None:
    jpeg = stored("JPEG")
    depth = (b"\xff\xe1\xff\xffhttp://ns.adobe.com/xmp/extension/\0" + bytes(65533 - 35)) * 160
    (tmp_path / "x.jpg").write_bytes(jpeg[:2] + depth + jpeg[2:] + bytes(30_000_000))
    (tmp_path / "y.jpg").write_bytes(jpeg)
    assert (read_rgb(tmp_path / "x.jpg") == read_rgb(tmp_path / "y.jpg")).all()


def test_it_is_closed_when_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(ValueError, match="more than 0 MiB"):
        RationedFile(tmp_path / "x", most=4)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        RationedFile(tmp_path / "pipe", most=4)
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    with RationedFile(tmp_path / "x", most=5) as file:
        assert (file.read(2), file.read(), file.read()) == (b"12", b"345", b"")
