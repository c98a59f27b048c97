"""What a person writes: one YAML file, read into an immutable, checked RunConfig.

The command line, the controller and the run folder load configs here. Every mistake in one
is a ConfigError of one line that names the file, the key and the remedy. Nothing here looks
at images, loads a model, or imports what a config names.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
import string
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

__all__ = [
    "BaselineConfig",
    "CameraSpace",
    "ConfigError",
    "ConfirmConfig",
    "CustomSpec",
    "DiffusersSpec",
    "FixedCamera",
    "FolderSpec",
    "PondReal",
    "RealFolder",
    "RunConfig",
    "SpaceConfig",
    "TuneConfig",
    "changed_keys",
    "expanded",
    "load_config",
    "local_embedder",
    "nearest",
    "packaged_config",
    "parse_config",
    "parse_seconds",
    "template_slots",
]


class ConfigError(ValueError):
    """The user's config is wrong; the message is one line with what, where and the remedy."""

    exit_code: ClassVar[int] = 2


# --------------------------------------------------------------------- words for error lines


def nearest(word: str, valid: Iterable[str]) -> str:
    """Says which valid word was probably meant.

    Returns:
        `did you mean guidance_scale?`, or `valid: a, b, c` when none is near.
    """
    names = sorted({str(name) for name in valid})
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"valid: {', '.join(names)}" if names else "nothing is valid here"


_UNIT_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")


def parse_seconds(value: object) -> float:
    """Reads a time span: `8h`, `5m`, `90s`, `1h30m`, or a plain number of seconds.

    Returns:
        Seconds, above 0.

    Raises:
        ValueError: If it is none of these.
    """
    remedy = 'expected a time such as 8h, 5m, 90s, 1h30m, or seconds ("null" is no limit)'
    seconds = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        text = value.replace(" ", "").lower()
        if _DURATION.fullmatch(text):
            seconds = sum(
                float(part[:-1]) * _UNIT_SECONDS[part[-1]]
                for part in re.findall(r"[\d.]+[dhms]", text)
            )
        elif text.isdigit():
            seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"got {_shown(value)}, {remedy}")
    return seconds


def template_slots(template: str) -> tuple[str, ...]:
    """Names the slots of a prompt template, in order of first appearance.

    `{class}` is one of them. Doubled braces stand for themselves, as in `str.format`.

    Raises:
        ValueError: If a brace is left open or a slot is not a plain name.
    """
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{_shown(template)} is no template: {error}") from None
    slots: dict[str, None] = {}
    for _, name, spec, conversion in parsed:
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            written = (
                name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            )
            raise ValueError(f"{_shown(template)}: {{{written}}} is no slot; use a plain {{name}}")
        slots[name] = None
    return tuple(slots)


# ------------------------------------------------------------------------------------- types


def _as_tuple(value: object) -> object:
    """A list is choices (or a range); one value stands for a list of one."""
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        return tuple(value)
    return (value,)


def _as_budget(value: object) -> object:
    return None if value is None else parse_seconds(value)


def _span(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) == 2 and not values[0] < values[1]:
        low, high = values
        raise ValueError(f"got [{low}, {high}], expected a range: the lower number first")
    return values


def _check_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", device):
        raise ValueError(f"got {_shown(device)}, expected auto, cpu, cuda, cuda:1, mps or xpu")
    return device


Words = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_as_tuple)]
Counts = Annotated[tuple[int, ...], BeforeValidator(_as_tuple)]
Device = Annotated[str, AfterValidator(_check_device)]
Size = Annotated[int, Field(ge=1)] | Annotated[tuple[int, int], BeforeValidator(_as_tuple)]


