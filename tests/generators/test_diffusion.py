"""The diffusers generator on small untrained pipelines of the real classes."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gapclose.generators.checkpoint import Checkpoint
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.pipeline import Pipeline
from gapclose.generators.recipe import Draw
from gapclose.generators.schedulers import SCHEDULERS

DRAW = Draw(prompt="a photo of a frog", num_inference_steps=3, guidance_scale=3.0)


def _make(folder: Path, **options: Any) -> DiffusersGenerator:
    return DiffusersGenerator(str(folder), **{"device": "cpu", **options})


def _draw(**changes: Any) -> Draw:
    return Draw.from_json({**DRAW.to_json(), **changes})


def _pixels(generator: DiffusersGenerator, **changes: Any) -> np.ndarray:
    return np.stack(generator.generate(_draw(**changes), [1, 2]).images)


def test_it_is_what_the_pipeline_itself_draws(tiny: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        DRAW.prompt,
        num_inference_steps=3,
        guidance_scale=3.0,
        generator=torch.Generator("cpu").manual_seed(5),
        output_type="np",
    ).images[0]
    (image,) = _make(tiny).generate(DRAW, [5]).images
    assert np.abs(image - expected * 255).max() <= 1


def test_what_it_is_called(tiny: Path, tmp_path: Path) -> None:
    generator = _make(tiny)
    assert generator.id == f"diffusers:{tiny.name}"
    assert generator.license == "apache-2.0"
    assert DiffusersGenerator("pond").id == "diffusers:pond"
    assert DiffusersGenerator("owner/name", revision="v1").id == "diffusers:owner/name"
    assert DiffusersGenerator("owner/name", revision="v1").revision == "v1"
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    (copy / "README.md").unlink()
    assert _make(copy).license is None
    assert _make(copy).revision == generator.revision
    config = json.loads((copy / "scheduler" / "scheduler_config.json").read_text())
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps(config | {"beta_end": 1}))
    assert _make(copy).revision != generator.revision


def test_the_revision_is_that_of_what_was_loaded(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    generator = _make(copy)
    generator.generate(DRAW, [1])
    loaded = generator.revision
    (copy / "other.txt").write_text("saved since")
    assert generator.revision == loaded != _make(copy).revision


def test_every_setting_reaches_the_pipeline(tiny: Path) -> None:
    generator = _make(tiny)
    base = _pixels(generator)
    changes: list[dict[str, Any]] = [
        {"prompt": "a photo of a ship"},
        {"negative_prompt": "blue"},
        {"guidance_scale": 9.0},
        {"num_inference_steps": 6},
        {"scheduler": "euler"},
    ]
    for change in changes:
        assert (_pixels(generator, **change) != base).any(), change
    np.testing.assert_array_equal(_pixels(generator), base)


def test_no_guidance_ignores_the_negative_prompt(tiny: Path) -> None:
    generator = _make(tiny)
    plain = _pixels(generator, guidance_scale=1.0)
    np.testing.assert_array_equal(
        _pixels(generator, guidance_scale=1.0, negative_prompt="blue"), plain
    )


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - {"flow_euler", "flow_heun", "lcm"}))
def test_every_scheduler_draws(tiny: Path, name: str) -> None:
    batch = _make(tiny).generate(_draw(scheduler=name, num_inference_steps=4), [1, 2])
    assert batch.invalid == (None, None)


def test_schedulers_do_not_leak_into_each_other(tiny: Path) -> None:
    generator = _make(tiny)
    own, ddim = _pixels(generator), _pixels(generator, scheduler="ddim")
    _pixels(generator, scheduler="dpmsolver++_karras")
    np.testing.assert_array_equal(_pixels(generator, scheduler="ddim"), ddim)
    np.testing.assert_array_equal(_pixels(generator), own)


@pytest.mark.parametrize(("size", "shape"), [(24, (24, 24)), ((16, 32), (32, 16))])
def test_size_is_width_and_height(tiny: Path, size: Any, shape: tuple[int, int]) -> None:
    (image,) = _make(tiny).generate(_draw(size=size), [1]).images
    assert image.shape[:2] == shape
    (image,) = _make(tiny, size=size).generate(DRAW, [1]).images
    assert image.shape[:2] == shape
    (image,) = _make(tiny, size=8).generate(_draw(size=size), [1]).images
    assert image.shape[:2] == shape


def test_bad_draws_are_config_errors(tiny: Path, tiny_lcm: Path) -> None:
    with pytest.raises(GeneratorConfigError, match="multiples of"):
        _make(tiny).generate(_draw(size=13), [1])
    with pytest.raises(GeneratorConfigError, match="did you mean 'ddim'"):
        _make(tiny).generate(_draw(scheduler="ddimm"), [1])
    with pytest.raises(GeneratorConfigError, match="takes none"):
        _make(tiny_lcm).generate(_draw(negative_prompt="blue"), [1])
    with pytest.raises(GeneratorConfigError, match="does not fit"):
        _make(tiny_lcm).generate(_draw(scheduler="flow_euler"), [1])


def test_a_pipeline_without_negative_prompts_draws_without(tiny_lcm: Path) -> None:
    assert _make(tiny_lcm).generate(_draw(), [1, 2]).invalid == (None, None)


def test_nan_and_one_colour_are_marked_not_raised(tiny_nan: Path, tiny_gray: Path) -> None:
    nan = _make(tiny_nan).generate(DRAW, [1, 2])
    assert nan.invalid == ("nan", "nan")
    assert max(image.max() for image in nan.images) == 0
    assert len(nan.valid()) == 0
    assert _make(tiny_gray).generate(DRAW, [1]).invalid == ("one colour",)


def test_the_safety_checker_flags_unless_it_is_off(tiny_prude: Path) -> None:
    assert _make(tiny_prude).generate(DRAW, [1, 2]).invalid == ("safety", "safety")
    off = _make(tiny_prude, safety_checker="off").generate(DRAW, [1, 2])
    assert off.invalid == (None, None)


def test_off_is_allowed_where_there_is_no_checker(tiny: Path) -> None:
    np.testing.assert_array_equal(_pixels(_make(tiny, safety_checker="off")), _pixels(_make(tiny)))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        MemoryError(),
        UnboundLocalError("cannot access local variable 'image' where it is not associated"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_runs_out_halves_the_batch(
    error: Exception, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = _make(tiny, batch_size=8)
    expected = generator.generate(DRAW, range(7))
    sizes: list[int] = []
    generate = Pipeline.generate

    def scarce(self: Pipeline, wanted: Any) -> Any:
        sizes.append(len(wanted))
        if len(wanted) > 2:
            raise error
        return generate(self, wanted)

    monkeypatch.setattr(Pipeline, "generate", scarce)
    batch = generator.generate(DRAW, range(7))
    assert sizes == [7, 7, 3, 1, 1, 1, 1, 1, 1, 1], "once more, decoded one by one"
    assert batch.seeds == expected.seeds
    for one, two in zip(batch.images, expected.images, strict=True):
        assert np.abs(one.astype(int) - two).max() <= 1


def test_draws_that_differ_in_their_prompts_share_batches(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = _make(tiny, batch_size=8)
    sizes: list[int] = []
    generate = Pipeline.generate

    def counted(self: Pipeline, wanted: Any) -> Any:
        sizes.append(len(wanted))
        return generate(self, wanted)

    monkeypatch.setattr(Pipeline, "generate", counted)
    frog, red, cat = (_draw(prompt=f"a photo of a {word}") for word in ("frog", "red frog", "cat"))
    slow = _draw(prompt=frog.prompt, num_inference_steps=5)
    jobs = [(frog, range(4)), (red, [5, 2, 1]), (slow, [0]), (cat, range(3)), (red, [])]
    batches = generator.generate_all(jobs)
    assert sizes == [8, 2, 1]
    assert [batch.seeds for batch in batches] == [(0, 1, 2, 3), (5, 2, 1), (0,), (0, 1, 2), ()]


def test_memory_that_is_out_at_one_image_fails_the_trial(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Pipeline, "generate", none_left)
    with pytest.raises(GenerationError, match="smaller size"):
        _make(tiny).generate(DRAW, [1])


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_half_precision_decodes_in_float32(tiny: Path, dtype: str) -> None:
    assert _make(tiny, dtype=dtype).generate(DRAW, [1, 2]).invalid == (None, None)
    checkpoint = Checkpoint(model=str(tiny))
    loaded = Pipeline.load(checkpoint, device="cpu", dtype=dtype, safety_checker=True)
    assert loaded._text.pipeline.vae.dtype == torch.float32
    assert loaded._text.pipeline.unet.dtype == getattr(torch, dtype)


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"dtype": "fp16"}, "dtype"),
        ({"safety_checker": "maybe"}, "safety_checker"),
        ({"batch_size": 0}, "batch_size"),
        ({"size": -1}, "size"),
        ({"model": ""}, "model"),
    ],
)
def test_bad_values_are_named(options: dict[str, Any], culprit: str) -> None:
    with pytest.raises(GeneratorConfigError, match=f"generator.{culprit}"):
        DiffusersGenerator(**{"model": "pond", **options})


def test_a_bad_device_is_named() -> None:
    with pytest.raises(GeneratorConfigError, match=r"generator\.device"):
        DiffusersGenerator("pond", device="gpu").check()


def test_damaged_weights_are_a_config_error(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(GeneratorConfigError, match="cannot be loaded"):
        _make(copy).generate(DRAW, [1])


def test_pickled_weights_are_not_read(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(GeneratorConfigError, match="cannot be loaded"):
        _make(copy).generate(DRAW, [1])


@pytest.mark.parametrize(
    ("part", "file", "named"),
    [
        ("", "pipeline.py", {"_class_name": ["pipeline", "Own"]}),
        ("tokenizer", "own.py", {"tokenizer": ["own", "Own"]}),
        ("tokenizer", "own.py", {"tokenizer": ["transformers", "AutoTokenizer"]}),
        ("text_encoder", "own.py", {"text_encoder": ["transformers", "AutoModel"]}),
        ("unet", "own.py", {"unet": ["diffusers", "AutoModel"]}),
    ],
)
def test_code_of_a_pipeline_is_never_run_nor_asked_about(
    part: str,
    file: str,
    named: dict[str, Any],
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder, ran = tmp_path / "copy", tmp_path / "ran"
    shutil.copytree(tiny, folder)
    (folder / part / file).write_text(f"open({str(ran)!r}, 'w').close()\nclass Own: pass\n")
    index = json.loads((folder / "model_index.json").read_text()) | named
    (folder / "model_index.json").write_text(json.dumps(index))
    for config in ("config.json", "tokenizer_config.json"):
        if part and (folder / part / config).is_file():
            content = json.loads((folder / part / config).read_text())
            content["tokenizer_class"] = content["model_type"] = content["_class_name"] = "Own"
            own = dict.fromkeys(("AutoConfig", "AutoModel"), "own.Own")
            content["auto_map"] = {**own, "AutoTokenizer": ["own.Own", "own.Own"]}
            (folder / part / config).write_text(json.dumps(content))
    with pytest.raises(GeneratorConfigError) as told:
        _make(folder).generate(DRAW, [1])
    assert len(str(told.value).splitlines()) == 1
    assert not ran.exists()


def test_a_local_folder_reaches_no_network(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    generator = _make(tiny, safety_checker="off")
    generator.check()
    assert len(generator.generate(DRAW, [1])) == 1
    assert generator.revision is not None


def test_making_one_imports_neither_torch_nor_diffusers() -> None:
    code = (
        "import sys; from gapclose.generators.registry import make_generator; "
        "make_generator({'kind': 'diffusers', 'model': 'pond'}); "
        "assert not {'torch', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_variant_of_the_weights_is_read(tiny: Path, tmp_path: Path) -> None:
    import diffusers

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tiny, local_files_only=True)
    pipeline.save_pretrained(tmp_path, variant="fp16")
    draw = Draw(prompt="a frog", num_inference_steps=2)
    one, other = (
        DiffusersGenerator(str(folder), device="cpu", **options).generate(draw, [1])
        for folder, options in ((tiny, {}), (tmp_path, {"variant": "fp16"}))
    )
    assert np.abs(one.images[0].astype(int) - other.images[0]).max() <= 1
    with pytest.raises(GeneratorConfigError, match="cannot be loaded"):
        DiffusersGenerator(str(tiny), device="cpu", variant="bf16").generate(draw, [1])
