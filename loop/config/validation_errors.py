"""Validation errors: what pydantic refuses, as one line with the key and the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from gapclose.loop.config.generator_space import GeneratorBaseline, GeneratorSpace
from gapclose.loop.config.hints import nearest, shown
from gapclose.loop.config.parameters import ParameterRange
from gapclose.loop.config.schema import ConfirmConfig, RunConfig, TuneConfig
from gapclose.loop.config.sources import (
    TAGS,
    DiffusersSpec,
    EmbeddingSpec,
    IPAdapterSpec,
    LoraSpec,
    generator_section,
    real_section,
)
from gapclose.loop.config.space import BaselineConfig, CameraSpace, FixedCamera, SpaceConfig
from gapclose.loop.errors import ConfigError

__all__ = ["first_error"]

Keys = Sequence[str | int]
KeysAt = Callable[[Keys, Mapping[str, Any]], Sequence[str]]

_EXPECTED: Final = {
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
    "union_tag_not_found": "a value, a list or a range",
    "too_short": "more values",
    "too_long": "fewer values",
}
_SECTIONS: Final[dict[tuple[type[BaseModel], str], type[BaseModel]]] = {
    (RunConfig, "space"): SpaceConfig,
    (RunConfig, "baseline"): BaselineConfig,
    (RunConfig, "tune"): TuneConfig,
    (RunConfig, "confirm"): ConfirmConfig,
    (SpaceConfig, "camera"): CameraSpace,
    (BaselineConfig, "camera"): FixedCamera,
    (DiffusersSpec, "ip_adapter"): IPAdapterSpec,
    (DiffusersSpec, "loras"): LoraSpec,
    (DiffusersSpec, "embeddings"): EmbeddingSpec,
}
_OF_GENERATORS: Final[dict[type[BaseModel], type[BaseModel]]] = {
    SpaceConfig: GeneratorSpace,
    BaselineConfig: GeneratorBaseline,
}
# Of the space: names to come before a parameter.
_OF_PARAMETERS: Final = {"parameters": 1, "class_parameters": 2}


def first_error(
    error: ValidationError,
    data: Mapping[str, Any],
    *,
    where: str,
    keys_at: KeysAt | None = None,
) -> ConfigError:
    """Say what is wrong with a config; an unknown key comes first, for it often causes the rest.

    Args:
        error: What pydantic found.
        data: What was written.
        where: What opens the line.
        keys_at: Names the keys that may stand in a section; those of a `RunConfig` by default.
    """
    problems = error.errors(include_url=False)
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    keys, got = _locate(problem["loc"], data)
    key = _dotted(keys)
    said = _said(problem, keys, got, lambda: (keys_at or _valid_keys)(keys[:-1], data))
    return ConfigError(said, where=where, key=key or None)


def _said(
    problem: Mapping[str, Any], keys: Keys, got: Any, valid: Callable[[], Sequence[str]]
) -> str:
    name = _dotted(keys) or "the file"
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{name} is no key here; {nearest(str(keys[-1]), valid())}"
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
            return f"{name}: got {shown(got)}, expected {expected}; {nearest(got, words)}"
    else:
        text = str(problem["msg"]).removeprefix("Input should be ")
        expected = f"a value {text}" if text.startswith(("greater", "less")) else text
    return f"{name}: got {shown(got)}, expected {expected}"


def _locate(loc: Keys, data: Any) -> tuple[list[str | int], Any]:
    """Follow pydantic's location through what was written.

    Steps that the file does not have (a union's tag, the index of a value that stands alone)
    are dropped; a key that is missing ends the walk.
    """
    keys: list[str | int] = []
    for index, step in enumerate(step for step in loc if step != "[key]"):
        if isinstance(data, Mapping):
            if step in data:
                keys.append(step)
                data = data[step]
            elif index == len(loc) - 1 and step not in TAGS:
                return [*keys, step], None
        elif isinstance(data, list | tuple) and isinstance(step, int) and step < len(data):
            keys.append(step)
            data = data[step]
    return keys, data


def _valid_keys(keys: Keys, data: Mapping[str, Any]) -> list[str]:
    section: type[BaseModel] = RunConfig
    below: Any = data
    names = 0  # keys to come that a person is free to choose
    for key in keys:
        below = below[key]
        if names:
            names -= 1
        elif section is SpaceConfig and key in _OF_PARAMETERS:
            section, names = ParameterRange, _OF_PARAMETERS[str(key)]
        elif section is RunConfig and key == "real":
            section = real_section(below)
        elif section is RunConfig and key == "generator":
            section = generator_section(below)
        elif section is RunConfig and key == "generators":
            named = keys[1] if len(keys) > 1 else None
            section, names = generator_section(below.get(named)), 1
        elif key == "generators" and section in _OF_GENERATORS:
            section, names = _OF_GENERATORS[section], 1
        else:
            found = _section_below(section, key)
            if found is None:
                return []
            section = found
    if names:
        return []
    return [field.alias or name for name, field in section.model_fields.items()]


def _section_below(section: type[BaseModel], key: str | int) -> type[BaseModel] | None:
    """Return the section under a key, of one in a list the list's; None if there is none."""
    return section if isinstance(key, int) else _SECTIONS.get((section, key))


def _dotted(keys: Keys) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text
