"""Single files: read as the pipeline that they are of, or refused in a line."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ldm_layout import ldm_state, write_single_file
from safetensors.torch import save_file

from gapclose.generators.base import SETTINGS
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import check_generator, settings_of
from gapclose.generators.single_file import family_of

DRAW = Draw(prompt="a photo of a frog", num_inference_steps=3, guidance_scale=3.0)


def pipeline_of(folder: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(str(folder), safety_checker=None)


@pytest.fixture(scope="module")
def file(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_single_file(
        pipeline_of(tiny), tmp_path_factory.mktemp("file") / "frogs.safetensors"
    )


@pytest.fixture(scope="module")
def configs(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline's folder without its weights."""
    folder = tmp_path_factory.mktemp("configs") / "sd"
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors", "README.md"))
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def made(model: Path, config: Path | None, **options: Any) -> DiffusersGenerator:
    named = None if config is None else str(config)
    return DiffusersGenerator(str(model), config=named, device="cpu", **options)


def pixels(it: DiffusersGenerator, **changes: Any) -> np.ndarray:
    draw = Draw.from_json({**DRAW.to_json(), **changes})
    return np.stack(it.generate(draw, [1, 2]).images).astype(int)


@pytest.mark.usefixtures("offline")
def test_its_images_are_those_of_the_folder(tiny: Path, file: Path, configs: Path) -> None:
    it = made(file, configs)
    it.check()
    expected = pixels(made(tiny, None))
    assert np.abs(pixels(it) - expected).max() <= 1
    assert expected.std() > 5


def test_in_half_precision_its_autoencoder_decodes_in_float32(
    tiny: Path, file: Path, configs: Path
) -> None:
    it = made(file, configs, dtype="bfloat16")
    assert np.abs(pixels(it) - pixels(made(tiny, None, dtype="bfloat16"))).max() <= 1
    assert it._pipeline is not None
    parts = it._pipeline._text.pipeline
    assert (parts.unet.dtype, parts.vae.dtype) == (torch.bfloat16, torch.float32)


def test_what_fits_it_is_known_without_loading_it(file: Path, configs: Path) -> None:
    it = made(file, configs, size=15)
    assert it.id == "diffusers:frogs.safetensors"
    assert settings_of({"kind": "diffusers", "model": str(file), "config": str(configs)}) == {
        *SETTINGS
    }
    with pytest.raises(GeneratorConfigError, match=r"generator\.size: 15x15 must be multiples"):
        it.check()
    with pytest.raises(GeneratorConfigError, match="scheduler"):
        it.check_schedulers(["flow_euler"])
    assert "guidance_rescale" in it.parameters


def test_its_version_is_that_of_the_file_and_of_the_configs(
    file: Path, configs: Path, tmp_path: Path
) -> None:
    version = made(file, configs).revision
    assert version is not None
    assert version.count("sha256:") == 2
    other = tmp_path / "frogs.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    changed = made(other, configs).revision
    assert changed is not None
    assert changed != version
    assert changed.split("+")[1] == version.split("+")[1]


def test_its_licence_is_in_the_card_beside_it(tmp_path: Path, file: Path, configs: Path) -> None:
    assert made(file, configs).license is None
    shutil.copy(file, tmp_path / "frogs.safetensors")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert made(tmp_path / "frogs.safetensors", configs).license == "mit"