class _Section(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


class RealFolder(_Section):
    """The user's images: a folder of class folders; `path` is kept absolute."""

    path: str
    confirm_share: float = Field(default=0.5, gt=0.0, lt=1.0)

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return _absolute_path(path)


class PondReal(_Section):
    """The embedded world as the real side; rendered into RUN/real."""

    kind: Literal["pond"]
    per_class: int = Field(default=600, ge=40)
    confirm_share: float = Field(default=0.5, gt=0.0, lt=1.0)
    seed: int = Field(default=0, ge=0)


class _GeneratorSpec(_Section):
    kind: str

    def as_spec(self) -> dict[str, Any]:
        """The plain mapping that `make_generator` and `check_generator` take."""
        return self.model_dump(mode="json")


class DiffusersSpec(_GeneratorSpec):
    """A diffusers text-to-image pipeline; `model` is a hub id, a local folder, or `pond`."""

    kind: Literal["diffusers"]
    model: str  # a relative folder is kept absolute
    revision: str | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: Device = "auto"
    size: Size | None = None
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    safety_checker: Literal["keep", "off"] = "keep"

    @field_validator("model")
    @classmethod
    def _absolute(cls, model: str) -> str:
        # Elsewhere a relative one would be taken for a hub id, which may be somebody else's.
        path = expanded(model)
        local = path != model or Path(path).is_dir()
        return _absolute_path(path) if model != "pond" and local else model


class FolderSpec(_GeneratorSpec):
    """Images that exist already, in class folders; `path` is kept absolute."""

    kind: Literal["folder"]
    path: str

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return _absolute_path(path)


class CustomSpec(_GeneratorSpec):
    """A generator of the user's own: `pkg.mod:Class`, or `./file.py:Class`, kept absolute.

    Its keys are its own business.
    """

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    @field_validator("kind")
    @classmethod
    def _names_code(cls, kind: str, info: ValidationInfo) -> str:
        if _CODE_FILE.fullmatch(kind):
            return _absolute_code(kind, base=_config_folder(info))
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", kind):
            raise ValueError(
                f"{_shown(kind)} is no generator; {nearest(kind, GENERATOR_KINDS)} "
                "(a class of your own is written pkg.mod:Class, or ./file.py:Class)"
            )
        return kind


class CameraSpace(_Section):
    """What the camera may do. Of numbers, one is fixed, two are a range, more are choices."""

    resize: int | None = Field(default=None, ge=1)
    kernel: Words = ("area",)
    jpeg_quality: Counts = ()  # empty: no JPEG
    noise: Numbers = (0.0,)
    saturation: Numbers = (1.0,)

    @field_validator("kernel")
    @classmethod
    def _known(cls, kernel: tuple[str, ...]) -> tuple[str, ...]:
        for name in kernel:
            _check_kernel(name)
        return kernel or ("area",)

    @field_validator("jpeg_quality")
    @classmethod
    def _quality(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= value <= 100 for value in values):
            raise ValueError(f"got {list(values)}, expected JPEG qualities from 1 to 100")
        return cast("tuple[int, ...]", _span(values))

    @field_validator("noise", "saturation")
    @classmethod
    def _at_least_0(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or any(not (math.isfinite(value) and value >= 0) for value in values):
            raise ValueError(f"got {list(values)}, expected numbers of at least 0")
        return _span(values)

    @field_validator("noise")
    @classmethod
    def _shares(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if max(values) > 1:
            raise ValueError(f"got {list(values)}, expected shares of the full range, at most 1")
        return values


class FixedCamera(_Section):
    """One setting of the camera, for the baseline."""

    resize: int | None = Field(default=None, ge=1)
    kernel: str = "area"
    jpeg_quality: int | None = Field(default=None, ge=1, le=100)
    noise: float = Field(default=0.0, ge=0.0, le=1.0)
    saturation: float = Field(default=1.0, ge=0.0)

    @field_validator("kernel")
    @classmethod
    def _known(cls, kernel: str) -> str:
        return _check_kernel(kernel)


class SpaceConfig(_Section):
    """What the search may change.

    Everything is a tuple: of words (choices), or of numbers (one is fixed, two are a range,
    three or more are choices). An empty tuple is not searched: the baseline's value holds.
    """

    prompt: Words = ("a photo of a {class}",)
    slots: dict[str, Words] = Field(default_factory=dict)
    nouns: dict[str, Words] = Field(default_factory=dict)
    negative_prompt: Words = ()
    guidance_scale: Numbers = ()
    num_inference_steps: Counts = ()
    scheduler: Words = ()
    camera: CameraSpace = Field(default_factory=CameraSpace)

    @field_validator("prompt")
    @classmethod
    def _templates(cls, prompt: tuple[str, ...]) -> tuple[str, ...]:
        if not prompt:
            raise ValueError("got nothing, expected a prompt, or a list of prompts")
        for template in prompt:
            template_slots(template)
        return prompt

    @field_validator("slots", "nouns")
    @classmethod
    def _filled(cls, table: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, words in table.items():
            if not words:
                raise ValueError(f"{name} has no words; give it at least one")
            if len(set(words)) != len(words):
                twice = next(word for word in words if words.count(word) > 1)
                raise ValueError(f"{name} has {_shown(twice)} twice; name each word once")
        return table

    @field_validator("guidance_scale")
    @classmethod
    def _guidance(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(not (math.isfinite(value) and value >= 0) for value in values):
            raise ValueError(f"got {list(values)}, expected numbers of at least 0")
        return _span(values)

    @field_validator("num_inference_steps")
    @classmethod
    def _steps(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if any(value < 1 for value in values):
            raise ValueError(f"got {list(values)}, expected numbers of at least 1")
        return cast("tuple[int, ...]", _span(values))

    @model_validator(mode="after")
    def _slots_are_defined(self) -> SpaceConfig:
        taken = {"noun", "prompt", *type(self).model_fields} & set(self.slots)
        if taken:
            raise ValueError(
                f"slots must not define {min(taken)}: the search has a parameter of that name; "
                "call the slot something else"
            )
        if "class" in self.slots:
            raise ValueError(
                "slots must not define class, the class's noun; its words belong in nouns"
            )
        valid = {*self.slots, "class"}
        for template in self.prompt:
            for slot in template_slots(template):
                if slot not in valid:
                    raise ValueError(
                        f"{_shown(template)} has a slot {{{slot}}} that space.slots does not "
                        f"define; {nearest(slot, valid)}"
                    )
        return self


class BaselineConfig(_Section):
    """Trial 0 of every class: one draw, `{class}` in its prompt standing for the noun."""

    prompt: str = "a photo of a {class}"
    negative_prompt: str = ""
    guidance_scale: float = Field(default=7.5, ge=0.0)
    num_inference_steps: int = Field(default=30, ge=1)
    scheduler: str | None = None
    camera: FixedCamera | None = None  # None: only space.camera.resize

    @field_validator("prompt")
    @classmethod
    def _template(cls, prompt: str) -> str:
        for slot in template_slots(prompt):
            if slot != "class":
                raise ValueError(f"prompt has a slot {{{slot}}}; only {{class}} may stand here")
        return prompt

    def draw_fields(self) -> dict[str, Any]:
        """The baseline's draw as keyword arguments of Draw; the prompt is still a template."""
        return self.model_dump(mode="json", exclude={"camera"})


class TuneConfig(_Section):
    """When to stop, and how much a trial draws.

    `trials` and `images` are limits per class; the baseline is trial 0, and 100 images, or fewer
    where time is short.
    """

    budget: Annotated[float | None, BeforeValidator(_as_budget)] = 8 * 3600.0  # seconds
    trials: int | None = Field(default=None, ge=1)
    images: int | None = Field(default=None, ge=1)
    images_per_trial: int = Field(default=8, ge=2, le=1000)  # one image has no gap
    seed: int = Field(default=0, ge=0, le=2**31 - 1)  # seeds of images count up from it

    @model_validator(mode="after")
    def _ends(self) -> TuneConfig:
        if self.budget is None and self.trials is None and self.images is None:
            raise ValueError("nothing ends the search; set budget, trials or images")
        return self


class ConfirmConfig(_Section):
    """How many fresh images per class the last look takes."""

    images: int = Field(default=200, ge=20, le=100_000)


def _real_tag(value: object) -> str:
    if isinstance(value, PondReal):
        return "pond"
    return "pond" if isinstance(value, Mapping) and "kind" in value else "folder"


def _generator_tag(value: object) -> str:
    kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) and kind in GENERATOR_KINDS else "custom"


GENERATOR_KINDS: dict[str, type[_GeneratorSpec]] = {
    "diffusers": DiffusersSpec,
    "folder": FolderSpec,
}
# The tags stand in the locations of errors; _locate drops them, for no YAML file has them.
_Real = Annotated[
    Annotated[RealFolder, Tag("folder")] | Annotated[PondReal, Tag("pond")],
    Discriminator(_real_tag),
]
_Generator = Annotated[
    Annotated[DiffusersSpec, Tag("diffusers")]
    | Annotated[FolderSpec, Tag("folder")]
    | Annotated[CustomSpec, Tag("custom")],
    Discriminator(_generator_tag),
]


class RunConfig(_Section):
    """Everything a run is told; immutable, and equal to what RUN/config.yaml says."""

    real: _Real
    classes: Literal["all"] | tuple[str, ...] = "all"
    generator: _Generator
    embedder: str
    judge: str | None = None
    space: SpaceConfig = Field(default_factory=SpaceConfig)
    baseline: BaselineConfig = Field(default_factory=BaselineConfig)
    tune: TuneConfig = Field(default_factory=TuneConfig)
    confirm: ConfirmConfig = Field(default_factory=ConfirmConfig)
    storage: str | None = None
    attributes: dict[str, Words] = Field(default_factory=dict)
    device: Device = "auto"
    # Where the modules that a config names lie; filled in if it is the folder of the config file.
    code_folder: str | None = None

    @field_validator("classes", mode="before")
    @classmethod
    def _class_names(cls, value: object) -> object:
        if value == "all":
            return value
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"got {_shown(value)}, expected all, or a list of class names")
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f"got {_shown(name)}, expected a class name; put it in quotes")
        if len(set(value)) != len(value):
            raise ValueError(f"got {list(value)}, expected each class once")
        return tuple(value)

    @field_validator("embedder", "judge")
    @classmethod
    def _absolute(cls, name: str | None, info: ValidationInfo) -> str | None:
        return None if name is None else local_embedder(name, base=_config_folder(info))

    @field_validator("code_folder")
    @classmethod
    def _folder(cls, path: str | None, info: ValidationInfo) -> str | None:
        return None if path is None else _absolute_path(path, base=_config_folder(info))

    @field_validator("storage")
    @classmethod
    def _outlives_the_run(cls, url: str | None) -> str | None:
        if url is not None and (scheme := re.match(r"sqlite(\+\w+)?:///", url)):
            url = scheme[0] + expanded(url.removeprefix(scheme[0]))
        memory = r"sqlite(\+\w+)?://(/?(\?.*)?|.*(:memory:|[?&]mode=memory).*)"
        if url is not None and re.fullmatch(memory, url):
            raise ValueError(
                f"got {_shown(url)}, which is kept in memory and gone when the run ends; expected "
                "sqlite:///FILE, another database's URL, or null"
            )
        return url

    @field_validator("attributes")
    @classmethod
    def _told_apart(cls, groups: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, words in groups.items():
            if len(set(words)) < 2:
                raise ValueError(f"{name} has {list(words)}; give it at least two different words")
        return groups

    @model_validator(mode="after")
    def _second_opinion(self) -> RunConfig:
        if self.judge == self.embedder:
            raise ValueError(
                f"judge: {_shown(self.judge)} is the embedder, which cannot confirm itself; name "
                "another one, or null"
            )
        return self

    @model_validator(mode="after")
    def _class_slot(self) -> RunConfig:
        several = isinstance(self.real, PondReal) if self.classes == "all" else self.classes[1:]
        if several:
            self._check_class_slot()
        return self

    @model_validator(mode="after")
    def _schedulers(self) -> RunConfig:
        if isinstance(self.generator, DiffusersSpec):  # other generators have their own names
            from gapclose.generators.schedulers import check_scheduler

            named = [("space.scheduler", name) for name in self.space.scheduler]
            if self.baseline.scheduler is not None:
                named.append(("baseline.scheduler", self.baseline.scheduler))
            for key, name in named:
                try:
                    check_scheduler(name)
                except ValueError as error:
                    said = str(error).removeprefix("scheduler: ")
                    raise ValueError(f"{key}: {said}") from None
        return self

    def _check_class_slot(self) -> None:
        prompts = [("space.prompt", prompt) for prompt in self.space.prompt]
        prompts.append(("baseline.prompt", self.baseline.prompt))
        for key, prompt in prompts:
            if "class" not in template_slots(prompt):
                raise ValueError(
                    f"{key}: {_shown(prompt)} has no template slot for the class; put {{class}} "
                    "where its noun belongs, or name a single class in classes"
                )

    def select_classes(self, available: Sequence[str]) -> tuple[str, ...]:
        """Chooses the run's classes among those of the real images, in the config's order.

        Args:
            available: the classes that the real folder holds.

        Raises:
            ConfigError: If `classes` or `space.nouns` names one that is not there (the nearest
                is named), or if a prompt has no slot for the class although several are chosen.
        """
        chosen = tuple(available) if self.classes == "all" else tuple(self.classes)
        for key, names in (("classes", chosen), ("space.nouns", tuple(self.space.nouns))):
            strange = [name for name in names if name not in available]
            if strange:
                others = f" (nor {', '.join(strange[1:6])})" if strange[1:] else ""
                raise ConfigError(
                    f"config: {key}: {_shown(strange[0])} is no class of the real images{others}; "
                    f"{nearest(strange[0], available)}"
                )
        if len(chosen) > 1:
            try:
                self._check_class_slot()
            except ValueError as error:
                raise ConfigError(f"config: {error}") from None
        return chosen

    def names_code(self) -> tuple[str, ...]:
        """The user's own code that a run of this config imports (`pkg.mod:Class`, ...)."""
        named = [self.generator.kind] if isinstance(self.generator, CustomSpec) else []
        embedders = (name for name in (self.embedder, self.judge) if name and _embedder_code(name))
        return (*named, *embedders)

    def admit_code(self) -> None:
        """Let the modules that this config names be found; only once they may be imported.

        Their folder comes last: what is installed, and the standard library, is never shadowed.
        """
        if self.code_folder is not None and self.code_folder not in sys.path:
            sys.path.append(self.code_folder)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, numbers and words, as YAML and JSON have them."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """YAML that `load_config` reads back as an equal config."""
        plain = self.to_dict()
        return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=99)

    def fingerprint(self) -> str:
        """sha256 (64 hex digits) of everything that may not change on resume."""
        kept = {key: value for key, value in _flat(self.to_dict()).items() if key not in FREE_KEYS}
        if self.code_folder is None:  # a config without code is what it was before there was a key
            del kept["code_folder"]
        text = json.dumps(kept, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


# What a resumed run may be told anew: when to stop, and on which machine it runs.
FREE_KEYS = frozenset(
    {
        "tune.budget",
        "tune.trials",
        "tune.images",
        "device",
        "storage",
        "generator.device",
        "generator.batch_size",
    }
)


def changed_keys(old: RunConfig, new: RunConfig) -> tuple[str, ...]:
    """Names the keys (dotted) in which two configs differ and a resumed run may not."""
    before, after = _flat(old.to_dict()), _flat(new.to_dict())
    missing = object()
    return tuple(
        sorted(
            key
            for key in {*before, *after} - FREE_KEYS
            if before.get(key, missing) != after.get(key, missing)
        )
    )


# ----------------------------------------------------------------------------------- reading


def packaged_config(name: str) -> Path | None:
    """The path of a config that ships (`pond`, `cifar10-sd14`), or None if none has the name."""
    stem = name.removesuffix(".yaml")
    path = Path(str(resources.files("gapclose.configs") / f"{stem}.yaml"))
    return path if re.fullmatch(r"[\w.-]+", stem) and path.is_file() else None


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a config from a YAML file, or one that ships by its bare name (`pond`).

    Args:
        path: the file; relative paths inside it are taken from the current directory, but for code
            (`./file.py:Class`, `pkg.mod:Class`), which lies beside it.
        overrides: `a.b=value`, one key each, the value being YAML; later ones win.

    Raises:
        ConfigError: One line with the file, the key and the remedy.
    """
    file = Path(path)
    if not file.is_file():
        shipped = packaged_config(str(path))
        if shipped is None and file.is_dir():
            raise ConfigError(f"{file}: is a folder; give the YAML file of a config")
        if shipped is None:
            raise ConfigError(f"{file}: no such file; write one with `gapclose init REAL_DIR`")
        file = shipped
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{file}: cannot be read: {why}") from None
    data = _parse_yaml(text, where=str(file))
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: got {_shown(data)}, expected keys such as real: and space:")
    for override in overrides:
        _apply(data, override)
    folder = Path(os.path.abspath(file.parent))  # noqa: PTH100 - keeps symbolic links
    config = parse_config(data, where=str(file), folder=folder)
    if "code_folder" not in data and any(_lies_in(folder, c) for c in config.names_code()):
        config = config.model_copy(update={"code_folder": str(folder)})
    return config


def parse_config(
    data: Mapping[str, Any], *, where: str = "config", folder: Path | None = None
) -> RunConfig:
    """Checks a plain mapping; `where` opens the line of the error.

    Args:
        data: The keys.
        where: What they are of.
        folder: Which code with a relative path lies in; the current one by default.

    Raises:
        ConfigError: One line with `where`, the key and the remedy.
    """
    try:
        return RunConfig.model_validate(dict(data), context={"folder": folder})
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, data)}") from None


def _lies_in(folder: Path, code: str) -> bool:
    """Whether a folder holds the package or module of `pkg.mod:Class`."""
    if _CODE_FILE.fullmatch(code):
        return False
    top = code.partition(":")[0].partition(".")[0]
    return (folder / top).is_dir() or (folder / f"{top}.py").is_file()


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: `off`, `no` and `on` are words, 1:30 is one, 1e-3 is a number."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                raise yaml.MarkedYAMLError(
                    problem="a key must be one word", problem_mark=key.start_mark
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value} stands here twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_decimal(self, node: Any) -> int:
        """SafeLoader takes a leading 0 for octal, and fails at 08."""
        try:
            return int(node.value)
        except ValueError:  # Python reads no more than some thousand digits
            raise yaml.MarkedYAMLError(
                problem="a number of too many digits", problem_mark=node.start_mark
            ) from None


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_decimal)


