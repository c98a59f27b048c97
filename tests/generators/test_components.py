"""Components: parts of a pipeline from elsewhere, or none, and what is refused in a line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gapclose.generators.components import read_components
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import check_generator

DRAW = Draw(prompt="a photo of a frog", num_inference_steps=2, guidance_scale=3.0)
COMMIT = "1" * 40


@pytest.fixture
def model(tiny: Path) -> Path:
    return tiny


@pytest.fixture
def other(tiny_gray: Path) -> Path:
    """A pipeline of the same parts, whose autoencoder decodes everything to grey."""
    return tiny_gray


def made(model: Path, **components: str | None) -> DiffusersGenerator:
    return DiffusersGenerator(str(model), components=components, device="cpu")


def image(it: DiffusersGenerator) -> np.ndarray:
    return it.generate(DRAW, [1]).images[0].astype(int)


def in_the_cache(folder: Path, hub: Path, name: str) -> None:
    repo = hub / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)


@pytest.mark.parametrize("inside", [False, True])
def test_a_part_is_that_of_another_pipeline_or_alone(
    model: Path, other: Path, inside: bool
) -> None:
    it = made(model, vae=str(other / "vae" if inside else other))
    it.check()
    plain, grey = image(made(model)), image(it)
    assert plain.std() > 5
    assert grey.std(axis=(0, 1)).max() == 0
    assert it.license == "apache-2.0, vae unknown"


def test_a_part_of_the_hub_is_found_at_its_top_and_in_its_folder(
    model: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    in_the_cache(other, tmp_path, "owner/whole")
    in_the_cache(other / "vae", tmp_path, "owner/vae")
    for name in ("owner/whole", "owner/vae"):
        it = made(model, vae=name)
        it.check()
        assert it.revision == f"{made(model).revision}+{COMMIT}"
        assert image(it).std(axis=(0, 1)).max() == 0


def test_a_part_that_the_pipeline_can_spare_is_left_out(tiny_sd3: Path) -> None:
    it = made(tiny_sd3, text_encoder_3=None)
    it.check()
    (found,) = it.generate(DRAW, [1]).images
    assert found.std() > 1
    assert it._pipeline is not None
    assert it._pipeline._text.pipeline.text_encoder_3 is None
    assert it.revision == f"{made(tiny_sd3).revision}+no-text_encoder_3"


def test_it_is_part_of_the_version(model: Path, other: Path, tmp_path: Path) -> None:
    version = made(model, vae=str(other)).revision
    assert version is not None
    assert version.startswith(f"{made(model).revision}+sha256:")
    shutil.copytree(other / "vae", tmp_path / "vae")
    assert made(model, vae=str(tmp_path)).revision == version, "wherever it lies"
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    (tmp_path / "vae" / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.5}))
    assert made(model, vae=str(tmp_path)).revision != version


def test_what_fits_is_read_from_the_part(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model / "vae", tmp_path / "vae")
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    config["block_out_channels"] = [4, 4, 4, 4]
    (tmp_path / "vae" / "config.json").write_text(json.dumps(config))
    it = DiffusersGenerator(str(model), components={"vae": str(tmp_path)}, size=20)
    with pytest.raises(GeneratorConfigError, match=r"must be multiples of 8"):
        it.check()


def test_half_precision_leaves_the_autoencoder_in_float32(model: Path, other: Path) -> None:
    it = DiffusersGenerator(
        str(model),
        components={"vae": str(other), "text_encoder": str(other)},
        device="cpu",
        dtype="bfloat16",
    )
    image(it)
    assert it._pipeline is not None
    parts = it._pipeline._text.pipeline
    assert (parts.vae.dtype, parts.text_encoder.dtype) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize(
    ("components", "said"),
    [
        ({"vea": "{other}"}, "generator.components: the pipeline has no part 'vea'; did you mean"),
        ({"vae": None}, "generator.components.vae: a StableDiffusionPipeline needs its vae; it "),
        ({"vae": "{tmp}"}, "generator.components.vae: {tmp} holds no vae"),
        ({"vae": "{tmp}/pickled"}, "generator.components.vae: the weights in {tmp}/pickled"),
        ({"vae": "a.ckpt"}, "generator.components.vae: a.ckpt is a single file"),
        ({"vae": 3}, "generator.components.vae: 3 is no folder or hub id"),
        (
            {"safety_checker": "{other}"},
            "generator.components.safety_checker: the pipeline has none",
        ),
    ],
)
def test_misuse_is_refused_before_anything_loads(
    components: dict[str, Any], said: str, model: Path, other: Path, tmp_path: Path
) -> None:
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}")
    (tmp_path / "pickled" / "diffusion_pytorch_model.bin").write_bytes(b"")

    def filled(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        return text.replace("{tmp}", str(tmp_path)).replace("{other}", str(other))

    own = {name: filled(place) for name, place in components.items()}
    with pytest.raises(GeneratorConfigError) as told:
        check_generator({"kind": "diffusers", "model": str(model), "components": own})
    assert str(told.value).startswith(filled(said))


def test_what_is_no_such_part_is_said_in_a_line(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model / "text_encoder", tmp_path / "vae")
    with pytest.raises(GeneratorConfigError, match=r"^generator\.components\.vae: ") as told:
        image(made(model, vae=str(tmp_path)))
    assert len(str(told.value).splitlines()) == 1


def test_weights_that_a_part_lacks_are_not_made_up(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model / "vae", tmp_path / "vae")
    file = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    del state["decoder.conv_out.weight"]
    save_file(state, file)
    said = r"^generator\.components\.vae: .* lacks 1 weights of .*, decoder\.conv_out\.weight"
    with pytest.raises(GeneratorConfigError, match=said):
        image(made(model, vae=str(tmp_path)))


def test_a_part_that_none_names_is_left_out_only_by_null() -> None:
    (one, none) = read_components({"vae": "x/y", "image_encoder": None})
    assert (one.source, none.source, none.version) == ("x/y", None, "no-image_encoder")
