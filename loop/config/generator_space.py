"""What a config says of one of several generators: its own prompts, settings and parameters.

What it does not say is as for all. A distilled model wants 4 steps where another wants 30, and a
renderer has lights where a diffusion model has words.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from gapclose.loop.config.parameters import (
    FixedParameters,
    Parameter,
    SearchedParameters,
    checked_names,
)
from gapclose.loop.config.values import (
    Count,
    Counts,
    Numbers,
    Section,
    Text,
    Words,
    as_range,
    template_slots,
)

__all__ = [
    "GeneratorBaseline",
    "GeneratorSpace",
    "Guidance",
    "OwnParameters",
    "PlainPrompt",
    "Prompts",
    "Steps",
]

OwnParameters = Annotated[dict[str, Parameter | None], BeforeValidator(checked_names)]


def _prompts(prompt: tuple[str, ...]) -> tuple[str, ...]:
    if not prompt:
        raise ValueError("got nothing, expected a prompt, or a list of prompts")
    for template in prompt:
        template_slots(template)
    return prompt


def _plain(prompt: str) -> str:
    for slot in template_slots(prompt):
        if slot != "class":
            raise ValueError(f"prompt has a slot {{{slot}}}; only {{class}} may stand here")
    return prompt


def _guidance(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(value < 0 for value in values):
        raise ValueError(f"got {list(values)}, expected numbers of at least 0")
    return as_range(values)


def _steps(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(value < 1 for value in values):
        raise ValueError(f"got {list(values)}, expected numbers of at least 1")
    return as_range(values)


Prompts = Annotated[Words, AfterValidator(_prompts)]
PlainPrompt = Annotated[Text, AfterValidator(_plain)]
"""Of a baseline: the class's noun is all that may stand in it."""
Guidance = Annotated[Numbers, AfterValidator(_guidance)]
Steps = Annotated[Counts, AfterValidator(_steps)]


class _Own(Section):
    """Keys of one generator; those that are not there are as for all."""

    @model_serializer(mode="wrap")
    def _said(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = written(self)
        return {key: value for key, value in plain.items() if key in self.model_fields_set}

    def own(self) -> dict[str, Any]:
        """Return what is said, by key."""
        return {key: getattr(self, key) for key in self.model_fields_set}


class GeneratorSpace(_Own):
    """What of `space` is another one's for a generator; empty where it is not searched there."""

    prompt: Prompts = ("a photo of a {class}",)
    negative_prompt: Words = ()
    guidance_scale: Guidance = ()
    num_inference_steps: Steps = ()
    scheduler: Words = ()
    parameters: SearchedParameters = Field(default_factory=dict)
    class_parameters: dict[str, OwnParameters] = Field(default_factory=dict)


class GeneratorBaseline(_Own):
    """What of `baseline` is another one's for a generator, where its own search begins."""

    prompt: PlainPrompt = "a photo of a {class}"
    negative_prompt: Text = ""
    guidance_scale: float | None = Field(default=None, ge=0.0)
    num_inference_steps: Count | None = None
    scheduler: Text | None = None
    parameters: FixedParameters = Field(default_factory=dict)
