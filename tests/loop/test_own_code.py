"""Generators and embedders of one's own: found wherever a command starts, and looked at first."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from rig import here, written

from gapclose.generators.pond.renderer import write_real
from gapclose.loop.report.run_view import Run
from gapclose.loop.run.folder import RunDir

WORLD = """
from slow_pond import SlowPond

class Renderer(SlowPond):
    id = "mine"

    def generate(self, draw, seeds):
        batch = super().generate(draw, seeds)
        {body}
"""
NETS = """
from gapclose.analysis.embedding import make_embedder

class Encoder:
    def __init__(self, *, device):
        self._inner = make_embedder("pond", device=device)
        self.id, self.width = "mine", self._inner.width

    def embed(self, images):
        return self._inner.embed(images)
"""


@pytest.mark.slow
@pytest.mark.parametrize("spelling", ["./scenery.py", "scenery_of_mine.world"])
def test_code_beside_a_config_is_found_from_everywhere(
    spelling: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    mine = tmp_path / "mine"
    file = mine / (spelling if spelling.endswith(".py") else f"{spelling.replace('.', '/')}.py")
    file.parent.mkdir(parents=True)
    file.write_text(WORLD.format(body="return batch"))
    (mine / "nets.py").write_text(NETS)
    config = written(
        mine / "c.yaml",
        photos,
        classes=["frog"],
        generator={"kind": f"{spelling}:Renderer"},
        embedder="./nets.py:Encoder",
        judge="pond-judge",
        tune={"budget": None, "trials": 1, "images_per_trial": 8},
    )
    out = tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    assert here("tune", "mine/c.yaml", "--out", out) == (0, "")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert here("tune", config, "--out", out, "--set", "tune.trials=2")[0] == 0
    assert len(Run.open(out).trials) == 2
    # Whatever reads the run later knows the folder from the run alone.
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(mine)])
    (out / "gap.json").unlink()
    assert here("report", out)[0] == 0
    assert here("export", out, tmp_path / "data", "--per-class", 2)[0] == 0
    assert len(list((tmp_path / "data").rglob("*.png"))) == 2
    # Given away, it needs trust, as any code does.
    shutil.copytree(out, tmp_path / "given")
    text = RunDir(tmp_path / "given").config_path.read_text()
    (tmp_path / "given" / "config.yaml").write_text(text.replace(str(mine), str(elsewhere)))
    code, err = here("export", tmp_path / "given", tmp_path / "more", "--per-class", 2)
    assert (code, "names code to import" in err, "--trust" in err) == (2, True, True), err


@pytest.mark.slow
def test_an_audit_of_folders_takes_an_encoder_from_the_current_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "again").symlink_to(photos)
    (tmp_path / "other").mkdir()
    shutil.copytree(photos, tmp_path / "synthetic")
    monkeypatch.chdir(tmp_path)
    sides = ("--real", "again", "--synthetic", "synthetic")
    code, err = here("audit", *sides, "--embedder", "./nets.py:Encoder", "--out", "run")
    assert code == 0, err
    monkeypatch.chdir(tmp_path / "other")
    assert Run.open(tmp_path / "run").config.embedder == f"{tmp_path}/nets.py:Encoder"
    (tmp_path / "run" / "gap.json").unlink()
    code, err = here("report", tmp_path / "run")
    assert code == 0, err


@pytest.mark.parametrize("command", ["tune", "audit"])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", "got None"),
        ("return list(batch.images)", "got a list of 1 ndarray"),
        ("return batch.images[5]", "generate raised IndexError: tuple index out of range"),
    ],
)
def test_what_returns_the_wrong_thing_is_found_before_a_photo_is_embedded(
    command: str, body: str, says: str, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "world.py").write_text(WORLD.format(body=body))
    kind = {"kind": "./world.py:Renderer"}
    config = written(tmp_path / "c.yaml", photos, generator=kind)
    with patch("gapclose.loop.work.sides.embed_files") as embedded:
        code, err = here(command, config, "--out", tmp_path / "run")
    assert code == 2, err
    (said,) = err.splitlines()
    assert said.startswith("error: generator.kind: mine: ")
    assert says in said
    assert "return ImageBatch(images=..., seeds=..., invalid=...)" in said
    assert not embedded.called
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"generator": {"kind": "mine.world:Renderer"}}, "mine is neither installed nor in the"),
        ({"generator": {"kind": "./wrld.py:Renderer"}}, "there is no file "),
        ({"embedder": "mine.nets:Encoder"}, "neither installed nor in the folder of the config"),
        ({"embedder": "./nts.py:Encoder"}, "there is no file "),
        ({"embedder": "./c.py:Encoder"}, "has no class Encoder"),
    ],
)
def test_code_that_is_not_there_is_one_line(
    changes: dict[str, object], says: str, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.py").touch()
    config = written(tmp_path / "c.yaml", photos, **changes)
    code, err = here("tune", config, "--out", tmp_path / "run")
    assert (code, err.count("\n")) == (2, 1), err
    assert says in err


@pytest.mark.slow
def test_what_goes_wrong_later_fails_a_trial_with_its_words(tmp_path: Path) -> None:
    """And an image of one colour that nobody marked is neither scored nor exported."""
    photos = tmp_path / "photos"
    write_real(photos, per_class=420, classes=("frog",))  # for two folds
    black = """if len(seeds) > 1:
            from dataclasses import replace
            import numpy as np
            black = tuple(i if s % 2 else np.zeros_like(i) for i, s in zip(batch.images, seeds))
            return replace(batch, images=black)
        return batch"""
    (tmp_path / "world.py").write_text(WORLD.format(body=black))
    tune = {"budget": None, "trials": 2, "images_per_trial": 8}
    kind = {"kind": "./world.py:Renderer"}
    config = written(tmp_path / "c.yaml", photos, classes=["frog"], generator=kind, tune=tune)
    out = tmp_path / "run"
    assert here("audit", config, "--out", tmp_path / "audit")[0] == 1  # 12 of 24 are no gap
    assert here("tune", config, "--out", out, "--set", "confirm.images=60")[0] == 0
    assert [row["invalid"] for row in Run.open(out).trials] == [50, 4]
    (tmp_path / "world.py").write_text(WORLD.format(body="return batch.images"))
    more = ("--set", "confirm.images=60", "--set", "tune.trials=5")
    assert here("tune", config, "--out", out, *more)[0] == 0
    assert "got a tuple of" in Run.open(out).trials[-1]["error"]
