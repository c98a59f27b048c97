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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image, ImageOps

from gapclose.generators.adapters import NO_ADAPTERS, Adapters
from gapclose.generators.checkpoint import Checkpoint, image_to_image
from gapclose.generators.class_labels import label_arguments
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.families import FAMILIES, PLAIN, Family
from gapclose.generators.images import Pixels, to_pixels
from gapclose.generators.ip_adapter import ImagePrompts
from gapclose.generators.loading import find_device, read_pipeline
from gapclose.generators.loras import LoraScales
from gapclose.generators.parameters import Parameter, Parameters
from gapclose.generators.prompt_cache import PromptCache
from gapclose.generators.recipe import Draw
from gapclose.generators.schedulers import build_scheduler
from gapclose.generators.speed import AS_SAVED, Speed, fast_matmul
from gapclose.generators.truncation import warn_once_of_truncation

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_TRIAL: Final = Draw(prompt="", guidance_scale=1.0, num_inference_steps=2)

_BINNING: Final = "use_resolution_binning"

Wanted = tuple[Draw, int, Pixels | None]
"""A draw, a seed, and the source picture where the draw takes one."""


@dataclass(frozen=True, slots=True)
class _Task:
    """A pipeline of diffusers, its class by name, and the arguments of its call."""

    pipeline: Any
    kind: str
    accepts: frozenset[str]
    family: Family

    @property
    def own_steps(self) -> int:
        """Denoising steps where a draw names none."""
        named = inspect.signature(self.pipeline.__call__).parameters["num_inference_steps"]
        return int(named.default)

    @classmethod
    def of(cls, pipeline: Any) -> _Task:
        warn_once_of_truncation(pipeline)
        accepts = frozenset(inspect.signature(pipeline.__call__).parameters)
        kind = type(pipeline).__name__
        return cls(pipeline, kind, accepts, FAMILIES.get(kind, PLAIN))

    @property
    def own_negative(self) -> str | None:
        """The negative prompt where a draw has none, if there has to be one."""
        if self.family.negative == "always":
            return ""
        own = inspect.signature(self.pipeline.__call__).parameters.get("negative_prompt")
        return own.default if own is not None and isinstance(own.default, str) else None

    def negative(self, draw: Draw) -> str | None:
        """Return the negative prompt of a draw; without guidance nothing is to be kept from."""
        guides = draw.guidance_scale is None or draw.guidance_scale > 1.0
        return (draw.negative_prompt if guides else "") or self.own_negative

    def guidance(self, draw: Draw) -> dict[str, float]:
        """Return a draw's guidance as an argument; nothing where it would have no effect."""
        name = self.family.guidance
        if draw.guidance_scale is None or name not in self.accepts or self._is_distilled:
            return {}
        value = draw.guidance_scale - 1.0 + self.family.none_at
        names = (name, *(() if self.family.also is None else (self.family.also,)))
        return {its: max(value, self.family.least) for its in names}

    @property
    def _is_distilled(self) -> bool:
        if self.family.baked is None:
            return False
        part, entry = self.family.baked
        config = getattr(getattr(self.pipeline, part, None), "config", {})
        return not config.get(entry, True)


