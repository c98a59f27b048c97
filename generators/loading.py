"""Loading: a checkpoint -> a pipeline of diffusers in memory, on its device.

`Pipeline.load` calls it. It runs no code from a model's repository and reads no pickle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from gapclose.generators.checkpoint import Checkpoint
from gapclose.generators.components import load_parts
from gapclose.generators.errors import GeneratorConfigError, MemoryOutError
from gapclose.generators.families import FAMILIES, PLAIN
from gapclose.generators.single_file import read_single_file

if TYPE_CHECKING:
    import torch

    from gapclose.generators.speed import Speed

DTYPES: Final = ("auto", "float32", "float16", "bfloat16")


def read_pipeline(
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    dtype: str,
    safety_checker: bool,
    speed: Speed,
) -> Any:
    """Read a text-to-image pipeline as it was saved, onto its device.

    Args:
        checkpoint: What to load.
        device: Where it is to compute.
        dtype: One of `DTYPES`; the autoencoder is float32 in any case.
        safety_checker: Whether to keep the pipeline's own.
        speed: What is quantised of it; what is offloaded stays on the CPU.

    Raises:
        GeneratorConfigError: If the checkpoint cannot be loaded, or it is no text-to-image
            pipeline.
        MemoryOutError: If it does not fit into memory.
    """
    import torch

    kind = getattr(checkpoint.saved_class(), "__name__", "")
    if dtype == "auto" and FAMILIES.get(kind, PLAIN).reads == "nothing":
        dtype = "float32"  # it makes pixels, whose tones bfloat16 rounds to steps of 1/256
    precision = _dtype(dtype, device)
    pipeline = _read(checkpoint, device, precision, safety_checker=safety_checker, speed=speed)
    checkpoint.check_task(type(pipeline))
    vae = getattr(pipeline, "vae", None)
    if vae is not None and precision != torch.float32:
        _keep_in_float32(vae, precision)
    if device.type in ("cpu", "cuda") and speed.quantize == "none":
        # Measured on two cores: convolutions take a third of the time.
        for module in (getattr(pipeline, "unet", None), vae if device.type == "cpu" else None):
            if module is not None and all(its.ndim <= 4 for its in module.parameters()):
                module.to(memory_format=torch.channels_last)  # of five dimensions it has none
    return pipeline


def find_device(name: str) -> torch.device:
    """Return a device; "auto" is CUDA where there is one, else MPS, else the CPU.

    Raises:
        GeneratorConfigError: If torch knows no such device, or there is no GPU here.
    """
    import torch

    if name != "auto":
        try:
            device = torch.device(name)
        except RuntimeError:
            raise GeneratorConfigError(
                f"{name!r} is no device; auto, cpu, cuda or cuda:1",
                key="generator.device",
            ) from None
        if device.type == "cuda" and not torch.cuda.is_available():
            raise GeneratorConfigError(
                f"no GPU here for {name!r}; use auto", key="generator.device"
            )
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type's name."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _read(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    *,
    safety_checker: bool,
    speed: Speed,
) -> Any:
    """Read a pipeline as it was saved, onto its device; onto the CPU if it is to be offloaded."""
    import torch
    from diffusers import DiffusionPipeline

    model, folder = checkpoint.model, checkpoint.folder
    if checkpoint.file is not None or checkpoint.components:
        checkpoint.find()
    which: dict[str, Any] = {} if checkpoint.variant is None else {"variant": checkpoint.variant}
    where: dict[str, Any] = {"revision": checkpoint.revision}
    if folder is not None:
        checkpoint.find()
        where = {"local_files_only": True}
    source = model if folder is None else str(folder)
    pipelines: Any = DiffusionPipeline  # untyped
    try:
        # Building layers draws their first weights before the saved ones replace them.
        with silent_loading(), torch.random.fork_rng(devices=[]):
            parts = load_parts(checkpoint.components, checkpoint.configs.parts(), dtype)
            if checkpoint.file is not None:
                speed.check_single_file()
                return read_single_file(
                    checkpoint.file,
                    checkpoint.configs,
                    device=device if speed.offload == "none" else torch.device("cpu"),
                    dtype=dtype,
                    parts=parts,
                )
            saved = pipelines.load_config(source, **where)
            checker = {} if safety_checker else _without_checker(saved)
            pipeline = pipelines.from_pretrained(
                source,
                dtype={"default": dtype, "vae": torch.float32},
                use_safetensors=True,
                trust_remote_code=False,
                **which,
                **where,
                **{**parts, **checker},
                **speed.loading(dtype, saved),
            )
        return pipeline.to(device) if speed.offload == "none" else pipeline
    except torch.OutOfMemoryError as error:
        raise MemoryOutError(
            f"{model} does not fit into the memory of {device}; set generator.offload to model, "
            "or to group"
        ) from error
    except GeneratorConfigError:
        raise
    except (OSError, ValueError, TypeError, ImportError, RuntimeError) as error:
        raise GeneratorConfigError(
            f"{model} cannot be loaded: {first_line(error)}",
            key="generator.model",
        ) from error


def _dtype(name: str, device: torch.device) -> torch.dtype:
    import torch

    if name != "auto":
        chosen: torch.dtype = getattr(torch, name)
        return chosen
    if device.type != "cuda":
        return torch.float32
    # Older cards emulate it, slower than float32.
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def _keep_in_float32(vae: Any, dtype: torch.dtype) -> None:
    """Let an autoencoder in float32 serve a pipeline in half precision, both ways."""
    decode, encode = vae.decode, vae.encode

    def widened(latents: Any, *args: Any, **options: Any) -> Any:
        return decode(latents.float(), *args, **options)

    def narrowed(images: Any, *args: Any, **options: Any) -> Any:
        found = encode(images.float(), *args, **options)
        if (seen := getattr(found, "latent_dist", None)) is not None:
            found.latent_dist = type(seen)(seen.parameters.to(dtype))
        else:
            found.latents = found.latents.to(dtype)
        return found

    vae.decode, vae.encode = widened, narrowed
    # SDXL's image-to-image pipeline would leave it in half precision after its first encoding.
    vae.register_to_config(force_upcast=False)


def _without_checker(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Options that turn a pipeline's safety checker off; none for a pipeline that has none."""
    if "safety_checker" not in saved:
        return {}
    return {"safety_checker": None, "requires_safety_checker": False}


@contextmanager
def silent_loading() -> Iterator[None]:
    """Keep the libraries' loading bars off the terminal, as the caller had them afterwards."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    bars = [
        part
        for part in (diffusers_logging, transformers_logging)
        if part.is_progress_bar_enabled()
    ]
    for part in bars:
        part.disable_progress_bar()
    try:
        yield
    finally:
        for part in bars:
            part.enable_progress_bar()