def test_a_pipeline_that_starts_from_images_is_refused(
    file: Path, configs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "edits"
    shutil.copytree(configs, other)
    index = json.loads((other / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionImg2ImgPipeline"
    (other / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(GeneratorConfigError, match="no images from text alone"):
        made(file, other).check()


@pytest.mark.usefixtures("offline")
def test_without_configs_its_family_is_told_by_its_weights(file: Path, tmp_path: Path) -> None:
    assert family_of(file) == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    spec = {"kind": "diffusers", "model": str(file)}
    for refused in (lambda: check_generator(spec), lambda: settings_of(spec)):
        with pytest.raises(GeneratorConfigError) as told:
            refused()
        assert str(told.value) == (
            "generator.config: frogs.safetensors is one of stable-diffusion-v1-5/"
            "stable-diffusion-v1-5, by its weights, whose configs are not in the hub's cache and "
            "cannot be fetched; name config: a folder that save_pretrained wrote of the same "
            "family"
        )
    strange = tmp_path / "strange.safetensors"
    save_file({"a": torch.zeros(1)}, strange)
    with pytest.raises(GeneratorConfigError, match=r"^generator\.config: diffusers does not tell"):
        check_generator({"kind": "diffusers", "model": str(strange)})


@pytest.mark.usefixtures("offline")
def test_configs_in_the_hubs_cache_ask_nobody(
    tiny: Path, file: Path, configs: Path, tmp_path: Path
) -> None:
    repo = tmp_path / "hub" / "models--owner--name"
    shutil.copytree(configs, repo / "snapshots" / ("0" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    it = DiffusersGenerator(str(file), config="owner/name", device="cpu")
    it.check()
    assert it.revision is not None
    assert it.revision.endswith("+" + "0" * 40)
    assert np.abs(pixels(it) - pixels(made(tiny, None))).max() <= 1


def test_a_file_of_another_family_or_with_lost_weights_is_said_in_a_line(
    tiny: Path, file: Path, configs: Path, tmp_path: Path
) -> None:
    state = ldm_state(pipeline_of(tiny))
    lost = next(name for name in state if ".input_blocks.1.0.in_layers.2" in name)
    wide = {name: torch.zeros(7) if name == lost else its for name, its in state.items()}
    cases = {
        r"it lacks some of its weights; name as config": {
            k: v for k, v in state.items() if k != lost
        },
        r"no weights of the vae of a StableDiffusionPipeline; .*components: \{vae": {
            k: v for k, v in state.items() if not k.startswith("first_stage_model")
        },
        r"cannot be read as a StableDiffusionPipeline: .*own family": wide,
    }
    for said, own in cases.items():
        broken = tmp_path / "broken.safetensors"
        save_file(own, broken)
        with pytest.raises(GeneratorConfigError, match=rf"^generator\.model: broken.*{said}") as e:
            pixels(made(broken, configs))
        assert len(str(e.value).splitlines()) == 1


def test_a_part_that_the_file_has_not_comes_from_elsewhere(
    tiny: Path, configs: Path, tmp_path: Path
) -> None:
    state = ldm_state(pipeline_of(tiny))
    file = tmp_path / "denoiser.safetensors"
    save_file({k: v for k, v in state.items() if k.startswith("model.")}, file)
    parts = {"vae": str(tiny), "text_encoder": str(tiny)}
    it = made(file, configs, components=parts)
    it.check()
    assert np.abs(pixels(it) - pixels(made(tiny, None))).max() <= 1
    assert it.revision is not None
    assert it.revision.count("sha256:") == 4


def test_pickles_and_what_is_elsewhere_are_never_read(
    file: Path, configs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "pickled"
    shutil.copytree(configs, other)
    (other / "text_encoder" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(GeneratorConfigError, match=r"^generator\.config: .*are pickles"):
        pixels(made(file, other))
    (other / "text_encoder" / "pytorch_model.bin").unlink()
    index = {"weight_map": {"a": "../../elsewhere.safetensors"}}
    (other / "unet" / "x.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(GeneratorConfigError, match=r"^generator\.config: .*outside of its folder"):
        pixels(made(file, other))


def test_an_index_that_names_other_libraries_runs_nothing(
    file: Path, configs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "strange"
    shutil.copytree(configs, other)
    index = json.loads((other / "model_index.json").read_text())
    index["unet"] = ["this", "Zen"]
    (other / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(GeneratorConfigError, match=r"this\.Zen is no class of diffusers"):
        pixels(made(file, other))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "{tmp}/gone.safetensors"}, "generator.model: there is no file"),
        ({"model": "{tmp}/old.ckpt"}, "generator.model: old.ckpt is a pickle"),
        ({"model": "{tmp}/torn.safetensors"}, "generator.model: torn.safetensors cannot be read"),
        ({"model": "{tmp}/small.gguf"}, "generator.model: small.gguf is a single file of a kind"),
        ({"config": "{tmp}/nowhere"}, "generator.config: '{tmp}/nowhere' is neither"),
        ({"config": "{tmp}"}, "generator.config: {tmp} holds no model_index.json"),
        ({"variant": "fp16"}, "generator.variant: a single file has no variants"),
        ({"model": "pond"}, "generator.config: pond has its own"),
    ],
)
def test_misuse_is_refused(
    options: dict[str, str], said: str, file: Path, configs: Path, tmp_path: Path
) -> None:
    for name in ("old.ckpt", "torn.safetensors", "small.gguf"):
        (tmp_path / name).write_bytes(b"not it")
    own = {key: value.replace("{tmp}", str(tmp_path)) for key, value in options.items()}
    spec = {"kind": "diffusers", "model": str(file), "config": str(configs), **own}
    with pytest.raises(GeneratorConfigError) as told:
        check_generator(spec)
    assert str(told.value).startswith(said.replace("{tmp}", str(tmp_path)))
