"""The beginning: whether a generator takes what its baseline and its settings say.

`schema` asks it of each generator of a config. It knows kinds, not models: what a model takes is
`check_generator`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gapclose.generators.distributions import Distribution
from gapclose.generators.parameters import Parameter as Value
from gapclose.loop.config.diffusion import DIFFUSION, check_diffusion
from gapclose.loop.config.hints import shown
from gapclose.loop.config.parameters import Parameter
from gapclose.loop.config.sources import DiffusersSpec

if TYPE_CHECKING:
    from gapclose.loop.config.schema import RunConfig

__all__ = ["check_beginning"]


def check_beginning(config: RunConfig, generator: str | None) -> None:
    """Refuse settings that no pipeline takes, and parameters that begin nowhere.

    Args:
        config: With one generator.
        generator: Its name, where there are several.

    Raises:
        ValueError: One line that names the key.
    """
    own = "" if generator is None else f".generators.{generator}"
    if isinstance(config.generator, DiffusersSpec):
        for name in DIFFUSION:
            for value in getattr(config.space, name):
                check_diffusion(name, value, key=f"space{own}.{name}")
            check_diffusion(name, getattr(config.baseline, name), key=f"baseline{own}.{name}")
    kinds: dict[str, str] = {}
    for cls in ("", *config.space.class_parameters):  # no class is called ""
        for name, parameter in config.space.parameters_of(cls).items():
            _check_start(name, parameter, config.baseline.parameters, key=f"baseline{own}")
            shares = config.generator is not None and config.generator.shares_parameters
            if shares and isinstance(config.baseline.parameters.get(name), Distribution):
                raise ValueError(
                    f"baseline{own}.parameters.{name}: images of a batch have one value of it; "
                    "give one"
                )
            if kinds.setdefault(name, parameter.kind) != parameter.kind:
                raise ValueError(
                    f"space{own}.class_parameters.{cls}.{name}: got {parameter.kind}, but other "
                    f"classes have {kinds[name]} under this name; call it something else"
                )


def _check_start(
    name: str, parameter: Parameter, baseline: Mapping[str, Value], *, key: str
) -> None:
    """Ask what the first images have of a parameter that is searched."""
    value = baseline.get(name)
    if value is None and not parameter.is_fixed:
        raise ValueError(
            f"{key}.parameters: {name} is missing; say what the obvious image has of it, "
            f"such as {name}: {shown(parameter.example)}"
        )
    if value is not None and (problem := parameter.misfit(value)):
        own = value.to_json() if isinstance(value, Distribution) else value
        raise ValueError(f"{key}.parameters.{name}: got {shown(own)}, {problem}")
