"""A run whose evidence is damaged: it goes on as if nothing were, and says in a line what was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from rig import here, written
from safetensors.numpy import load

from gapclose.generators.images import write_png
from gapclose.loop.config.reading import load_config
from gapclose.loop.errors import MachineError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.session import Session
from gapclose.loop.tuning import tune

PER_CLASS = 30


@pytest.fixture(scope="module")
def config(photos: Path) -> Path:
    return written(photos.parent / "damage.yaml", photos, camera=True, judge="pond-judge")


@pytest.fixture(scope="module")
def unharmed(photos: Path, config: Path) -> RunDir:
    path = photos.parent / "run"
    code, err = here("tune", config, "--out", path)
    assert code == 0, err
    return RunDir.open(path)


@pytest.fixture
def run(unharmed: RunDir, tmp_path: Path) -> RunDir:
    shutil.copytree(unharmed.path, tmp_path / "run")
    return RunDir.open(tmp_path / "run")


@pytest.fixture(scope="module")
def data(unharmed: RunDir) -> dict[str, bytes]:
    """What an export of the run holds."""
    out = unharmed.path.parent / "data"
    assert here("export", unharmed.path, out, "--per-class", PER_CLASS)[0] == 0
    return tree(out)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def repaint(path: Path) -> None:
    """Change a pixel in a whole file, as a flipped bit does that no reader of PNG notices."""
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[3, 4, 1] ^= 1
    write_png(path, pixels)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def shown(run: RunDir) -> list[Path]:
    """The images that an export puts in as what confirmed a mixture."""
    return [run.resolve(row["path"]) for row in run.samples() if row["stage"] == "tuned"]


@pytest.mark.parametrize("harm", [Path.unlink, repaint, lambda path: path.write_bytes(b"")],
                         ids=["gone", "repainted", "empty"])  # fmt: skip
def test_no_damaged_image_is_exported(
    run: RunDir,
    data: dict[str, bytes],
    tmp_path: Path,
    harm: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for path in shown(run)[::2]:
        harm(path)
    code, err = here("export", run.path, tmp_path / "data", "--per-class", PER_CLASS)
    assert code == 0, err
    said = [record.message for record in caplog.records if "damaged" in record.message]
    assert said[0].startswith("frog: ")
    assert all(line.endswith("that confirmed it are gone or damaged; made again") for line in said)
    assert len(said) == 2
    assert tree(tmp_path / "data") == data


def test_where_nothing_vouches_for_an_image_it_is_made_again(
    run: RunDir, data: dict[str, bytes], tmp_path: Path
) -> None:
    for path in (run.path / "embeddings").glob("*-confirm-*-tuned.safetensors"):
        flip(path)
    repaint(shown(run)[0])
    assert here("export", run.path, tmp_path / "data", "--per-class", PER_CLASS)[0] == 0
    assert tree(tmp_path / "data") == data


def facts(run: RunDir) -> dict[str, Any]:
    """What a run says once it has ended, but for times and counts of what was generated."""
    names = ("mixtures.json", "trials.jsonl", "samples.jsonl")
    return {name: (run.path / name).read_bytes() for name in names}


def test_a_session_makes_all_that_is_damaged_again(
    unharmed: RunDir,
    config: Path,
    run: RunDir,
    data: dict[str, bytes],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = sorted((run.path / "embeddings").iterdir())
    whole = {path: path.read_bytes() for path in files}
    flip(files[0])
    for path in files[1::2]:
        path.unlink()
    pictures = shown(run)[::5]
    drawn = sorted((run.path / "images" / "frog").rglob("*.png"))
    drawn = [path for path in drawn if "confirm-" not in str(path)][::9]
    before = {path: path.read_bytes() for path in [*pictures, *drawn]}
    for path in before:
        repaint(path)
    code, err = here("tune", config, "--out", run.path)
    assert code == 0, err
    assert "Traceback" not in err
    assert "is made again from its images" in caplog.text
    assert facts(run) == facts(unharmed)
    lost = 0
    for path, content in whole.items():
        if path.read_bytes() == content:
            continue
        assert "-confirm-" in path.name
        arrays, again = load(content), load(path.read_bytes())
        assert {*arrays} - {*again} == {"judge"}
        assert all(again[name].tobytes() == arrays[name].tobytes() for name in again)
        lost += 1
    assert lost > 0
    assert all(path.read_bytes() == before[path] for path in pictures)
    caplog.clear()
    assert here("tune", config, "--out", run.path)[0] == 0
    assert here("export", run.path, tmp_path / "data", "--per-class", PER_CLASS)[0] == 0
    assert "made again" not in caplog.text
    assert "damaged" not in caplog.text
    assert tree(tmp_path / "data") == data


def test_a_link_in_place_of_the_study_is_set_aside_and_what_it_leads_to_stays(
    config: Path, run: RunDir, tmp_path: Path
) -> None:
    mine, study = tmp_path / "mine.db", run.path / "study.db"
    mine.write_bytes(b"mine")
    study.unlink()
    study.symlink_to(mine)
    code, err = here("tune", config, "--out", run.path)
    assert code == 0, err
    assert mine.read_bytes() == b"mine"
    assert (run.path / "study.db.damaged").readlink() == mine
    assert study.is_file()
    assert not study.is_symlink()


def test_memory_that_is_out_is_told_in_our_words_by_the_python_api_too(
    config: Path, run: RunDir
) -> None:
    with (
        patch.object(Session, "begin", side_effect=MemoryError),  # cannot be had for the asking
        pytest.raises(MachineError, match="memory is out"),
    ):
        tune(load_config(config), out=run.path)


def test_a_journals_line_grows_by_little(run: RunDir) -> None:
    for line in run.journal_path.read_text().splitlines():
        row = json.loads(line)
        digests = row.pop("digests", None)
        if row["kind"] == "trial_finished":
            assert {*digests} == {"rows", "images"}
            assert len(json.dumps(digests)) <= 72
