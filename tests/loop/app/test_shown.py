"""What the App's server may read of a run: the images that it shows, and no file besides."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from make_run import make_run

from gapclose.loop.app.shown import shown_files
from gapclose.loop.run.folder import RunDir


def absolute(run: RunDir) -> set[str]:
    return {str(run.path / row["path"]) for row in run.samples()}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path / "run", classes=("frog", "ship"), per_class=3)


def test_every_image_of_a_run_is_shown_and_nothing_else(
    run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    shown = shown_files(run, run.samples())
    assert shown == {path: os.path.realpath(path) for path in absolute(run)}
    assert len(shown) == 18
    assert not caplog.records


def test_a_run_is_read_through_a_link_to_it(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(run.path)
    through = RunDir.open(tmp_path / "latest")
    shown = shown_files(through, through.samples())
    assert set(shown) == absolute(through)


@pytest.mark.parametrize("what", ["image", "images"])
def test_a_link_out_of_the_run_is_not_followed(
    run: RunDir, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    rows = run.samples()
    inside = [row["path"] for row in rows if not Path(row["path"]).is_absolute()]
    link = run.path / (inside[0] if what == "image" else "images")
    link.rename(tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    hidden = {str(run.path / path) for path in (inside[:1] if what == "image" else inside)}
    assert set(shown_files(run, rows)) == absolute(run) - hidden
    (record,) = caplog.records
    assert f"{len(hidden)} images lie outside of the run" in record.getMessage()


def test_a_file_outside_of_the_folders_of_the_config_is_not_shown(
    run: RunDir, tmp_path: Path
) -> None:
    rows, whole = run.samples(), absolute(run)
    (tmp_path / "run-reality").mkdir()  # the folder's name, and more
    for name in ("/etc/hostname", f"{tmp_path}/run-reality/0.png", f"{tmp_path}/run-real/../x"):
        assert set(shown_files(run, [*rows, rows[0] | {"path": name}])) == whole


def test_a_persons_own_photos_may_be_links(run: RunDir, tmp_path: Path) -> None:
    photo = next(Path(row["path"]) for row in run.samples() if row["side"] == "real")
    photo.rename(tmp_path / "store.png")
    photo.symlink_to(tmp_path / "store.png")
    assert shown_files(run, run.samples())[str(photo)] == str(tmp_path / "store.png")


def test_a_run_from_elsewhere_shows_what_lies_in_it(run: RunDir) -> None:
    made = run.read_json("environment.json")
    run.write_json("environment.json", made | {"origin": "0" * 64})
    rows = run.samples()
    inside = {str(run.path / row["path"]) for row in rows if row["side"] == "synthetic"}
    assert set(shown_files(run, rows)) == inside
    assert inside
