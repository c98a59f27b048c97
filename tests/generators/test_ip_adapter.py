"""IP-Adapters: pictures as prompts, on a small untrained pipeline and adapter."""

from __future__ import annotations

import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPVisionModelWithProjection

from gapclose.generators.base import generate_all, generate_from
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.images import Pixels
from gapclose.generators.ip_adapter import IPAdapter
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import check_generator

TEXT = Draw(prompt="a photo of a frog", num_inference_steps=3, guidance_scale=3.0)
DRAW = replace(TEXT, ip_adapter_scale=0.7)


def _options(adapter: Path, **changes: Any) -> dict[str, Any]:
    files = {"subfolder": "models", "weight_name": "adapter.safetensors"}
    return {"model": str(adapter), **files, **changes}


def _make(tiny: Path, adapter: Path, **options: Any) -> DiffusersGenerator:
    return DiffusersGenerator(str(tiny), device="cpu", ip_adapter=_options(adapter), **options)


def _apart(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(int) - other).max())


@pytest.fixture
def generator(tiny: Path, tiny_adapter: Path) -> DiffusersGenerator:
    return _make(tiny, tiny_adapter, batch_size=8)


def test_it_is_what_diffusers_draws_with_one_picture(
    tiny: Path, tiny_adapter: Path, generator: DiffusersGenerator, sources: list[Pixels]
) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny)
    pipeline.set_progress_bar_config(disable=True)
    encoder = CLIPVisionModelWithProjection.from_pretrained(
        tiny_adapter, subfolder="models/image_encoder"
    )
    pipeline.register_modules(image_encoder=encoder)
    pipeline.load_ip_adapter(
        str(tiny_adapter),
        subfolder="models",
        weight_name="adapter.safetensors",
        image_encoder_folder=None,
    )
    pipeline.set_ip_adapter_scale(0.7)
    for guidance in (3.0, 1.0):
        expected = pipeline(
            DRAW.prompt,
            ip_adapter_image=Image.fromarray(sources[0]),
            num_inference_steps=3,
            guidance_scale=guidance,
            generator=torch.Generator("cpu").manual_seed(1),
            output_type="np",
        ).images[0]
        draw = replace(DRAW, guidance_scale=guidance)
        (batch,) = generate_from(generator, [(draw, [1], sources[:1])])
        assert np.abs(batch.images[0] - expected * 255).max() <= 1


def test_each_image_of_a_batch_sees_its_own_picture(
    generator: DiffusersGenerator, sources: list[Pixels]
) -> None:
    for draw in (DRAW, replace(DRAW, strength=0.7), replace(DRAW, guidance_scale=1.0)):
        frogs = (draw, [1, 2, 3], sources[:3])
        ships = (replace(draw, prompt="a photo of a red ship"), [1, 5], sources[4:6])
        for jobs in ([frogs], [frogs, ships]):  # one prompt is encoded once for all its images
            for job, batch in zip(jobs, generate_from(generator, jobs), strict=True):
                for seed, source, image in zip(*job[1:], batch.images, strict=True):
                    (alone,) = generate_from(generator, [(job[0], [seed], [source])])
                    assert _apart(alone.images[0], image) <= 1


def test_picture_and_scale_reach_the_image(
    generator: DiffusersGenerator, sources: list[Pixels]
) -> None:
    def image(draw: Draw, source: Pixels) -> Pixels:
        return generate_from(generator, [(draw, [1], [source])])[0].images[0]

    for draw in (DRAW, replace(DRAW, strength=0.7)):
        base = image(draw, sources[0])
        assert _apart(image(replace(draw, ip_adapter_scale=0.1), sources[0]), base) > 1
        np.testing.assert_array_equal(image(draw, sources[0]), base)
    assert _apart(image(DRAW, sources[1]), image(DRAW, sources[0])) > 1


def test_without_a_scale_the_adapter_changes_nothing(
    tiny: Path, generator: DiffusersGenerator, sources: list[Pixels]
) -> None:
    bare = DiffusersGenerator(str(tiny), device="cpu")
    generate_from(generator, [(DRAW, [7], sources[:1])])
    for draw in (TEXT, replace(TEXT, guidance_scale=1.0)):
        (expected,), (batch,) = (
            generate_all(one, [(draw, [1, 2, 3])]) for one in (bare, generator)
        )
        for one, other in zip(expected.images, batch.images, strict=True):
            np.testing.assert_array_equal(one, other)
    started = replace(TEXT, strength=0.7)
    (expected,), (batch,) = (
        generate_from(one, [(started, [1, 2], sources[:2])]) for one in (bare, generator)
    )
    for one, other in zip(expected.images, batch.images, strict=True):
        np.testing.assert_array_equal(one, other)
    # At a scale of 0 the picture is not looked at.
    (shut,) = generate_from(generator, [(replace(DRAW, ip_adapter_scale=0.0), [1], sources[:1])])
    (text,) = generate_all(bare, [(TEXT, [1])])
    np.testing.assert_array_equal(shut.images[0], text.images[0])


def test_half_precision(tiny: Path, tiny_adapter: Path, sources: list[Pixels]) -> None:
    generator = _make(tiny, tiny_adapter, dtype="bfloat16")
    draws = [DRAW, replace(DRAW, strength=0.7)]
    for batch in generate_from(generator, [(draw, [1, 2], sources[:2]) for draw in draws]):
        assert batch.invalid == (None, None)