class _Dumper(yaml.SafeDumper):
    """Quotes every word that the loader above, or a YAML 1.1 reader, takes for something else."""


# Only the resolvers named here: SafeLoader's own are YAML 1.1.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+0123456789."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
        )


def _parse_yaml(text: str, *, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        why = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{where}{line}: this is no YAML: {why}") from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: expected key=value, such as tune.seed=1")
    where = f"--set {override}"
    target = data
    for depth, part in enumerate(parts[:-1]):
        below = target.get(part)
        if below is None:
            below = target[part] = {}
        if not isinstance(below, dict):
            raise ConfigError(f"{where}: {'.'.join(parts[: depth + 1])} holds no further keys")
        target = below
    target[parts[-1]] = _parse_yaml(text, where=where)


# -------------------------------------------------------------------------------- explaining

_EXPECTED = {
    "string_type": "text (put it in quotes)",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "tuple_type": "a list",
    "too_short": "more values",
    "too_long": "fewer values",
}


def _explain(error: ValidationError, data: Mapping[str, Any]) -> str:
    """The first problem as one line; unknown keys come first, for they often cause the rest."""
    problems = error.errors(include_url=False)
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    keys, got = _locate(problem["loc"], data)
    name = _dotted(keys) or "the file"
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{name} is no key here; {nearest(str(keys[-1]), _valid_keys(keys[:-1], data))}"
    if kind == "missing":
        return f"{name} is missing; add it"
    if kind in ("value_error", "assertion_error"):
        said = str(context.get("error", problem["msg"]))
        return f"{name}: {said}" if keys else said
    if kind in _EXPECTED:
        expected = _EXPECTED[kind]
    elif kind == "literal_error":
        expected = str(context["expected"])
        words = re.findall(r"'([^']*)'", expected)
        if isinstance(got, str) and words:
            return f"{name}: got {_shown(got)}, expected {expected}; {nearest(got, words)}"
    else:
        text = str(problem["msg"]).removeprefix("Input should be ")
        expected = f"a value {text}" if text.startswith(("greater", "less")) else text
    return f"{name}: got {_shown(got)}, expected {expected}"


