"""Any diffusers text-to-image pipeline, from a hub id or a local folder, as a generator.

`registry` makes it. It checks the options, loads the `Pipeline` at the first image and cuts jobs
into batches that memory bears; what of a draw reaches diffusers is in `pipeline`. It trains
nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

from gapclose.generators.base import checked_seeds
from gapclose.generators.checkpoint import Checkpoint
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.images import ImageBatch, Pixels
from gapclose.generators.pipeline import DTYPES, Pipeline, find_device, first_line
from gapclose.generators.recipe import Draw
from gapclose.generators.schedulers import check_scheduler

log = logging.getLogger(__name__)

_CPU_BATCH: Final = 32
_GPU_BATCH: Final = 8  # the first one; doubled while memory lasts
_GPU_BATCH_LIMIT: Final = 64


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
            raise GeneratorConfigError(f"must be text, not {model!r}", key="generator.model")
        if dtype not in DTYPES:
            raise GeneratorConfigError(
                f"{dtype!r} is none of {', '.join(DTYPES)}",
                key="generator.dtype",
            )
        if safety_checker not in ("keep", "off"):
            raise GeneratorConfigError(
                f"keep or off, not {safety_checker!r}",
                key="generator.safety_checker",
            )
        if batch_size != "auto" and (isinstance(batch_size, bool) or int(batch_size) < 1):
            raise GeneratorConfigError(
                f"auto or at least 1, not {batch_size!r}",
                key="generator.batch_size",
            )
        try:
            sides = Draw(prompt="", size=size)  # type: ignore[arg-type]
        except ValueError as error:
            raise GeneratorConfigError(f"generator.{error}") from None
        self._checkpoint = Checkpoint(model=model, revision=revision)
        self._revision: str | None = None
        self._dtype = dtype
        self._device = device
        self._size = sides.size
        self._batch = _BatchSize(None if batch_size == "auto" else int(batch_size))
        self._safety_checker = safety_checker == "keep"
        self._pipeline: Pipeline | None = None

    @property
    def id(self) -> str:
        """`diffusers:` and the hub id, "pond", or the folder's name without its path."""
        return self._checkpoint.id

    @property
    def revision(self) -> str | None:
        """A digest of a local folder; of a hub id the commit, None before it is in the cache."""
        return self._revision or self._checkpoint.version

    @property
    def license(self) -> str | None:
        """The licence in the model card's front matter; None if there is no card at hand."""
        return self._checkpoint.license

    def check(self) -> None:
        """Refuse a model that is not there, without loading it.

        Raises:
            GeneratorConfigError: One line that names the culprit and the remedy.
        """
        if self._device != "auto":
            find_device(self._device)
        self._checkpoint.find()
        self._checkpoint.check_task()
        self._checkpoint.check_size(self._size)

    def check_schedulers(self, names: Sequence[str]) -> None:
        """Refuse schedulers that do not fit a pipeline that is at hand, from its saved config.

        Raises:
            GeneratorConfigError: As `build_scheduler`.
        """
        self._checkpoint.check_schedulers(names)

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """Generate one image per seed; NaN, one-colour and flagged images come back marked.

        Raises:
            ValueError: If the seeds are not distinct integers in [0, 2**63).
            GeneratorConfigError: If the pipeline cannot be loaded, or does not take the draw's
                scheduler, size or negative prompt.
            GenerationError: If the pipeline fails, or memory is out at a batch of one.
        """
        return self.generate_all([(draw, seeds)])[0]

    def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
        """Generate several draws; those that differ in their prompts alone share batches.

        Raises:
            ValueError, GeneratorConfigError, GenerationError: As `generate`.
        """
        plain = [checked_seeds(seeds) for _, seeds in jobs]
        draws = [replace(draw, size=draw.size or self._size) for draw, _ in jobs]
        for draw in draws:
            if draw.scheduler is not None:
                check_scheduler(draw.scheduler)
        images: list[list[Pixels]] = [[] for _ in jobs]
        invalid: list[list[str | None]] = [[] for _ in jobs]
        if any(plain):
            pipeline = self._loaded()
            for draw in draws:
                pipeline.arguments(draw)  # refuses what it does not take, before any work
            for waiting in _alike(draws, plain):
                while waiting:
                    chosen = waiting[: self._batch.images]
                    made = self._try_batch(pipeline, [(draws[job], seed) for job, seed in chosen])
                    if made is None:
                        continue
                    for (job, _), image, why in zip(chosen, *made, strict=True):
                        images[job].append(image)
                        invalid[job].append(why)
                    del waiting[: len(chosen)]
        return [
            ImageBatch(images=tuple(i), seeds=seeds, invalid=tuple(why))
            for i, seeds, why in zip(images, plain, invalid, strict=True)
        ]

    def _loaded(self) -> Pipeline:
        if self._pipeline is None:
            self._pipeline = Pipeline.load(
                self._checkpoint,
                device=self._device,
                dtype=self._dtype,
                safety_checker=self._safety_checker,
            )
            self._revision = self._checkpoint.version  # it reads some MiB of every file
            if self._pipeline.device.type != "cpu":
                self._batch.start_on_gpu()
        return self._pipeline

    def _try_batch(
        self, pipeline: Pipeline, wanted: Sequence[tuple[Draw, int]]
    ) -> tuple[list[Pixels], list[str | None]] | None:
        """Generate one batch; None if memory was out and a smaller one is to be tried."""
        import torch

        try:
            made = pipeline.generate(wanted)
        except GeneratorConfigError:
            raise
        except torch.OutOfMemoryError:
            if len(wanted) == 1:
                raise GenerationError(
                    "memory is out at one image a time; choose a smaller size or dtype"
                ) from None
        except Exception as error:  # a pipeline may raise anything
            raise GenerationError(f"{type(error).__name__}: {first_line(error)}") from error
        else:
            self._batch.grow_after(len(wanted))
            return made
        # Only here, where the traceback no longer holds the tensors of the failed batch.
        torch.cuda.empty_cache()
        self._batch.halve_after(len(wanted))
        return None


class _BatchSize:
    """How many images are generated at once: fixed, or as many as memory bears.

    Attributes:
        images: Images of the next batch.
    """

    def __init__(self, fixed: int | None) -> None:
        self.images = _CPU_BATCH if fixed is None else fixed
        self._is_fixed = fixed is not None
        self._grows = False

    def start_on_gpu(self) -> None:
        """Start small, and grow."""
        if not self._is_fixed:
            self.images, self._grows = _GPU_BATCH, True

    def grow_after(self, images: int) -> None:
        """Double after a whole batch that memory bore, up to a limit."""
        if self._grows and images == self.images:
            self.images = min(2 * images, _GPU_BATCH_LIMIT)

    def halve_after(self, images: int) -> None:
        """Halve after a batch that memory did not bear, and stay there."""
        self.images, self._grows = images // 2, False
        log.warning("memory is out at a batch of %d; going on with %d", images, self.images)


def _alike(draws: Sequence[Draw], seeds: Sequence[Sequence[int]]) -> list[list[tuple[int, int]]]:
    """Group (job, seed) of all images by what of their draws must be one in a batch."""
    groups: dict[str, list[tuple[int, int]]] = {}
    for job, (draw, own) in enumerate(zip(draws, seeds, strict=True)):
        key = replace(draw, prompt="", negative_prompt="").fingerprint()
        groups.setdefault(key, []).extend((job, seed) for seed in own)
    return list(groups.values())