class Pipeline:
    """A text-to-image pipeline of diffusers in memory.

    Attributes:
        device: Where it computes.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        device: torch.device,
        image_prompts: ImagePrompts | None = None,
        loras: LoraScales | None = None,
        speed: Speed = AS_SAVED,
    ) -> None:
        """Wrap a pipeline of diffusers, with what was loaded into it, and prepare it."""
        self.device = device
        self._speed, self._encoded = speed, PromptCache(pipeline)
        speed.prepare(pipeline, device)
        self._text = _Task.of(pipeline)
        self._image: _Task | None = None
        self._own_size: tuple[int, int] | None = None
        self._image_prompts, self._loras = image_prompts, loras
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
        adapters: Adapters = NO_ADAPTERS,
        speed: Speed = AS_SAVED,
    ) -> Pipeline:
        """Load a checkpoint.

        Args:
            checkpoint: What to load.
            device: "auto", or what torch calls it.
            dtype: One of `DTYPES`.
            safety_checker: Whether to keep the pipeline's own.
            adapters: What to load into it.
            speed: How it is made fast, or small.

        Raises:
            GeneratorConfigError: If the device is not there, the checkpoint or an adapter cannot
                be loaded, it is no text-to-image pipeline, or not to be sped up so.
            MemoryOutError: If it does not fit into memory.
        """
        log.info("loading the generator %s", checkpoint.model)
        place = find_device(device)
        speed.check(place)
        pipeline = read_pipeline(
            checkpoint, device=place, dtype=dtype, safety_checker=safety_checker, speed=speed
        )
        pipeline.set_progress_bar_config(disable=True)
        image_prompts, scales = adapters.load_into(pipeline)
        return cls(pipeline, device=place, image_prompts=image_prompts, loras=scales, speed=speed)

    def arguments(self, draw: Draw) -> dict[str, Any]:
        """Translate a draw, but for its prompt and scheduler, into arguments of the pipeline.

        Raises:
            GeneratorConfigError: If the pipeline does not take the draw's negative prompt, size or
                scheduler, or has no image-to-image partner for its strength.
        """
        task = self._task(draw)
        if task.family.reads == "label":
            label_arguments(task.pipeline, [draw.prompt])
        arguments: dict[str, Any] = task.guidance(draw)
        if draw.num_inference_steps is not None and "num_inference_steps" in task.accepts:
            arguments["num_inference_steps"] = draw.num_inference_steps
        takes = "negative_prompt" in task.accepts and task.family.negative != "ignored"
        if draw.negative_prompt and not takes:
            raise GeneratorConfigError(
                f"a {task.kind} takes none; leave space.negative_prompt empty",
                key="negative_prompt",
            )
        if takes and (text := task.negative(draw)) is not None:
            arguments["negative_prompt"] = text
        if draw.size is not None:
            arguments |= _sides(task, draw.size)
        if draw.scheduler is not None:
            _check_scheduler(task, draw.scheduler, has_own=self._scheduler is not None)
        scales = frozenset() if self._loras is None else self._loras.parameters
        for name in draw.parameters.keys() - task.accepts - scales:
            raise GeneratorConfigError(
                f"a {task.kind} takes no such parameter; leave it out",
                key=f"space.parameters.{name}",
            )
        arguments |= {k: v for k, v in draw.parameters.items() if k not in scales}
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
            parameters=draws[0].parameters,
        )
        flagged = getattr(result, "nsfw_content_detected", None) or [False] * len(seeds)
        images = _array(result.images)[..., :3]  # some have transparency
        if draws[0].size is not None and (asked := _pair(draws[0].size)) != images.shape[2:0:-1]:
            height, width = images.shape[1:3]
            raise GeneratorConfigError(
                f"a {task.kind} makes {width}x{height} of {asked[0]}x{asked[1]}; ask for a size "
                "that it makes",
                key="generator.size",
            )
        return to_pixels(images, flagged=flagged)

    @property
    def draws_alone(self) -> bool:
        """Whether a batch must not hold several images."""
        return self._text.family.alone or self._speed.draws_alone

    def spare_memory(self) -> bool:
        """Use less memory, for the same images; return whether a batch may fit that did not."""
        self._encoded.clear()
        vae: Any = getattr(self._text.pipeline, "vae", None)
        if not hasattr(vae, "enable_slicing") or getattr(vae, "use_slicing", True):
            return False
        vae.enable_slicing()
        return True

    def _call(
        self,
        task: _Task,
        arguments: dict[str, Any],
        *,
        seeds: Sequence[int],
        scheduler: str | None = None,
        ip_adapter_scale: float | None = None,
        sources: Sequence[Pixels] = (),
        parameters: Mapping[str, Parameter] = Parameters(),
    ) -> Any:
        import torch

        # In a batch of one random generator, an image would depend on its batch (diffusers#612).
        randoms = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        # A safety checker casts its input before anybody could look for NaN in it.
        # Some seed torch's own random numbers, which are not theirs to change.
        with (
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(),
            fast_matmul(self.device),
            np.errstate(invalid="ignore"),
            warnings.catch_warnings(),
        ):
            # numpy 2 says so of diffusers' schedulers, at every step.
            warnings.filterwarnings("ignore", "__array", DeprecationWarning)
            if self._scheduler is not None:
                task.pipeline.scheduler = build_scheduler(scheduler, self._scheduler)
            if self._loras is not None:
                self._loras.set_for(parameters)
                self._encoded.scales = self._loras.scales
            if self._image_prompts is not None:
                arguments |= self._image_prompts.arguments(
                    task.pipeline, sources, n=len(seeds), scale=ip_adapter_scale
                )
            # numpy has no bfloat16, in which some would hand pixels to it.
            kind = "pt" if task.family.reads == "nothing" else "np"
            try:
                return task.pipeline(**arguments, generator=randoms, output_type=kind)
            except Exception:
                # As it does after a call: else a network stays on the GPU, or a cache half full.
                task.pipeline.maybe_free_model_hooks()
                raise

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
            self._speed.check_cache(partner)
            if self._speed.offload == "model":  # the other's hooks tell the other alone
                self._speed.offload_from(partner, self.device)
            if self._image_prompts is not None:
                self._image_prompts.attach(partner)
            self._image = replace(_Task.of(partner), family=self._text.family)
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


def _array(images: Any) -> np.ndarray[Any, Any]:
    """Return images, (n, height, width, channels), of what a pipeline returns."""
    if hasattr(images, "permute"):  # torch's: channels come first
        images = images.detach().cpu().float().permute(0, 2, 3, 1).numpy()
    return np.asarray(images)


def _prompts(task: _Task, draws: Sequence[Draw]) -> dict[str, Any]:
    if task.family.reads != "text":
        return label_arguments(task.pipeline, [draw.prompt for draw in draws])
    one_text = len({(draw.prompt, draw.negative_prompt) for draw in draws}) == 1
    # Of several images of one prompt the text is encoded once. Not where each has a source: some
    # families would repeat every source for every image.
    if one_text and draws[0].strength is None and "num_images_per_prompt" in task.accepts:
        return {"prompt": draws[0].prompt, "num_images_per_prompt": len(draws)}
    prompts: dict[str, Any] = {"prompt": [draw.prompt for draw in draws]}
    negatives = [task.negative(draw) for draw in draws]
    if "negative_prompt" in task.accepts and any(text is not None for text in negatives):
        # One each: of one text beside several prompts some families fail.
        prompts["negative_prompt"] = [text or "" for text in negatives]
    return prompts


def _check_scheduler(task: _Task, name: str, *, has_own: bool) -> None:
    """Refuse a scheduler that a family's call does not work with, or does not use."""
    usable = task.family.schedulers
    if not has_own or usable == frozenset():
        raise GeneratorConfigError(
            f"a {task.kind} has none to replace; leave it null", key="scheduler"
        )
    if usable is not None and name not in usable:
        raise GeneratorConfigError(
            f"{name!r} does not work in a {task.kind}; usable: {', '.join(sorted(usable))}",
            key="scheduler",
        )


def _sides(task: _Task, size: int | tuple[int, int]) -> dict[str, Any]:
    width, height = _pair(size)
    is_taken = {"width", "height"} <= task.accepts
    if not is_taken and "strength" not in task.accepts:  # else its image has the size
        raise GeneratorConfigError(f"a {task.kind} generates one size; leave it null", key="size")
    step = max(int(getattr(task.pipeline, "vae_scale_factor", 1) or 1), task.family.multiple)
    if width % step or height % step:
        raise GeneratorConfigError(
            f"{width}x{height} must be multiples of {step} for a {task.kind}",
            key="size",
        )
    if not is_taken:
        return {}
    # Else some draw at the nearest of a list of sizes, and cut.
    binning = {_BINNING: False} if _BINNING in task.accepts else {}
    return {"width": width, "height": height, **binning}


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
