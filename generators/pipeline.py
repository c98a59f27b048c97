"""A loaded diffusers pipeline: what of a draw it takes, and one call of it.

`diffusion` loads it at the first image and gives it batches. A setting of a draw becomes an
argument of diffusers in `Pipeline.arguments`. It runs no code from a model's repository and reads
no pickle.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gapclose.generators.checkpoint import Checkpoint
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.images import Pixels, to_pixels
from gapclose.generators.recipe import Draw
from gapclose.generators.schedulers import build_scheduler

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

DTYPES: Final = ("auto", "float32", "float16", "bfloat16")


class Pipeline:
    """A text-to-image pipeline of diffusers in memory.

    Attributes:
        device: Where it computes.
    """

    def __init__(self, pipeline: Any, *, device: torch.device) -> None:
        """Wrap a pipeline of diffusers that lies on `device`."""
        self.device = device
        self._pipeline = pipeline
        self._kind = type(pipeline).__name__
        self._accepts = frozenset(inspect.signature(pipeline.__call__).parameters)
        # Every call builds its scheduler from the one that the pipeline was saved with.
        self._scheduler = getattr(pipeline, "scheduler", None)

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, *, device: str, dtype: str, safety_checker: bool
    ) -> Pipeline:
        """Load a checkpoint.

        Args:
            checkpoint: What to load.
            device: "auto", or what torch calls it.
            dtype: One of `DTYPES`.
            safety_checker: Whether to keep the pipeline's own.

        Raises:
            GeneratorConfigError: If the device is not there, the checkpoint cannot be loaded, or
                it is no text-to-image pipeline.
            GenerationError: If it does not fit into memory.
        """
        import torch

        log.info("loading the generator %s", checkpoint.model)
        place = find_device(device)
        precision = _dtype(dtype, place)
        pipeline = _read(checkpoint, place, precision, safety_checker=safety_checker)
        checkpoint.check_task(type(pipeline))
        pipeline.set_progress_bar_config(disable=True)
        vae = getattr(pipeline, "vae", None)
        if vae is not None and precision != torch.float32:
            _decode_in_float32(vae)
        if place.type == "cpu":
            # Measured on two cores: convolutions take a third of the time.
            for module in (getattr(pipeline, "unet", None), vae):
                if module is not None:
                    module.to(memory_format=torch.channels_last)
        return cls(pipeline, device=place)

    def arguments(self, draw: Draw) -> dict[str, Any]:
        """Translate a draw, but for its prompt and scheduler, into arguments of the pipeline.

        Raises:
            GeneratorConfigError: If the pipeline does not take the draw's negative prompt, size or
                scheduler.
        """
        asked = {
            "guidance_scale": draw.guidance_scale,
            "num_inference_steps": draw.num_inference_steps,
        }
        arguments: dict[str, Any] = {k: v for k, v in asked.items() if k in self._accepts}
        if "negative_prompt" in self._accepts:
            arguments["negative_prompt"] = draw.negative_prompt or None
        elif draw.negative_prompt:
            raise GeneratorConfigError(
                f"a {self._kind} takes none; leave space.negative_prompt empty",
                key="negative_prompt",
            )
        if draw.size is not None:
            arguments |= self._sides(draw.size)
        if draw.scheduler is not None and self._scheduler is None:
            raise GeneratorConfigError(
                f"a {self._kind} has none to replace; leave it null",
                key="scheduler",
            )
        return arguments

    def generate(
        self, wanted: Sequence[tuple[Draw, int]]
    ) -> tuple[list[Pixels], list[str | None]]:
        """Generate one batch, every image from a random generator of its own on the CPU.

        Args:
            wanted: (draw, seed) of each image; the draws differ in their prompts alone.

        Returns:
            The images, and why each must not be scored (None if it may).
        """
        import torch

        draws, seeds = [draw for draw, _ in wanted], [seed for _, seed in wanted]
        arguments = {**self.arguments(draws[0]), **self._prompts(draws)}
        # In a batch of one random generator, an image would depend on its batch (diffusers#612).
        randoms = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        # A safety checker casts its input before anybody could look for NaN in it.
        with torch.inference_mode(), np.errstate(invalid="ignore"), warnings.catch_warnings():
            # numpy 2 says so of diffusers' schedulers, at every step.
            warnings.filterwarnings("ignore", "__array", DeprecationWarning)
            if self._scheduler is not None:
                self._pipeline.scheduler = build_scheduler(draws[0].scheduler, self._scheduler)
            result = self._pipeline(**arguments, generator=randoms, output_type="np")
        flagged = getattr(result, "nsfw_content_detected", None) or [False] * len(seeds)
        return to_pixels(np.asarray(result.images), flagged=flagged)

    def _prompts(self, draws: Sequence[Draw]) -> dict[str, Any]:
        one_text = len({(draw.prompt, draw.negative_prompt) for draw in draws}) == 1
        if one_text and "num_images_per_prompt" in self._accepts:  # the text is encoded once
            return {"prompt": draws[0].prompt, "num_images_per_prompt": len(draws)}
        prompts: dict[str, Any] = {"prompt": [draw.prompt for draw in draws]}
        if any(draw.negative_prompt for draw in draws):
            prompts["negative_prompt"] = [draw.negative_prompt for draw in draws]
        return prompts

    def _sides(self, size: int | tuple[int, int]) -> dict[str, int]:
        width, height = (size, size) if isinstance(size, int) else size
        if not {"width", "height"} <= self._accepts:
            raise GeneratorConfigError(
                f"a {self._kind} generates one size; leave it null", key="size"
            )
        step = int(getattr(self._pipeline, "vae_scale_factor", 1))
        if width % step or height % step:
            raise GeneratorConfigError(
                f"{width}x{height} must be multiples of {step} for a {self._kind}",
                key="size",
            )
        return {"width": width, "height": height}


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
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, *, safety_checker: bool
) -> Any:
    """Read a pipeline as it was saved, onto its device."""
    import torch
    from diffusers import DiffusionPipeline

    model, folder = checkpoint.model, checkpoint.folder
    where: dict[str, Any] = {"revision": checkpoint.revision}
    if folder is not None:
        checkpoint.find()
        where = {"local_files_only": True}
    source = model if folder is None else str(folder)
    pipelines: Any = DiffusionPipeline  # untyped
    try:
        # Building layers draws their first weights before the saved ones replace them.
        with _silent_loading(), torch.random.fork_rng(devices=[]):
            checker: dict[str, Any] = {}
            if not safety_checker:
                checker = _without_checker(pipelines.load_config(source, **where))
            pipeline = pipelines.from_pretrained(
                source,
                dtype={"default": dtype, "vae": torch.float32},
                use_safetensors=True,
                trust_remote_code=False,
                **where,
                **checker,
            )
        return pipeline.to(device)
    except torch.OutOfMemoryError as error:
        raise GenerationError(f"{model} does not fit into the memory of {device}") from error
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
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _decode_in_float32(vae: Any) -> None:
    """Let an autoencoder in float32 take the latents of a pipeline in half precision."""
    decode = vae.decode

    def widened(latents: Any, *args: Any, **options: Any) -> Any:
        return decode(latents.float(), *args, **options)

    vae.decode = widened


def _without_checker(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Options that turn a pipeline's safety checker off; none for a pipeline that has none."""
    if "safety_checker" not in saved:
        return {}
    return {"safety_checker": None, "requires_safety_checker": False}


@contextmanager
def _silent_loading() -> Iterator[None]:
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
