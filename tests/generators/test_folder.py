"""Folders as generators: which class a prompt names, which file a seed is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.folder import FolderGenerator
from gapclose.generators.recipe import Draw


def _file(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a photo of a frog", "frog"),
        ("a photo of a Frog.", "frog"),
        ("a photo of a tree frog on mud", "tree_frog"),
        ("a tree, a frog", "frog"),
        ("an automobile behind a frog", "automobile"),
        ("a car", "automobile"),
    ],
)
def test_the_prompt_names_the_class(frogs: Path, prompt: str, name: str) -> None:
    generator = FolderGenerator(frogs, nouns={"automobile": ["car", "motor car"]})
    batch = generator.generate(Draw(prompt=prompt), [3, 0])
    np.testing.assert_array_equal(batch.images[0], _file(frogs / name / "03.png"))
    np.testing.assert_array_equal(batch.images[1], _file(frogs / name / "00.png"))
    assert batch.invalid == (None, None)


@pytest.mark.parametrize("prompt", ["a photo of a ship", "frogs", "bullfrog", ""])
def test_only_whole_words_name_a_class(frogs: Path, prompt: str) -> None:
    with pytest.raises(GeneratorConfigError, match="names no class"):
        FolderGenerator(frogs).generate(Draw(prompt=prompt), [0])


def test_a_seed_beyond_the_files_is_a_failed_generation(frogs: Path) -> None:
    with pytest.raises(GenerationError, match="12 images of frog; seed 12"):
        FolderGenerator(frogs).generate(Draw(prompt="a frog"), [0, 12])


def test_a_flat_folder_serves_every_prompt(frogs: Path) -> None:
    batch = FolderGenerator(frogs / "frog").generate(Draw(prompt="whatever"), [2])
    np.testing.assert_array_equal(batch.images[0], _file(frogs / "frog" / "02.png"))


def test_modes_rotation_and_flat_images(tmp_path: Path) -> None:
    folder = tmp_path / "frog"
    folder.mkdir()
    Image.new("L", (4, 6), 90).save(folder / "0.png")
    turned = Image.fromarray(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "1.png", exif=exif)
    batch = FolderGenerator(tmp_path).generate(Draw(prompt="a frog"), [0, 1])
    assert batch.invalid == ("one colour", None)
    assert batch.images[0].shape == (6, 4, 3)
    assert batch.images[1].shape == (6, 4, 3)


@pytest.mark.parametrize(
    "content", [b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_an_unreadable_file_is_a_failed_generation(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "frog").mkdir()
    (tmp_path / "frog" / "0.png").write_bytes(content)
    with pytest.raises(GenerationError, match="cannot be read"):
        FolderGenerator(tmp_path).generate(Draw(prompt="a frog"), [0])


def test_another_file_is_another_revision(frogs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(frogs, copy)
    before = FolderGenerator(copy).revision
    assert before == FolderGenerator(frogs).revision
    shutil.copy(copy / "frog" / "00.png", copy / "frog" / "000.png")
    assert FolderGenerator(copy).revision != before


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(GeneratorConfigError, match="no folder"):
        FolderGenerator(tmp_path / "none")
    with pytest.raises(GeneratorConfigError, match="no images"):
        FolderGenerator(tmp_path)
    with pytest.raises(GeneratorConfigError, match="source_type"):
        FolderGenerator(tmp_path, source_type="photo")
