"""Any diffusers text-to-image pipeline, from a hub id or a local folder, as a generator.

`registry` makes it. Where diffusers has an image-to-image pipeline of the family, or an
IP-Adapter is given, it takes source pictures, too. It checks the options, loads the `Pipeline`
at the first image and cuts jobs into batches that memory bears; what of a draw reaches diffusers
is in `pipeline`. It trains nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from gapclose.generators.adapters import Adapters
from gapclose.generators.base import SourcedJob, checked_seeds
from gapclose.generators.batch_size import BatchSize
from gapclose.generators.batching import generate_in_batches
from gapclose.generators.checkpoint import Checkpoint
from gapclose.generators.class_labels import check_prompts
from gapclose.generators.components import EMPTY, read_components
from gapclose.generators.errors import (
    GeneratorConfigError,
)
from gapclose.generators.images import ImageBatch, Pixels
from gapclose.generators.loading import DTYPES, find_device
from gapclose.generators.pipeline import Pipeline
from gapclose.generators.recipe import Draw
from gapclose.generators.schedulers import check_scheduler
from gapclose.generators.speed import Speed


class DiffusersGenerator:
    """A text-to-image pipeline of diffusers, or one that draws one of its labels, or of one kind.

    Of a class-conditional pipeline a prompt is the name of a label. One that takes neither ignores
    the prompt: a run of it has one class and one prompt, which `check_prompts` makes sure of.

    Args:
        model: Hub id (owner/name), a folder that `save_pretrained` wrote, one .safetensors file
            that holds a whole pipeline, or "pond". Such a file comes without a safety checker.
        revision: Commit or tag on the hub.
        variant: Which of its weights, such as "fp16" for those in half precision.
        config: Folder or hub id of a pipeline of the family that a single file is of, for the
            configs of its parts; None is what diffusers tells by its weights.
        components: Parts by their names in model_index.json that are taken from another folder or
            hub id, of a pipeline or of the part alone; None leaves a part out.
        dtype: "auto" is float32 on a CPU, bfloat16 or else float16 on a GPU. The autoencoder
            always decodes in float32: in float16 it may give NaN (SDXL: diffusers#4325), in
            bfloat16 it rounds tones to steps of 1/256.
        device: "auto", or what torch calls it ("cpu", "cuda:1").
        size: Pixels, a side or (width, height), for draws that name none; None is the pipeline's.
        batch_size: "auto" is 32 on a CPU; on a GPU it grows from 8 and halves when memory is out.
        safety_checker: "keep" the pipeline's own, or "off".
        ip_adapter: Keys of `IPAdapter`, for draws with `ip_adapter_scale`; None for none.
        embeddings: Keys of each `Embedding`, a word that prompts may use.
        loras: Keys of each `Lora`; its scale is a parameter of the draws.
        compile: Whether to compile its denoiser, once a run; this and the next four are `Speed`'s.
        attention: What computes it: "auto", or one of those that diffusers has.
        offload: "none", or "model" or "group" where the GPU is too small: slower.
        quantize: "none", or "int8" or "nf4" where it is smaller yet: other images.
        cache: "none", or "first_block" or "taylorseer", which guess steps: other images.

    Raises:
        GeneratorConfigError: If a value is none of the above.
    """

    source_type: Final = "trainedAlgorithmicMedia"

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        variant: str | None = None,
        config: str | None = None,
        components: Mapping[str, str | None] = EMPTY,
        dtype: str = "auto",
        device: str = "auto",
        size: int | Sequence[int] | None = None,
        batch_size: int | Literal["auto"] = "auto",
        safety_checker: str = "keep",
        ip_adapter: Mapping[str, Any] | None = None,
        embeddings: Sequence[Mapping[str, Any]] = (),
        loras: Sequence[Mapping[str, Any]] = (),
        compile: bool = False,
        attention: str = "auto",
        offload: str = "none",
        quantize: str = "none",
        cache: str = "none",
    ) -> None:
        """Check the values; nothing is loaded or asked for yet."""
        _check_options(model, dtype, safety_checker, batch_size)
        self._checkpoint = Checkpoint(
            model=model,
            revision=revision,
            variant=variant,
            config=config,
            components=read_components(components),
        )
        self._revision: str | None = None
        self._dtype = dtype
        self._device = device
        self._size = _checked_size(size)
        self._batch = BatchSize(None if batch_size == "auto" else int(batch_size))
        self._safety_checker = safety_checker == "keep"
        self._adapters = Adapters.read(ip_adapter, embeddings, loras)
        self._speed = Speed(compile, attention, offload, quantize, cache)
        self._pipeline: Pipeline | None = None

    @property
    def id(self) -> str:
        """`diffusers:` and the hub id, "pond", or the folder's or file's name without its path."""
        return self._checkpoint.id

    @property
    def revision(self) -> str | None:
        """A digest of local files; of a hub id the commit, None before it is in the cache.

        Those of whatever is loaded beside it stand behind it, after a plus.
        """
        return self._revision or self._version()

    @property
    def license(self) -> str | None:
        """The licence in the model card's front matter; None if there is no card at hand.

        Those of what is loaded beside it stand behind: what is made with it comes under all.
        """
        return self._adapters.license(self._checkpoint.license)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Scales of its LoRAs, and numbers that its family alone knows.

        Raises:
            GeneratorConfigError: The hub has no such model, or cannot be reached.
        """
        return (*self._adapters.parameters, *self._checkpoint.parameters)

    @property
    def settings(self) -> tuple[str, ...]:
        """What of a draw has an effect; all, until the model is at hand."""
        return self._checkpoint.settings

    @property
    def doubted(self) -> tuple[str, ...]:
        """Those of its parameters that may have no effect, for all that its family takes them."""
        return self._checkpoint.parameters

    def check(self) -> None:
        """Refuse a model that is not there, without loading it.

        Raises:
            GeneratorConfigError: One line that names the culprit and the remedy.
        """
        if self._device != "auto" or self._speed.depends_on_device:
            self._speed.check(find_device(self._device))
        self._checkpoint.find()
        self._checkpoint.check_task()
        self._checkpoint.check_size(self._size)
        self._adapters.check(self._checkpoint)

    def check_schedulers(self, names: Sequence[str]) -> None:
        """Refuse schedulers that do not fit a pipeline that is at hand, from its saved config.

        Raises:
            GeneratorConfigError: As `build_scheduler`.
        """
        self._checkpoint.check_schedulers(names)

    def check_prompts(self, prompts: Iterable[str]) -> None:
        """Refuse prompts that are no labels of a pipeline that reads those; several, of one kind.

        Raises:
            GeneratorConfigError: One line that names the nearest label, or the remedy.
        """
        check_prompts(self._checkpoint.configs, prompts)

    def check_conditioning(
        self,
        *,
        strength: bool = False,
        ip_adapter: bool = False,
        parameters: Collection[str] = (),
    ) -> None:
        """Refuse draws with a strength, or with a scale of an IP-Adapter, that none can generate.

        Raises:
            GeneratorConfigError: If diffusers has no image-to-image pipeline of the family, or
                none that takes these parameters, or no IP-Adapter was given.
        """
        if strength:
            self._checkpoint.check_strength()
            self._checkpoint.check_started(parameters)
        if ip_adapter and self._adapters.ip_adapter is None:
            raise GeneratorConfigError(
                "needs the weights that look at the picture; name them in generator.ip_adapter, "
                "or leave it out",
                key="space.ip_adapter_scale",
            )

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """Generate one image per seed; NaN, one-colour and flagged images come back marked.

        Raises:
            ValueError: If the seeds are not distinct integers in [0, 2**63), or the draw still
                names a photo group, which only `FromPhotos` resolves.
            GeneratorConfigError: If the pipeline cannot be loaded, or does not take the draw's
                scheduler, size or negative prompt; or if the draw wants a source picture.
            GenerationError: If the pipeline fails.
            MemoryOutError: If memory is out at a batch of one.
        """
        return self.generate_all([(draw, seeds)])[0]

    def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
        """Generate several draws; those that differ in their prompts alone share batches.

        Raises:
            ValueError, GeneratorConfigError, GenerationError: As `generate`.
        """
        _check_unsourced([draw for draw, _ in jobs])
        return self._generate([(draw, seeds, [None] * len(seeds)) for draw, seeds in jobs])

    def generate_from(self, jobs: Sequence[SourcedJob]) -> list[ImageBatch]:
        """Generate several draws from source pictures, batched as by `generate_all`.

        A source is cropped around its centre to the aspect of the image and resized to it.

        Raises:
            ValueError: As `generate`, or if there is not one source per seed.
            GeneratorConfigError: As `generate`; or if a draw takes no source, the family has no
                image-to-image pipeline, or no IP-Adapter was given.
            GenerationError: As `generate`.
        """
        _check_sourced(jobs)
        self.check_conditioning(
            strength=any(draw.strength is not None for draw, _, _ in jobs),
            ip_adapter=any(draw.ip_adapter_scale is not None for draw, _, _ in jobs),
        )
        return self._generate(jobs)

    def _generate(
        self, jobs: Sequence[tuple[Draw, Sequence[int], Sequence[Pixels | None]]]
    ) -> list[ImageBatch]:
        plain = [checked_seeds(seeds) for _, seeds, _ in jobs]
        draws = [replace(draw, size=draw.size or self._size) for draw, _, _ in jobs]
        for draw in draws:
            if draw.photos is not None:
                raise ValueError(f"the photo group {draw.photos!r} of a draw is not resolved")
            if draw.scheduler is not None:
                check_scheduler(draw.scheduler)
        if not any(plain):
            return [ImageBatch.gather(seeds, {}) for seeds in plain]
        pipeline = self._loaded()
        for draw in draws:
            pipeline.arguments(draw)  # refuses what it does not take, before any work
        sources = [own for _, _, own in jobs]
        made = generate_in_batches(pipeline, self._batch, draws, plain, sources)
        return [ImageBatch.gather(seeds, found) for seeds, found in zip(plain, made, strict=True)]

    def _loaded(self) -> Pipeline:
        if self._pipeline is None:
            self._pipeline = Pipeline.load(
                self._checkpoint,
                device=self._device,
                dtype=self._dtype,
                safety_checker=self._safety_checker,
                adapters=self._adapters,
                speed=self._speed,
            )
            self._revision = self._version()  # it reads some MiB of every file
            if self._pipeline.device.type != "cpu":
                self._batch.start_on_gpu()
        return self._pipeline

    def _version(self) -> str | None:
        parts = [self._checkpoint.version, *self._adapters.versions]
        return "+".join(part for part in parts if part is not None) or None


def _check_options(model: object, dtype: str, safety_checker: str, batch_size: int | str) -> None:
    if not isinstance(model, str) or not model:
        raise GeneratorConfigError(f"must be text, not {model!r}", key="generator.model")
    _check_word(dtype, DTYPES, key="generator.dtype")
    _check_word(safety_checker, ("keep", "off"), key="generator.safety_checker")
    if batch_size != "auto" and (isinstance(batch_size, bool) or int(batch_size) < 1):
        raise GeneratorConfigError(
            f"auto or at least 1, not {batch_size!r}",
            key="generator.batch_size",
        )


def _checked_size(size: object) -> int | tuple[int, int] | None:
    try:
        return Draw(prompt="", size=size).size  # type: ignore[arg-type]
    except ValueError as error:
        raise GeneratorConfigError(f"generator.{error}") from None


def _check_unsourced(draws: Sequence[Draw]) -> None:
    for draw in draws:
        if draw.takes_source:
            raise GeneratorConfigError(
                "needs a source picture, and there is none here; leave it out",
                key="strength" if draw.strength is not None else "ip_adapter_scale",
            )


def _check_sourced(jobs: Sequence[SourcedJob]) -> None:
    for draw, seeds, sources in jobs:
        if len(sources) != len(seeds):
            raise ValueError(f"{len(sources)} sources for {len(seeds)} seeds")
        if not draw.takes_source:
            raise GeneratorConfigError(
                "a draw from a source picture needs one, or ip_adapter_scale", key="strength"
            )


def _check_word(word: str, known: Sequence[str], *, key: str) -> None:
    if word not in known:
        raise GeneratorConfigError(f"{word!r} is none of {', '.join(known)}", key=key)
