"""Sources: where the two sides of a run come from, the real images and the generator."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

from gapclose.loop.config.hints import nearest, shown
from gapclose.loop.config.parameters import CHOICES_TAG, RANGE_TAG
from gapclose.loop.config.paths import CODE_FILE, absolute_code, absolute_path, expanded
from gapclose.loop.config.values import (
    Count,
    Device,
    Seconds,
    Section,
    Size,
    Text,
    Words,
    config_folder,
)

__all__ = [
    "GENERATOR_KINDS",
    "TAGS",
    "CommandSpec",
    "CustomSpec",
    "DiffusersSpec",
    "EmbeddingSpec",
    "FolderSpec",
    "GeneratorName",
    "GeneratorSpec",
    "IPAdapterSpec",
    "OnnxSpec",
    "PondReal",
    "Real",
    "RealFolder",
    "Spec",
    "generator_section",
    "real_section",
]


_WEIGHTS: Final = re.compile(r"\.(safetensors|ckpt|gguf|bin|pth?)$", re.I)  # files, not hub ids


class RealFolder(Section):
    """The user's images: a folder of class folders; `path` is kept absolute.

    `test_share` of them is cut off first, for `gapclose validate` alone; `confirm_share` is of
    the others.
    """

    path: str
    confirm_share: float = Field(default=0.5, gt=0.0, lt=1.0)
    test_share: float = Field(default=0.0, ge=0.0, lt=1.0)

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return absolute_path(path)


class PondReal(Section):
    """The embedded world as the real side; rendered into RUN/real."""

    kind: Literal["pond"]
    per_class: int = Field(default=600, ge=40, le=100_000)
    confirm_share: float = Field(default=0.5, gt=0.0, lt=1.0)
    test_share: ClassVar[float] = 0.0  # more photos can be rendered
    seed: int = Field(default=0, ge=0, le=2**63 - 2)  # test photos are of the next one


class Spec(Section):
    """A generator's section.

    Attributes:
        reads_class: Whether a draw names the class and its noun; text-to-image models have both
            in the prompt.
        shares_parameters: Whether a recipe has one value of each parameter, for images of a batch
            must have the same; else each image may have its own.
    """

    reads_class: ClassVar[bool] = True
    shares_parameters: ClassVar[bool] = False

    kind: str

    def as_spec(self) -> dict[str, Any]:
        """Return the plain mapping that `make_generator` and `check_generator` take."""
        return self.model_dump(mode="json")

    def names_code(self) -> str | None:
        """Name the user's own code that it is made by."""
        return None

    def runs_program(self) -> str | None:
        """Name the program that it starts, as a shell would take it."""
        return None


class IPAdapterSpec(Section):
    """Weights that let a pipeline see a picture; `model` is a hub id or a local folder.

    `image_encoder` is a folder in `subfolder`, or with a slash in `model`; None is the pipeline's
    own.
    """

    model: str  # a relative folder is kept absolute
    subfolder: str = ""
    weight_name: str
    image_encoder: str | None = "image_encoder"

    @field_validator("model")
    @classmethod
    def _absolute(cls, model: str) -> str:
        return _absolute_folder(model)

    @field_validator("weight_name")
    @classmethod
    def _no_pickle(cls, name: str) -> str:
        if not name.endswith(".safetensors"):
            raise ValueError(
                f"got {shown(name)}, which may be a pickle and run code; expected a file that "
                "ends in .safetensors"
            )
        return name


class LoraSpec(Section):
    """A LoRA; see `Lora`. `path` is a hub id, or a file or folder that is kept absolute."""

    path: Text
    name: Text | None = None
    weight: float = Field(default=1.0, ge=-10.0, le=10.0)
    weight_name: Text = "pytorch_lora_weights.safetensors"

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return absolute_path(path) if path.endswith(".safetensors") else _absolute_folder(path)


