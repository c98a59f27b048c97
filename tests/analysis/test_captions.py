"""Captions: from files that a person writes, and from a captioner, once for each photo."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from gapclose.analysis import captions
from gapclose.analysis.captioner import BATCH, Pixels, TransformersCaptioner, make_captioner
from gapclose.analysis.captions import captions_of, read_captions
from gapclose.analysis.decode import read_rgb
from gapclose.analysis.errors import CaptionerError, RealDataError

# ---------------------------------------------------------------- from a file


@pytest.fixture
def named(tmp_path: Path) -> list[Path]:
    """Photos by their names alone: reading captions opens none of them."""
    root = tmp_path / "photos"
    return [root / "cat" / "a.png", root / "cat" / "é.png", root / "frog" / "a.png"]


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


JSONL = """{"file_name": "cat/a.png", "text": " a cat,\\n on a mat "}

{"file_name": "cat/e\\u0301.png", "text": ""}
{"file_name": "ship/z.png", "text": "a ship", "width": 3}
{"file_name": "./frog/../frog/a.png", "text": "first"}
{"file_name": "frog/a.png", "text": "a \\"green\\" frog"}
"""
CSV = """\ufeffid,file_name,text\r
1,cat/a.png,"a cat,\r
 on a mat"\r
2,cat/é.png, \r
3,ship/z.png,a ship\r
\r
4,frog/a.png,first\r
5,frog/a.png,"a ""green"" frog"\r
"""


@pytest.mark.parametrize(("name", "text"), [("c.jsonl", JSONL), ("c.CSV", CSV)])
def test_captions_of_a_file(tmp_path: Path, named: list[Path], name: str, text: str) -> None:
    found = read_captions(write(tmp_path, name, text), named, tmp_path / "photos")
    assert found == {named[0]: "a cat, on a mat", named[2]: 'a "green" frog'}
    assert [*found] == [named[0], named[2]], "in the order of the photos"


def test_photos_and_folder_by_whatever_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, "c.csv", "file_name,text\ncat/a.png,a cat\n")
    monkeypatch.chdir(tmp_path)
    photo = Path("photos") / "cat" / "a.png"
    assert read_captions(file, [photo], tmp_path / "x" / ".." / "photos") == {photo: "a cat"}


@pytest.mark.parametrize(
    "name", ["../secret.png", "cat/../../secret.png", "/etc/passwd", "../photos-2/a.png", "."]
)
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_path_out_of_the_folder(
    tmp_path: Path, named: list[Path], name: str, suffix: str
) -> None:
    rows = [("cat/a.png", "a cat"), (name, "a secret")]
    text = "".join(json.dumps({"file_name": n, "text": t}) + "\n" for n, t in rows)
    if suffix == "csv":
        text = "file_name,text\n" + "".join(f"{n},{t}\n" for n, t in rows)
    path = write(tmp_path, f"c.{suffix}", text)
    with pytest.raises(RealDataError, match=r"leads out of .*photos; give file_name") as told:
        read_captions(path, [*named, tmp_path / "secret.png"], tmp_path / "photos")
    assert (told.value.path, told.value.line) == (path, 2 if suffix == "jsonl" else 3)


BAD = [
    ("c.txt", "a cat", None, r"\.jsonl and \.csv files"),
    ("c.jsonl", '{"file_name": "cat/a.png", "text": "a cat"}\n{"file_name"', 2, "JSON object"),
    ("c.jsonl", '{"file_name": "cat/a.png", "text": ["a cat"]}', None, "has no text for them"),
    ("c.jsonl", '{"file_name": "a.png", "text": "a"}', None, "'a.png', where a photo is 'cat/a"),
    ("c.jsonl", "", None, "names no photo; give each line"),
    ("c.jsonl", '{"file_name": "cat/a.png", "caption": "a"}', None, "names 1 photos and has no"),
    ("c.csv", "", 1, "no column file_name and no column text"),
    ("c.csv", "file_name,caption\ncat/a.png,a cat\n", 1, "no column text"),
    ("c.csv", "file_name,text\ncat/a.png,a cat\ncat/a.png,a, cat\n", 3, "double quotes"),
    ("c.csv", "file_name,text\ncat/a.png,a\n\ncat/a.png\n", 4, "expected 2 columns"),
    ("c.csv", 'file_name,text\ncat/a.png,a\ncat/a.png,"never ended\n\n', 3, "no CSV"),
    ("c.csv", "file_name,text,text\ncat/a.png,a,b\n", 1, "has the column text twice"),
    ("c.csv", "file_name,text\na.png,a cat\n", None, "names none of the 3 photos"),
]


@pytest.mark.parametrize(("name", "text", "line", "match"), BAD)
def test_a_file_that_cannot_be_used(
    tmp_path: Path, named: list[Path], name: str, text: str, line: int | None, match: str
) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(RealDataError, match=match) as told:
        read_captions(path, named, tmp_path / "photos")
    assert (told.value.path, told.value.line) == (path, line)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["c.jsonl", "c.csv"])
def test_a_file_that_is_no_text_or_not_there(tmp_path: Path, named: list[Path], name: str) -> None:
    with pytest.raises(RealDataError, match="no such file"):
        read_captions(tmp_path / name, named, tmp_path / "photos")
    (tmp_path / name).write_bytes(b"file_name,text\ncat/a.png,\xff\n")
    with pytest.raises(RealDataError, match="cannot be read"):
        read_captions(tmp_path / name, named, tmp_path / "photos")


# ---------------------------------------------------------------- from a captioner

N = 2 * BATCH + 3


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Photos of random blocks, of different sizes."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(N):
        block = Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8))
        block.resize((20 + 4 * n, 64 - 2 * n), Image.Resampling.NEAREST).save(folder / f"{n}.png")
    return [folder / f"{n}.png" for n in range(N)]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of a captioner got."""
    calls: list[int] = []
    caption = TransformersCaptioner.caption

    def counted(self: TransformersCaptioner, images: Sequence[Pixels]) -> list[str]:
        calls.append(len(images))
        return caption(self, images)

    monkeypatch.setattr(TransformersCaptioner, "caption", counted)
    return calls


