"""The schema of a config: everything that a person sets of a run, immutable and checked.

The command line, the session and the run folder hold a `RunConfig`; `reading` makes one of a
file. Nothing here reads images, loads a model, or imports what a config names.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_serializer, field_validator, model_validator

from gapclose.analysis.unseen import UNSEEN
from gapclose.loop.config.beginning import check_beginning
from gapclose.loop.config.hints import nearest, shown
from gapclose.loop.config.paths import absolute_path, expanded, is_embedder_code, local_embedder
from gapclose.loop.config.plain_yaml import dump_yaml
from gapclose.loop.config.sources import (
    FolderSpec,
    GeneratorName,
    GeneratorSpec,
    PondReal,
    Real,
    Spec,
)
from gapclose.loop.config.space import BaselineConfig, SpaceConfig
from gapclose.loop.config.values import (
    Count,
    Device,
    Seconds,
    Section,
    Words,
    config_folder,
    template_slots,
)
from gapclose.loop.errors import ConfigError

__all__ = ["ConfirmConfig", "RunConfig", "TuneConfig"]


class TuneConfig(Section):
    """What to search for, when to stop, and how many images a trial generates.

    `trials` and `images` are limits per class; the baseline is trial 0, and 100 images, or fewer
    where time is short.
    """

    objective: Literal["gap", "worth"] = "gap"

    budget: Seconds = 8 * 3600.0
    trials: Count | None = None
    images: Count | None = None
    images_per_trial: int = Field(default=8, ge=2, le=1000)  # one image has no gap
    seed: int = Field(default=0, ge=0, le=2**31 - 1)  # seeds of images count up from it

    @model_validator(mode="after")
    def _ends(self) -> TuneConfig:
        if self.budget is None and self.trials is None and self.images is None:
            raise ValueError("nothing ends the search; set budget, trials or images")
        return self


class ConfirmConfig(Section):
    """How many fresh images per class a confirmation takes."""

    images: int = Field(default=200, ge=20, le=100_000)


class RunConfig(Section):
    """The settings of a run; immutable, and equal to what RUN/config.yaml says."""

    real: Real
    classes: Literal["all"] | tuple[str, ...] = "all"
    generator: GeneratorSpec | None = None
    generators: dict[GeneratorName, GeneratorSpec] = Field(default_factory=dict)
    embedder: str
    # null, one name or a list; all of a panel have to agree, and the first stands for it where
    # features are wanted rather than a verdict.
    judge: tuple[str, ...] = ()
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
            raise ValueError(f"got {shown(value)}, expected all, or a list of class names")
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f"got {shown(name)}, expected a class name; put it in quotes")
        if len(set(value)) != len(value):
            raise ValueError(f"got {list(value)}, expected each class once")
        return tuple(value)

    @field_validator("embedder")
    @classmethod
    def _absolute(cls, name: str, info: ValidationInfo) -> str:
        return local_embedder(name, base=config_folder(info))

    @field_validator("judge", mode="before")
    @classmethod
    def _panel(cls, value: object) -> object:
        if value is None:
            return ()
        return tuple(value) if isinstance(value, list | tuple) else (value,)

    @field_validator("judge")
    @classmethod
    def _each_once(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        judges = tuple(local_embedder(name, base=config_folder(info)) for name in names)
        twice = [name for name in judges if judges.count(name) > 1]
        if twice:
            raise ValueError(f"{shown(twice[0])} is named twice; name each judge once")
        return judges

    @field_serializer("judge")
    def _as_written(self, judges: tuple[str, ...]) -> str | list[str] | None:
        """Write null, one name or a list: configs of runs with one judge stay what they were."""
        return list(judges) if len(judges) > 1 else next(iter(judges), None)

    @field_validator("code_folder")
    @classmethod
    def _folder(cls, path: str | None, info: ValidationInfo) -> str | None:
        return None if path is None else absolute_path(path, base=config_folder(info))

    @field_validator("storage")
    @classmethod
    def _outlives_the_run(cls, url: str | None) -> str | None:
        if url is not None and (scheme := re.match(r"sqlite(\+\w+)?:///", url)):
            url = scheme[0] + expanded(url.removeprefix(scheme[0]))
        if url is not None and UNSEEN.search(url):
            raise ValueError(f"got {shown(url)}, which holds a character that cannot be seen")
        memory = r"sqlite(\+\w+)?://(/?(\?.*)?|.*(:memory:|[?&]mode=memory).*)"
        if url is not None and re.fullmatch(memory, url):
            raise ValueError(
                f"got {shown(url)}, which is kept in memory and gone when the run ends; expected "
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
        if self.embedder in self.judge:
            raise ValueError(
                f"judge: {shown(self.embedder)} is the embedder, which cannot confirm itself; "
                "name another one, or null"
            )
        return self

    @model_validator(mode="after")
    def _class_slot(self) -> RunConfig:
        several = isinstance(self.real, PondReal) if self.classes == "all" else self.classes[1:]
        if several:
            self._check_class_slot()
        return self

    @model_validator(mode="after")
    def _generates(self) -> RunConfig:
        if self.generator is None and not self.generators:
            raise ValueError("generator is missing; add it")
        if self.generator is not None and self.generators:
            raise ValueError("generators: there is a generator, too; take one of the two out")
        for section in ("space", "baseline"):
            for name in getattr(self, section).generators:
                if name not in self.generators:
                    raise ValueError(
                        f"{section}.generators: {shown(name)} is none of the generators; "
                        f"{nearest(name, [*self.generators])}"
                    )
        if self.generators and "generator" in self.space.slots:
            raise ValueError(
                "space.slots must not define generator, for there are several; call the slot "
                "something else"
            )
        for name, spec in self.generators.items():
            if isinstance(spec, FolderSpec):
                raise ValueError(
                    f"generators.{name}.kind: a folder holds images that exist and draws no new "
                    "ones; take it out"
                )
        return self

    @model_validator(mode="after")
    def _can_begin(self) -> RunConfig:
        for name in self.drawn_by:
            check_beginning(self.alone(name), name)
        return self

    @property
    def drawn_by(self) -> dict[str | None, Spec]:
        """The generators: by the name that draws have, None of the only one of `generator`."""
        if self.generator is not None:
            return {None: self.generator}
        return dict(self.generators.items())

    def alone(self, name: str | None) -> RunConfig:
        """Return the config of a run with one of the generators alone; itself, where it has one.

        Args:
            name: As in `drawn_by`.
        """
        if name is None:
            return self
        return self.model_copy(
            update={
                "generator": self.generators[name],
                "generators": {},
                "space": self.space.of_generator(name),
                "baseline": self.baseline.of_generator(name),
            }
        )

    def _check_class_slot(self) -> None:
        prompts = [("space.prompt", prompt) for prompt in self.space.templates]
        prompts.append(("baseline.prompt", self.baseline.prompt))
        prompts += [
            (f"baseline.generators.{name}.prompt", its.prompt)
            for name, its in self.baseline.generators.items()
        ]
        for key, prompt in prompts:
            if not {"class", "caption"} & {*template_slots(prompt)}:
                raise ValueError(
                    f"{key}: {shown(prompt)} has no template slot for the class; put {{class}} "
                    "where its noun belongs, or name a single class in classes"
                )

    def select_classes(self, available: Sequence[str]) -> tuple[str, ...]:
        """Choose the run's classes among those of the real images, in the config's order.

        Args:
            available: the classes that the real folder holds.

        Raises:
            ConfigError: If `classes` or `space.nouns` names one that is not there (the nearest
                is named), or if a prompt has no slot for the class although several are chosen.
        """
        chosen = tuple(available) if self.classes == "all" else tuple(self.classes)
        named = {
            "classes": chosen,
            "space.nouns": tuple(self.space.nouns),
            "space.class_parameters": tuple(self.space.class_parameters),
        }
        for key, names in named.items():
            strange = [name for name in names if name not in available]
            if strange:
                others = f" (nor {', '.join(strange[1:6])})" if strange[1:] else ""
                raise ConfigError(
                    f"{key}: {shown(strange[0])} is no class of the real images{others}; "
                    f"{nearest(strange[0], available)}",
                    where="config",
                    key=key,
                )
        if len(chosen) > 1:
            try:
                self._check_class_slot()
            except ValueError as error:
                raise ConfigError(str(error), where="config") from None
        return chosen

    @property
    def encoders(self) -> tuple[str, ...]:
        """The names of the embedder and then of the judges."""
        return (self.embedder, *self.judge)

    def judge_keys(self) -> dict[str, Any]:
        """Return the keys of gap.json that name the judges; `judges` of several alone."""
        several = {"judges": list(self.judge)} if len(self.judge) > 1 else {}
        return {"judge": next(iter(self.judge), None), **several}

    def names_code(self) -> tuple[str, ...]:
        """Name the user's own code that a run of this config imports (`pkg.mod:Class`, ...)."""
        named = filter(None, (spec.names_code() for spec in self.drawn_by.values()))
        proposer = self.space.proposer
        proposers = () if proposer is None else (proposer,)
        return (*named, *filter(is_embedder_code, (*self.encoders, *proposers)))

    def runs_program(self) -> str | None:
        """Name the programs that a run of this config starts, as a shell would take them."""
        named = filter(None, (spec.runs_program() for spec in self.drawn_by.values()))
        return " and ".join(named) or None

    def admit_code(self) -> None:
        """Let the modules that this config names be found; only once they may be imported.

        Their folder comes last: what is installed, and the standard library, is never shadowed.
        """
        folder = self.code_folder
        if folder is None or folder in sys.path or not self.names_code():
            return  # whatever a library misses would be found there, too
        # Of anything else Python would read the whole, for it may be an archive of modules.
        if Path(folder).is_dir():
            sys.path.append(folder)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts, numbers and words, as YAML and JSON have them."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return YAML that `load_config` reads back as an equal config."""
        return dump_yaml(self.to_dict())
