"""Any diffusers text-to-image pipeline, from a hub id or a local folder, as a generator.

`registry` makes it. The pipeline loads at the first image; every image has a random generator of
its own on the CPU, so that it does not depend on its batch (diffusers#612). It trains nothing,
runs no code from a model's repository and reads no pickle.
"""

from __future__ import annotations

import inspect
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gapclose.generators.base import GenerationError, GeneratorConfigError, checked_seeds
from gapclose.generators.images import NAN, ONE_COLOUR, SAFETY, ImageBatch, Pixels, is_one_colour
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import digest_folder, find_model, local_folder, read_license
from gapclose.generators.schedulers import build_scheduler, check_scheduler

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_DTYPES: Final = ("auto", "float32", "float16", "bfloat16")
_CPU_BATCH: Final = 32
_GPU_BATCH: Final = 8  # the first one; doubled while memory lasts
_GPU_BATCH_LIMIT: Final = 64
# What only pipelines have that start from an image.
_FROM_IMAGES: Final = frozenset(
    {"strength", "mask_image", "image_guidance_scale", "noise_level"}
    | {"controlnet_conditioning_scale", "adapter_conditioning_scale"}
)


class DiffusersGenerator:
    """A text-to-image pipeline of diffusers.

    Args:
        model: Hub id (owner/name), a folder that `save_pretrained` wrote, or "pond".
        revision: Commit or tag on the hub.
        dtype: "auto" is float32 on a CPU, bfloat16 or else float16 on a GPU. The autoencoder
            always decodes in float32: in float16 it may give NaN (SDXL: diffusers#4325), in
            bfloat16 it rounds tones to steps of 1/256.
        device: "auto", or what torch calls it ("cpu", "cuda:1").
        size: Pixels, a side or (width, height), for draws that name none; None is the pipeline's.
        batch_size: "auto" is 32 on a CPU; on a GPU it grows from 8 and halves when memory is out.
        safety_checker: "keep" the pipeline's own, or "off".

    Raises:
        GeneratorConfigError: If a value is none of the above.
    """

    source_type: Final = "trainedAlgorithmicMedia"

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        size: int | Sequence[int] | None = None,
        batch_size: int | Literal["auto"] = "auto",
        safety_checker: str = "keep",
    ) -> None:
        """Check the values; nothing is loaded or asked for yet."""
        if not isinstance(model, str) or not model:
            raise GeneratorConfigError(f"generator.model: must be text, not {model!r}")
        if dtype not in _DTYPES:
            raise GeneratorConfigError(
                f"generator.dtype: {dtype!r} is none of {', '.join(_DTYPES)}"
            )
        if safety_checker not in ("keep", "off"):
            raise GeneratorConfigError(
                f"generator.safety_checker: keep or off, not {safety_checker!r}"
            )
        if batch_size != "auto" and (isinstance(batch_size, bool) or int(batch_size) < 1):
            raise GeneratorConfigError(
                f"generator.batch_size: auto or at least 1, not {batch_size!r}"
            )
        try:
            sides = Draw(prompt="", size=size)  # type: ignore[arg-type]
        except ValueError as error:
            raise GeneratorConfigError(f"generator.{error}") from None
        self._model = model
        self._revision = revision
        self._dtype = dtype
        self._device = device
        self._size = sides.size
        self._batch = None if batch_size == "auto" else int(batch_size)
        self._grows = False
        self._keep_checker = safety_checker == "keep"
        self._pipeline: Any = None
        self._scheduler: Any = None
        self._accepts: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        """`diffusers:` and the hub id, the folder's name (its place is nobody's), or "pond"."""
        folder = local_folder(self._model)
        if folder is None or self._model == "pond":
            return f"diffusers:{self._model}"
        return f"diffusers:{folder.resolve().name}"

    @property
    def revision(self) -> str | None:
        """A digest of a local folder; of a hub id the commit, None before it is in the cache."""
        folder = local_folder(self._model)
        if folder is not None:
            return digest_folder(folder) if folder.is_dir() else None
        index = self._cached("model_index.json")
        return self._revision if index is None else index.parent.name

    @property
    def license(self) -> str | None:
        """What the model card's front matter says, None if there is no card at hand."""
        folder = local_folder(self._model)
        card = self._cached("README.md") if folder is None else folder / "README.md"
        return None if card is None else read_license(card)

    def check(self) -> None:
        """Refuse a model that is not there, without loading it.

        Raises:
            GeneratorConfigError: One line that names the culprit and the remedy.
        """
        if self._device != "auto":
            _device(self._device)
        folder = find_model(self._model, self._revision)
        _check_task(self._model, _saved_class(self._index()))
        if self._size is not None and isinstance(folder, Path):
            sides = (self._size, self._size) if isinstance(self._size, int) else self._size
            step = _vae_scale(folder)
            if any(side % step for side in sides):
                raise GeneratorConfigError(
                    f"generator.size: {sides[0]}x{sides[1]} must be multiples of {step} for "
                    f"{self._model}"
                )

    def check_schedulers(self, names: Sequence[str]) -> None:
        """Refuse schedulers that do not fit a pipeline that is at hand, from its saved config.

        Raises:
            GeneratorConfigError: As `build_scheduler`.
        """
        if not names or (index := self._index()) is None:
            return
        import diffusers

        try:
            _, kind = json.loads(index.read_text(encoding="utf-8"))["scheduler"]
            made = getattr(diffusers, kind)
            if not issubclass(made, diffusers.SchedulerMixin):
                return
            config = index.parent / "scheduler" / "scheduler_config.json"
            original = made.from_config(json.loads(config.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return  # loading will tell
        for name in names:
            build_scheduler(name, original)

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """One image per seed; NaN, one-colour and safety-flagged images come back marked.

        Raises:
            ValueError: If the seeds are not distinct integers in [0, 2**63).
            GeneratorConfigError: If the pipeline cannot be loaded, or does not take the draw's
                scheduler, size or negative prompt.
            GenerationError: If the pipeline fails, or memory is out at a batch of one.
        """
        return self.generate_all([(draw, seeds)])[0]

    def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
        """Several draws; those that differ in their prompts alone share batches.

        Raises:
            ValueError, GeneratorConfigError, GenerationError: As `generate`.
        """
        plain = [checked_seeds(seeds) for _, seeds in jobs]
        for draw, _ in jobs:
            if draw.scheduler is not None:
                check_scheduler(draw.scheduler)
        if any(plain):
            self._load()
            for draw, _ in jobs:
                self._arguments(draw)  # refuses what the pipeline does not take, before any work
        alike: dict[str, list[tuple[int, Draw, int]]] = {}
        for number, (draw, _) in enumerate(jobs):
            key = replace(draw, prompt="", negative_prompt="").fingerprint()
            alike.setdefault(key, []).extend((number, draw, seed) for seed in plain[number])
        images: list[list[Pixels]] = [[] for _ in jobs]
        invalid: list[list[str | None]] = [[] for _ in jobs]
        for waiting in alike.values():
            while waiting:
                chosen = waiting[: self._batch_size]
                drawn = self._draw_or_shrink([(draw, seed) for _, draw, seed in chosen])
                if drawn is None:
                    continue
                for (number, _, _), image, why in zip(chosen, *drawn, strict=True):
                    images[number].append(image)
                    invalid[number].append(why)
                del waiting[: len(chosen)]
        return [
            ImageBatch(images=tuple(i), seeds=seeds, invalid=tuple(why))
            for i, seeds, why in zip(images, plain, invalid, strict=True)
        ]

    @property
    def _batch_size(self) -> int:
        return _CPU_BATCH if self._batch is None else self._batch

    def _cached(self, name: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self._model, name, revision=self._revision)
        return Path(found) if isinstance(found, str) else None

    def _index(self) -> Path | None:
        folder = local_folder(self._model)
        return self._cached("model_index.json") if folder is None else folder / "model_index.json"

    def _load(self) -> None:
        if self._pipeline is not None:
            return
        import torch

        log.info("loading the generator %s", self._model)
        device = _device(self._device)
        dtype = _dtype(self._dtype, device)
        pipeline = self._read(device, dtype)
        _check_task(self._model, type(pipeline))
        accepts = frozenset(inspect.signature(pipeline.__call__).parameters)
        pipeline.set_progress_bar_config(disable=True)
        vae = getattr(pipeline, "vae", None)
        if vae is not None and dtype != torch.float32:
            _decode_in_float32(vae)
        if device.type == "cpu":
            # Measured on two cores: convolutions take a third of the time.
            for module in (getattr(pipeline, "unet", None), vae):
                if module is not None:
                    module.to(memory_format=torch.channels_last)
        elif self._batch is None:
            self._batch, self._grows = _GPU_BATCH, True
        self._pipeline, self._accepts = pipeline, accepts
        self._scheduler = getattr(pipeline, "scheduler", None)

    def _read(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The pipeline as saved, on its device."""
        import torch
        from diffusers import DiffusionPipeline

        folder = local_folder(self._model)
        if folder is not None:
            find_model(self._model)
        source = self._model if folder is None else str(folder)
        where: dict[str, Any] = {"revision": self._revision}
        if folder is not None:
            where = {"local_files_only": True}
        pipelines: Any = DiffusionPipeline  # untyped
        try:
            # Building layers draws their first weights before the saved ones replace them.
            with _silent_loading(), torch.random.fork_rng(devices=[]):
                checker: dict[str, Any] = {}
                if not self._keep_checker:
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
            raise GenerationError(
                f"{self._model} does not fit into the memory of {device}"
            ) from error
        except (OSError, ValueError, TypeError, ImportError, RuntimeError) as error:
            raise GeneratorConfigError(
                f"generator.model: {self._model} cannot be loaded: {_first_line(error)}"
            ) from error

    def _arguments(self, draw: Draw) -> dict[str, Any]:
        """What of a draw the pipeline's `__call__` takes."""
        kind = type(self._pipeline).__name__
        asked = {
            "guidance_scale": draw.guidance_scale,
            "num_inference_steps": draw.num_inference_steps,
        }
        arguments: dict[str, Any] = {k: v for k, v in asked.items() if k in self._accepts}
        if "negative_prompt" in self._accepts:
            arguments["negative_prompt"] = draw.negative_prompt or None
        elif draw.negative_prompt:
            raise GeneratorConfigError(
                f"negative_prompt: a {kind} takes none; leave space.negative_prompt empty"
            )
        size = self._size if draw.size is None else draw.size
        if size is not None:
            width, height = (size, size) if isinstance(size, int) else size
            if not {"width", "height"} <= self._accepts:
                raise GeneratorConfigError(f"size: a {kind} draws in one size; leave it null")
            step = int(getattr(self._pipeline, "vae_scale_factor", 1))
            if width % step or height % step:
                raise GeneratorConfigError(
                    f"size: {width}x{height} must be multiples of {step} for a {kind}"
                )
            arguments |= {"width": width, "height": height}
        if draw.scheduler is not None and self._scheduler is None:
            raise GeneratorConfigError(f"scheduler: a {kind} has none to replace; leave it null")
        return arguments

    def _draw_or_shrink(
        self, wanted: Sequence[tuple[Draw, int]]
    ) -> tuple[list[Pixels], list[str | None]] | None:
        """Draw one batch; None if memory was out and a smaller one is to be tried."""
        import torch

        try:
            drawn = self._draw(wanted)
        except GeneratorConfigError:
            raise
        except torch.OutOfMemoryError:
            if len(wanted) == 1:
                raise GenerationError(
                    "memory is out at one image a time; choose a smaller size or dtype"
                ) from None
        except Exception as error:  # a pipeline may raise anything
            raise GenerationError(f"{type(error).__name__}: {_first_line(error)}") from error
        else:
            if self._grows and len(wanted) == self._batch_size:
                self._batch = min(2 * len(wanted), _GPU_BATCH_LIMIT)
            return drawn
        # Only here, where the traceback no longer holds the tensors of the failed batch.
        torch.cuda.empty_cache()
        self._batch, self._grows = len(wanted) // 2, False
        log.warning("memory is out at a batch of %d; going on with %d", len(wanted), self._batch)
        return None

    def _draw(self, wanted: Sequence[tuple[Draw, int]]) -> tuple[list[Pixels], list[str | None]]:
        """One batch of draws that differ in their prompts and seeds alone."""
        import torch

        pipeline = self._pipeline
        draws, seeds = [draw for draw, _ in wanted], [seed for _, seed in wanted]
        arguments = self._arguments(draws[0])
        prompts: dict[str, Any] = {"prompt": [draw.prompt for draw in draws]}
        if any(draw.negative_prompt for draw in draws):
            prompts["negative_prompt"] = [draw.negative_prompt for draw in draws]
        one_text = len({(draw.prompt, draw.negative_prompt) for draw in draws}) == 1
        if one_text and "num_images_per_prompt" in self._accepts:  # the text is encoded once
            prompts = {"prompt": draws[0].prompt, "num_images_per_prompt": len(draws)}
        randoms = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        # A safety checker casts its input before anybody could look for NaN in it.
        with torch.inference_mode(), np.errstate(invalid="ignore"), warnings.catch_warnings():
            # numpy 2 says so of diffusers' schedulers, at every step.
            warnings.filterwarnings("ignore", "__array", DeprecationWarning)
            if self._scheduler is not None:
                pipeline.scheduler = build_scheduler(draws[0].scheduler, self._scheduler)
            result = pipeline(**{**arguments, **prompts}, generator=randoms, output_type="np")
        flagged = getattr(result, "nsfw_content_detected", None) or [False] * len(seeds)
        return _to_pixels(np.asarray(result.images), flagged)


def _to_pixels(
    images: NDArray[np.floating[Any]], flagged: Sequence[bool]
) -> tuple[list[Pixels], list[str | None]]:
    """Images (n, h, w, 3) in [0, 1] as uint8, and why each must not be scored."""
    finite = np.isfinite(images).all(axis=(1, 2, 3))
    whole = np.rint(np.nan_to_num(images, posinf=1.0).clip(0.0, 1.0) * 255.0).astype(np.uint8)
    pixels: list[Pixels] = []
    invalid: list[str | None] = []
    for image, is_finite, is_flagged in zip(whole, finite, flagged, strict=True):
        why = SAFETY if is_flagged else None if is_finite else NAN
        pixels.append(np.zeros_like(image) if why == NAN else image)
        invalid.append(why or (ONE_COLOUR if is_one_colour(image) else None))
    return pixels, invalid


def _saved_class(index: Path | None) -> type[Any] | None:
    """The class that a pipeline was saved from; None if it is not at hand, or no known one."""
    if index is None:
        return None
    import diffusers

    try:
        found: type[Any] = getattr(diffusers, json.loads(index.read_text("utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # loading will tell
    return found


def _check_task(model: str, pipeline: type[Any] | None) -> None:
    """Refuse a pipeline that starts from an image, or draws none."""
    if pipeline is None:
        return
    parameters = inspect.signature(pipeline.__call__).parameters
    from_image = "image" in parameters and (
        parameters["image"].default is inspect.Parameter.empty
        # Most give it a default of None, and fail at it.
        or not _FROM_IMAGES.isdisjoint(parameters)
    )
    if from_image or not {"prompt", "generator"} <= set(parameters):
        raise GeneratorConfigError(
            f"generator.model: {model} is a {pipeline.__name__}, which draws no images from text "
            "alone; name a text-to-image pipeline"
        )


def _vae_scale(folder: Path) -> int:
    """Pixels per latent of a saved pipeline, as diffusers' pipelines count them; 1 if unknown."""
    try:
        saved = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
        return int(2 ** (len(saved["block_out_channels"]) - 1))
    except (OSError, ValueError, KeyError, TypeError):
        return 1


def _device(name: str) -> torch.device:
    import torch

    if name != "auto":
        try:
            device = torch.device(name)
        except RuntimeError:
            raise GeneratorConfigError(
                f"generator.device: {name!r} is no device; auto, cpu, cuda or cuda:1"
            ) from None
        if device.type == "cuda" and not torch.cuda.is_available():
            raise GeneratorConfigError(f"generator.device: no GPU here for {name!r}; use auto")
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


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
    """What turns a pipeline's safety checker off; nothing for a pipeline that has none."""
    if "safety_checker" not in saved:
        return {}
    return {"safety_checker": None, "requires_safety_checker": False}


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


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