@pytest.fixture
def name(captioner_folders: dict[str, Path]) -> str:
    """The quickest captioner."""
    return f"transformers:{captioner_folders['encoder-decoder']}"


def written(name: str, photos: Sequence[Path]) -> dict[Path, str]:
    """Captions without any cache."""
    texts = make_captioner(name, device="cpu").caption([read_rgb(photo) for photo in photos])
    return dict(zip(photos, texts, strict=True))


@pytest.mark.parametrize("kind", ["encoder-decoder", "chat"])  # blip has nothing to say of some
def test_each_photo_is_captioned_once(
    captioner_folders: dict[str, Path], photos: list[Path], seen: list[int], kind: str
) -> None:
    name = f"transformers:{captioner_folders[kind]}"
    expected = written(name, photos)
    seen.clear()
    found = captions_of(photos, name, device="cpu")
    assert found == expected
    assert [*found] == photos
    assert seen == [BATCH, BATCH, 3]
    moved = photos[0].rename(photos[0].with_name("moved.png"))
    again = captions_of([moved, *photos[1:]], name, device="cpu")
    assert [*again.values()] == [*expected.values()]
    assert seen == [BATCH, BATCH, 3], "the cache had all of them, one by another name"


def test_where_all_is_cached_torch_is_not_even_imported(photos: list[Path], name: str) -> None:
    captions_of(photos, name, device="cpu")
    code = f"""
import sys
from pathlib import Path
from gapclose.analysis.captions import captions_of
found = captions_of(sorted(Path({str(photos[0].parent)!r}).iterdir()), {name!r})
heavy = [m for m in ('torch', 'transformers') if m in sys.modules]
sys.stdout.write(f'{{len(found)}} {{heavy}}')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{N} []"


def test_an_interruption_costs_one_batch(photos: list[Path], name: str, seen: list[int]) -> None:
    def stop(done: int, total: int) -> None:
        if done == BATCH:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        captions_of(photos, name, device="cpu", progress=stop)
    assert seen == [BATCH]
    counted: list[tuple[int, int]] = []
    found = captions_of(
        photos, name, device="cpu", progress=lambda done, total: counted.append((done, total))
    )
    assert seen == [BATCH, BATCH, 3]
    assert counted == [(BATCH, N), (2 * BATCH, N), (N, N)]
    assert found == written(name, photos)


def test_captioners_do_not_mix(
    captioner_folders: dict[str, Path], photos: list[Path], seen: list[int]
) -> None:
    said = {
        kind: captions_of(photos[:4], f"transformers:{folder}", device="cpu")
        for kind, folder in captioner_folders.items()
    }
    assert seen == [4, 4, 4]
    assert len({frozenset(texts.values()) for texts in said.values()}) == 3
    for kind, folder in captioner_folders.items():
        assert captions_of(photos[:4], f"transformers:{folder}") == said[kind]


def test_unreadable_and_equal_photos(
    photos: list[Path], name: str, seen: list[int], tmp_path: Path
) -> None:
    bad, gone, copy = (tmp_path / f"{n}.png" for n in ("bad", "gone", "copy"))
    bad.write_bytes(photos[0].read_bytes()[:60])
    copy.write_bytes(photos[1].read_bytes())
    counted: list[tuple[int, int]] = []
    asked = [bad, photos[1], gone, copy, photos[2]]
    found = captions_of(
        asked, name, device="cpu", progress=lambda done, total: counted.append((done, total))
    )
    assert [*found] == [photos[1], copy, photos[2]]
    assert found[copy] == found[photos[1]]
    assert seen == [2]
    assert counted == [(2, 5), (5, 5)]
    with patch.object(captions, "make_captioner", side_effect=AssertionError):
        assert captions_of([bad, gone], name, device="cpu") == {}  # and no model is loaded
    assert captions_of([], name) == {}


def test_an_empty_caption_is_none_and_not_asked_for_again(
    photos: list[Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def say(self: TransformersCaptioner, images: Sequence[Pixels]) -> list[str]:
        calls.append(len(images))
        return ["", *("a frog" for _ in images[1:])]

    monkeypatch.setattr(TransformersCaptioner, "caption", say)
    for _ in range(2):
        assert captions_of(photos[:3], name) == dict.fromkeys(photos[1:3], "a frog")
    assert calls == [3]


def test_damaged_and_foreign_lines_are_passed_over(
    photos: list[Path], name: str, seen: list[int], tmp_path: Path
) -> None:
    expected = captions_of(photos, name, device="cpu")
    (file,) = (tmp_path / "cache" / "captions").iterdir()
    lines = [line for line in file.read_bytes().split(b"\n") if line]
    odd = [b"[]", b"\xff\x00", b'{"sha256": 3}', b'{"sha256": "zz", "text": "a"}', b"[" * 9999]
    no_text = json.dumps({"sha256": json.loads(lines[0])["sha256"], "text": None}).encode()
    torn = lines[1][:-4]
    file.write_bytes(b"\n".join([*odd, no_text, *lines[2:], torn]))
    seen.clear()
    for _ in range(2):  # what is added after a torn line is not lost with it
        assert captions_of(photos, name, device="cpu") == expected
    assert seen == [2]
    file.unlink()
    file.mkdir()
    assert captions_of(photos[:2], name, device="cpu") == dict([*expected.items()][:2])
    assert seen == [2, 2]


def test_a_cache_that_cannot_be_written_is_only_slower(
    photos: list[Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GAPCLOSE_CACHE", str(tmp_path / "file"))
    assert captions_of(photos[:3], name, device="cpu") == written(name, photos[:3])


def test_large_photos_are_made_smaller(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []

    def say(self: TransformersCaptioner, images: Sequence[Pixels]) -> list[str]:
        shapes.extend(image.shape for image in images)
        return ["a frog"] * len(images)

    monkeypatch.setattr(TransformersCaptioner, "caption", say)
    monkeypatch.setattr(captions, "_LARGEST", 200)
    sizes = {"large": (80, 40), "long": (9000, 1), "small": (20, 10)}
    for stem, (width, height) in sizes.items():
        image = Image.new("RGB", (width, height))
        image.putpixel((0, 0), (255, 255, 255))
        image.paste((200, 30, 30), (width // 2, 0, width, height))
        image.save(tmp_path / f"{stem}.png")
    captions_of([tmp_path / f"{stem}.png" for stem in sizes], name)
    assert shapes == [(10, 20, 3), (1, 1342, 3), (10, 20, 3)]


def test_a_name_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="write transformers:ID-or-PATH"):
        captions_of([tmp_path / "gone.png"], "blip")
