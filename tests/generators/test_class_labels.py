"""Pipelines that read no prompt: one draws a label, another one kind of image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_unet_families
import torch
from pond_config import pond_config

from gapclose.generators.base import generate_all
from gapclose.generators.class_labels import find_label
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import check_generator, parameters_of, settings_of
from gapclose.loop.work.run_generators import check_drawn, with_taken_settings

LABELS = {"frog": 0, "tree frog": 0, "ship": 1, "Siamese cat": 2}


@pytest.fixture(scope="module")
def dit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dit")
    tiny_unet_families.FAMILIES["DiTPipeline"]().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddpm")
    tiny_unet_families.FAMILIES["DDPMPipeline"]().save_pretrained(folder)
    return folder


def made(model: Path, **options: Any) -> DiffusersGenerator:
    return DiffusersGenerator(str(model), **{"device": "cpu", **options})


def drawn(it: DiffusersGenerator, *prompts: str) -> np.ndarray:
    jobs = [(Draw(prompt=prompt, num_inference_steps=3), [5]) for prompt in prompts]
    return np.stack([batch.images[0] for batch in generate_all(it, jobs)]).astype(int)


def test_a_prompt_is_a_label(dit: Path) -> None:
    pipeline = tiny_unet_families.FAMILIES["DiTPipeline"]()
    expected = pipeline(
        class_labels=[1],
        num_inference_steps=3,
        generator=torch.Generator("cpu").manual_seed(5),
        output_type="np",
    ).images[0]
    it = made(dit)
    it.check()
    ship, frog, tree_frog = drawn(it, "Ship", "frog", "TREE_frog")
    assert np.abs(ship - expected * 255).max() <= 1
    assert np.array_equal(frog, tree_frog), "they are synonyms"
    assert not np.array_equal(frog, ship)


def test_a_prompt_that_is_no_label_names_the_nearest(dit: Path) -> None:
    said = r"^space\.prompt: a DiTPipeline draws one of its labels, and 'shp' is none; .*'ship'"
    with pytest.raises(GeneratorConfigError, match=said):
        check_generator({"kind": "diffusers", "model": str(dit)}, prompts=["frog", "shp"])
    with pytest.raises(GeneratorConfigError, match=said):
        drawn(made(dit), "shp")
    check_generator({"kind": "diffusers", "model": str(dit)}, prompts=["siamese_cat", "frog"])


@pytest.mark.parametrize(
    ("prompt", "nearest"),
    [("a photo of a frog", "frog"), ("a photo of a tree frog", "tree frog"), ("sheep", "ship")],
)
def test_a_label_inside_a_prompt_is_the_nearest(prompt: str, nearest: str) -> None:
    with pytest.raises(GeneratorConfigError, match=f"the nearest is '{nearest}'") as told:
        find_label(LABELS, prompt, kind="DiTPipeline")
    assert "'{class}'" in str(told.value)


def test_labels_without_names_are_said(dit: Path, tmp_path: Path) -> None:
    shutil.copytree(dit, tmp_path / "dit")
    index = json.loads((dit / "model_index.json").read_text())
    del index["id2label"]
    (tmp_path / "dit" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(GeneratorConfigError, match=r"^generator\.model: .*\"id2label\": \{"):
        check_generator({"kind": "diffusers", "model": str(tmp_path / "dit")}, prompts=["frog"])


def test_one_that_reads_nothing_draws_the_same_of_any_prompt(ddpm: Path) -> None:
    it = made(ddpm)
    one, other = drawn(it, "a frog", "a ship")
    assert np.array_equal(one, other)
    assert one.std() > 5
    check_generator({"kind": "diffusers", "model": str(ddpm)}, prompts=["a frog", "a frog"])
    said = "a DDPMPipeline reads no prompt and draws one kind .* 'a frog' and 'a ship' would"
    with pytest.raises(GeneratorConfigError, match=said):
        check_generator({"kind": "diffusers", "model": str(ddpm)}, prompts=["a frog", "a ship"])


def test_pixels_of_half_precision_come_out(ddpm: Path) -> None:
    whole, half = (drawn(made(ddpm, dtype=name), "frog") for name in ("float32", "bfloat16"))
    assert np.abs(whole - half).mean() < 20


def test_what_they_take_is_known_without_loading_them(dit: Path, ddpm: Path) -> None:
    def spec(model: Path) -> dict[str, Any]:
        return {"kind": "diffusers", "model": str(model)}

    assert settings_of(spec(dit)) == {"guidance_scale", "num_inference_steps", "scheduler"}
    assert settings_of(spec(ddpm)) == {"num_inference_steps", "scheduler"}
    assert parameters_of(spec(dit)) == parameters_of(spec(ddpm)) == frozenset()
    for model in (dit, ddpm):
        with pytest.raises(GeneratorConfigError, match=r"^generator\.size: .*one size"):
            made(model, size=64).check()
        with pytest.raises(GeneratorConfigError, match="image-to-image"):
            made(model).check_conditioning(strength=True)
        with pytest.raises(GeneratorConfigError, match=r"usable: .*ddim"):
            made(model).check_schedulers(["euler"])


def test_a_runs_prompts_are_checked_before_it_starts(dit: Path, ddpm: Path) -> None:
    def config(model: Path, prompt: str, **own: Any) -> Any:
        return with_taken_settings(
            pond_config(
                generator={"kind": "diffusers", "model": str(model)},
                space={"prompt": [prompt]},
                baseline={"prompt": prompt},
                **own,
            )
        )

    check_drawn(config(dit, "{class}"), ["frog", "ship"])
    with pytest.raises(GeneratorConfigError, match="'automobile' is none"):
        check_drawn(config(dit, "{class}"), ["frog", "automobile"])
    with pytest.raises(GeneratorConfigError, match="'a photo of a frog' is none"):
        check_drawn(config(dit, "a photo of a {class}"), ["frog"])
    check_drawn(config(ddpm, "{class}"), ["frog"])
    with pytest.raises(GeneratorConfigError, match="'frog' and 'ship' would be the same"):
        check_drawn(config(ddpm, "{class}"), ["frog", "ship"])