def test_global_random_state_is_untouched(
    tiny: Path, tiny_adapter: Path, sources: list[Pixels]
) -> None:
    before = torch.get_rng_state()
    generate_from(_make(tiny, tiny_adapter), [(DRAW, [1], sources[:1])])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_revision_names_the_adapter(tiny: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    bare = DiffusersGenerator(str(tiny)).revision
    revision = _make(tiny, tiny_adapter).revision
    assert revision is not None
    assert revision.startswith(f"{bare}+sha256:")
    copy = tmp_path / "copy"
    shutil.copytree(tiny_adapter, copy)
    assert _make(tiny, copy).revision == revision
    (copy / "models" / "adapter.safetensors").write_bytes(b"other")
    assert _make(tiny, copy).revision != revision


def test_a_hub_id_is_named_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    adapter = IPAdapter(model="owner/name", subfolder="a/b", weight_name="c.safetensors")
    assert adapter.version is None
    with pytest.raises(GeneratorConfigError, match=r"set generator\.ip_adapter\.model to the loc"):
        adapter.check(None)
    commit = "0" * 40
    repo = tmp_path / "hub" / "models--owner--name"
    (repo / "snapshots" / commit / "a" / "b").mkdir(parents=True)
    (repo / "snapshots" / commit / "a" / "b" / "c.safetensors").touch()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    adapter.check(None)
    assert adapter.version == commit


def test_an_encoder_of_another_folder(
    tiny: Path, tiny_adapter: Path, tmp_path: Path, sources: list[Pixels]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_adapter, copy)
    (copy / "vision").mkdir()
    shutil.move(copy / "models" / "image_encoder", copy / "vision" / "encoder")
    made = [
        DiffusersGenerator(
            str(tiny), device="cpu", ip_adapter=_options(copy, image_encoder="vision/encoder")
        ),
        _make(tiny, tiny_adapter),
    ]
    for generator in made:
        generator.check()
    one, other = (generate_from(g, [(DRAW, [1], sources[:1])])[0].images[0] for g in made)
    np.testing.assert_array_equal(one, other)


def test_what_cannot_be_is_refused_in_one_line(
    tiny: Path, tiny_sd3: Path, tiny_adapter: Path, sources: list[Pixels]
) -> None:
    def spec(model: Path, **changes: Any) -> dict[str, Any]:
        options = _options(tiny_adapter, **changes)
        return {"kind": "diffusers", "model": str(model), "ip_adapter": options}

    check_generator(spec(tiny), ip_adapter=True, strength=True)
    for refused, says in (
        (spec(tiny, weight_name="adapter.bin"), r"ip_adapter\.weight_name: 'adapter.bin' may be"),
        (spec(tiny, weight_name="x.safetensors"), r"ip_adapter: there is no file .*x\.safetens"),
        (
            spec(tiny, image_encoder="eyes"),
            r"ip_adapter\.image_encoder: there is no folder .*eyes",
        ),
        (spec(tiny, scale=1), r"ip_adapter: takes model, weight_name, .*; not .*scale"),
        (spec(tiny_sd3), r"ip_adapter: a StableDiffusion3Pipeline takes none"),
    ):
        with pytest.raises(GeneratorConfigError, match=says) as refusal:
            check_generator(refused)
        assert "\n" not in str(refusal.value)
    bare = {"kind": "diffusers", "model": str(tiny)}
    check_generator(bare, strength=True)
    with pytest.raises(GeneratorConfigError, match=r"^space.ip_adapter_scale: needs the weights"):
        check_generator(bare, ip_adapter=True)
    with pytest.raises(GeneratorConfigError, match=r"name them in generator\.ip_adapter"):
        generate_from(DiffusersGenerator(str(tiny)), [(DRAW, [1], sources[:1])])


def test_what_fails_to_load_is_a_config_error(
    tiny: Path, tiny_adapter: Path, tmp_path: Path, sources: list[Pixels]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_adapter, copy)
    weights = copy / "models" / "image_encoder" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()  # a pickle is left, and is not read
    with pytest.raises(GeneratorConfigError, match=r"generator\.ip_adapter: .* cannot be loaded"):
        generate_from(_make(tiny, copy), [(DRAW, [1], sources[:1])])
    shutil.copytree(tiny_adapter, tmp_path / "torn")
    (tmp_path / "torn" / "models" / "adapter.safetensors").write_bytes(b"torn")
    with pytest.raises(GeneratorConfigError, match=r"generator\.ip_adapter: .* cannot be loaded"):
        generate_from(_make(tiny, tmp_path / "torn"), [(DRAW, [1], sources[:1])])
    own = DiffusersGenerator(
        str(tiny), device="cpu", ip_adapter=_options(tiny_adapter, image_encoder=None)
    )
    with pytest.raises(GeneratorConfigError, match=r"image_encoder: a StableDiffusionPipeline co"):
        generate_from(own, [(DRAW, [1], sources[:1])])


def test_an_encoder_of_another_width_is_refused_when_it_is_loaded(
    tiny: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    """As of the adapters for ViT-H, which lie beside those for ViT-bigG."""
    shutil.copytree(tiny_adapter, tmp_path / "adapter")
    folder = tmp_path / "adapter" / "models" / "image_encoder"
    config = CLIPVisionModelWithProjection.from_pretrained(folder).config
    config.projection_dim *= 2
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    generator = _make(tiny, tmp_path / "adapter")
    said = r"generator\.ip_adapter\.image_encoder: its pictures are not what the adapter takes"
    with pytest.raises(GeneratorConfigError, match=said):
        generator.generate(TEXT, [1])
