"""A run folder is made or joined, or nothing of it is changed."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pond_config import pond_config

from gapclose.loop.errors import (
    ConfigError,
    RunMismatchError,
    RunOutdatedError,
    UnwritableError,
)
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import appears, check_version, create_run, joined_run


def test_a_new_run_says_what_made_it(run: RunDir) -> None:
    assert RunDir.open(run.path).config() == pond_config()
    environment = run.read_json("environment.json")
    assert environment["packages"]["numpy"] == np.__version__
    text = json.dumps(environment)
    assert str(Path.home()) not in text
    assert os.uname().nodename not in text


def test_limits_may_change_and_nothing_else(run: RunDir) -> None:
    longer = pond_config(tune={"budget": "1h"}, device="cpu")
    create_run(run.path, longer)
    assert run.config() == longer
    with pytest.raises(RunMismatchError, match="embedder, judge differ; name another folder"):
        create_run(run.path, pond_config(embedder="x", judge="y", device="cuda"))
    assert run.config() == longer


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match="holds other things than a run"):
        create_run(tmp_path, pond_config())
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]
    with pytest.raises(ConfigError, match="is a file"):
        create_run(tmp_path / "photo.jpg", pond_config())
    with pytest.raises(ConfigError, match="is no run"):
        RunDir.open(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        RunDir.open(tmp_path / "none")


def test_a_folder_that_was_killed_while_it_became_a_run_becomes_one(run: RunDir) -> None:
    run.config_path.unlink()
    (run.path / ".config.yaml.x7.tmp").write_text("embedd")
    create_run(run.path, pond_config(embedder="x", judge="y"))
    assert RunDir.open(run.path).config().embedder == "x"


def fail(path: Path, error: Exception, *, makes: str | None = None) -> None:
    """Join a run, make a file or folder in it, and fail."""
    with joined_run(path, pond_config()) as run:
        if makes == "trials.jsonl":
            run.append_line(makes, {"number": 0})
        elif makes is not None:
            (run.path / makes).mkdir()
        raise error


def test_a_new_run_whose_input_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wrong"):
        fail(tmp_path / "r", ConfigError("wrong"), makes="real")
    assert list(tmp_path.iterdir()) == []
    # What only failed stays, and so does what was there already, whatever is wrong now.
    with pytest.raises(RuntimeError):
        fail(tmp_path / "r", RuntimeError())
    for name, makes in (("r", None), ("tried", "trials.jsonl"), ("drawn", "images")):
        with pytest.raises(ConfigError, match="wrong"):
            fail(tmp_path / name, ConfigError("wrong"), makes=makes)
    assert {p.name for p in tmp_path.iterdir()} == {"r", "tried", "drawn"}


def test_halves_that_a_killed_writer_left_are_swept_up(run: RunDir) -> None:
    halves = [".state.json.x7.tmp", "embeddings/.frog-00001.y.tmp", "images/frog/ab/.z.part"]
    others = ["state.json", "embeddings/a.tmp", "images/frog/ab/1.png", "export/.z.part"]
    for name in halves + others:
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).touch()
    with joined_run(run.path, run.config()):
        assert not any((run.path / name).exists() for name in halves)
        assert all((run.path / name).exists() for name in others)


def test_a_full_disk_at_the_start_is_no_wrong_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UnwritableError, match="No space left on device; free some space"):
            create_run(tmp_path / "r", pond_config())
    assert create_run(tmp_path / "r", pond_config()).config() == pond_config()


def test_what_differs_is_told_by_its_keys(run: RunDir) -> None:
    with pytest.raises(RunMismatchError) as told:
        create_run(run.path, pond_config(embedder="x"))
    assert (told.value.path, told.value.keys) == (run.path, ("embedder",))
    assert "embedder differs; name another folder" in str(told.value)


def test_what_an_earlier_version_tuned_is_not_resumed(run: RunDir) -> None:
    check_version(run)
    run.append_line("trials.jsonl", {"number": 0})
    with pytest.raises(RunOutdatedError, match="kept no journal") as told:
        check_version(run)
    assert told.value.path == run.path
    run.journal_path.touch()
    check_version(run)


def test_a_run_appears_once_it_has_its_config(run: RunDir, tmp_path: Path) -> None:
    assert appears(run.path)
    assert not appears(tmp_path / "none")
    run.config_path.unlink()
    assert not appears(run.path)  # it is being made
    (run.path / "photo.jpg").touch()
    with pytest.raises(ConfigError, match="is no run"):
        appears(run.path)
