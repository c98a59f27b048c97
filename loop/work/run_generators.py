"""The generators of a run: made from its config, and checked before a night starts.

Of several generators each is checked by itself, and what is wrong is named by its own key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from gapclose.generators.base import SETTINGS, Generator
from gapclose.generators.command import CommandGenerator
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.registry import (
    check_generator,
    make_generator,
    parameters_of,
    settings_of,
)
from gapclose.generators.several import SeveralGenerators
from gapclose.loop.config.generator_space import GeneratorBaseline, GeneratorSpace
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.sources import FolderSpec
from gapclose.loop.errors import ConfigError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.search.space import Space, other_prompt, variants

__all__ = ["check_drawn", "make_generators", "with_taken_settings"]


def make_generators(config: RunConfig, rundir: RunDir) -> Generator:
    """Make the generator of a run, or its generators as one; a program's own words are kept.

    Raises:
        GeneratorConfigError: As `make_generator`.
    """
    made: dict[str | None, Generator] = {}
    for name, spec in config.drawn_by.items():
        with _keys_of(name):
            made[name] = make_generator(spec.as_spec())
        if isinstance(one := made[name], CommandGenerator):
            log = "generator.log" if name is None else f"generator-{name}.log"
            one.keep_log(rundir.path / log)
    if None in made:
        return made[None]
    return SeveralGenerators({str(name): one for name, one in made.items()})


def check_drawn(
    config: RunConfig,
    classes: Sequence[str] = (),
    *,
    given: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Refuse generators that cannot be made here, or that generate nothing new.

    Args:
        config: Of the run.
        classes: With the run's classes, a generator of the user's own generates one image of
            the first one's baseline, before hours go into embedding photos, and one with another
            value of each parameter.
        given: Recipes of another run, whose schedulers and parameters are to be taken, too.

    Raises:
        GeneratorConfigError: As `check_generator`.
        ConfigError: It is a folder of images that exist.
    """
    first = next(iter(config.drawn_by))
    for name, spec in config.drawn_by.items():
        if isinstance(spec, FolderSpec):
            raise ConfigError(
                "generator.kind: a folder holds images that exist and draws no new ones; score "
                f"them with `gapclose audit --real DIR --synthetic {spec.path}`"
            )
        rows = [row for row in given if row.get("generator", first) == name]
        with _keys_of(name):
            _check(config.alone(name), classes, rows)


def _check(config: RunConfig, classes: Sequence[str], given: Sequence[Mapping[str, Any]]) -> None:
    """Check the generator of a config that has one."""
    assert config.generator is not None, "it is alone"
    asked = {row.get("scheduler") for row in given}
    schedulers = {*config.space.scheduler, config.baseline.scheduler, *asked} - {None}
    known = (config.space.parameters, config.baseline.parameters)
    parameters = {name for its in known for name in its}
    parameters |= {name for row in given for name in row.get("parameters") or ()}
    spaces = [Space.of(config, name) for name in classes]
    varied = {key: draw for space in reversed(spaces) for key, draw in variants(space).items()}
    check_generator(
        config.generator.as_spec(),
        schedulers=sorted(map(str, schedulers)),
        draw=spaces[0].baseline.draw if spaces else None,
        parameters=sorted(parameters),
        variants=varied,
        other_prompt=other_prompt(spaces[0]) if spaces else None,
        classes=classes,
        prompts=_prompts(spaces),
        strength=bool(config.space.strength),
        ip_adapter=bool(config.space.ip_adapter_scale),
    )


def _prompts(spaces: Sequence[Space]) -> Iterator[str]:
    """Yield the prompts of all classes, the baseline's of each first."""
    for space in spaces:
        yield space.baseline.draw.prompt
        yield from map(space.prompt, space.prompts())