class EmbeddingSpec(Section):
    """A word from textual inversion; see `Embedding`. `path` is as that of a LoRA."""

    path: Text
    token: Text | None = None
    weight_name: Text = "learned_embeds.safetensors"

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return absolute_path(path) if path.endswith(".safetensors") else _absolute_folder(path)


class DiffusersSpec(Spec):
    """A diffusers text-to-image pipeline; `model` is a hub id, a folder, a file, or `pond`.

    A file ends in .safetensors; `config` is a hub id or folder of a pipeline of its family.
    """

    reads_class: ClassVar[bool] = False
    shares_parameters: ClassVar[bool] = True

    kind: Literal["diffusers"]
    model: str  # a relative folder or file is kept absolute
    revision: str | None = None
    variant: Text | None = None
    config: Text | None = None
    components: dict[Text, Text | None] = Field(default_factory=dict)
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: Device = "auto"
    size: Size | None = None
    batch_size: Count | Literal["auto"] = "auto"
    safety_checker: Literal["keep", "off"] = "keep"
    ip_adapter: IPAdapterSpec | None = None
    embeddings: Annotated[tuple[EmbeddingSpec, ...], Field(strict=False)] = ()
    loras: Annotated[tuple[LoraSpec, ...], Field(strict=False)] = ()
    compile: bool = False
    attention: Literal["auto", "native", "cudnn", "flash", "sage", "xformers"] = "auto"
    offload: Literal["none", "model", "group"] = "none"
    quantize: Literal["none", "int8", "nf4"] = "none"
    cache: Literal["none", "first_block", "taylorseer"] = "none"

    @field_validator("model")
    @classmethod
    def _absolute(cls, model: str) -> str:
        if model == "pond":
            return model
        return absolute_path(model) if _WEIGHTS.search(model) else _absolute_folder(model)

    @field_validator("config")
    @classmethod
    def _absolute_config(cls, config: str | None) -> str | None:
        return None if config is None else _absolute_folder(config)

    @field_validator("components")
    @classmethod
    def _absolute_parts(cls, parts: dict[str, str | None]) -> dict[str, str | None]:
        return {
            name: None if place is None else _absolute_folder(place)
            for name, place in parts.items()
        }


class FolderSpec(Spec):
    """Images that exist already, in class folders; `path` is kept absolute."""

    kind: Literal["folder"]
    path: str

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return absolute_path(path)


