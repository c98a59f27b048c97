"""Exports of images that are made from pictures: photos that are gone are told, and none lost."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painter import confirm
from PIL import Image

from gapclose.analysis.errors import RealDataError
from gapclose.analysis.image_folder import digest
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.config.reading import parse_config
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.export import export
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.photo_groups import ALL_PHOTOS, PhotoGroup, keep_group

PHOTOS = 6


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A tuned run whose one recipe starts from the photos of the class."""
    folder = tmp_path / "photos" / "frog"
    folder.mkdir(parents=True)
    photos = []
    for number in range(PHOTOS):
        pixels = np.full((8, 8, 3), 20 + 40 * number, dtype=np.uint8)
        pixels[0] = 0
        Image.fromarray(pixels).save(folder / f"{number}.png")
        photos.append(digest(folder / f"{number}.png")[:16])
    config = parse_config(
        {
            "real": {"path": str(tmp_path / "photos")},
            "generator": {"kind": "painter:Copyist"},
            "embedder": "pond",
            "space": {"prompt": "a {class}", "strength": [0.3, 1.0]},
        }
    )
    run = create_run(tmp_path / "run", config)
    group = PhotoGroup(cls="frog", name=ALL_PHOTOS, captions=dict.fromkeys(photos))
    keep_group(run, group)
    draw = Draw(prompt="a frog", photos=group.digest, strength=0.5)
    confirm(run, {"frog": [Recipe(draw=draw, camera=Camera())]})
    return run


def exported(run: RunDir, *, n: int = 40) -> list[dict[str, Any]]:
    out = export(run.path, run.path.parent / "out", per_class=n, trust=True)
    return [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]


def test_the_source_of_every_image_is_named(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    rows = exported(run)
    assert {row["photo_path"] for row in rows} == {f"frog/{i}.png" for i in range(PHOTOS)}
    for row in rows:
        with Image.open(run.path.parent / "out" / row["file_name"]) as image:
            assert image.getpixel((0, 0)) == (20 + 40 * int(row["photo_path"][5]),) * 3
    assert "gone" not in caplog.text
    assert all(row["confirmed"] for row in rows)


def test_photos_that_are_gone_are_counted_and_no_image_is_made_of_them(
    run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 4):
        (run.path.parent / "photos" / "frog" / f"{number}.png").unlink()
    with caplog.at_level(logging.WARNING):
        rows = exported(run)
    assert "2 photos are gone that images are made from" in caplog.text
    assert len(rows) == 40
    assert not any(row["confirmed"] for row in rows), "the mixture had other photos, too"
    assert {row["photo_path"] for row in rows} == {f"frog/{i}.png" for i in (0, 2, 3, 5)}
    card = (run.path.parent / "out" / "README.md").read_text()
    assert "2 photos are gone: images of the others stand for them." in card


def test_photos_that_are_links_are_there(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    folder = run.path.parent / "photos" / "frog"
    folder.rename(run.path.parent / "elsewhere")
    folder.symlink_to(run.path.parent / "elsewhere")
    assert all(row["confirmed"] for row in exported(run))
    assert "gone" not in caplog.text


def test_images_that_are_shown_need_no_photos(
    run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Recipe.from_json(
        run.read_json("mixtures.json")["classes"]["frog"]["recipes"][0]["recipe"]
    )
    (run.path / "images").mkdir()
    rows = []
    for seed in range(8):
        pixels = np.full((8, 8, 3), 9 * seed, dtype=np.uint8)
        pixels[0] = 255
        path = run.path / "images" / f"{seed}.png"
        Image.fromarray(pixels).save(path)
        shown = {"class": "frog", "stage": "tuned", "recipe": recipe.fingerprint(), "seed": seed}
        shown |= {"side": "synthetic"}
        rows.append({"path": f"images/{seed}.png", **shown})
    run.write_samples(rows)
    (run.path.parent / "photos" / "frog" / "0.png").unlink()
    assert all(row["confirmed"] for row in exported(run, n=4))
    shutil.rmtree(run.path.parent / "out")
    assert "gone" not in caplog.text
    (run.path / "images" / "3.png").unlink()  # one is made for it
    assert not any(row["confirmed"] for row in exported(run, n=4))
    assert "1 photo is gone" in caplog.text


def test_without_the_photos_nothing_is_exported(run: RunDir) -> None:
    group = next((run.path / "photo_groups").iterdir())
    kept = group.read_bytes()
    group.unlink()
    with pytest.raises(RunDamagedError, match="missing or damaged; restore it"):
        exported(run)
    os.mkfifo(group)
    with pytest.raises(RunDamagedError, match="missing or damaged; restore it"):
        exported(run)
    group.unlink()
    group.write_bytes(kept)
    shutil.rmtree(run.path.parent / "photos")
    with pytest.raises(RealDataError, match="no such folder"):
        exported(run)
    assert not (run.path.parent / "out").exists()
