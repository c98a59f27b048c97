"""A loaded diffusers pipeline: what of a draw it takes, and one call of it.

`diffusion` loads it at the first image and gives it batches. A setting of a draw becomes an
argument of diffusers in `Pipeline.arguments`. Images that start from a source are made by the
image-to-image pipeline of the same family, of the same weights.
"""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image, ImageOps

from gapclose.generators.checkpoint import Checkpoint, image_to_image
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.images import Pixels, to_pixels
from gapclose.generators.ip_adapter import ImagePrompts, IPAdapter
from gapclose.generators.loading import find_device, read_pipeline
from gapclose.generators.recipe import Draw
from gapclose.generators.schedulers import build_scheduler
from gapclose.generators.truncation import warn_once_of_truncation

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_TRIAL: Final = Draw(prompt="", guidance_scale=1.0, num_inference_steps=2)

Wanted = tuple[Draw, int, Pixels | None]
"""A draw, a seed, and the source picture where the draw takes one."""


@dataclass(frozen=True, slots=True)
class _Task:
    """A pipeline of diffusers, its class by name, and the arguments of its call."""

    pipeline: Any
    kind: str
    accepts: frozenset[str]

    @property
    def own_steps(self) -> int:
        """Denoising steps where a draw names none."""
        named = inspect.signature(self.pipeline.__call__).parameters["num_inference_steps"]
        return int(named.default)

    @classmethod
    def of(cls, pipeline: Any) -> _Task:
        warn_once_of_truncation(pipeline)
        accepts = frozenset(inspect.signature(pipeline.__call__).parameters)
        return cls(pipeline, type(pipeline).__name__, accepts)


class Pipeline:
    """A text-to-image pipeline of diffusers in memory.

    Attributes:
        device: Where it computes.
    """

    def __init__(
        self, pipeline: Any, *, device: torch.device, image_prompts: ImagePrompts | None = None
    ) -> None:
        """Wrap a pipeline of diffusers that lies on `device`, with an IP-Adapter or without."""
        self.device = device
        self._text = _Task.of(pipeline)
        self._image: _Task | None = None
        self._own_size: tuple[int, int] | None = None
        self._image_prompts = image_prompts
        # Every call builds its scheduler from the one that the pipeline was saved with.
        self._scheduler = getattr(pipeline, "scheduler", None)

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        device: str,
        dtype: str,
        safety_checker: bool,
        ip_adapter: IPAdapter | None = None,
    ) -> Pipeline:
        """Load a checkpoint.

        Args:
            checkpoint: What to load.
            device: "auto", or what torch calls it.
            dtype: One of `DTYPES`.
            safety_checker: Whether to keep the pipeline's own.
            ip_adapter: What to load into it.

        Raises:
            GeneratorConfigError: If the device is not there, the checkpoint or the adapter cannot
                be loaded, or it is no text-to-image pipeline.
            MemoryOutError: If it does not fit into memory.
        """
        log.info("loading the generator %s", checkpoint.model)
        place = find_device(device)
        pipeline = read_pipeline(
            checkpoint, device=place, dtype=dtype, safety_checker=safety_checker
        )
        pipeline.set_progress_bar_config(disable=True)
        image_prompts = None
        if ip_adapter is not None:
            image_prompts = ip_adapter.load_into(pipeline)
            image_prompts.attach(pipeline)
        return cls(pipeline, device=place, image_prompts=image_prompts)

    def arguments(self, draw: Draw) -> dict[str, Any]:
        """Translate a draw, but for its prompt and scheduler, into arguments of the pipeline.

        Raises:
            GeneratorConfigError: If the pipeline does not take the draw's negative prompt, size or
                scheduler, or has no image-to-image partner for its strength.
        """
        task = self._task(draw)
        asked = {
            "guidance_scale": draw.guidance_scale,
            "num_inference_steps": draw.num_inference_steps,
        }
        arguments: dict[str, Any] = {
            name: value
            for name, value in asked.items()
            if name in task.accepts and value is not None
        }
        if "negative_prompt" in task.accepts:
            arguments["negative_prompt"] = draw.negative_prompt or None
        elif draw.negative_prompt:
            raise GeneratorConfigError(
                f"a {task.kind} takes none; leave space.negative_prompt empty",
                key="negative_prompt",
            )
        if draw.size is not None:
            arguments |= _sides(task, draw.size)
        if draw.scheduler is not None and self._scheduler is None:
            raise GeneratorConfigError(
                f"a {task.kind} has none to replace; leave it null",
                key="scheduler",
            )
        if draw.strength is not None:
            steps = draw.num_inference_steps or task.own_steps
            arguments["strength"] = _at_least_a_step(draw.strength, steps)
        return arguments

    def generate(self, wanted: Sequence[Wanted]) -> tuple[list[Pixels], list[str | None]]:
        """Generate one batch, every image from a random generator of its own on the CPU.

        Args:
            wanted: (draw, seed, source) of each image; the draws differ in their prompts alone.

        Returns:
            The images, and why each must not be scored (None if it may).
        """
        draws, seeds = [draw for draw, _, _ in wanted], [seed for _, seed, _ in wanted]
        sources = [source for _, _, source in wanted if source is not None]
        task = self._task(draws[0])
        arguments = {**self.arguments(draws[0]), **_prompts(task, draws)}
        if draws[0].strength is not None:
            size = self._size(draws[0])
            arguments["image"] = [_fitted(source, size) for source in sources]
            if {"width", "height"} <= task.accepts:
                arguments |= {"width": size[0], "height": size[1]}
        result = self._call(
            task,
            arguments,
            seeds=seeds,
            scheduler=draws[0].scheduler,
            ip_adapter_scale=draws[0].ip_adapter_scale,
            sources=sources,
        )
        flagged = getattr(result, "nsfw_content_detected", None) or [False] * len(seeds)
        return to_pixels(np.asarray(result.images), flagged=flagged)

    def _call(
        self,
        task: _Task,
        arguments: dict[str, Any],
        *,
        seeds: Sequence[int],
        scheduler: str | None = None,
        ip_adapter_scale: float | None = None,
        sources: Sequence[Pixels] = (),
    ) -> Any:
        import torch

        # In a batch of one random generator, an image would depend on its batch (diffusers#612).
        randoms = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        # A safety checker casts its input before anybody could look for NaN in it.
        with torch.inference_mode(), np.errstate(invalid="ignore"), warnings.catch_warnings():
            # numpy 2 says so of diffusers' schedulers, at every step.
            warnings.filterwarnings("ignore", "__array", DeprecationWarning)
            if self._scheduler is not None:
                task.pipeline.scheduler = build_scheduler(scheduler, self._scheduler)
            if self._image_prompts is not None:
                arguments |= self._image_prompts.arguments(
                    task.pipeline, sources, n=len(seeds), scale=ip_adapter_scale
                )
            return task.pipeline(**arguments, generator=randoms, output_type="np")

    def _task(self, draw: Draw) -> _Task:
        """Return the pipeline for a draw; both share all weights."""
        if draw.strength is None:
            return self._text
        if self._image is None:
            from diffusers import AutoPipelineForImage2Image

            pipeline = self._text.pipeline
            image_to_image(type(pipeline))  # says what is wrong, where there is no partner
            makers: Any = AutoPipelineForImage2Image  # untyped
            own = {} if self._scheduler is None else {"scheduler": self._scheduler}
            partner = makers.from_pipe(pipeline, **own)
            partner.set_progress_bar_config(disable=True)
            if self._image_prompts is not None:
                self._image_prompts.attach(partner)
            self._image = _Task.of(partner)
        return self._image

    def _size(self, draw: Draw) -> tuple[int, int]:
        """Return the (width, height) of a draw's images, whatever size its sources have."""
        if draw.size is not None:
            return _pair(draw.size)
        if self._own_size is None:  # families keep it in different places; an image tells
            arguments = {**self.arguments(_TRIAL), "prompt": _TRIAL.prompt}
            made = self._call(self._text, arguments, seeds=[0])
            height, width = np.asarray(made.images).shape[1:3]
            self._own_size = (width, height)
        return self._own_size


