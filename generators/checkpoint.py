"""The checkpoint of a diffusers pipeline: where it is, its version, its licence and what fits it.

`diffusion` names its images by it and `pipeline` loads from it. All that is said here is read from
small files and the hub's index; no weights are loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gapclose.generators.base import SETTINGS
from gapclose.generators.call_arguments import call_parameters
from gapclose.generators.components import Component
from gapclose.generators.configs import INDEX, Configs
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.families import FAMILIES, PLAIN, Family
from gapclose.generators.model_files import (
    CARD,
    POND,
    check_weights,
    digest_files,
    files_in,
    local_folder,
    read_license,
    with_licenses,
)
from gapclose.generators.schedulers import build_scheduler
from gapclose.generators.single_file import check_file, family_of, is_single_file

__all__ = [
    "POND",
    "Checkpoint",
    "digest_files",
    "files_in",
    "image_to_image",
    "local_folder",
    "read_license",
]

# What only pipelines have that start from an image.
_FROM_IMAGES: Final = frozenset(
    {"strength", "mask_image", "image_guidance_scale", "noise_level"}
    | {"controlnet_conditioning_scale", "adapter_conditioning_scale"}
)

_READ_BY: Final = {"text": {"prompt"}, "label": {"class_labels"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A saved pipeline: a folder that `save_pretrained` wrote, a repository of the hub, or a file.

    Attributes:
        model: Hub id (owner/name), a folder, a file that ends in .safetensors, or "pond".
        revision: Commit or tag on the hub.
        variant: Which weights of it, such as "fp16" for those in half precision.
        config: Folder or hub id of a pipeline of the family that a file is of; None is what
            diffusers tells by its weights.
        components: Parts that are taken from elsewhere, or left out.
    """

    model: str
    revision: str | None = None
    variant: str | None = None
    config: str | None = None
    components: tuple[Component, ...] = ()

    @property
    def file(self) -> Path | None:
        """The single file; None of a folder or hub id."""
        return Path(self.model).expanduser() if is_single_file(self.model) else None

    @property
    def folder(self) -> Path | None:
        """The local folder of the pipeline, of a file that of its configs; None on the hub."""
        return self.configs.folder

    @property
    def configs(self) -> Configs:
        """Its small files, where they are."""
        if (file := self.file) is None:
            return Configs(source=self.model, revision=self.revision, components=self.components)
        source = family_of(file) if self.config is None else self.config
        hint = (
            f"{file.name} is one of {source}, by its weights, whose configs are not in the hub's "
            "cache and cannot be fetched; name config: a folder that save_pretrained wrote of the "
            "same family"
        )
        return Configs(
            source=source,
            revision=self.revision,
            components=self.components,
            key="generator.config",
            hint=hint if self.config is None else "",
        )

    @property
    def id(self) -> str:
        """`diffusers:` and the hub id, "pond", or the folder's or file's name without its path."""
        place = self.file or self.folder
        if place is None or self.model == "pond":
            return f"diffusers:{self.model}"
        return f"diffusers:{place.resolve().name}"

    @property
    def version(self) -> str | None:
        """A digest of local files; of a hub id the commit, None before it is in the cache.

        Those of configs and parts from elsewhere stand behind it, after a plus.
        """
        folder = self.folder
        if folder is None:
            own = self.configs.version()
        else:
            own = digest_files(folder, files_in(folder)) if folder.is_dir() else None
        parts = [own, *(component.version for component in self.components)]
        if (file := self.file) is not None:
            parts = [digest_files(file.parent, [file]) if file.is_file() else None, *parts]
        return "+".join(part for part in parts if part is not None) or None

    @property
    def license(self) -> str | None:
        """The licence in the model card's front matter; None if there is no card at hand.

        Those of parts from elsewhere stand behind it: images come under all.
        """
        file = self.file
        card = self.configs.file(CARD) if file is None else file.parent / CARD
        own = None if card is None else read_license(card)
        return with_licenses(
            own, {its.name: its.license for its in self.components if its.source is not None}
        )

    def saved_class(self) -> type[Any] | None:
        """Return the class that it was saved from; None if it is not at hand, or no known one."""
        return self.configs.saved_class()

    @property
    def settings(self) -> tuple[str, ...]:
        """Those of `SETTINGS` that have an effect; all, of a class that diffusers does not know.

        What a hub id names is fetched for it: a recipe must not change once the model is cached.

        Raises:
            GeneratorConfigError: The hub has no such model, or cannot be reached.
        """
        self.configs.fetch(INDEX)
        if (pipeline := self.saved_class()) is None:
            return SETTINGS
        takes = inspect.signature(pipeline.__call__).parameters
        family = FAMILIES.get(pipeline.__name__, PLAIN)
        effects = {
            "negative_prompt": "negative_prompt" in takes and family.negative != "ignored",
            "guidance_scale": family.guidance in takes and not self._is_distilled(family),
            "num_inference_steps": "num_inference_steps" in takes,
            "scheduler": family.schedulers != frozenset(),
        }
        return tuple(name for name in SETTINGS if effects[name])

    @property
    def parameters(self) -> tuple[str, ...]:
        """Numbers that calls of its class take, and that no draw has a field for.

        Raises:
            GeneratorConfigError: As `settings`.
        """
        self.configs.fetch(INDEX)
        pipeline = self.saved_class()
        return () if pipeline is None else tuple(call_parameters(pipeline))

    def _is_distilled(self, family: Family) -> bool:
        """Whether its guidance was distilled away, by the config of its network."""
        if family.baked is None:
            return False
        part, entry = family.baked
        self.configs.fetch(f"{part}/config.json")
        return not self.configs.read(f"{part}/config.json").get(entry, True)

    def find(self) -> Path | str:
        """Return the local folder or file, or the hub id if the hub has it.

        Raises:
            GeneratorConfigError: If there is no such folder, file or hub id, or the hub cannot be
                reached; or a part from elsewhere is not there.
        """
        if (file := self.file) is not None:
            check_file(file)
        _check_options(self)
        folder = self.folder
        if folder is None:
            self.configs.ask()
        else:
            _check_folder(folder, self)
        for component in self.components:
            component.check(self.configs.parts(), self.saved_class())
        return file or folder or self.model

    def check_task(self, pipeline: type[Any] | None = None) -> None:
        """Refuse a pipeline that starts from an image, or generates none.

        Args:
            pipeline: Its class; None is the class it was saved from, if that is at hand.

        Raises:
            GeneratorConfigError: If it is no text-to-image pipeline.
        """
        pipeline = self.saved_class() if pipeline is None else pipeline
        if pipeline is None:
            return
        parameters = inspect.signature(pipeline.__call__).parameters
        from_image = "image" in parameters and (
            parameters["image"].default is inspect.Parameter.empty
            # Most give it a default of None, and fail at it.
            or not _FROM_IMAGES.isdisjoint(parameters)
        )
        if (why := FAMILIES.get(pipeline.__name__, PLAIN).refused) is not None:
            raise GeneratorConfigError(
                f"{self.model} is a {pipeline.__name__}, which {why}", key="generator.model"
            )
        needs = {"generator"} | _READ_BY.get(FAMILIES.get(pipeline.__name__, PLAIN).reads, set())
        other = {"control_image", "num_frames"} & parameters.keys()
        if from_image or other or not needs <= {*parameters}:
            raise GeneratorConfigError(
                f"{self.model} is a {pipeline.__name__}, which generates no "
                "images from text alone; name a text-to-image pipeline",
                key="generator.model",
            )

    def check_strength(self) -> None:
        """Refuse a pipeline that diffusers has no image-to-image partner of, if it is at hand.

        Raises:
            GeneratorConfigError: As `image_to_image`.
        """
        if (pipeline := self.saved_class()) is not None:
            image_to_image(pipeline)

    def check_started(self, parameters: Collection[str]) -> None:
        """Refuse parameters that images which start from a picture do not take.

        Raises:
            GeneratorConfigError: The image-to-image pipeline lacks one that the other has.
        """
        if (pipeline := self.saved_class()) is None:
            return
        partner = image_to_image(pipeline)
        lacking = {*call_parameters(pipeline)} - {*call_parameters(partner)}
        for name in sorted(lacking & {*parameters}):
            raise GeneratorConfigError(
                f"a {partner.__name__}, which draws from pictures, takes none; leave it or "
                "space.strength out",
                key=f"space.parameters.{name}",
            )

    def check_size(self, size: int | tuple[int, int] | None) -> None:
        """Refuse a size, a side or (width, height), that the autoencoder cannot decode to.

        Raises:
            GeneratorConfigError: If a side is no multiple of the pixels of one latent.
        """
        if size is None or self.folder is None:
            return
        kind = getattr(self.saved_class(), "__name__", "")
        if FAMILIES.get(kind, PLAIN).reads != "text":
            raise GeneratorConfigError(
                f"a {kind} generates one size; leave it null", key="generator.size"
            )
        sides = (size, size) if isinstance(size, int) else size
        step = _vae_scale(self.configs.read("vae/config.json"))
        if any(side % step for side in sides):
            raise GeneratorConfigError(
                f"{sides[0]}x{sides[1]} must be multiples of {step} for {self.model}",
                key="generator.size",
            )

    def check_schedulers(self, names: Sequence[str]) -> None:
        """Refuse schedulers that do not fit a pipeline that is at hand, from its saved config.

        Raises:
            GeneratorConfigError: As `build_scheduler`.
        """
        if not names:
            return
        import diffusers

        _, kind = self.configs.parts().get("scheduler", (None, None))
        made = getattr(diffusers, kind or "", None)
        config = self.configs.read("scheduler/scheduler_config.json")
        if made is None or not issubclass(made, diffusers.SchedulerMixin) or not config:
            return
        try:
            original = made.from_config(config)
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # loading will tell
        kind = getattr(self.saved_class(), "__name__", "")
        usable = FAMILIES.get(kind, PLAIN).schedulers
        for name in names:
            build_scheduler(name, original)
            if usable is not None and name not in usable:
                raise GeneratorConfigError(
                    f"{name!r} does not work in a {kind}; usable: "
                    f"{', '.join(sorted(usable)) or 'only its own (null)'}",
                    key="scheduler",
                )


