"""Attacks on image folders: what downloads, cameras, archives and strangers leave among photos."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml
from PIL import Image
from run_attacks import CONTROLS
from watched import Case
from worlds import CLASSES, World, config_of, copied

__all__ = ["image_case_of"]

Attack = Callable[[random.Random, Path, World], str]

PER_CLASS: Final = 44
NAMES: Final = ("x.jpg", "x.png", "x.tiff", "x.webp", "x", ".x.jpg", "x.jpg.png")


def image_case_of(number: int, seed: int, folder: Path, world: World) -> Case:
    """Damage a copy of a folder of photos, and audit it, begin with it, or tune to it."""
    rng = random.Random(f"images:{seed}:{number}")
    sides = [_few(folder / name, rng, world) for name in ("real", "synthetic")]
    copied(world.bases[0].cache, folder / "cache")
    (folder / "work").mkdir()
    attack = ATTACKS[number % len(ATTACKS)]
    command = rng.choice(["audit", "audit", "audit", "init", "tune"])
    side = rng.choice(sides) if command == "audit" else sides[0]
    said = f"{attack.__name__.strip('_')} {attack(rng, side, world)}"
    if rng.random() < 0.15 and (side / "frog").exists():  # else its name is the attack
        other = rng.choice([another for another in ATTACKS if another is not attack])
        said += f"; {other.__name__.strip('_')} {other(rng, side, world)}"
    out = str(folder / "work/out")
    if command == "audit":
        real, synthetic = map(str, sides)
        words = ["audit", "--real", real, "--synthetic", synthetic, "--embedder", "pond"]
        words += ["--out", out]
    elif command == "init":
        words = ["init", str(side), "-o", str(folder / "work/config.yaml")]
    else:
        tune = {"budget": None, "trials": 1, "images_per_trial": 2}
        data = config_of(side, classes="all", tune=tune, confirm={"images": 20})
        (folder / "c.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
        words = ["tune", str(folder / "c.yaml"), "--out", out]
    private = attack in (_unreadable_file, _unreadable_folder)
    return Case(name=f"images:{number}", what=said, words=words, folder=folder, plain_user=private)


def _few(target: Path, rng: random.Random, world: World) -> Path:
    first = rng.randrange(100)
    for cls in CLASSES:
        (target / cls).mkdir(parents=True)
        for path in sorted((world.photos / cls).iterdir())[first : first + PER_CLASS]:
            os.link(path, target / cls / path.name)
    return target


def _new(rng: random.Random, folder: Path, name: str | None = None) -> Path:
    """A name that is free, most often in a class folder."""
    path = rng.choice([folder / "frog", folder / "ship", folder]) / (name or rng.choice(NAMES))
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)  # another attack's
    return path


def _put(rng: random.Random, folder: Path, data: bytes, name: str | None = None) -> str:
    path = _new(rng, folder, name)
    path.write_bytes(data)
    return path.name


def _photo(size: tuple[int, int] = (32, 32), kind: str = "PNG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 40).convert(mode).save(file, kind)
    return file.getvalue()


# --------------------------------------------------------------------------------- the attacks


def _pipe(rng: random.Random, folder: Path, world: World) -> str:
    path = _new(rng, folder, rng.choice([*NAMES, "metadata.jsonl"]))
    os.mkfifo(path)
    return path.name


def _link_to_a_device(rng: random.Random, folder: Path, world: World) -> str:
    path = _new(rng, folder, rng.choice([*NAMES, "metadata.jsonl"]))
    device = rng.choice(
        ["/dev/zero", "/dev/full", "/dev/random", str(world.canary.folder / "pipe")]
    )
    path.symlink_to(device)
    return f"{path.name} -> {device}"


def _sparse(rng: random.Random, folder: Path, world: World) -> str:
    path = _new(rng, folder, rng.choice([*NAMES, "metadata.jsonl"]))
    path.write_bytes(rng.choice([b"", _photo()]) if path.suffix != ".jsonl" else b"")
    with path.open("r+b") as file:
        file.truncate(20 * 10**9)
    return path.name


def _self_link(rng: random.Random, folder: Path, world: World) -> str:
    path = _new(rng, folder, rng.choice([*NAMES, "metadata.jsonl"]))
    path.symlink_to(rng.choice([path.name, ".", "..", "../.."]))
    return f"{path.name} -> {path.readlink()}"


def _linked_round(rng: random.Random, folder: Path, world: World) -> str:
    """Folders that hold each other, many times over."""
    for name in "abcdefgh":
        (folder / "frog" / name).mkdir(parents=True, exist_ok=True)
        for other in "abcdefgh":
            (folder / "frog" / name / f"to-{other}").symlink_to(f"../{other}")
    return ""


def _program(rng: random.Random, folder: Path, world: World) -> str:
    pwned = world.canary.folder / "pwned"
    texts = [
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n({pwned}) (w) file closefile\n",
        f"%PDF-1.4\n1 0 obj << /Type /Catalog /OpenAction << /S /Launch /F ({pwned}) >> >>\n",
        f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{pwned}"/></svg>',
        f"push graphic-context\nviewbox 0 0 32 32\nfill 'url(https://x/\"|touch \"{pwned})'\n",
        f"#!/bin/sh\ntouch {pwned}\n",
        "\xff\xd8\xff\xe0 no jpeg",
    ]
    return _put(rng, folder, rng.choice(texts).encode("latin-1"), rng.choice(["x.jpg", "x.png"]))


def _cut_short(rng: random.Random, folder: Path, world: World) -> str:
    data = _photo((64, 64), rng.choice(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]))
    return _put(rng, folder, data[: rng.randrange(len(data))], "cut.jpg")


def _flipped(rng: random.Random, folder: Path, world: World) -> str:
    kind = rng.choice(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF"])
    for number in range(10):
        data = bytearray(_photo((64, 64), kind))
        for _ in range(rng.choice([1, 8, 64])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (folder / "frog" / f"flipped-{number}.png").write_bytes(bytes(data))
    return kind


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(size: tuple[int, int], rows: bytes, *others: bytes, depth: int = 8) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, 0, 0, 0, 0))
    body = _chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(others) + body + _chunk(b"IEND", b"")


def _bomb(rng: random.Random, folder: Path, world: World) -> str:
    side = rng.choice([15_000, 60_000, 2**31 - 1])
    rows = bytes(min(side, 15_000) * min(side // 8, 15_000 // 8))
    return f"{_put(rng, folder, _png((side, side), rows, depth=1), 'bomb.png')} of {side}"


def _text_bomb(rng: random.Random, folder: Path, world: World) -> str:
    packed = zlib.compress(bytes(300_000_000), 9)
    kinds = {
        "iTXt": _chunk(b"iTXt", b"x\0\1\0\0\0" + packed),
        "zTXt": _chunk(b"zTXt", b"x\0\0" + packed),
        "iCCP": _chunk(b"iCCP", b"x\0\0" + packed),
    }
    kind = rng.choice([*kinds])
    rows = bytes(rng.randrange(256) if at % 33 else 0 for at in range(33 * 32))
    return f"{_put(rng, folder, _png((32, 32), rows, kinds[kind]), 'text.png')} {kind}"


def _tiff(rng: random.Random, folder: Path, world: World) -> str:
    tags = [
        (256, 4, 1, rng.choice([32, 2**32 - 1])),
        (257, 4, 1, rng.choice([32, 2**32 - 1])),
        (258, 3, 1, rng.choice([8, 65535])),
        (259, 3, 1, rng.choice([1, 5, 7, 34925, 65535])),
        (262, 3, 1, 1),
        (273, 4, rng.choice([1, 2**32 - 1]), 8),
        (278, 4, 1, 2**32 - 1),
        (279, 4, 1, rng.choice([1024, 2**32 - 1])),
        (34675, 7, 2**31, 8),
    ]
    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", *tag) for tag in tags)
    following = rng.choice([0, 8])  # itself: for ever
    data = b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", following)
    return _put(rng, folder, data + bytes(2048), "x.tif")


def _frames(rng: random.Random, folder: Path, world: World) -> str:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", *rng.choice([(32, 32), (65535, 65535)]), 0x80, 0, 0)
    return _put(rng, folder, head + b"\0\0\0\xff\xff\xff" + frame * 500_000 + b";", "x.gif")


def _parts(rng: random.Random, folder: Path, world: World) -> str:
    """Of parts that are nearly empty: what they cost is not bytes."""
    gif, jpeg = _photo(kind="GIF"), _photo(kind="JPEG")
    colors = 13 + 3 * (2 << (gif[10] & 7))  # where the table of colours ends
    rows, many = bytes(33 * 32), 3_000_000
    data = {
        "comments": gif[:colors] + b"!\xfe\x01a\x00" * many + gif[colors:],
        "chunks": _png((32, 32), rows, _chunk(b"juNK", b"") * many),
        "fill": jpeg[:2] + b"\xff" * (20 * many) + jpeg[2:],
        "segments": jpeg[:2] + b"\xff\xe5\x00\x02" * many + jpeg[2:],
        "exif": jpeg[:2] + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)) * 1000 + jpeg[2:],
    }
    kind = rng.choice([*data])
    return f"{_put(rng, folder, data[kind], 'parts.jpg')} {kind}"


def _modes(rng: random.Random, folder: Path, world: World) -> str:
    """Right images that few programs read alike."""
    kinds = [("PNG", "I;16"), ("TIFF", "F"), ("JPEG", "CMYK"), ("PNG", "P"), ("PNG", "LA")]
    for number, (kind, mode) in enumerate([*kinds, ("PNG", "1")]):
        file = io.BytesIO()
        image = Image.effect_noise((33, 31), 40)
        image = image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
        image.save(file, kind)
        (folder / "frog" / f"mode-{number}.png").write_bytes(file.getvalue())
    shapes = [(1, 1), (1, 5000), (5000, 1)]
    for number, size in enumerate(shapes):
        (folder / "frog" / f"thin-{number}.png").write_bytes(_photo(size))
    return ""


def _metadata(rng: random.Random, folder: Path, world: World) -> str:
    names = [path.name for path in sorted((folder / "frog").iterdir()) if path.suffix == ".png"]
    hostile: list[Any] = [
        *("../..", "..", ".", "/etc", "a\0b", "x" * 5000, "n" * 250, CONTROLS, "\ud83d", "a/b"),
        *("a\\b", " ", "<script>alert(1)</script>", "[red]x[/red]", "con", "-rf", "frog\x1b[2J"),
        *(7, True, [], {}, None, 1e308, "\u202egorf", "all", "images", "$(touch x)", "=1+1"),
    ]
    key = rng.choice(["class", "class", "text", "group", "file_name"])
    value = rng.choice(hostile)
    rows: list[dict[str, Any]] = [{"file_name": name, key: value} for name in names]
    if key == "file_name":
        secret = str(world.canary.folder / "photos/frog/0.png")
        value = rng.choice([*hostile, secret, "../" * 9 + secret[1:], "../ship/00000.png"])
        rows = [{"file_name": value, "class": "frog", "text": "x"}]
    text = "\n".join(map(json.dumps, rows)) + "\n"
    (folder / "frog" / "metadata.jsonl").write_text(text, encoding="utf-8")
    return f"{key} = {ascii(value)[:50]}"


def _metadata_broken(rng: random.Random, folder: Path, world: World) -> str:
    texts = [
        *(b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{}", b"{}\n" * 200_000, b"\0" * 10_000),
        *(b'{"file_name": 1e999}', b"9" * 5000, b'"x"', b"{", b'{"file_name": "x", "class": NaN}'),
        b'{"file_name": "00000.png", "class": ' + b"9" * 5000 + b"}",
    ]
    data = rng.choice(texts)
    (folder / rng.choice(["frog", "."]) / "metadata.jsonl").write_bytes(data)
    return ascii(data[:20])


def _unreadable_file(rng: random.Random, folder: Path, world: World) -> str:
    path = _new(rng, folder, rng.choice([*NAMES, "metadata.jsonl"]))
    path.write_bytes(_photo())
    path.chmod(0)
    return path.name


def _unreadable_folder(rng: random.Random, folder: Path, world: World) -> str:
    path = folder / rng.choice(["frog", "ship", "new", "frog/below"])
    path.mkdir(exist_ok=True)
    path.chmod(rng.choice([0, 0o444, 0o111]))
    return str(path.relative_to(folder))


def _names(rng: random.Random, folder: Path, world: World) -> str:
    names: list[bytes] = [
        *(b"new\nline.png", b"\xff\xfe.png", b"a" * 251 + b".png", b"esc\x1b[31m.png", b"-x.png"),
        *(b"tab\t.png", b"\xe2\x80\xaegnp.png", b"[red].png", b"<b>.png", b"per%cent.png"),
        *(b"'quote\".png", b"c:\\x.png", b" .png", b"\x7f.png", b"\xc2\x9b31m.png"),
    ]
    name = rng.choice(names)
    place = os.fsencode(folder / rng.choice(["frog", "ship", ""]))
    Path(os.fsdecode(os.path.join(place, name))).write_bytes(_photo())  # noqa: PTH118
    return ascii(name)[:50]


def _class_names(rng: random.Random, folder: Path, world: World) -> str:
    names: list[bytes] = [
        *(
            b"new\nline",
            b"\xff\xfe",
            b"a" * 255,
            b"esc\x1b[31m",
            b"-x",
            b"[red]x",
            b"{class}",
        ),
        *(
            b"<script>alert(1)",
            b"a\\b",
            b"\xe2\x80\xaegorf",
            b"\xc2\x9b31m",
            b"images",
            b" ",
            b"~",
        ),
        *(b"\xf0\x9f\x90\xb8" * 60, b"$(touch x)", b"null", b"7", b"no", b": x", b"{color}"),
    ]
    name = os.fsdecode(rng.choice(names))
    (folder / "frog").rename(folder / name)
    return ascii(name)[:50]


def _deep(rng: random.Random, folder: Path, world: World) -> str:
    """A path longer than the system takes at once."""
    place = os.open(folder / "frog", os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("deeper", dir_fd=place)
        below = os.open("deeper", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    file = os.open("x.png", os.O_WRONLY | os.O_CREAT, dir_fd=place)
    os.write(file, _photo())
    os.close(file)
    os.close(place)
    return ""


def _empty(rng: random.Random, folder: Path, world: World) -> str:
    """Files of nothing, folders named as images, a class of one image, one image many times."""
    (folder / "frog" / "empty.png").write_bytes(b"")
    (folder / "frog" / "folder.png").mkdir()
    (folder / "one").mkdir()
    (folder / "one" / "x.png").write_bytes(_photo())
    (folder / "none").mkdir()
    same = _photo()
    for number in range(60):
        (folder / "ship" / f"same-{number}.png").write_bytes(same)
    return ""


ATTACKS: Final[tuple[Attack, ...]] = (
    *(_pipe, _link_to_a_device, _sparse, _self_link, _linked_round, _program, _cut_short),
    *(_flipped, _bomb, _text_bomb, _tiff, _frames, _modes, _metadata, _metadata, _metadata),
    *(_metadata_broken, _unreadable_file, _unreadable_folder, _names, _names, _class_names),
    *(_class_names, _deep, _empty, _parts),
)