class CommandSpec(Spec):
    """Any program; see `CommandGenerator`. Files beside the config are kept by absolute paths."""

    kind: Literal["command"]
    run: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
    folder: str | None = None
    once: bool = False
    parameters: Words | None = None
    size: Size | None = None
    batch_size: Count = 8
    timeout: Seconds = 600.0
    revision: Text | None = None
    files: Words = ()
    license: Text | None = None
    source_type: Literal["digitalCreation", "trainedAlgorithmicMedia"] = "digitalCreation"

    @field_validator("run", mode="after")
    @classmethod
    def _program(cls, run: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not run[0].strip():
            raise ValueError("got no program; name one, and then its arguments")
        return tuple(_beside(word, config_folder(info)) for word in run)

    @field_validator("files")
    @classmethod
    def _files(cls, files: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return tuple(absolute_path(file, base=config_folder(info)) for file in files)

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: str | None, info: ValidationInfo) -> str | None:
        return None if folder is None else absolute_path(folder, base=config_folder(info))

    @field_validator("timeout")
    @classmethod
    def _ends(cls, timeout: float | None) -> float:
        if timeout is None:
            raise ValueError("got null; a program that hangs has to be noticed, so say a time")
        return timeout

    def runs_program(self) -> str | None:
        """Name the program that it starts, as a shell would take it."""
        return shlex.join(self.run)


class OnnxSpec(Spec):
    """A graph that draws images from noise; see `OnnxGenerator`."""

    kind: Literal["onnx"]
    model: Text
    classes: Words | None = None
    range: Annotated[tuple[float, float], Field(strict=False)] = (-1.0, 1.0)
    batch_size: Count = 32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    license: Text | None = None

    @field_validator("model")
    @classmethod
    def _path(cls, model: str) -> str:
        return absolute_path(model)

    @field_validator("range")
    @classmethod
    def _ends(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not all(map(math.isfinite, ends)) or not ends[0] < ends[1]:
            raise ValueError(f"got {ends[0]:g} and {ends[1]:g}; the value of black comes first")
        return ends


class CustomSpec(Spec):
    """A generator of the user's own: `pkg.mod:Class`, or `./file.py:Class`, kept absolute.

    Its keys are its own business.
    """

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    @field_validator("kind")
    @classmethod
    def _names_code(cls, kind: str, info: ValidationInfo) -> str:
        if CODE_FILE.fullmatch(kind):
            return absolute_code(kind, base=config_folder(info))
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", kind):
            raise ValueError(
                f"{shown(kind)} is no generator; {nearest(kind, GENERATOR_KINDS)} "
                "(a class of your own is written pkg.mod:Class, or ./file.py:Class)"
            )
        return kind

    def names_code(self) -> str | None:
        """Name the class."""
        return self.kind


GENERATOR_KINDS: Final[dict[str, type[Spec]]] = {
    "diffusers": DiffusersSpec,
    "folder": FolderSpec,
    "command": CommandSpec,
    "onnx": OnnxSpec,
}


def real_section(value: object) -> type[BaseModel]:
    """Return the section that `real:` is checked against."""
    return PondReal if _real_tag(value) == "pond" else RealFolder


def generator_section(value: object) -> type[BaseModel]:
    """Return the section that `generator:` is checked against."""
    return GENERATOR_KINDS.get(_generator_tag(value), CustomSpec)


def _beside(word: str, folder: Path | None) -> str:
    """Name a file that lies beside the config, or here, by its absolute path; keep other words."""
    if Path(word).is_absolute() or word.startswith("-") or not word:
        return word
    path = absolute_path(word, base=folder)
    if Path(path).is_file():
        return path
    # A program below the current folder: resumed from another one it is to be the same.
    return str(Path(word).absolute()) if "/" in word and Path(word).is_file() else word


def _absolute_folder(model: str) -> str:
    """Make a local folder absolute; a hub id stays as it is."""
    # Elsewhere a relative one would be taken for a hub id, which may be somebody else's.
    path = expanded(model)
    return absolute_path(path) if path != model or Path(path).is_dir() else model


def _real_tag(value: object) -> str:
    if isinstance(value, PondReal):
        return "pond"
    return "pond" if isinstance(value, Mapping) and "kind" in value else "folder"


def _generator_tag(value: object) -> str:
    kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) and kind in GENERATOR_KINDS else "custom"


TAGS: Final = frozenset(
    {"folder", "pond", "diffusers", "command", "onnx", "custom", RANGE_TAG, CHOICES_TAG}
)
"""They stand in the locations of pydantic's errors; no YAML file has them."""

Real = Annotated[
    Annotated[RealFolder, Tag("folder")] | Annotated[PondReal, Tag("pond")],
    Discriminator(_real_tag),
]


def _named(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w-]{0,31}", name, re.ASCII):
        raise ValueError(
            f"{shown(name)} is no name of a generator; take letters, digits, _ and -, a letter "
            "first, 32 at most"
        )
    return name


GeneratorName = Annotated[str, AfterValidator(_named)]
GeneratorSpec = Annotated[
    Annotated[DiffusersSpec, Tag("diffusers")]
    | Annotated[FolderSpec, Tag("folder")]
    | Annotated[CommandSpec, Tag("command")]
    | Annotated[OnnxSpec, Tag("onnx")]
    | Annotated[CustomSpec, Tag("custom")],
    Discriminator(_generator_tag),
]
