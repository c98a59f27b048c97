"""What makes a pipeline faster or smaller: the same images, or a line that says why not."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_loras import write_lora
from tiny_transformer_families import FAMILIES as TRANSFORMERS
from tiny_unet_families import FAMILIES as UNETS

from gapclose.generators import speed as speed_module
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.pipeline import Pipeline
from gapclose.generators.prompt_cache import PromptCache
from gapclose.generators.recipe import Draw
from gapclose.generators.speed import ATTENTION, Speed, denoisers, fast_matmul

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


def generator(model: Path, **options: Any) -> DiffusersGenerator:
    return DiffusersGenerator(str(model), device="cpu", **options)


def images(it: DiffusersGenerator, *seeds: int, **changes: Any) -> np.ndarray:
    draw = Draw(**{"prompt": "a frog", "num_inference_steps": 3, "guidance_scale": 3.0, **changes})
    return np.stack(it.generate(draw, seeds or (1, 2)).images).astype(int)


def loaded(it: DiffusersGenerator) -> Pipeline:
    assert it._pipeline is not None
    return it._pipeline


@pytest.fixture
def flux() -> Any:
    return UNETS["FluxPipeline"]()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Compile without a compiler, and count the graphs; torch is as it was afterwards."""
    graphs: list[int] = []

    def count(graph: Any, examples: Any) -> Any:
        graphs.append(len(examples))
        return graph.forward

    monkeypatch.setattr(speed_module, "_COMPILER", count)
    yield graphs
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compile": "yes"}, "generator.compile: true or false, not 'yes'"),
        ({"attention": "fast"}, "generator.attention: one of auto, native, .*, not 'fast'"),
        ({"attention": "flash_hub"}, "generator.attention: one of"),  # runs code of the hub
        ({"offload": True}, "generator.offload: one of none, model, group, not True"),
        ({"quantize": "int2"}, "generator.quantize: one of none, int8, nf4, not 'int2'"),
        ({"cache": "much"}, "generator.cache: one of none, first_block, taylorseer"),
    ],
)
def test_values_are_checked_before_anything_loads(options: dict[str, Any], said: str) -> None:
    with pytest.raises(GeneratorConfigError, match=said):
        DiffusersGenerator("pond", **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"offload": "model"}, "generator.offload: model works on a CUDA GPU alone"),
        ({"offload": "group"}, "generator.offload: group works on a CUDA GPU alone"),
        ({"attention": "cudnn"}, "generator.attention: cudnn works on a CUDA GPU alone"),
        ({"quantize": "nf4"}, "generator.quantize: nf4"),
    ],
)
def test_what_a_cpu_does_not_do_is_refused_before_anything_loads(
    tiny: Path, options: dict[str, Any], said: str
) -> None:
    for device in ("cpu", "auto"):
        it = DiffusersGenerator(str(tiny), device=device, **options)
        if torch.cuda.is_available() and device == "auto":
            continue
        with pytest.raises(GeneratorConfigError, match=said) as caught:
            it.check()
        assert "\n" not in str(caught.value)
        with pytest.raises(GeneratorConfigError, match=said):
            images(it)


