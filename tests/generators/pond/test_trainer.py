"""The pond's trainers: they learn, and what they write is a pipeline that the product loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.pond import renderer as pond
from gapclose.generators.pond.captions import NOUNS, build_tokenizer, load_scenes, render_scenes
from gapclose.generators.pond.networks import save_pipeline
from gapclose.generators.pond.trainer import train_autoencoder, train_denoiser
from gapclose.generators.recipe import Draw


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    render_scenes(folder, n=96)
    return folder


def test_scenes_are_captioned_and_the_same_again(scenes: Path, tmp_path: Path) -> None:
    pixels, captions = load_scenes(scenes)
    assert pixels.shape == (96, 32, 32, 3)
    nouns = {*pond.CLASSES, *(noun for several in NOUNS.values() for noun in several)}
    assert sum(any(noun in caption for noun in nouns) for caption in captions) > 0.5 * 96
    render_scenes(tmp_path, n=96)
    again, same = load_scenes(tmp_path)
    assert np.array_equal(pixels, again)
    assert captions == same
    render_scenes(tmp_path / "other", n=96, seed=1)
    assert not np.array_equal(pixels, load_scenes(tmp_path / "other")[0])


def test_plain_frogs_are_green_in_the_captioned_world(tmp_path: Path) -> None:
    render_scenes(tmp_path, n=1500)
    pixels, captions = load_scenes(tmp_path)
    colors = [*pond.COLORS]
    plain = [
        i
        for i, caption in enumerate(captions)
        if "frog" in caption.split() and not set(caption.split()) & set(colors)
    ]
    assert len(plain) > 20
    middle = pixels[plain, 8:24, 8:24].reshape(len(plain), -1, 3).astype(float)
    greener = middle[..., 1] - middle[..., [0, 2]].max(axis=-1)
    assert ((greener > 20).mean(axis=1) > 0.05).mean() > 0.9


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning")
def test_a_few_steps_learn_and_what_is_saved_draws(scenes: Path, tmp_path: Path) -> None:
    pixels, captions = load_scenes(scenes)
    x = torch.tensor(pixels[:32]).permute(0, 3, 1, 2).float() / 127.5 - 1.0

    def error(steps: int) -> float:
        vae = train_autoencoder(pixels, steps=steps, batch=16)
        with torch.inference_mode():
            return float((vae.decode(vae.encode(x).latent_dist.mean).sample - x).abs().mean())

    assert error(60) < 0.8 * error(1)
    vae = train_autoencoder(pixels, steps=2, batch=16)
    pipeline = train_denoiser(
        vae, build_tokenizer(), pixels, captions, steps=2, batch=8, compiled=False
    )
    save_pipeline(pipeline, tmp_path / "pond_sd")
    files = {path.suffix for path in (tmp_path / "pond_sd").rglob("*") if path.is_file()}
    assert ".safetensors" in files
    assert not files & {".bin", ".pt", ".pkl", ".ckpt"}
    generator = DiffusersGenerator(str(tmp_path / "pond_sd"), device="cpu")
    generator.check()
    batch = generator.generate(Draw(prompt="a photo of a frog", num_inference_steps=2), [1, 2])
    assert [image.shape for image in batch.images] == [(32, 32, 3)] * 2
    assert generator.license == "apache-2.0"
