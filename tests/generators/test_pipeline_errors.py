"""What goes wrong in a pipeline is one line of the command line's, and no traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from rig import here, written

from gapclose.generators.pipeline import Pipeline
from gapclose.generators.pond.renderer import write_real


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_real(folder, per_class=40, classes=("frog",))
    return folder


def config(folder: Path, photos: Path, model: Path, **generator: Any) -> Path:
    return written(
        folder / "c.yaml",
        photos,
        classes=["frog"],
        generator={"kind": "diffusers", "model": str(model), **generator},
        space={"prompt": "a photo of a {class}"},
        baseline={"num_inference_steps": 2},
        tune={"budget": None, "trials": 3, "images_per_trial": 4},
        confirm={"images": 20},
    )


def last_line(err: str) -> str:
    assert "Traceback" not in err
    return err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["audit", "tune"])
def test_all_images_flagged(command: str, photos: Path, tiny_prude: Path, tmp_path: Path) -> None:
    code, err = here(command, config(tmp_path, photos, tiny_prude), "--out", tmp_path / "run")
    assert code == 1, err
    assert last_line(err).startswith("error: ")
    assert "0 of 20 images are valid" in err or "images are invalid" in err


@pytest.mark.parametrize("command", ["audit", "tune"])
def test_what_the_config_has_wrong_is_exit_2_before_a_photo_is_embedded(
    command: str, photos: Path, tiny: Path, tmp_path: Path
) -> None:
    edits = tmp_path / "edits"
    shutil.copytree(tiny, edits)
    index = json.loads((edits / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionImg2ImgPipeline"
    (edits / "model_index.json").write_text(json.dumps(index))
    for model, options, says in (
        (edits, {}, "StableDiffusionImg2ImgPipeline, which generates no images from text alone"),
        (tiny, {"size": 33}, "generator.size: 33x33 must be multiples of 2"),
    ):
        file = config(tmp_path, photos, model, **options)
        with patch("gapclose.loop.work.sides.embed_files") as embedded:
            code, err = here(command, file, "--out", tmp_path / "run")
        assert code == 2, err
        assert says in last_line(err)
        assert not embedded.called
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "memory is out at one image a time"),
        (
            AttributeError("'NoneType' object has no attribute 'shape'"),
            "AttributeError: 'NoneType'",
        ),
        (AssertionError(), "AssertionError"),
    ],
)
def test_whatever_a_pipeline_raises_is_one_line(
    raised: Exception, says: str, photos: Path, tiny: Path, tmp_path: Path
) -> None:
    file = config(tmp_path, photos, tiny)
    with patch.object(Pipeline, "generate", side_effect=raised):
        code, err = here("audit", file, "--out", tmp_path / "run")
        assert (code, last_line(err)[:7]) == (1, "error: ")
        assert says in last_line(err)
        code, err = here("tune", file, "--out", tmp_path / "tuned")
        assert code == 1
        assert says in last_line(err)