def _prompts(task: _Task, draws: Sequence[Draw]) -> dict[str, Any]:
    one_text = len({(draw.prompt, draw.negative_prompt) for draw in draws}) == 1
    # Of several images of one prompt the text is encoded once. Not where each has a source: some
    # families would repeat every source for every image.
    if one_text and draws[0].strength is None and "num_images_per_prompt" in task.accepts:
        return {"prompt": draws[0].prompt, "num_images_per_prompt": len(draws)}
    prompts: dict[str, Any] = {"prompt": [draw.prompt for draw in draws]}
    if any(draw.negative_prompt for draw in draws):
        prompts["negative_prompt"] = [draw.negative_prompt for draw in draws]
    return prompts


def _sides(task: _Task, size: int | tuple[int, int]) -> dict[str, int]:
    width, height = _pair(size)
    is_taken = {"width", "height"} <= task.accepts
    if not is_taken and "strength" not in task.accepts:  # else its image has the size
        raise GeneratorConfigError(f"a {task.kind} generates one size; leave it null", key="size")
    step = int(getattr(task.pipeline, "vae_scale_factor", 1))
    if width % step or height % step:
        raise GeneratorConfigError(
            f"{width}x{height} must be multiples of {step} for a {task.kind}",
            key="size",
        )
    return {"width": width, "height": height} if is_taken else {}


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _at_least_a_step(strength: float, steps: int) -> float:
    """Raise a strength to one step of so many; of less, diffusers makes none, or fails."""
    one = 1.0 / steps
    while int(steps * one) < 1:  # 1/49 of 49 steps is less than one step
        one = math.nextafter(one, 1.0)
    return max(strength, one)


def _fitted(source: Pixels, size: tuple[int, int]) -> Image.Image:
    """Crop a source around its centre to the aspect of a size, and resize it, antialiased."""
    return ImageOps.fit(Image.fromarray(source), size, Image.Resampling.LANCZOS)