def with_taken_settings(config: RunConfig) -> RunConfig:
    """Return a config in which nothing is asked of a generator that gives no meaning to it.

    A renderer has no guidance: a recipe that named one would say what is not so. Of several
    generators, what one does not take is another's.

    Raises:
        GeneratorConfigError: The config asks for a setting or parameter that no generator takes,
            or one of them cannot be made.
    """
    if config.generator is not None:
        return _of_one(config)
    idle: dict[str, set[str]] = {}
    spaces: dict[str, GeneratorSpace] = {}
    baselines: dict[str, GeneratorBaseline] = {}
    said: list[set[str] | None] = []
    for name, spec in config.generators.items():
        with _keys_of(name):
            idle[name] = {*SETTINGS} - settings_of(spec.as_spec())
            known = parameters_of(spec.as_spec())
        said.append(None if known is None else {*known})
        space = config.space.generators.get(name, GeneratorSpace())
        baseline = config.baseline.generators.get(name, GeneratorBaseline())
        _refuse_idle(space, baseline, idle[name], name)
        dropped: dict[str, Any] = dict.fromkeys(idle[name], ())
        if known is not None:
            dropped |= _only_known(config, space, {*known})
        spaces[name] = space.model_copy(update=dropped)
        own = {key: GeneratorBaseline.model_fields[key].default for key in idle[name]}
        if known is not None and "parameters" not in baseline.model_fields_set:
            its = config.baseline.parameters
            own["parameters"] = {key: value for key, value in its.items() if key in known}
        baselines[name] = baseline.model_copy(update=own)
    _refuse_unknown(config, set.intersection(*idle.values()), said)
    return config.model_copy(
        update={
            "space": config.space.model_copy(update={"generators": spaces}),
            "baseline": config.baseline.model_copy(update={"generators": baselines}),
        }
    )


def _of_one(config: RunConfig) -> RunConfig:
    assert config.generator is not None, "there is one"
    baseline, idle = config.baseline, {*SETTINGS} - settings_of(config.generator.as_spec())
    _refuse_asked(config, idle, "the generator takes none; leave it out")
    none = {name: None for name in idle & {"guidance_scale", "num_inference_steps"}}
    return config.model_copy(update={"baseline": baseline.model_copy(update=none)})


def _refuse_asked(config: RunConfig, idle: set[str], problem: str) -> None:
    for name in sorted(idle):
        asked = name in config.baseline.model_fields_set and getattr(config.baseline, name)
        for key, value in (("space", getattr(config.space, name)), ("baseline", asked)):
            if value:
                raise GeneratorConfigError(problem, key=f"{key}.{name}")


def _refuse_unknown(config: RunConfig, idle: set[str], said: Sequence[set[str] | None]) -> None:
    """Refuse what is asked of all generators, and taken by none."""
    _refuse_asked(config, idle, "none of the generators takes any; leave it out")
    if None in said:
        return
    known = {name for its in said for name in its or ()}
    asked = {f"space.parameters.{name}": name for name in config.space.parameters}
    asked |= {f"baseline.parameters.{name}": name for name in config.baseline.parameters}
    for cls, own in config.space.class_parameters.items():
        asked |= {f"space.class_parameters.{cls}.{name}": name for name in own}
    for key, name in asked.items():
        if name not in known:
            raise GeneratorConfigError(
                "none of the generators takes such a parameter; leave it out", key=key
            )


def _refuse_idle(
    space: GeneratorSpace, baseline: GeneratorBaseline, idle: set[str], generator: str
) -> None:
    """Refuse a setting that a generator is asked for by its own keys, and does not take."""
    for section, its in (("space", space), ("baseline", baseline)):
        for name in sorted(idle & its.model_fields_set):
            if getattr(its, name):
                raise GeneratorConfigError(
                    f"{generator} takes none; leave it out",
                    key=f"{section}.generators.{generator}.{name}",
                )


def _only_known(config: RunConfig, space: GeneratorSpace, known: set[str]) -> dict[str, Any]:
    """Return those of all generators' parameters that a generator says it takes."""
    found: dict[str, Any] = {}
    if "parameters" not in space.model_fields_set:
        its = config.space.parameters
        found["parameters"] = {key: value for key, value in its.items() if key in known}
    if "class_parameters" not in space.model_fields_set:
        found["class_parameters"] = {
            cls: {key: value for key, value in own.items() if key in known}
            for cls, own in config.space.class_parameters.items()
        }
    return found


@contextmanager
def _keys_of(generator: str | None) -> Iterator[None]:
    """Name what is wrong with one of several generators by its own keys."""
    try:
        yield
    except GeneratorConfigError as error:
        if generator is None:
            raise
        key, own = error.key or "", {"generator": f"generators.{generator}"}
        own |= {section: f"{section}.generators.{generator}" for section in ("space", "baseline")}
        first, dot, rest = key.partition(".")
        if first == "space" and rest.partition(".")[0] not in GeneratorSpace.model_fields:
            raise GeneratorConfigError(f"{generator}: {error.problem}", key=key) from error
        if first in own:
            raise GeneratorConfigError(error.problem, key=own[first] + dot + rest) from error
        problem = error.problem.replace("generator.", f"generators.{generator}.", 1)
        named = problem if problem.startswith("generators.") else f"{generator}: {problem}"
        raise GeneratorConfigError(named, key=error.key) from error
