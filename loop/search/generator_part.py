"""The part of a class's space that one generator has: its prompts, settings and parameters.

A space has a part for each generator of the run. Settings and parameters that are one generator's
own bear its name in the search, and their usual one in a draw.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from optuna.distributions import BaseDistribution, distribution_to_json

from gapclose.generators.distributions import Distribution
from gapclose.generators.parameters import Parameter
from gapclose.generators.prompt_text import normalize_prompt
from gapclose.generators.recipe import Draw
from gapclose.generators.values import Value
from gapclose.loop.config.parameters import PREFIX, ParameterChoices
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.values import template_slots
from gapclose.loop.search.optuna_distributions import (
    choices,
    floats,
    guidance,
    ints,
    of_even,
    only,
)

__all__ = ["GeneratorPart", "setting"]

_WITHOUT_PHOTO: Final = {"strength": 1.0, "ip_adapter_scale": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorPart:
    """What may be varied of one generator.

    Attributes:
        name: Of the generator; None of the only one.
        base: What its draws are made from: the baseline's settings and parameters.
        templates: Of its prompts.
        settings: Setting -> its name in the search; those that are searched. Parameters that
            images of a batch must share are settings, too, with their prefix.
        distributions: The name in the search -> what may be chosen.
        fixed: Settings that have one value.
        parameters: Of its own that are searched, each evenly distributed over what may be chosen.
        fixed_parameters: Of its own that every recipe but the baseline has as they are.
    """

    name: str | None
    base: Draw
    templates: tuple[str, ...]
    settings: Mapping[str, str]
    distributions: Mapping[str, BaseDistribution]
    fixed: Mapping[str, Any]
    parameters: Mapping[str, Distribution] = field(default_factory=dict)
    fixed_parameters: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def of(
        cls, config: RunConfig, generator: str | None, *, name: str, noun: str, photos: bool
    ) -> GeneratorPart:
        """Return a generator's part of the space of a class.

        Args:
            config: Of the run.
            generator: One of its `drawn_by`.
            name: The class.
            noun: Its own.
            photos: Whether there are photo groups.
        """
        alone, own = config.alone(generator), config.space.generators.get(generator or "")
        spec = alone.space
        sources = (spec.strength, spec.ip_adapter_scale) if photos else ((), ())
        searched: dict[str, BaseDistribution | None] = {
            "negative_prompt": choices(spec.negative_prompt),
            "guidance_scale": guidance(spec.guidance_scale),
            "num_inference_steps": ints(spec.num_inference_steps),
            "scheduler": choices(spec.scheduler),
            "strength": floats(sources[0]),
            "ip_adapter_scale": floats(sources[1]),
        }
        given = {k: its for k, its in searched.items() if its is not None}
        said = set() if own is None else own.model_fields_set
        names = {
            k: f"{generator}.{k}" if k in said else k
            for k, its in given.items()
            if not its.single()
        }
        assert alone.generator is not None, "it is alone"
        parameters = spec.parameters_of(name)
        evens = {k: its.even for k, its in parameters.items() if not its.is_fixed}
        distributions = {called: given[k] for k, called in names.items()}
        if alone.generator.shares_parameters:
            called = {PREFIX + k: _called(generator, k) for k in evens}
            names |= called
            distributions |= {_called(generator, k): of_even(its) for k, its in evens.items()}
            evens = {}
        return cls(
            name=generator,
            base=_base(alone, name, noun, generator),
            templates=_templates(alone, captions=photos, own="prompt" in said),
            settings=names,
            distributions=distributions,
            fixed={k: only(its) for k, its in given.items() if its.single()},
            parameters=evens,
            fixed_parameters={k: its.example for k, its in parameters.items() if its.is_fixed},
        )

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a draw's fields have of the search's parameters, and of what is fixed."""
        chosen = self._chosen(params)
        return {**self.fixed, **{k: v for k, v in chosen.items() if not k.startswith(PREFIX)}}

    def own(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """Return what a draw's parameters have of the search's."""
        chosen = self._chosen(params)
        return {k.removeprefix(PREFIX): v for k, v in chosen.items() if k.startswith(PREFIX)}

    def _chosen(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {k: params[called] for k, called in self.settings.items() if called in params}

    def content(self) -> dict[str, Any]:
        """Return plain values of all that may be chosen."""
        parameters: dict[str, Any] = {k: its.to_json() for k, its in self.parameters.items()}
        parameters |= self.fixed_parameters
        return {
            **({} if self.name is None else {"name": self.name, "base": self.base.fingerprint()}),
            "fixed": dict(self.fixed),
            "settings": {
                k: json.loads(distribution_to_json(its)) for k, its in self.distributions.items()
            },
            **({"parameters": parameters} if parameters else {}),
        }

    def parameter(self, name: str) -> str:
        """Return what the search calls one of the parameters."""
        return _called(self.name, name)


def _called(generator: str | None, parameter: str) -> str:
    return PREFIX + (parameter if generator is None else f"{generator}.{parameter}")


def setting(draw: Draw, name: str) -> Any:
    """Return a setting of a draw; that of one made without a photo is what changes nothing."""
    if name.startswith(PREFIX):
        return draw.parameters[name.removeprefix(PREFIX)]
    value = getattr(draw, name)
    return _WITHOUT_PHOTO[name] if value is None and name in _WITHOUT_PHOTO else value


def _base(config: RunConfig, name: str, noun: str, generator: str | None) -> Draw:
    """Return a generator's untouched draw of a class.

    Args:
        config: With the generator alone.
        name: The class.
        noun: Its own.
        generator: The generator's name.
    """
    spec, fields = config.generator, config.baseline.draw_fields()
    assert spec is not None, "it is alone"
    prompt = normalize_prompt(fields.pop("prompt").format_map({"class": noun}))
    size = spec.as_spec().get("size")
    fields["parameters"] = _parameters(config, name)
    if spec.reads_class:
        fields |= {"cls": name, "noun": noun}
    return Draw(
        prompt=prompt,
        size=tuple(size) if isinstance(size, list) else size,
        generator=generator,
        **fields,
    )


def _parameters(config: RunConfig, name: str) -> dict[str, Parameter]:
    """Return the parameters of a class's baseline, each of the type that the search gives it."""
    own = config.space.class_parameters.get(name, {})
    found: dict[str, Parameter] = {
        key: value
        for key, value in config.baseline.parameters.items()
        if own.get(key, True) is not None
    }
    for key, parameter in config.space.parameters_of(name).items():
        value = found.setdefault(key, parameter.example)  # it is fixed, where it is not given
        if isinstance(value, int | float) and not isinstance(parameter, ParameterChoices):
            found[key] = int(value) if parameter.whole else float(value)
    return found


def _templates(config: RunConfig, *, captions: bool, own: bool) -> tuple[str, ...]:
    """Return the prompt templates; a caption stands alone where no template has a place for it.

    Args:
        config: With the generator alone.
        captions: Whether there are some.
        own: Whether the templates are the generator's own: then it takes no others.
    """
    templates = config.space.prompt
    captioned = {template for template in templates if "caption" in template_slots(template)}
    if not captions:
        return tuple(t for t in templates if t not in captioned) or (config.baseline.prompt,)
    return (
        templates
        if own or captioned or config.space.captions is None
        else (*templates, "{caption}")
    )
