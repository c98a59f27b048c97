"""The source of captions and pictures: what a recipe's photo group gives to a seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from painter import Painter
from PIL import Image

from gapclose.analysis.errors import RealDataError
from gapclose.analysis.image_folder import digest
from gapclose.generators.conditioning import FromPhotos
from gapclose.generators.errors import GenerationError
from gapclose.generators.recipe import Draw
from gapclose.loop.config.reading import parse_config
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.photo_groups import ALL_PHOTOS, PhotoGroup, keep_group
from gapclose.loop.work.photo_source import gone_photos, made_from, open_generator

CAPTIONS = ("a brown frog", "a gray frog", "a tan frog")


def a_run(tmp_path: Path, **space: object) -> tuple[RunDir, PhotoGroup]:
    """A run whose class has three photos, each of one grey."""
    folder = tmp_path / "photos" / "frog"
    folder.mkdir(parents=True)
    captions = {}
    for number, caption in enumerate(CAPTIONS):
        pixels = np.full((8, 8, 3), 80 + 40 * number, dtype=np.uint8)
        pixels[0] = 0
        Image.fromarray(pixels).save(folder / f"{number}.png")
        captions[digest(folder / f"{number}.png")[:16]] = caption
    config = parse_config(
        {
            "real": {"path": str(tmp_path / "photos")},
            "generator": {"kind": "painter:Painter"},
            "embedder": "pond",
            "space": {"prompt": "{class}", **space},
        }
    )
    run = create_run(tmp_path / "run", config)
    group = PhotoGroup(cls="frog", name=ALL_PHOTOS, captions=captions)
    keep_group(run, group)
    return run, group


def opened(run: RunDir) -> FromPhotos:
    generator = open_generator(run.config(), run)
    assert isinstance(generator, FromPhotos)
    return generator


def test_words_alone_have_the_generator_itself(tmp_path: Path) -> None:
    run, _ = a_run(tmp_path)
    assert isinstance(open_generator(run.config(), run), Painter)


def test_a_seed_is_given_the_caption_of_its_photo(tmp_path: Path) -> None:
    run, group = a_run(tmp_path, captions="words")
    draw = Draw(prompt="{captions of all photos}", photos=group.digest)
    generator = opened(run)
    seen = set()
    for seed in range(20):
        row = made_from(generator, draw, seed)
        assert row["photo"] == group.pick(seed)
        assert row["text"] == group.captions[row["photo"]]
        assert row["photo_path"] == f"frog/{[*group.captions].index(row['photo'])}.png"
        alone = Draw(prompt=row["text"])
        drawn = generator.generate(draw, [seed]).images[0]
        assert np.array_equal(drawn, Painter().generate(alone, [seed]).images[0])
        seen.add(row["text"])
    assert seen == {*CAPTIONS}


def test_words_of_a_run_with_captions_name_no_photo(tmp_path: Path) -> None:
    run, _ = a_run(tmp_path, captions="words")
    assert made_from(opened(run), Draw(prompt="a frog"), 3) == {"text": "a frog"}
    run, _ = a_run(tmp_path / "other")
    assert made_from(open_generator(run.config(), run), Draw(prompt="a frog"), 3) == {
        "text": "a frog"
    }


def test_a_picture_is_that_of_the_photo(tmp_path: Path) -> None:
    run, group = a_run(tmp_path, strength=[0.3, 1.0])
    source = opened(run).photos
    for number, photo in enumerate(group.captions):
        assert (source.pixels(group.digest, photo)[4] == 80 + 40 * number).all()


def test_a_photo_that_is_gone_or_another_one_now_is_named(tmp_path: Path) -> None:
    run, group = a_run(tmp_path, strength=[0.3, 1.0])
    first, second, _ = group.captions
    source = opened(run).photos
    source.pixels(group.digest, second)  # the folder has been read
    (tmp_path / "photos" / "frog" / "0.png").write_bytes(b"another")
    with pytest.raises(GenerationError, match=f"photo {first} .* gone or changed: .*0.png"):
        source.pixels(group.digest, first)
    (tmp_path / "photos" / "frog" / "0.png").unlink()
    with pytest.raises(GenerationError, match=f"photo {first} .* is gone; put it back"):
        opened(run).photos.pixels(group.digest, first)


def test_photos_that_are_gone_are_counted_where_pictures_are_taken(tmp_path: Path) -> None:
    run, group = a_run(tmp_path, strength=[0.3, 1.0], captions="words")
    words = Draw(prompt="a frog")
    captions = Draw(prompt="{captions of all photos}", photos=group.digest)
    pictures = Draw(prompt="a frog", photos=group.digest, strength=0.5)
    for draw in (words, captions, pictures):
        assert gone_photos(opened(run), draw) == frozenset()
    (tmp_path / "photos" / "frog" / "1.png").unlink()
    assert gone_photos(opened(run), captions) == frozenset()
    assert gone_photos(opened(run), pictures) == {[*group.captions][1]}
    for number in (0, 2):
        (tmp_path / "photos" / "frog" / f"{number}.png").write_bytes(b"GIF89a another")
    with pytest.raises(RealDataError, match=r"class frog: none of its 3 tune photos, .*put them"):
        gone_photos(opened(run), pictures)
    shutil.rmtree(tmp_path / "photos")
    assert gone_photos(opened(run), captions) == frozenset()
    with pytest.raises(RealDataError, match="no such folder"):
        gone_photos(opened(run), pictures)
    with pytest.raises(GenerationError, match=r"of the tune split is gone: .*no such folder"):
        opened(run).photos.pixels(group.digest, next(iter(group.captions)))
    (run.path / "photo_groups" / f"{group.digest}.json").unlink()
    with pytest.raises(RunDamagedError, match="missing or damaged"):
        gone_photos(opened(run), captions)


def test_a_group_that_is_gone_is_named(tmp_path: Path) -> None:
    run, group = a_run(tmp_path, captions="words")
    (run.path / "photo_groups" / f"{group.digest}.json").unlink()
    with pytest.raises(GenerationError, match=f"{group.digest}.json.*missing or damaged"):
        opened(run).generate(Draw(prompt="{captions of all}", photos=group.digest), [1])
