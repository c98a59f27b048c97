from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gapclose.analysis.errors import RealDataError
from gapclose.loop.config.reading import load_config
from gapclose.loop.config.sources import RealFolder
from gapclose.loop.errors import ConfigError
from gapclose.loop.init_config import write_starter_config


def photos(folder: Path, n: int, *, size: tuple[int, int] = (48, 64), suffix: str = "jpg") -> None:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    for number in range(n):
        Image.fromarray(pixels).save(folder / f"{number}.{suffix}")


def test_what_it_writes_loads_and_fits_the_photos(tmp_path: Path) -> None:
    real = tmp_path / "my photos"
    photos(real / "tree_frog", 40)
    photos(real / "ship", 41)
    file = write_starter_config(real, tmp_path / "c.yaml")
    config = load_config(file)
    assert isinstance(config.real, RealFolder)
    assert config.real.path == str(real)
    assert config.space.nouns == {"ship": ("ship",), "tree_frog": ("tree frog",)}
    assert config.space.camera.resize == 48
    assert config.space.camera.jpeg_quality == (70, 100)
    assert config.select_classes(["ship", "tree_frog"]) == ("ship", "tree_frog")
    assert config.encoders == (
        "open_clip:ViT-B-16-SigLIP2/webli",
        "transformers:facebook/dinov2-large",
    )
    assert sum("#" in line for line in file.read_text().splitlines()) >= 20


def test_png_photos_get_no_jpeg_and_big_ones_are_halved_down(tmp_path: Path) -> None:
    photos(tmp_path / "real" / "a", 40, size=(600, 700), suffix="png")
    camera = load_config(write_starter_config(tmp_path / "real", tmp_path / "c.yaml")).space.camera
    assert camera.jpeg_quality == ()
    assert camera.resize == 512


def test_classes_too_small_to_tune_are_left_out_and_named(tmp_path: Path) -> None:
    photos(tmp_path / "real" / "frog", 40)
    photos(tmp_path / "real" / "newt", 39)
    file = write_starter_config(tmp_path / "real", tmp_path / "c.yaml")
    assert load_config(file).classes == ("frog",)
    assert "newt (39)" in file.read_text()


@pytest.mark.parametrize(
    "name", ['quo"te', "colon: #x", "{brace}", "- dash", "ñandú 火", "no", "1"]
)
def test_any_class_name_survives_yaml(tmp_path: Path, name: str) -> None:
    photos(tmp_path / "real" / name, 40)
    photos(tmp_path / "real" / "frog", 40)
    photos(tmp_path / "real" / "few", 1)
    config = load_config(write_starter_config(tmp_path / "real", tmp_path / "c.yaml"))
    assert name in config.classes
    assert name in config.space.nouns


def test_a_folder_without_classes_is_one_class(tmp_path: Path) -> None:
    photos(tmp_path / "faces", 40)
    config = load_config(write_starter_config(tmp_path / "faces", tmp_path / "c.yaml"))
    assert config.classes == "all"
    assert config.space.nouns == {"all": ("photo",)}


def test_it_never_replaces_a_file_and_refuses_what_cannot_be_tuned(tmp_path: Path) -> None:
    photos(tmp_path / "real" / "frog", 3)
    out = tmp_path / "c.yaml"
    with pytest.raises(RealDataError, match=r"no class has 40 images \(frog \(3\)\)"):
        write_starter_config(tmp_path / "real", out)
    with pytest.raises(RealDataError):
        write_starter_config(tmp_path / "none", out)
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        write_starter_config(tmp_path / "real", out)
    assert out.read_text() == "mine"


def test_what_is_left_out_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos(tmp_path / "real" / "frog", 40)
    (tmp_path / "real" / "frog" / "notes.txt").write_text("words")
    for number in range(3):
        (tmp_path / "real" / "frog" / f"{number}.jpg").rename(tmp_path / "real" / f"{number}.jpg")
    photos(tmp_path / "real" / "ship", 40)
    write_starter_config(tmp_path / "real", tmp_path / "c.yaml")
    assert "3 left out (an image beside the class folders, not in one)" in caplog.text
    assert "1 left out (not an image in a supported format)" in caplog.text