def _locate(loc: Sequence[str | int], data: Any) -> tuple[list[str | int], Any]:
    """Follows pydantic's location through what was written.

    Steps that the file does not have (a union's tag, the index of a value that stands alone)
    are dropped; a key that is missing ends the walk.
    """
    keys: list[str | int] = []
    for index, step in enumerate(loc):
        if isinstance(data, Mapping):
            if step in data:
                keys.append(step)
                data = data[step]
            elif index == len(loc) - 1 and step not in _TAGS:
                return [*keys, step], None
        elif isinstance(data, list | tuple) and isinstance(step, int) and step < len(data):
            keys.append(step)
            data = data[step]
    return keys, data


_TAGS = frozenset({"folder", "pond", "diffusers", "custom"})


def _valid_keys(keys: Sequence[str | int], data: Mapping[str, Any]) -> list[str]:
    model: type[BaseModel] = RunConfig
    below: Any = data
    for key in keys:
        below = below[key]
        if model is RunConfig and key == "real":
            model = PondReal if _real_tag(below) == "pond" else RealFolder
        elif model is RunConfig and key == "generator":
            model = GENERATOR_KINDS.get(_generator_tag(below), CustomSpec)
        else:
            found = _SECTIONS.get((model.__name__, str(key)))
            if found is None:
                return []
            model = found
    return list(model.model_fields)


