"""What of a config a generator gives a meaning to: the rest is refused, or left out."""

from __future__ import annotations

from gapclose.generators.base import SETTINGS
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.registry import settings_of
from gapclose.loop.config.schema import RunConfig

__all__ = ["with_taken_settings"]


def with_taken_settings(config: RunConfig) -> RunConfig:
    """Return a config whose baseline has no setting that its generator does not take.

    A renderer has no guidance: a recipe that named one would say what is not so.

    Raises:
        GeneratorConfigError: The config asks for such a setting, or the generator cannot be made.
    """
    baseline, idle = config.baseline, {*SETTINGS} - settings_of(config.generator.as_spec())
    for name in sorted(idle):
        asked = name in baseline.model_fields_set and getattr(baseline, name)
        for key, value in (("space", getattr(config.space, name)), ("baseline", asked)):
            if value:
                raise GeneratorConfigError(
                    "the generator takes none; leave it out", key=f"{key}.{name}"
                )
    none = {name: None for name in idle & {"guidance_scale", "num_inference_steps"}}
    return config.model_copy(update={"baseline": baseline.model_copy(update=none)})
