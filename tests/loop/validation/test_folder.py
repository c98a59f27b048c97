from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gapclose.loop.errors import ConfigError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.validation.folder import check_folder, sweep_folder

FOLDERS = (
    "validation",
    "validation/generated",
    "validation/predictions",
    "validation/test",
)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    (tmp_path / "run").mkdir()
    return RunDir(tmp_path / "run")


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("what", ["link", "dangling link", "file"])
def test_nothing_but_a_folder_of_the_run_is_written_into(
    run: RunDir, name: str, what: str, tmp_path: Path
) -> None:
    place, elsewhere = run.path / name, tmp_path / "elsewhere"
    place.parent.mkdir(exist_ok=True)
    if what == "file":
        place.write_text("")
    else:
        place.symlink_to(elsewhere)
    if what == "link":
        elsewhere.mkdir()
    with pytest.raises(ConfigError, match="is a link;" if "link" in what else "is no folder;"):
        check_folder(run)


def test_what_can_be_written_stays_as_it_is(run: RunDir) -> None:
    check_folder(run)
    assert [*run.path.rglob("*")] == []
    for name in FOLDERS:
        (run.path / name).mkdir()
    check_folder(run)
    assert len([*run.path.rglob("*")]) == len(FOLDERS)


@pytest.mark.parametrize("name", ["", "validation/predictions"])
def test_what_cannot_be_written_is_told_first(
    run: RunDir, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.path / "validation" / "predictions").mkdir(parents=True)
    opened = os.open

    def refuse(path: Any, *args: Any, **options: Any) -> int:
        if run.path / name in (Path(path), Path(path).parent):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, *args, **options)

    monkeypatch.setattr(os, "open", refuse)  # root may write wherever it likes
    with pytest.raises(ConfigError, match="cannot be written: Permission denied; make it") as told:
        check_folder(run)
    assert told.value.where == run.path / name


def test_halves_of_a_killed_validation_are_removed_and_nothing_else(run: RunDir) -> None:
    folder = run.path / "validation"
    for name in ("test", ".test.abc", "predictions"):
        (folder / name).mkdir(parents=True)
        (folder / name / "whole").write_text("")
    (folder / "predictions" / ".key.abc.tmp").write_text("")
    sweep_folder(run)
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert left == {"test", "test/whole", "predictions", "predictions/whole"}
