"""Images from source pictures: image-to-image pipelines of the families that diffusers has."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image, ImageOps

from gapclose.generators.base import generate_all, generate_from
from gapclose.generators.checkpoint import image_to_image
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.folder import FolderGenerator
from gapclose.generators.images import Pixels
from gapclose.generators.pipeline import Pipeline, _at_least_a_step
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import check_generator
from gapclose.generators.schedulers import SCHEDULERS

DRAW = Draw(
    prompt="a photo of a frog", num_inference_steps=4, guidance_scale=3.0, strength=0.5, size=16
)


def _make(folder: Path, **options: Any) -> DiffusersGenerator:
    return DiffusersGenerator(str(folder), **{"device": "cpu", **options})


def _image(generator: DiffusersGenerator, source: Pixels, **changes: Any) -> Pixels:
    (batch,) = generate_from(generator, [(replace(DRAW, **changes), [1], [source])])
    return batch.images[0]


def test_it_is_what_diffusers_image_to_image_draws(tiny: Path, sources: list[Pixels]) -> None:
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(tiny)
    pipeline.set_progress_bar_config(disable=True)
    # One that is larger, and wider than its image.
    fitted = ImageOps.fit(Image.fromarray(sources[1]), (16, 16), Image.Resampling.LANCZOS)
    expected = pipeline(
        DRAW.prompt,
        image=fitted,
        strength=0.5,
        num_inference_steps=4,
        guidance_scale=3.0,
        generator=torch.Generator("cpu").manual_seed(1),
        output_type="np",
    ).images[0]
    assert np.abs(_image(_make(tiny), sources[1]) - expected * 255).max() <= 1


def test_every_setting_reaches_the_pipeline(tiny: Path, sources: list[Pixels]) -> None:
    generator = _make(tiny)
    base = _image(generator, sources[0])
    changes: list[dict[str, Any]] = [
        {"prompt": "a photo of a ship"},
        {"negative_prompt": "blue"},
        {"guidance_scale": 9.0},
        {"num_inference_steps": 8},
        {"scheduler": "euler"},
        {"strength": 1.0},
    ]
    for change in changes:
        assert (_image(generator, sources[0], **change) != base).any(), change
    assert (_image(generator, sources[3]) != base).any(), "another source"
    np.testing.assert_array_equal(_image(generator, sources[0]), base)


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - {"flow_euler", "flow_heun", "lcm"}))
def test_every_scheduler_starts_from_a_source(
    tiny: Path, sources: list[Pixels], name: str
) -> None:
    draw = replace(DRAW, scheduler=name)
    (batch,) = generate_from(_make(tiny), [(draw, [1, 2], sources[:2])])
    assert batch.invalid == (None, None)


def test_sizes_are_those_of_images_from_text(tiny: Path, sources: list[Pixels]) -> None:
    generator = _make(tiny)
    assert {_image(generator, one, size=None).shape for one in sources} == {(16, 16, 3)}
    assert _image(generator, sources[1], size=(16, 32)).shape == (32, 16, 3)
    assert _image(_make(tiny, size=24), sources[1], size=None).shape == (24, 24, 3)
    with pytest.raises(GeneratorConfigError, match="multiples of"):
        _image(generator, sources[0], size=13)


def test_images_from_text_are_what_they_were(tiny: Path, sources: list[Pixels]) -> None:
    text = replace(DRAW, strength=None)
    generator = _make(tiny)
    (before,) = generate_all(generator, [(text, [1, 2])])
    _image(generator, sources[0], scheduler="euler", size=None)
    (after,) = generate_all(generator, [(text, [1, 2])])
    for one, other in zip(before.images, after.images, strict=True):
        np.testing.assert_array_equal(one, other)


def test_less_than_a_step_is_one_step(tiny: Path, sources: list[Pixels]) -> None:
    generator = _make(tiny)
    one = _image(generator, sources[0], strength=0.25)
    np.testing.assert_array_equal(_image(generator, sources[0], strength=0.01), one)
    assert (_image(generator, sources[0], strength=0.5) != one).any()


def test_a_step_is_one_step_however_a_family_counts() -> None:
    for steps in range(1, 1001):
        strength = _at_least_a_step(1e-6, steps)
        assert int(steps * strength) == 1  # Stable Diffusion
        assert int(max(steps - steps * strength, 0)) == steps - 1  # flow matching
    assert _at_least_a_step(0.4, 10) == 0.4


def test_both_pipelines_share_all_weights(tiny: Path, sources: list[Pixels]) -> None:
    generator = _make(tiny)
    _image(generator, sources[0])
    loaded: Any = generator._pipeline
    text, image = loaded._text.pipeline, loaded._image.pipeline
    assert type(image).__name__ == "StableDiffusionImg2ImgPipeline"
    for name in ("unet", "vae", "text_encoder"):
        assert getattr(text, name) is getattr(image, name)
    _image(generator, sources[0])
    assert loaded._image.pipeline is image


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("family", ["tiny", "tiny_sdxl", "tiny_sd3"])
def test_half_precision_encodes_in_float32(
    family: str, dtype: str, sources: list[Pixels], request: pytest.FixtureRequest
) -> None:
    generator = _make(request.getfixturevalue(family), dtype=dtype)
    exact = _make(request.getfixturevalue(family), dtype="float32")
    for _ in range(2):  # SDXL's would halve the autoencoder after the first
        (batch,) = generate_from(generator, [(DRAW, [1, 2], sources[:2])])
        assert batch.invalid == (None, None)
    loaded: Any = generator._pipeline
    assert loaded._text.pipeline.vae.dtype == torch.float32
    (close,) = generate_from(exact, [(DRAW, [1, 2], sources[:2])])
    for one, other in zip(batch.images, close.images, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 4


def test_a_batch_holds_prompts_and_sources_of_their_own(
    tiny: Path, sources: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = _make(tiny, batch_size=8)
    sizes: list[int] = []
    generate = Pipeline.generate

    def counted(self: Pipeline, wanted: Any) -> Any:
        sizes.append(len(wanted))
        return generate(self, wanted)

    monkeypatch.setattr(Pipeline, "generate", counted)
    jobs = [
        (replace(DRAW, prompt="a frog"), [0, 1], sources[:2]),
        (replace(DRAW, prompt="a red ship", negative_prompt="blue"), [1, 5, 2], sources[2:5]),
        (replace(DRAW, prompt="a frog", strength=0.8), [0], sources[:1]),
        (DRAW, [], []),
    ]
    batches = generate_from(generator, jobs)
    assert sizes == [2, 3, 1]  # with a negative prompt, without one, and at another strength
    assert [batch.seeds for batch in batches] == [(0, 1), (1, 5, 2), (0,), ()]
    for (draw, seeds, own), batch in zip(jobs, batches, strict=True):
        for seed, source, image in zip(seeds, own, batch.images, strict=True):
            (alone,) = generate_from(generator, [(draw, [seed], [source])])
            assert np.abs(alone.images[0].astype(int) - image).max() <= 1


def test_memory_that_runs_out_halves_the_batch(
    tiny: Path, sources: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = _make(tiny, batch_size=8)
    (expected,) = generate_from(generator, [(DRAW, range(5), sources[:5])])
    generate = Pipeline.generate

    def scarce(self: Pipeline, wanted: Any) -> Any:
        if len(wanted) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return generate(self, wanted)

    monkeypatch.setattr(Pipeline, "generate", scarce)
    (batch,) = generate_from(generator, [(DRAW, range(5), sources[:5])])
    for one, other in zip(batch.images, expected.images, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_the_safety_checker_looks_at_them_too(tiny_prude: Path, sources: list[Pixels]) -> None:
    for options, mark in (({}, "safety"), ({"safety_checker": "off"}, None)):
        (batch,) = generate_from(_make(tiny_prude, **options), [(DRAW, [1], sources[:1])])
        assert batch.invalid == (mark,)


def test_what_a_draw_needs_is_said(tiny: Path, frogs: Path, sources: list[Pixels]) -> None:
    generator = _make(tiny)
    text = replace(DRAW, strength=None)
    with pytest.raises(GeneratorConfigError, match="strength: needs a source picture"):
        generate_all(generator, [(text, [0]), (DRAW, [1])])
    with pytest.raises(GeneratorConfigError, match="ip_adapter_scale: needs a source picture"):
        generator.generate(replace(text, ip_adapter_scale=0.5), [1])
    with pytest.raises(GeneratorConfigError, match="strength: a draw from a source picture needs"):
        generate_from(generator, [(text, [1], sources[:1])])
    with pytest.raises(GenerationError, match="2 sources for 1 seeds"):
        generate_from(generator, [(DRAW, [1], sources[:2])])
    with pytest.raises(GenerationError, match="photo group 'g' of a draw is not resolved"):
        generate_all(generator, [(replace(text, photos="g"), [1])])
    folder = FolderGenerator(frogs)
    with pytest.raises(
        GeneratorConfigError, match=r"^space.strength: this generator takes no pictures; leave it"
    ):
        generate_from(folder, [(DRAW, [1], sources[:1])])
    shown = replace(text, ip_adapter_scale=0.5)
    with pytest.raises(GeneratorConfigError, match=r"^space.ip_adapter_scale: this generator"):
        generate_from(folder, [(shown, [1], sources[:1])])


def test_a_config_is_refused_before_anything_loads(
    tiny: Path, frogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pipeline was loaded")

    monkeypatch.setattr(Pipeline, "load", loaded)
    check_generator({"kind": "diffusers", "model": str(tiny)}, strength=True)
    for kind in ("PixArtAlphaPipeline", "Flux2KleinPipeline"):
        folder = tmp_path / kind
        folder.mkdir()
        index = json.loads((tiny / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": kind}))
        with pytest.raises(
            GeneratorConfigError,
            match=rf"^space.strength: diffusers has no image-to-image .* for a {kind}; leave",
        ):
            check_generator({"kind": "diffusers", "model": str(folder)}, strength=True)
    with pytest.raises(GeneratorConfigError, match=r"^space.strength: this generator takes no"):
        check_generator({"kind": "folder", "path": str(frogs)}, strength=True)
    check_generator({"kind": "folder", "path": str(frogs)})


def test_a_family_without_a_partner_is_refused_at_work_too(
    tiny: Path, tmp_path: Path, sources: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one from the hub, whose class is not known before."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    generator = _make(copy)
    monkeypatch.setattr("gapclose.generators.checkpoint.Checkpoint.saved_class", lambda _: None)
    monkeypatch.setattr("diffusers.pipelines.auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING", {})
    with pytest.raises(GeneratorConfigError, match="for a StableDiffusionPipeline; leave it out"):
        _image(generator, sources[0])


def test_partners_take_a_strength() -> None:
    import diffusers

    partner = image_to_image(diffusers.FluxPipeline)
    assert partner is diffusers.FluxImg2ImgPipeline


def test_a_family_that_counts_strength_in_another_way_is_refused(tiny_lcm: Path) -> None:
    generator = DiffusersGenerator(str(tiny_lcm), device="cpu")
    said = (
        r"space\.strength: diffusers has no image-to-image pipeline with a strength for a Latent"
    )
    with pytest.raises(GeneratorConfigError, match=said):
        generator.check_conditioning(strength=True, ip_adapter=False)
