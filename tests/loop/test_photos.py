"""What a config names is looked at, and said, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import written

from gapclose.generators.pond.renderer import write_real
from gapclose.loop.config.reading import load_config
from gapclose.loop.errors import ConfigError
from gapclose.loop.photos import Photos
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import Notice, Task, TaskStarted
from gapclose.loop.run.reporter import SilentReporter


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.told: list[Notice] = []

    def tell(self, notice: Notice) -> None:
        self.told.append(notice)


def test_each_check_is_told_before_it_is_made(tmp_path: Path) -> None:
    write_real(tmp_path / "photos", per_class=40, classes=("frog", "ship"))
    config = load_config(written(tmp_path / "c.yaml", tmp_path / "photos"))
    listener, run = Listener(), RunDir(tmp_path / "run")
    photos = Photos.check(config, run, listener)
    assert photos.classes == ("frog", "ship")
    assert photos.ready(config, run, listener) is photos.images
    assert listener.told == [
        TaskStarted(task=Task.READING_PHOTOS),
        TaskStarted(task=Task.CHECKING),
    ]
    assert not run.path.exists()


def test_a_class_that_is_not_there_is_told_after_where_it_was_looked_for(tmp_path: Path) -> None:
    write_real(tmp_path / "photos", per_class=40, classes=("frog", "ship"))
    config = load_config(written(tmp_path / "c.yaml", tmp_path / "photos", classes=["cat"]))
    listener = Listener()
    with pytest.raises(ConfigError, match="cat"):
        Photos.check(config, RunDir(tmp_path / "run"), listener)
    assert listener.told == [TaskStarted(task=Task.READING_PHOTOS)]


def test_a_pond_is_rendered_once_and_that_is_told(tmp_path: Path) -> None:
    config = load_config("pond", ["real.per_class=40", "classes=[frog]"])
    listener, run = Listener(), RunDir(tmp_path)
    photos = Photos.check(config, run, listener)
    assert photos.images is None
    images = photos.ready(config, run, listener)
    assert len(images.of("frog")) == 40
    assert listener.told[-1] == TaskStarted(task=Task.RENDERING)