_SECTIONS: dict[tuple[str, str], type[BaseModel]] = {
    ("RunConfig", "space"): SpaceConfig,
    ("RunConfig", "baseline"): BaselineConfig,
    ("RunConfig", "tune"): TuneConfig,
    ("RunConfig", "confirm"): ConfirmConfig,
    ("SpaceConfig", "camera"): CameraSpace,
    ("BaselineConfig", "camera"): FixedCamera,
}


def _dotted(keys: Sequence[str | int]) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def _shown(value: object) -> str:
    """A value as the person wrote it, short enough for one line, with its type in words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return text


KERNELS = ("nearest", "box", "area", "bilinear", "bicubic", "lanczos")


def _check_kernel(name: str) -> str:
    if name not in KERNELS:
        raise ValueError(f"{_shown(name)} is no resize kernel; {nearest(name, KERNELS)}")
    return name


_CODE_FILE = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")


def expanded(path: str) -> str:
    """A path as a shell would read it: `~`, `$NAME` and `${NAME}` are filled in.

    Shells leave `~` in `--out=~/x` alone, and a config is read by none.

    Raises:
        ConfigError: A variable is not set, and there is nothing of that very name.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name in os.environ:
            return os.environ[name]
        if Path(path).exists():  # a $ in the name of a folder
            return match[0]
        raise ConfigError(
            f"{path}: the environment variable {name} is not set; set it, or write the path out"
        )

    return os.path.expanduser(_VARIABLE.sub(value, path))  # noqa: PTH111 - keeps a hub id's text


