"""LoRAs beside a pipeline: their scales are parameters, and nothing but safetensors is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_loras import write_lora

from gapclose.generators.base import generate_all
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.loras import read_loras
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import check_generator


@pytest.fixture
def model(tiny: Path) -> Path:
    return tiny


@pytest.fixture(scope="module")
def lora(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lora(tiny, tmp_path_factory.mktemp("loras") / "frogs")


def generator(model: Path, *loras: dict[str, Any]) -> DiffusersGenerator:
    return DiffusersGenerator(str(model), device="cpu", loras=loras)


def drawn(it: DiffusersGenerator, *parameters: dict[str, Any]) -> list[np.ndarray]:
    jobs = [
        (Draw(prompt="a frog", num_inference_steps=2, parameters=own), [1, 2])
        for own in parameters
    ]
    return [np.stack(batch.images).astype(int) for batch in generate_all(it, jobs)]


def test_a_scale_is_a_parameter_and_0_is_without_it(model: Path, lora: Path) -> None:
    it = generator(model, {"path": str(lora)})
    assert it.parameters[0] == "lora_frogs"
    none, half, whole, unnamed, again = drawn(
        it, {"lora_frogs": 0.0}, {"lora_frogs": 0.5}, {"lora_frogs": 1.0}, {}, {"lora_frogs": 0.5}
    )
    (plain,) = drawn(generator(model), {})
    assert np.abs(none - plain).max() <= 1
    assert np.abs(half - none).max() > 5
    assert np.abs(whole - half).max() > 5
    assert np.array_equal(unnamed, whole), "its own weight is 1"
    assert np.array_equal(again, half), "whatever was drawn in between"


def test_of_two_each_has_its_own_scale(model: Path, lora: Path, tmp_path: Path) -> None:
    other = write_lora(model, tmp_path / "other", seed=1) / "pytorch_lora_weights.safetensors"
    it = generator(
        model,
        {"path": str(lora), "name": "first", "weight": 0.0},
        {"path": str(other), "weight": 0.0},
    )
    assert it.parameters[:2] == ("lora_first", "lora_other")
    none, first, second, both = drawn(
        it, {}, {"lora_first": 1.0}, {"lora_other": 1.0}, {"lora_first": 1.0, "lora_other": 1.0}
    )
    kinds = [none, first, second, both]
    assert all(np.abs(a - b).max() > 5 for i, a in enumerate(kinds) for b in kinds[i + 1 :])
    (alone,) = drawn(generator(model, {"path": str(lora)}), {"lora_frogs": 1.0})
    assert np.abs(first - alone).max() <= 1


def test_it_is_part_of_the_version_and_of_the_licence(model: Path, lora: Path) -> None:
    plain, it = generator(model), generator(model, {"path": str(lora)})
    assert plain.revision is not None
    assert it.revision is not None
    assert it.revision.startswith(f"{plain.revision}+sha256:")
    assert it.license is not None
    assert it.license.endswith("LoRA frogs unknown")
    (lora / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    try:
        assert it.license.endswith("LoRA frogs cc-by-nc-4.0")
    finally:
        (lora / "README.md").unlink()


def test_what_is_no_lora_of_the_pipeline_is_said_in_a_line(
    model: Path, lora: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    own = load_file(lora / "pytorch_lora_weights.safetensors")
    cases = {
        "strange": {"a": torch.zeros(2)},
        "wide": {name: torch.zeros(7, 7) for name in own},
        "torn": None,
    }
    for name, state in cases.items():
        file = tmp_path / f"{name}.safetensors"
        if state is None:
            file.write_bytes(b"not it")
        else:
            save_file(state, file)
        with pytest.raises(GeneratorConfigError, match=rf"^generator\.loras\.path: .*{name}"):
            drawn(generator(model, {"path": str(file)}), {})


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({}, "generator.loras: a LoRA needs a path"),
        ({"path": "x/y", "scale": 1}, "generator.loras: scale is no key here"),
        ({"path": "frogs.pt"}, "generator.loras.path: frogs.pt may be a pickle"),
        ({"path": "x/y", "weight_name": "a.bin"}, "generator.loras.weight_name: 'a.bin' may be"),
        ({"path": "x/y", "weight": 11.0}, "generator.loras.weight: 11.0 is no scale"),
        ({"path": "x/y", "weight": True}, "generator.loras.weight: True is no scale"),
        ({"path": "x/y", "name": "a b"}, "generator.loras.name: 'a b' is no name"),
    ],
)
def test_wrong_keys_are_refused(own: dict[str, Any], said: str) -> None:
    with pytest.raises(GeneratorConfigError) as refusal:
        read_loras([own])
    assert str(refusal.value).startswith(said)


def test_two_of_one_name_are_refused_and_names_come_from_files() -> None:
    one, other = read_loras([{"path": "x/Frog-LoRA_v2"}, {"path": "d/toads.safetensors"}])
    assert (one.name, other.name) == ("frog_lora_v2", "toads")
    with pytest.raises(GeneratorConfigError, match="two are called 'toads'"):
        read_loras([{"path": "d/toads.safetensors"}, {"path": "e/toads.safetensors"}])


def test_a_file_that_is_not_there_is_found_before_anything_loads(model: Path) -> None:
    with pytest.raises(GeneratorConfigError, match=r"there is no file .*gone\.safetensors"):
        check_generator(
            {"kind": "diffusers", "model": str(model), "loras": [{"path": "gone.safetensors"}]}
        )


def test_a_scale_that_is_none_is_refused(model: Path, lora: Path) -> None:
    it = generator(model, {"path": str(lora)})
    for strange in ("much", 100.0, True):
        with pytest.raises(GeneratorConfigError, match="no scale of a LoRA"):
            drawn(it, {"lora_frogs": strange})


def test_arguments_of_a_family_are_tried_before_a_night(model: Path, lora: Path) -> None:
    spec = {"kind": "diffusers", "model": str(model), "loras": [{"path": str(lora)}]}
    draw = Draw(prompt="a frog", guidance_scale=3.0, num_inference_steps=20)

    def varied(name: str, value: Any) -> dict[str, Draw]:
        return {name: Draw(**{**draw.to_json(), "parameters": {name: value}})}

    check_generator(spec, draw=draw, variants=varied("lora_frogs", 0.2))
    check_generator(spec, draw=draw, variants=varied("guidance_rescale", 0.7))
    check_generator(spec, draw=draw, variants=varied("eta", 1.0))
    draw = replace(draw, scheduler="euler")  # which has no use for it
    with pytest.raises(GeneratorConfigError, match=r"space\.parameters\.eta: changes nothing"):
        check_generator(spec, draw=draw, variants=varied("eta", 1.0))
    with pytest.raises(GeneratorConfigError, match="did you mean lora_frogs"):
        check_generator(spec, draw=draw, variants=varied("lora_frog", 1.0))


def test_what_images_from_pictures_do_not_take_is_refused_beside_them(
    model: Path, lora: Path
) -> None:
    spec = {"kind": "diffusers", "model": str(model), "loras": [{"path": str(lora)}]}
    check_generator(spec, strength=True, parameters=["lora_frogs", "eta"])
    with pytest.raises(GeneratorConfigError, match=r"guidance_rescale: a .*Img2Img.* takes none"):
        check_generator(spec, strength=True, parameters=["guidance_rescale"])
    it = generator(model, {"path": str(lora)})
    drawn(it, {"guidance_rescale": 0.5})
    started = Draw(
        prompt="a frog", num_inference_steps=2, strength=0.5, parameters={"guidance_rescale": 0.5}
    )
    picture = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(GeneratorConfigError, match="takes no such parameter"):
        it.generate_from([(started, [1], [picture])])


def test_a_parameter_that_nothing_takes_is_no_part_of_a_recipe(model: Path, lora: Path) -> None:
    for it, name in ((generator(model), "lora_frogs"), (generator(model), "pag_scale")):
        with pytest.raises(GeneratorConfigError, match=rf"space\.parameters\.{name}"):
            drawn(it, {name: 0.5})
