"""Embeddings of textual inversion: words that prompts may use, of safetensors alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.embeddings import read_embeddings
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import check_generator

WIDTH = 16


@pytest.fixture
def model(tiny: Path) -> Path:
    return tiny


def vectors(n: int = 1, *, seed: int = 0, width: int = WIDTH) -> torch.Tensor:
    return 20.0 * torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def word(tmp_path: Path) -> Path:
    """A word of two vectors, as diffusers' training writes it."""
    file = tmp_path / "learned.safetensors"
    save_file({"<frog>": vectors(2)}, file)
    return file


def made(model: Path, *embeddings: dict[str, Any]) -> DiffusersGenerator:
    return DiffusersGenerator(str(model), embeddings=embeddings, device="cpu")


def image(it: DiffusersGenerator, prompt: str) -> np.ndarray:
    draw = Draw(prompt=prompt, num_inference_steps=2, guidance_scale=3.0)
    return it.generate(draw, [1]).images[0].astype(int)


def encoded(it: DiffusersGenerator, prompt: str) -> list[int]:
    assert it._pipeline is not None
    pipeline = it._pipeline._text.pipeline
    text = pipeline.maybe_convert_prompt(prompt, pipeline.tokenizer)
    ids: list[int] = pipeline.tokenizer(text)["input_ids"]
    return ids


def test_prompts_may_use_the_word_and_others_are_as_they_were(model: Path, word: Path) -> None:
    it, plain = made(model, {"path": str(word)}), made(model)
    it.check()
    other = "a photo of a frog"
    assert np.array_equal(image(it, other), image(plain, other))
    assert not np.array_equal(image(it, "a photo of <frog>"), image(plain, "a photo of <frog>"))
    assert len(encoded(it, "<frog>")) == len(encoded(it, "")) + 2
    assert it._pipeline is not None
    table = it._pipeline._text.pipeline.text_encoder.get_input_embeddings().weight
    assert torch.equal(table[encoded(it, "<frog>")[1:3]], vectors(2))


def test_the_word_is_the_configs_or_the_tensors_or_the_files(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "toad-style.safetensors"
    save_file({"emb_params": vectors()}, file)
    (one,) = read_embeddings([{"path": str(file)}])
    assert one.read()[0] == "toad-style"
    (other,) = read_embeddings([{"path": str(file), "token": "<toad>"}])
    assert other.read()[0] == "<toad>"
    it = made(model, {"path": str(file)})
    image(it, "a toad-style frog")
    assert len(encoded(it, "toad-style")) == len(encoded(it, "")) + 1


def test_two_words_do_not_disturb_each_other(model: Path, word: Path, tmp_path: Path) -> None:
    save_file({"<toad>": vectors(seed=1)}, tmp_path / "toad.safetensors")
    both = made(model, {"path": str(word)}, {"path": str(tmp_path / "toad.safetensors")})
    alone = made(model, {"path": str(word)})
    assert np.array_equal(image(both, "a <frog>"), image(alone, "a <frog>"))


def test_of_two_text_encoders_both_learn_it(tiny_sdxl: Path, tmp_path: Path) -> None:
    file = tmp_path / "xl.safetensors"
    save_file({"clip_l": vectors(), "clip_g": vectors(seed=1)}, file)
    it = made(tiny_sdxl, {"path": str(file), "token": "<frog>"})
    it.check()
    image(it, "a <frog>")
    assert it._pipeline is not None
    pipeline = it._pipeline._text.pipeline
    for number, seed in (("", 0), ("_2", 1)):
        own = getattr(pipeline, f"tokenizer{number}").convert_tokens_to_ids("<frog>")
        table = getattr(pipeline, f"text_encoder{number}").get_input_embeddings().weight
        assert torch.equal(table[own], vectors(seed=seed)[0])
    save_file({"<toad>": vectors()}, tmp_path / "one.safetensors")
    with pytest.raises(GeneratorConfigError, match="for 1 text encoders, and a StableDiffusionXL"):
        image(made(tiny_sdxl, {"path": str(tmp_path / "one.safetensors")}), "a <toad>")


def test_it_is_part_of_the_version_and_of_the_licence(model: Path, word: Path) -> None:
    it = made(model, {"path": str(word), "token": "<x>"})
    assert it.revision is not None
    assert it.revision.startswith(f"{made(model).revision}+sha256:")
    assert it.license == "apache-2.0, embedding <x> unknown"


def test_random_numbers_stay_as_they_were(model: Path, word: Path) -> None:
    before = torch.random.get_rng_state()
    image(made(model, {"path": str(word)}), "a <frog>")
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("token", ["frog", "Frog"])
def test_a_word_that_there_is_is_refused(model: Path, word: Path, token: str) -> None:
    own = {"path": str(word), "token": token}
    said = rf"^generator\.embeddings\.token: '{token}' is a word of the tokenizer already"
    with pytest.raises(GeneratorConfigError, match=said):
        check_generator({"kind": "diffusers", "model": str(model), "embeddings": [own]})
    with pytest.raises(GeneratorConfigError, match=said):
        image(made(model, own), "a frog")


def test_a_pipeline_without_words_of_its_own_takes_none(tiny_sd3: Path, word: Path) -> None:
    with pytest.raises(GeneratorConfigError, match="a StableDiffusion3Pipeline takes none"):
        made(tiny_sd3, {"path": str(word)}).check()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "cannot be read as safetensors"),
        ({"a": torch.zeros(1, WIDTH), "b": torch.zeros(1, WIDTH)}, "is no word of a textual inv"),
        ({"a": torch.zeros(2, 2, WIDTH)}, "is no word of a textual inversion"),
        ({"<a>": torch.zeros(1, 7)}, "has vectors of 7 numbers, and the text_encoder"),
        ({"a b": torch.zeros(1, WIDTH)}, "'a b' is no token"),
    ],
)
def test_what_is_no_word_is_said_in_a_line(
    model: Path, tmp_path: Path, state: dict[str, torch.Tensor] | None, said: str
) -> None:
    file = tmp_path / "broken.safetensors"
    if state is None:
        file.write_bytes(b"not it")
    else:
        save_file(state, file)
    with pytest.raises(GeneratorConfigError, match=rf"^generator\.embeddings\.\w+: .*{said}") as e:
        image(made(model, {"path": str(file)}), "a frog")
    assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({}, "generator.embeddings: an embedding needs a path"),
        ({"path": "x/y", "word": "a"}, "generator.embeddings: word is no key here"),
        ({"path": "frogs.pt"}, "generator.embeddings.path: frogs.pt may be a pickle"),
        ({"path": "x/y", "weight_name": "a.bin"}, "generator.embeddings.weight_name: 'a.bin' may"),
        (
            {"path": "x/y", "weight_name": "../a.safetensors"},
            "generator.embeddings.weight_name: '../a.safetensors' lies outside",
        ),
        ({"path": "x/y", "token": "a b"}, "generator.embeddings.token: 'a b' is no token"),
    ],
)
def test_wrong_keys_are_refused(own: dict[str, Any], said: str) -> None:
    with pytest.raises(GeneratorConfigError) as refusal:
        read_embeddings([own])
    assert str(refusal.value).startswith(said)


def test_two_of_one_token_are_refused() -> None:
    with pytest.raises(GeneratorConfigError, match="two are called 'x'"):
        read_embeddings([{"path": "a/b", "token": "x"}, {"path": "c/d", "token": "x"}])