def local_embedder(name: str, *, base: Path | None = None) -> str:
    """The name of an embedder, one that lies in a file or folder by its absolute path.

    Args:
        name: As `make_embedder` takes it.
        base: Which code with a relative path lies in; the current folder by default.
    """
    if _embedder_code(name):
        return _absolute_code(name, base=base)
    kind, _, target = name.rpartition(":")
    if kind not in ("onnx", "transformers", "open_clip:local-dir"):
        return name
    path = expanded(target)
    local = path != target or Path(path).exists()
    return f"{kind}:{_absolute_path(path)}" if local else name


def _absolute_path(path: str, *, base: Path | None = None) -> str:
    if not path.strip():
        raise ValueError("got an empty path, expected a folder")
    return os.path.abspath((base or Path()) / expanded(path))  # noqa: PTH100 - keeps links


def _config_folder(info: ValidationInfo) -> Path | None:
    folder: Path | None = (info.context or {}).get("folder")
    return folder


def _absolute_code(name: str, *, base: Path | None) -> str:
    """`./file.py:Class` by the file's absolute path; `pkg.mod:Class` as it is."""
    match = _CODE_FILE.fullmatch(name)
    if match is None:
        return name
    return f"{_absolute_path(match['file'], base=base)}:{match['name']}"


def _embedder_code(name: str) -> bool:
    from gapclose.analysis.embedding import is_code

    return is_code(name)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones; lists are leaves."""
    if not isinstance(value, dict) or (prefix and not value):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, below in value.items():
        flat.update(_flat(below, f"{prefix}.{key}" if prefix else str(key)))
    return flat
