"""The checkpoint of a diffusers pipeline: where it is, its version, its licence and what fits it.

`diffusion` names its images by it and `pipeline` loads from it. All that is said here is read from
small files and the hub's index; no weights are loaded.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gapclose.generators.base import SETTINGS
from gapclose.generators.call_arguments import call_parameters
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.families import FAMILIES, PLAIN, Family
from gapclose.generators.hub import ask_hub, cached_file, fetched_file
from gapclose.generators.schedulers import build_scheduler

POND: Final = Path(__file__).parent / "pond" / "sd"
"""The pipeline that ships: what `model: pond` means."""

_INDEX: Final = "model_index.json"
_CARD: Final = "README.md"
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# What only pipelines have that start from an image.
_FROM_IMAGES: Final = frozenset(
    {"strength", "mask_image", "image_guidance_scale", "noise_level"}
    | {"controlnet_conditioning_scale", "adapter_conditioning_scale"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A saved pipeline: a folder that `save_pretrained` wrote, or a repository of the hub.

    Attributes:
        model: Hub id (owner/name), a folder, or "pond".
        revision: Commit or tag on the hub.
        variant: Which weights of it, such as "fp16" for those in half precision.
    """

    model: str
    revision: str | None = None
    variant: str | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder; None if `model` is a hub id."""
        return local_folder(self.model)

    @property
    def id(self) -> str:
        """`diffusers:` and the hub id, "pond", or the folder's name without its path."""
        folder = self.folder
        if folder is None or self.model == "pond":
            return f"diffusers:{self.model}"
        return f"diffusers:{folder.resolve().name}"

    @property
    def version(self) -> str | None:
        """A digest of a local folder; of a hub id the commit, None before it is in the cache."""
        folder = self.folder
        if folder is not None:
            return digest_files(folder, files_in(folder)) if folder.is_dir() else None
        index = self._file(_INDEX)
        return self.revision if index is None else index.parent.name

    @property
    def license(self) -> str | None:
        """The licence in the model card's front matter; None if there is no card at hand."""
        card = self._file(_CARD)
        return None if card is None else read_license(card)

    def saved_class(self) -> type[Any] | None:
        """Return the class that it was saved from; None if it is not at hand, or no known one."""
        index = self._file(_INDEX)
        if index is None:
            return None
        import diffusers

        try:
            name = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
            found: type[Any] = getattr(diffusers, name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # loading will tell
        return found

    @property
    def settings(self) -> tuple[str, ...]:
        """Those of `SETTINGS` that have an effect; all, of a class that diffusers does not know.

        What a hub id names is fetched for it: a recipe must not change once the model is cached.

        Raises:
            GeneratorConfigError: The hub has no such model, or cannot be reached.
        """
        if self.folder is None:
            fetched_file(self.model, _INDEX, revision=self.revision)
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
        if self.folder is None:
            fetched_file(self.model, _INDEX, revision=self.revision)
        pipeline = self.saved_class()
        return () if pipeline is None else tuple(call_parameters(pipeline))

    def _is_distilled(self, family: Family) -> bool:
        """Whether its guidance was distilled away, by the config of its network."""
        if family.baked is None:
            return False
        part, entry = family.baked
        if self.folder is None:
            fetched_file(self.model, f"{part}/config.json", revision=self.revision)
        config = self._file(f"{part}/config.json")
        try:
            saved = {} if config is None else json.loads(config.read_text(encoding="utf-8"))
            return not saved.get(entry, True)
        except (OSError, ValueError, AttributeError):
            return False  # loading will tell

    def find(self) -> Path | str:
        """Return the local folder, or the hub id if the hub has it.

        Raises:
            GeneratorConfigError: If there is no such folder or hub id, or the hub cannot be
                reached.
        """
        folder = self.folder
        if folder is None:
            ask_hub(self.model, _INDEX, revision=self.revision)
            return self.model
        if (folder / _INDEX).is_file():
            _check_weights(folder)
            return folder
        if folder.is_file():
            raise GeneratorConfigError(
                f"{folder.name} is a single file; read it once with from_single_file of its class "
                "in diffusers, write it with save_pretrained, and name that folder",
                key="generator.model",
            )
        if self.model == "pond":
            raise GeneratorConfigError(
                "pond's weights are not in this installation; `make pond` in a "
                "clone of gapclose trains them",
                key="generator.model",
            )
        if folder.is_dir():
            raise GeneratorConfigError(
                f"{folder} holds no {_INDEX}; name the folder that "
                "save_pretrained of a diffusers pipeline wrote",
                key="generator.model",
            )
        raise GeneratorConfigError(
            f"{self.model!r} is neither a folder nor a hub id (owner/name) nor pond",
            key="generator.model",
        )

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
        other = {"control_image", "num_frames"} & parameters.keys()
        if from_image or other or not {"prompt", "generator"} <= set(parameters):
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

    def check_size(self, size: int | tuple[int, int] | None) -> None:
        """Refuse a size, a side or (width, height), that the autoencoder cannot decode to.

        Raises:
            GeneratorConfigError: If a side is no multiple of the pixels of one latent.
        """
        if size is None or self.folder is None:
            return
        sides = (size, size) if isinstance(size, int) else size
        step = _vae_scale(self.folder)
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
        if not names or (index := self._file(_INDEX)) is None:
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

    def _file(self, name: str) -> Path | None:
        """A file of it: in the local folder, there or not, or in the hub's cache, else None."""
        if self.folder is not None:
            return self.folder / name
        return cached_file(self.model, name, revision=self.revision)


def _check_weights(folder: Path) -> None:
    """Refuse a folder whose weights are pickles, which run code when they are read.

    Raises:
        GeneratorConfigError: If it has no other.
    """
    if any(folder.rglob("*.safetensors")):
        return
    pickles = [
        path for kind in ("*.bin", "*.ckpt", "*.pt", "*.pth") for path in folder.rglob(kind)
    ]
    if pickles:
        raise GeneratorConfigError(
            f"the weights in {folder} are pickles ({pickles[0].name}), which run code when they "
            "are read; where you trust them, write them once as safetensors: "
            "DiffusionPipeline.from_pretrained(FOLDER).save_pretrained(OTHER)",
            key="generator.model",
        )


def local_folder(model: str) -> Path | None:
    """Return the folder of a local pipeline or of the one that ships; None for a hub id.

    What exists as a folder is local; of the rest, texts of the form owner/name are hub ids.
    """
    if model == "pond":
        return POND
    folder = Path(model).expanduser()
    return None if _HUB_ID.fullmatch(model) is not None and not folder.is_dir() else folder


def read_license(card: Path) -> str | None:
    """Return the licence in the front matter of a model card, None if it names none."""
    if not card.is_file():
        return None
    front = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8"), re.DOTALL)
    names = dict(
        re.findall(r"^(license|license_name):\s*(\S.*?)\s*$", front[1], re.M) if front else ()
    )
    name = names.get("license")
    name = names.get("license_name", name) if name == "other" else name
    return name.strip("\"'") if name else None


def files_in(folder: Path) -> list[Path]:
    """Return what a model's folder holds, at any depth, but for its card."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != _CARD)


def digest_files(folder: Path, files: Sequence[Path]) -> str:
    """Digest files of a model, so that other weights differ: "sha256:" and 16 digits.

    Names, sizes, and the first and last MiB of every file: whole weights of a large model would
    take longer to read than to generate with.

    Args:
        folder: What their names are relative to.
        files: Mostly below it.
    """
    mebibyte = 2**20
    content = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        name = Path(os.path.relpath(path, folder)).as_posix()
        content.update(f"{name}\0{size}\0".encode())
        with path.open("rb") as stream:
            content.update(stream.read(mebibyte))
            stream.seek(max(0, size - mebibyte))
            content.update(stream.read(mebibyte))
    return f"sha256:{content.hexdigest()[:16]}"


def _vae_scale(folder: Path) -> int:
    """Pixels per latent of a saved pipeline, as diffusers' pipelines count them; 1 if unknown."""
    try:
        saved = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
        return int(2 ** (len(saved["block_out_channels"]) - 1))
    except (OSError, ValueError, KeyError, TypeError):
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
