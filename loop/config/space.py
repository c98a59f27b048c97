"""The space: what a search may change, and the baseline that it starts from."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field, ValidationInfo, field_validator, model_validator

from gapclose.generators.recipe import KERNEL_ALIASES, KERNELS
from gapclose.loop.config.generator_space import (
    GeneratorBaseline,
    GeneratorSpace,
    Guidance,
    OwnParameters,
    PlainPrompt,
    Prompts,
    Steps,
)
from gapclose.loop.config.hints import nearest, shown
from gapclose.loop.config.parameters import FixedParameters, Parameter, SearchedParameters
from gapclose.loop.config.paths import (
    absolute_path,
    is_embedder_code,
    local_embedder,
)
from gapclose.loop.config.values import (
    Count,
    Counts,
    Numbers,
    Pixels,
    Section,
    Text,
    Words,
    as_range,
    config_folder,
    template_slots,
)

__all__ = ["CAPTION_SOURCES", "BaselineConfig", "CameraSpace", "FixedCamera", "SpaceConfig"]

MOST_SATURATION: Final = 100.0

_KERNELS: Final = (*KERNELS, *KERNEL_ALIASES)

CAPTION_SOURCES: Final = ("tune", "words")
"""Captions that lie beside the tune photos, or are put together from words seen in them."""


def _check_kernel(name: str) -> str:
    if name not in _KERNELS:
        raise ValueError(f"{shown(name)} is no resize kernel; {nearest(name, _KERNELS)}")
    return name


class CameraSpace(Section):
    """What the camera may do. Of numbers, one is fixed, two are a range, more are choices."""

    resize: Pixels | None = None
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
        return as_range(values)

    @field_validator("noise", "saturation")
    @classmethod
    def _in_range(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        most = 1.0 if info.field_name == "noise" else MOST_SATURATION
        if not values or any(not 0 <= value <= most for value in values):
            of = " (shares of the full range)" if info.field_name == "noise" else ""
            raise ValueError(f"got {list(values)}, expected numbers from 0 to {most:g}{of}")
        return as_range(values)


class FixedCamera(Section):
    """One setting of the camera, for the baseline."""

    resize: Pixels | None = None
    kernel: str = "area"
    jpeg_quality: int | None = Field(default=None, ge=1, le=100)
    noise: float = Field(default=0.0, ge=0.0, le=1.0)
    saturation: float = Field(default=1.0, ge=0.0, le=MOST_SATURATION)

    @field_validator("kernel")
    @classmethod
    def _known(cls, kernel: str) -> str:
        return _check_kernel(kernel)


class SpaceConfig(Section):
    """What the search may change.

    Everything is a tuple: of words (choices), or of numbers (one is fixed, two are a range,
    three or more are choices). An empty tuple is not searched: the baseline's value holds.
    `class_parameters` says what `parameters` a class has of its own, and by null which it lacks.
    """

    prompt: Prompts = ("a photo of a {class}",)
    slots: dict[str, Words] = Field(default_factory=dict)
    nouns: dict[str, Words] = Field(default_factory=dict)
    negative_prompt: Words = ()
    guidance_scale: Guidance = ()
    num_inference_steps: Steps = ()
    scheduler: Words = ()
    camera: CameraSpace = Field(default_factory=CameraSpace)
    captions: str | None = None
    strength: Numbers = ()
    ip_adapter_scale: Numbers = ()
    proposer: str | None = None
    parameters: SearchedParameters = Field(default_factory=dict)
    class_parameters: dict[str, OwnParameters] = Field(default_factory=dict)
    generators: dict[str, GeneratorSpace] = Field(default_factory=dict)

    @field_validator("captions")
    @classmethod
    def _captions(cls, source: str | None, info: ValidationInfo) -> str | None:
        if source is None or source in CAPTION_SOURCES:
            return source
        if source.startswith("transformers:"):
            return local_embedder(source, base=config_folder(info))
        if source.lower().endswith((".jsonl", ".csv")):
            return absolute_path(source, base=config_folder(info))
        raise ValueError(
            f"got {shown(source)}, expected tune, words, transformers:MODEL, a .jsonl or .csv "
            "file with file_name and text, or null"
        )

    @field_validator("proposer")
    @classmethod
    def _proposer(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is None or name == "attributes":
            return name
        if is_embedder_code(name) or name.startswith("transformers:"):
            return local_embedder(name, base=config_folder(info))
        raise ValueError(
            f"got {shown(name)}, expected attributes, transformers:MODEL, pkg.mod:Function, "
            "./file.py:Function, or null"
        )

    @field_validator("strength", "ip_adapter_scale")
    @classmethod
    def _shares(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        if any(not 0 <= value <= 1 for value in values):
            raise ValueError(f"got {list(values)}, expected numbers from 0 to 1")
        if info.field_name == "strength" and 0 in values:
            raise ValueError("got 0, which gives the real photos themselves; begin above it")
        return as_range(values)

    def of_generator(self, name: str) -> SpaceConfig:
        """Return what the search may change of one of several generators."""
        own = self.generators[name].own() if name in self.generators else {}
        return self.model_copy(update={**own, "generators": {}})

    def parameters_of(self, name: str) -> dict[str, Parameter]:
        """Return what a class's parameters may be."""
        own = {**self.parameters, **self.class_parameters.get(name, {})}
        return {key: parameter for key, parameter in own.items() if parameter is not None}

    @property
    def needs_photos(self) -> bool:
        """Whether prompts or images are made from single real photos."""
        return bool(self.captions or self.strength or self.ip_adapter_scale)

    @field_validator("slots", "nouns")
    @classmethod
    def _filled(cls, table: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, words in table.items():
            if not words:
                raise ValueError(f"{name} has no words; give it at least one")
            if len(set(words)) != len(words):
                twice = next(word for word in words if words.count(word) > 1)
                raise ValueError(f"{name} has {shown(twice)} twice; name each word once")
        return table

    @model_validator(mode="after")
    def _slots_are_defined(self) -> SpaceConfig:
        later = {"captions", "strength", "ip_adapter_scale", "proposer"}
        # The generator's parameters bear a prefix in the search.
        fields = {*type(self).model_fields} - {"parameters", "class_parameters", "generators"}
        taken = {"noun", "prompt", *(fields - later)} & set(self.slots)
        if self.needs_photos:  # configs of before there were any may have such slots
            taken |= {"photos", *later} & set(self.slots)
        if taken:
            raise ValueError(
                f"slots must not define {min(taken)}: the search has a parameter of that name; "
                "call the slot something else"
            )
        if "class" in self.slots:
            raise ValueError(
                "slots must not define class, the class's noun; its words belong in nouns"
            )
        valid = {*self.slots, "class"} | ({"caption"} if self.captions else set())
        if self.captions and "caption" in self.slots:
            raise ValueError(
                "slots must not define caption, the caption of a real photo; see space.captions"
            )
        for template in self.templates:
            for slot in template_slots(template):
                if slot not in valid:
                    raise ValueError(
                        f"{shown(template)} has a slot {{{slot}}} that space.slots does not "
                        f"define; {nearest(slot, valid)}"
                    )
        return self

    @property
    def templates(self) -> tuple[str, ...]:
        """All prompts, those of single generators too."""
        own = [
            prompt for its in self.generators.values() for prompt in its.own().get("prompt", ())
        ]
        return tuple(dict.fromkeys((*self.prompt, *own)))


class BaselineConfig(Section):
    """Trial 0 of every class: one recipe, `{class}` in its prompt standing for the noun."""

    prompt: PlainPrompt = "a photo of a {class}"
    negative_prompt: Text = ""
    guidance_scale: float | None = Field(default=7.5, ge=0.0)  # None: the generator's own
    num_inference_steps: Count | None = 30
    scheduler: Text | None = None
    parameters: FixedParameters = Field(default_factory=dict)
    camera: FixedCamera | None = None  # None: only space.camera.resize
    generators: dict[str, GeneratorBaseline] = Field(default_factory=dict)

    def of_generator(self, name: str) -> BaselineConfig:
        """Return where the search of one of several generators begins."""
        own = self.generators[name].own() if name in self.generators else {}
        return self.model_copy(update={**own, "generators": {}})

    def draw_fields(self) -> dict[str, Any]:
        """Return the baseline's keyword arguments of Draw; the prompt is still a template."""
        return self.model_dump(mode="json", exclude={"camera", "generators"})
