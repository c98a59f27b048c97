"""Speed: what makes a loaded pipeline faster, or lets it fit into a small GPU.

`diffusion` makes a `Speed` of the config, `loading` asks it how to quantise, and `pipeline` has it
prepare what was loaded. All of it is off unless asked for, but for TF32 on a GPU. What is not
there, or does nothing for a family, is refused in one line.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.loading import first_line
from gapclose.generators.quiet import without_words

if TYPE_CHECKING:
    import torch

__all__ = ["AS_SAVED", "Speed", "denoisers", "fast_matmul"]

OFFLOADS: Final = ("none", "model", "group")
CACHES: Final = ("none", "first_block", "taylorseer")
ATTENTION: Final[Mapping[str, tuple[str, str | None]]] = {
    "native": ("native", None),
    "cudnn": ("_native_cudnn", None),
    "flash": ("flash", "flash_attn"),
    "sage": ("sage", "sageattention"),
    "xformers": ("xformers", "xformers"),
}
"""What diffusers calls each, and its package. Those of the hub run code from it: none is here."""
_FROM: Final = {"flash_attn": "flash-attn"}  # what pip calls it, where that differs
_HALF_ONLY: Final = ("cudnn", "flash", "sage")
QUANTIZED: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "int8": ("bitsandbytes_8bit", {"load_in_8bit": True}),
    "nf4": ("bitsandbytes_4bit", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
}
"""What diffusers calls each of their backends, and its arguments."""
_DENOISERS: Final = ("transformer", "transformer_2", "unet", "prior", "prior_prior", "decoder")
_TEXTS: Final = ("text_encoder", "prior_text_encoder")
_COMPILER: Final = "inductor"


@dataclass(frozen=True, slots=True)
class Speed:
    """How a pipeline is made fast or small.

    Attributes:
        compile: Whether to compile the blocks that its denoiser repeats.
        attention: "auto" is diffusers' default, else a key of `ATTENTION`.
        offload: What waits in the CPU's memory until it computes: "none", "model" for all but the
            model at work, "group" for all but the layer at work.
        quantize: "none", or a key of `QUANTIZED`.
        cache: "none", or what guesses a step's result from those before it: "first_block" where
            its first block changed little (one image at a time, for the images of a batch would
            decide it together), "taylorseer" for four steps of five after the third (Liu et al.
            2025, arXiv 2503.06923).

    Raises:
        GeneratorConfigError: If a value is none of these.
    """

    compile: bool = False
    attention: str = "auto"
    offload: str = "none"
    quantize: str = "none"
    cache: str = "none"

    def __post_init__(self) -> None:
        """Check the values, whatever is installed."""
        if not isinstance(self.compile, bool):
            _refuse("compile", f"true or false, not {self.compile!r}")
        _check_one("attention", self.attention, ("auto", *ATTENTION))
        _check_one("offload", self.offload, OFFLOADS)
        _check_one("quantize", self.quantize, ("none", *QUANTIZED))
        _check_one("cache", self.cache, CACHES)

    @property
    def depends_on_device(self) -> bool:
        """Whether there are devices that it does not work on."""
        return (self.attention, self.offload, self.quantize) != ("auto", "none", "none")

    @property
    def draws_alone(self) -> bool:
        """Whether images of one batch would change each other."""
        return self.cache == "first_block"

    def check(self, device: torch.device) -> None:
        """Refuse what is not installed, and what the device does not do.

        Raises:
            GeneratorConfigError: One line that names the culprit and the remedy.
        """
        package = ATTENTION.get(self.attention, ("", None))[1]
        if package is not None and not _is_installed(package):
            _refuse("attention", f"{self.attention} needs {_FROM.get(package, package)}; "
                    f"pip install {_FROM.get(package, package)}, or set it to auto")  # fmt: skip
        if self.quantize != "none" and not _is_installed("bitsandbytes"):
            _refuse("quantize", f"{self.quantize} needs bitsandbytes; pip install bitsandbytes, "
                    "or set it to none")  # fmt: skip
        for name, unused in (("attention", "auto"), ("offload", "none"), ("quantize", "none")):
            value = getattr(self, name)
            if value not in (unused, "native") and device.type != "cuda":
                _refuse(name, f"{value} works on a CUDA GPU alone, and the device is {device}; "
                        f"set it to {unused}")  # fmt: skip

    def check_single_file(self) -> None:
        """Refuse what a single file is not loaded with.

        Raises:
            GeneratorConfigError: Its weights are to be quantised.
        """
        if self.quantize != "none":
            _refuse("quantize", "a single file is not quantised; write it with save_pretrained "
                    "once and name that folder, or set it to none")  # fmt: skip

    def loading(self, dtype: torch.dtype, components: Iterable[str]) -> dict[str, Any]:
        """Return arguments of `from_pretrained` that quantise what is large of a pipeline.

        Args:
            dtype: What is computed in.
            components: Names of all that it consists of.
        """
        if self.quantize == "none":
            return {}
        from diffusers import PipelineQuantizationConfig

        backend, options = QUANTIZED[self.quantize]
        if "load_in_4bit" in options:  # it would compute in float32
            options = {**options, "bnb_4bit_compute_dtype": dtype}
        large = [its for its in components if its in _DENOISERS or its.startswith(_TEXTS)]
        made: Any = PipelineQuantizationConfig  # untyped
        return {
            "quantization_config": made(
                quant_backend=backend, quant_kwargs={**options}, components_to_quantize=large
            )
        }

    def prepare(self, pipeline: Any, device: torch.device) -> None:
        """Apply it to a pipeline that all weights are loaded into; adapters wrap layers anew.

        Args:
            pipeline: Of diffusers; on its device, or on the CPU if it is offloaded.
            device: Where it is to compute.

        Raises:
            GeneratorConfigError: If its denoiser has no such thing.
        """
        if self.attention not in ("auto", "native"):
            for denoiser in denoisers(pipeline):
                _set_attention(denoiser, self.attention)
        if self.cache != "none":
            self.check_cache(pipeline)
            for denoiser in denoisers(pipeline):
                _enable_cache(denoiser, self.cache)
        if self.compile:
            _compile(pipeline)
        self.offload_from(pipeline, device)

    def check_cache(self, pipeline: Any) -> None:
        """Refuse a pipeline that does not tell its denoiser which of its calls belong together.

        Raises:
            GeneratorConfigError: If there is a cache to be used.
        """
        if self.cache == "none":
            return
        has = any(hasattr(denoiser, "enable_cache") for denoiser in denoisers(pipeline))
        # Without it a cache fails at the first step, or mixes guided and unguided predictions.
        if not has or "cache_context" not in inspect.getsource(type(pipeline)):
            _refuse("cache", f"{self.cache} does not work in a {type(pipeline).__name__}; set it "
                    "to none")  # fmt: skip

    def offload_from(self, pipeline: Any, device: torch.device) -> None:
        """Have the CPU's memory hold what a pipeline does not compute with.

        Raises:
            GeneratorConfigError: If its parts do not work so.
        """
        try:
            if self.offload == "model":
                pipeline.enable_model_cpu_offload(device=device)
            elif self.offload == "group":
                # The next layers travel while the last ones compute.
                pipeline.enable_group_offload(
                    onload_device=device, offload_type="leaf_level", use_stream=True
                )
        except (ValueError, TypeError, ImportError, AttributeError, NotImplementedError) as error:
            raise GeneratorConfigError(
                f"{self.offload} does not work in a {type(pipeline).__name__}: "
                f"{first_line(error)}",
                key="generator.offload",
            ) from error


@contextmanager
def fast_matmul(device: torch.device) -> Iterator[None]:
    """Multiply float32 matrices in TF32 on a GPU, and leave torch as it was.

    Its 10 bits of mantissa are more than the 7 of bfloat16, and what is float32 beside a denoiser
    in half precision is the autoencoder.
    """
    import torch

    if device.type != "cuda":
        yield
        return
    # What the older interface sets, it does not set back in the newer one, which it sets, too.
    ours: tuple[Any, Any] = (
        torch.backends.cuda.matmul,
        getattr(torch.backends.mkldnn, "matmul", 0),
    )
    kept = [(its, its.fp32_precision) for its in ours if hasattr(its, "fp32_precision")]
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # the caller has used the newer one, and the two must not mix
        before = None
    if before is None:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    else:
        torch.set_float32_matmul_precision("high")  # the compiler reads it so
    try:
        yield
    finally:
        if before is not None:
            torch.set_float32_matmul_precision(before)
        for its, own in kept:
            if its.fp32_precision != own:
                its.fp32_precision = own


def denoisers(pipeline: Any) -> list[Any]:
    """Return the networks that a pipeline calls at each step."""
    found = [pipeline.components.get(name) for name in _DENOISERS]
    return [its for its in found if its is not None]


def _compile(pipeline: Any) -> None:
    able = [its for its in denoisers(pipeline) if getattr(its, "_repeated_blocks", None)]
    if not able:
        _refuse("compile", f"a {type(pipeline).__name__} has no blocks that diffusers compiles; "
                "set it to false")  # fmt: skip
    for denoiser in able:
        try:
            # Other batch sizes and scales of LoRAs are other values of the same code.
            denoiser.compile_repeated_blocks(backend=_COMPILER, fullgraph=False, dynamic=True)
        except (ValueError, RuntimeError) as error:
            _refuse("compile", f"does not work: {first_line(error)}; set it to false")


def _set_attention(denoiser: Any, name: str) -> None:
    """Set what a network computes attention with, and nothing that others do."""
    import torch
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    kind = type(denoiser).__name__
    processors = [getattr(module, "processor", None) for module in denoiser.modules()]
    if not any(hasattr(its, "_attention_backend") for its in processors):
        _refuse("attention", f"a {kind} computes it by torch alone; set it to auto")
    if name in _HALF_ONLY and denoiser.dtype == torch.float32:
        _refuse("attention", f"{name} needs half precision; set generator.dtype to bfloat16, or "
                "attention to auto")  # fmt: skip
    before = _AttentionBackendRegistry.get_active_backend()[0]
    try:
        with without_words():
            denoiser.set_attention_backend(ATTENTION[name][0])
    except (ValueError, RuntimeError, ImportError) as error:
        _refuse("attention", f"{name} does not work here: {first_line(error)}")
    finally:  # it is set for all other networks, too
        _AttentionBackendRegistry.set_active_backend(before)


def _enable_cache(denoiser: Any, name: str) -> None:
    from diffusers import FirstBlockCacheConfig, TaylorSeerCacheConfig

    configs: tuple[Any, Any] = (FirstBlockCacheConfig, TaylorSeerCacheConfig)  # untyped
    first, taylor = configs
    config = first() if name == "first_block" else taylor(taylor_factors_dtype=denoiser.dtype)
    try:
        with without_words():
            denoiser.enable_cache(config)
    except (ValueError, RuntimeError, AttributeError, IndexError) as error:
        _refuse("cache", f"{name} does not work in a {type(denoiser).__name__}: "
                f"{first_line(error)}; set it to none")  # fmt: skip


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _check_one(key: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        _refuse(key, f"one of {', '.join(known)}, not {value!r}")


def _refuse(key: str, problem: str) -> NoReturn:
    raise GeneratorConfigError(problem, key=f"generator.{key}")


AS_SAVED: Final = Speed()
"""Nothing of it."""