@pytest.mark.parametrize(
    ("options", "package"),
    [
        ({"attention": "flash"}, "flash-attn"),
        ({"attention": "sage"}, "sageattention"),
        ({"attention": "xformers"}, "xformers"),
        ({"quantize": "int8"}, "bitsandbytes"),
        ({"quantize": "nf4"}, "bitsandbytes"),
    ],
)
def test_what_is_not_installed_is_named(
    options: dict[str, Any], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (key,) = options
    with pytest.raises(GeneratorConfigError, match=f"{key}: .* pip install {package}, or set it"):
        Speed(**options).check(CUDA)


def test_diffusers_knows_every_attention_by_its_name() -> None:
    from diffusers.models.attention_dispatch import AttentionBackendName

    assert {its for its, _ in ATTENTION.values()} <= {its.value for its in AttentionBackendName}


def test_quantisation_names_the_large_parts() -> None:
    parts = ["vae", "tokenizer", "text_encoder", "text_encoder_2", "transformer", "scheduler"]
    assert Speed().loading(torch.bfloat16, parts) == {}
    for name in ("int8", "nf4"):
        config = Speed(quantize=name).loading(torch.bfloat16, parts)["quantization_config"]
        assert config.components_to_quantize == ["text_encoder", "text_encoder_2", "transformer"]
    assert config.quant_kwargs["bnb_4bit_compute_dtype"] == torch.bfloat16


def test_offloading_is_asked_for_last_and_names_the_device(flux: Any) -> None:
    asked: list[dict[str, Any]] = []
    flux.enable_model_cpu_offload = lambda **options: asked.append(options)
    flux.enable_group_offload = lambda **options: asked.append(options)
    Speed().prepare(flux, CUDA)
    assert asked == []
    Speed(offload="model").prepare(flux, CUDA)
    Speed(offload="group").prepare(flux, CUDA)
    assert asked[0] == {"device": CUDA}
    assert asked[1]["onload_device"] == CUDA
    assert asked[1]["use_stream"]
    flux.model_cpu_offload_seq = None
    del flux.enable_model_cpu_offload
    with pytest.raises(GeneratorConfigError, match="offload: model does not work in a Flux"):
        Speed(offload="model").prepare(flux, CUDA)


@pytest.mark.parametrize("offload", ["model", "group"])
def test_offloaded_it_draws_the_same_and_goes_on_after_a_failure(
    offload: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the hooks of a GPU, from the CPU's memory to the CPU's memory."""
    from diffusers import DiffusionPipeline

    group = DiffusionPipeline.enable_group_offload

    def without_stream(self: Any, **options: Any) -> None:
        group(self, **{**options, "use_stream": False})

    monkeypatch.setattr(Speed, "check", lambda self, device: None)
    monkeypatch.setattr(DiffusionPipeline, "enable_group_offload", without_stream)
    plain, it = generator(tiny), generator(tiny, offload=offload)
    expected = images(plain)
    assert np.array_equal(images(it), expected)
    encoder: Any = loaded(it)._text.pipeline.text_encoder
    hook = "_hf_hook" if offload == "model" else "_diffusers_hook"
    assert any(hasattr(module, hook) for module in encoder.modules())
    misses = loaded(it)._encoded.misses
    assert np.array_equal(images(it), expected)
    assert loaded(it)._encoded.misses == misses, "hooks come and go, the cache stays"
    source = np.full((16, 16, 3), 128, dtype=np.uint8)
    job = (Draw(prompt="a frog", num_inference_steps=4, strength=0.5), [1], [source])
    made = [one.generate_from([job])[0].images[0] for one in (plain, it)]
    assert np.array_equal(*made)
    with monkeypatch.context() as failing:
        failing.setattr(loaded(it)._text.pipeline.scheduler.__class__, "step", None)
        with pytest.raises(Exception, match="not a callable"):
            images(it)
    assert np.array_equal(images(it), expected)


def test_compiled_it_draws_the_same_and_compiles_once(tiny: Path, eager: list[int]) -> None:
    plain = images(generator(tiny))
    it = generator(tiny, compile=True)
    assert np.abs(images(it) - plain).max() <= 1
    first = len(eager)
    assert first
    for seeds in ((1, 2, 3), (1, 2, 3, 4, 5), (1, 2)):
        images(it, *seeds)
    assert len(eager) == first, "another batch size is no other code"


def test_a_scale_of_a_lora_is_no_other_code(tiny: Path, tmp_path: Path, eager: list[int]) -> None:
    lora = {"path": str(write_lora(tiny, tmp_path / "frogs"))}
    plain, it = generator(tiny, loras=[lora]), generator(tiny, loras=[lora], compile=True)
    scales = [0.3, 0.0, 1.0, 0.7, 0.45]
    for scale in scales:
        own = {"lora_frogs": scale}
        assert np.abs(images(it, parameters=own) - images(plain, parameters=own)).max() <= 1
    assert len(eager) <= 2


def test_what_has_no_blocks_to_compile_is_refused() -> None:
    with pytest.raises(GeneratorConfigError, match="compile: a Kandinsky3Pipeline has no blocks"):
        Speed(compile=True).prepare(UNETS["Kandinsky3Pipeline"](), CPU)


def test_attention_is_set_for_the_denoiser_alone(
    flux: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    before = _AttentionBackendRegistry.get_active_backend()[0]
    monkeypatch.setattr(speed_module, "_HALF_ONLY", ())
    Speed(attention="cudnn").prepare(flux, CUDA)
    assert _AttentionBackendRegistry.get_active_backend()[0] == before
    chosen = {
        str(its.processor._attention_backend.value)
        for its in flux.transformer.modules()
        if hasattr(getattr(its, "processor", None), "_attention_backend")
    }
    assert chosen == {"_native_cudnn"}


def test_attention_that_a_network_does_not_take_is_refused(flux: Any) -> None:
    unet = UNETS["StableDiffusionPipeline"]()
    with pytest.raises(GeneratorConfigError, match="computes it by torch alone; set it to auto"):
        Speed(attention="cudnn").prepare(unet, CUDA)
    Speed(attention="native").prepare(unet, CPU)  # as it does already
    with pytest.raises(GeneratorConfigError, match=r"needs half precision; set generator\.dtype"):
        Speed(attention="cudnn").prepare(flux, CUDA)


@pytest.mark.parametrize(
    ("name", "cache"),
    [
        ("FluxPipeline", "first_block"),
        ("FluxPipeline", "taylorseer"),
        ("QwenImagePipeline", "taylorseer"),
    ],
)
def test_a_cache_skips_steps_and_leaves_nothing_for_the_next_call(
    name: str, cache: str, tmp_path: Path
) -> None:
    (UNETS | TRANSFORMERS)[name]().save_pretrained(tmp_path)
    changes = {"num_inference_steps": 12, "size": 64}
    plain = images(generator(tmp_path), **changes)
    it = generator(tmp_path, cache=cache)
    guessed = images(it, **changes)
    assert guessed.shape == plain.shape
    assert np.array_equal(images(it, **changes), guessed)
    assert np.abs(images(it, 2, **changes) - guessed[1:]).max() <= 1, "whatever it is drawn with"
    assert loaded(it).draws_alone == (cache == "first_block")


def test_a_cache_that_a_family_has_no_steps_for_is_refused(tiny: Path) -> None:
    with pytest.raises(GeneratorConfigError, match="does not work in a StableDiffusionPipeline"):
        images(generator(tiny, cache="first_block"))
    with pytest.raises(GeneratorConfigError, match="cache: taylorseer does not work in a"):
        Speed(cache="taylorseer").prepare(TRANSFORMERS["Flux2Pipeline"](), CPU)
    with pytest.raises(GeneratorConfigError, match="does not work in a QwenImageTransformer2D"):
        Speed(cache="first_block").prepare(TRANSFORMERS["QwenImagePipeline"](), CPU)  # of a block


@pytest.mark.parametrize("setting", ["default", "high", "medium", "newer"])
def test_float32_is_fast_for_the_time_of_a_call(setting: str) -> None:
    matmul = torch.backends.cuda.matmul
    own, before = matmul.fp32_precision, torch.get_float32_matmul_precision()
    try:
        if setting == "newer":
            matmul.fp32_precision = "ieee"
        elif setting != "default":
            torch.set_float32_matmul_precision(setting)
        state = matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision
        with fast_matmul(CPU):
            assert matmul.fp32_precision == state[0]
        with fast_matmul(CUDA):
            assert matmul.fp32_precision == "tf32"
        assert (matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision) == state
    finally:
        matmul.fp32_precision = own
        torch.set_float32_matmul_precision(before)
        matmul.fp32_precision = own


def uncached(it: DiffusersGenerator) -> DiffusersGenerator:
    """Load it, and take the cache of prompts away."""
    images(it)
    loaded(it)._encoded._limit = 0
    loaded(it)._encoded.clear()
    return it


@pytest.mark.parametrize(
    "name", ["StableDiffusionXLPipeline", "FluxPipeline", "QwenImagePipeline", "ZImagePipeline"]
)
def test_prompts_are_encoded_once_bit_for_bit(name: str, tmp_path: Path) -> None:
    (UNETS | TRANSFORMERS)[name]().save_pretrained(tmp_path)
    it, plain = generator(tmp_path, size=64), uncached(generator(tmp_path, size=64))
    first = images(it)
    encoded = loaded(it)._encoded
    misses = encoded.misses
    assert misses
    assert np.array_equal(images(it), first)
    assert np.array_equal(images(plain), first)
    assert encoded.misses == misses, "the same tokens"
    assert encoded.hits >= misses
    assert not np.array_equal(images(it, prompt="a ship on the sea"), first)
    assert encoded.misses > misses
    assert loaded(plain)._encoded.held_bytes == 0


def test_the_cache_holds_its_bound_and_drops_the_oldest(tiny: Path) -> None:
    it = generator(tiny)
    images(it, guidance_scale=1.0)
    encoded = loaded(it)._encoded
    one = encoded.held_bytes
    assert one > 0
    encoded._limit = 2 * one
    for prompt in ("one", "two", "three"):
        images(it, prompt=prompt, guidance_scale=1.0)
        assert encoded.held_bytes <= 2 * one
    misses = encoded.misses
    images(it, prompt="two", guidance_scale=1.0)
    assert encoded.misses == misses
    images(it, prompt="one", guidance_scale=1.0)
    assert encoded.misses == misses + 1
    encoded._limit = one - 1
    encoded.clear()
    images(it, prompt="two", guidance_scale=1.0)
    assert encoded.held_bytes == 0, "what is larger than all of it is not kept"


def test_the_scale_of_a_lora_on_words_is_part_of_what_is_kept(tiny: Path, tmp_path: Path) -> None:
    lora = {"path": str(write_lora(tiny, tmp_path / "words", part="text_encoder"))}
    it = generator(tiny, loras=[lora])
    none, whole = (images(it, parameters={"lora_words": scale}) for scale in (0.0, 1.0))
    assert np.abs(whole - none).max() > 1
    misses = loaded(it)._encoded.misses
    assert np.array_equal(images(it, parameters={"lora_words": 0.0}), none)
    assert loaded(it)._encoded.misses == misses
    assert np.array_equal(images(it, parameters={"lora_words": 1.0}), whole)


def test_a_lora_on_the_denoiser_alone_leaves_prompts_as_they_are(
    tiny: Path, tmp_path: Path
) -> None:
    it = generator(tiny, loras=[{"path": str(write_lora(tiny, tmp_path / "frogs"))}])
    images(it, parameters={"lora_frogs": 0.1})
    misses = loaded(it)._encoded.misses
    images(it, parameters={"lora_frogs": 0.9})
    assert loaded(it)._encoded.misses == misses


def test_calls_of_anything_but_tokens_are_passed_through() -> None:
    class Encoder(torch.nn.Module):
        def forward(self, given: Any, **options: Any) -> Any:
            return given

    class Holder:
        def __init__(self) -> None:
            self.components = {"text_encoder": Encoder(), "vae": Encoder()}

    made = Holder()
    cache = PromptCache(made)
    encoder = made.components["text_encoder"]
    for given in (torch.rand(2), {"a": 1}, [torch.tensor(1)]):
        assert encoder(given) is given
    assert (cache.hits, cache.misses) == (0, 0)
    tokens = torch.tensor([1, 2])
    kept = encoder(tokens)
    again = encoder(tokens.clone())
    assert torch.equal(kept, again)
    again.add_(5)  # whoever gets it may write into it
    assert torch.equal(encoder(tokens), torch.tensor([1, 2]))
    assert (cache.hits, cache.misses) == (2, 1)
    encoder(tokens.bool())
    encoder(tokens, wide=True)
    encoder(tokens, wide=1)
    assert cache.misses == 4
    assert "forward" not in vars(made.components["vae"])


def test_memory_that_is_out_is_first_saved_by_decoding_one_image_at_a_time(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = images(generator(tiny), 1, 2, 3)
    it = generator(tiny, batch_size=3)
    images(it, 7)
    vae: Any = loaded(it)._text.pipeline.vae
    decode, batches = vae._decode, []

    def full(latents: Any, *args: Any, **options: Any) -> Any:
        batches.append(len(latents))
        if len(latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(latents, *args, **options)

    monkeypatch.setattr(vae, "_decode", full)
    assert np.abs(images(it, 1, 2, 3) - plain).max() <= 1
    assert batches == [3, 1, 1, 1]
    assert it._batch.images == 3, "the batch is not halved for it"


def test_memory_that_is_out_elsewhere_halves_the_batch_in_the_end(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = generator(tiny, batch_size=4)
    images(it, 7)
    unet: Any = loaded(it)._text.pipeline.unet
    forward, batches = unet.forward, []

    def full(latents: Any, *args: Any, **options: Any) -> Any:
        batches.append(len(latents) // 2)
        if len(latents) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(latents, *args, **options)

    monkeypatch.setattr(unet, "forward", full)
    assert len(images(it, 1, 2, 3, 4, num_inference_steps=1)) == 4
    assert batches == [4, 4, 2, 2]


def test_a_pipeline_frees_what_it_used_where_a_call_fails(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = generator(tiny)
    images(it)
    pipeline: Any = loaded(it)._text.pipeline
    freed: list[bool] = []
    monkeypatch.setattr(pipeline, "maybe_free_model_hooks", lambda: freed.append(True))

    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("strange")

    monkeypatch.setattr(pipeline.unet, "forward", fails)
    with pytest.raises(Exception, match="strange"):
        images(it)
    assert freed == [True]


def test_denoisers_are_what_is_called_at_each_step(flux: Any) -> None:
    assert denoisers(flux) == [flux.transformer]