def _check_options(checkpoint: Checkpoint) -> None:
    """Refuse options that mean nothing beside the model."""
    if checkpoint.file is None:
        if checkpoint.config is not None:
            raise GeneratorConfigError(
                f"{checkpoint.model} has its own; it is for a single file, so leave it out",
                key="generator.config",
            )
        return
    if checkpoint.variant is not None:
        raise GeneratorConfigError(
            "a single file has no variants; leave it out", key="generator.variant"
        )
    if checkpoint.configs.source is None:
        raise GeneratorConfigError(
            f"diffusers does not tell by its weights which pipeline {checkpoint.file.name} is of; "
            "name a folder that save_pretrained wrote of the same family, or a hub id",
            key="generator.config",
        )


def _check_folder(folder: Path, checkpoint: Checkpoint) -> None:
    """Refuse a folder that holds no pipeline, or pickles."""
    if (folder / INDEX).is_file():
        if checkpoint.file is None:
            check_weights(folder, key="generator.model")
        return
    if checkpoint.model == "pond":
        raise GeneratorConfigError(
            "pond's weights are not in this installation; `make pond` in a "
            "clone of gapclose trains them",
            key="generator.model",
        )
    if folder.is_dir():
        raise GeneratorConfigError(
            f"{folder} holds no {INDEX}; name the folder that "
            "save_pretrained of a diffusers pipeline wrote",
            key=checkpoint.configs.key,
        )
    what = "nor pond" if checkpoint.file is None else "of a pipeline"
    raise GeneratorConfigError(
        f"{checkpoint.configs.source!r} is neither a folder nor a hub id (owner/name) {what}",
        key=checkpoint.configs.key,
    )


def _vae_scale(saved: Mapping[str, Any]) -> int:
    """Pixels per latent of an autoencoder, as diffusers' pipelines count them; 1 if unknown."""
    try:
        return int(2 ** (len(saved["block_out_channels"]) - 1))
    except (KeyError, TypeError):
        return 1


def image_to_image(pipeline: type[Any]) -> type[Any]:
    """Return the image-to-image partner of a class of text-to-image pipelines.

    Raises:
        GeneratorConfigError: If diffusers has none that takes a strength.
    """
    from diffusers.pipelines import auto_pipeline

    texts = auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING
    partners = auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING
    for family, kind in texts.items():
        if kind.__name__ != pipeline.__name__ or family not in partners:
            continue
        partner: type[Any] = partners[family]
        # An LCM makes all steps whatever the strength, and refuses many pairs of the two.
        if family != "lcm" and "strength" in inspect.signature(partner.__call__).parameters:
            return partner
    raise GeneratorConfigError(
        f"diffusers has no image-to-image pipeline with a strength for a {pipeline.__name__}; "
        "leave it out",
        key="space.strength",
    )
