"""Mixtures as a person reads and edits them: what `export` writes and `tune --like` reads.

A recipe says what makes it another than the baseline of the run that it is given to; sizes and
whatever belongs to a machine are not in it. Every mistake is a ConfigError of one line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from gapclose.generators.conditioning import takes_caption
from gapclose.generators.recipe import Draw, Recipe
from gapclose.loop.config.hints import shown
from gapclose.loop.config.parameters import FixedParameters
from gapclose.loop.config.plain_yaml import dump_yaml, parse_yaml
from gapclose.loop.config.space import FixedCamera
from gapclose.loop.config.text_file import read_text
from gapclose.loop.config.validation_errors import first_error
from gapclose.loop.config.values import Count, Section, Text
from gapclose.loop.errors import ConfigError

__all__ = ["ClassMixture", "GivenRecipe", "MixturesFile", "is_mixtures_file"]

SUFFIXES: Final = (".yaml", ".yml")
DIGITS: Final = 4  # of a weight: smaller differences are chance

_LONGEST_NAME: Final = 255  # characters: of a file

_HEAD: Final = """\
# Mixtures of a gapclose run. Weights are shares, and are scaled to sum to 1. To begin with these:
#     gapclose tune CONFIG --like THIS_FILE
"""


class GivenRecipe(Section):
    """A recipe and its weight; what it does not name is as in the baseline.

    Attributes:
        photos: Any word where captions or source pictures of real photos are taken: those of all
            tune photos of the run that it is given to.
        camera: What was put on the images; a run has one camera of its own for all.
    """

    # No default is ever taken: what is unset is the baseline's.
    weight: float = Field(ge=0.0, le=1e9)
    prompt: Text
    negative_prompt: Text = ""
    guidance_scale: float = Field(default=0.0, ge=0.0)
    num_inference_steps: Count = 1
    scheduler: Text | None = None
    photos: Text | None = None
    strength: float | None = Field(default=None, gt=0.0, le=1.0)
    ip_adapter_scale: float | None = Field(default=None, ge=0.0, le=1.0)
    parameters: FixedParameters = Field(default_factory=dict)
    generator: Text | None = None
    camera: FixedCamera | None = None

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("got an empty prompt, expected words")
        return prompt

    @model_validator(mode="after")
    def _is_a_draw(self) -> GivenRecipe:
        if self.photos is None and not (self.strength is self.ip_adapter_scale is None):
            raise ValueError("strength and ip_adapter_scale need photos; add photos: all photos")
        if self.photos is None and takes_caption(self.prompt):
            raise ValueError("a prompt of captions needs photos; add photos: all photos")
        Draw(**self.row(exclude={"weight", "camera"}))
        return self

    @classmethod
    def of(cls, recipe: Recipe, weight: float, *, photos: Mapping[str, str]) -> GivenRecipe:
        """Say what a recipe is.

        Args:
            recipe: Of a run.
            weight: In its mixture.
            photos: Digest of a photo group -> its name.
        """
        draw, camera = recipe.draw.to_json(), recipe.camera
        said = {key: value for key, value in draw.items() if key in cls.model_fields}
        if "photos" in said:
            said["photos"] = photos.get(said["photos"], said["photos"])
        if not camera.is_identity:
            said["camera"] = {
                name: value
                for name, value in camera.to_json().items()
                if value != FixedCamera.model_fields[name].default
            }
        return cls.model_validate({"weight": weight, **said})

    def row(self, *, exclude: set[str] | None = None) -> dict[str, Any]:
        """Return what it says as plain values, and nothing that it does not say."""
        return self.model_dump(mode="json", exclude_unset=True, exclude=exclude)


class ClassMixture(Section):
    """What a class ended with.

    Attributes:
        confirmed: Whether unseen photos confirmed it; for a person to read.
        ratio: Its gap in floors, on those.
        recipes: Of which one at least has weight.
    """

    confirmed: bool | None = None
    ratio: float | None = None
    recipes: Annotated[tuple[GivenRecipe, ...], Field(strict=False, min_length=1)]

    @model_validator(mode="after")
    def _weighs(self) -> ClassMixture:
        if not math.fsum(recipe.weight for recipe in self.recipes) > 0:
            raise ValueError("no recipe has a weight above 0; give one to at least one")
        return self

    @classmethod
    def of(
        cls,
        mixture: Mapping[str, Any],
        row: Mapping[str, Any],
        *,
        photos: Mapping[str, str] | None = None,
    ) -> ClassMixture:
        """Say what a mixture is.

        Args:
            mixture: Of a class, as in mixtures.json.
            row: Of the class in gap.json, as far as it has one.
            photos: Digest of a photo group of the class -> its name.
        """
        ratio = row.get("ratio")
        return cls(
            confirmed=row.get("confirmed") is True,
            ratio=None if ratio is None else round(ratio, 2),
            recipes=tuple(
                GivenRecipe.of(
                    Recipe.from_json(part["recipe"]),
                    round(part["weight"], DIGITS),
                    photos=photos or {},
                )
                for part in mixture["recipes"]
            ),
        )

    def rows(self) -> tuple[dict[str, Any], ...]:
        """Return the recipes that have weight, scaled to sum to 1."""
        total = math.fsum(recipe.weight for recipe in self.recipes)
        return tuple(
            {**recipe.row(), "weight": recipe.weight / total}
            for recipe in self.recipes
            if recipe.weight > 0
        )


class MixturesFile(Section):
    """The mixtures of a run.

    Attributes:
        run: Its name, which others call the mixtures by.
        generator: What they were tuned for.
        embedder: What they were tuned by.
        classes: By name.
    """

    version: Literal[1] = Field(alias="schema")
    run: Text | None = None
    generator: Text | None = None
    embedder: Text | None = None
    classes: dict[str, ClassMixture] = Field(min_length=1)

    @field_validator("run")
    @classmethod
    def _is_a_name(cls, run: str | None) -> str | None:
        if run is not None and len(run) > _LONGEST_NAME:
            raise ValueError(f"got {shown(run)}, expected the name of a run folder")
        return run

    @classmethod
    def read(cls, path: Path) -> MixturesFile:
        """Read a YAML file.

        Raises:
            ConfigError: It cannot be read, or is nothing of the kind; the key is named.
        """
        data = parse_yaml(read_text(path), where=str(path))
        if not isinstance(data, dict) or "classes" not in data:
            raise ConfigError(
                f"got {shown(data)}, expected the YAML of mixtures that `gapclose export RUN "
                "OUT.yaml` writes, or a run folder",
                where=path,
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise first_error(error, data, where=str(path), keys_at=_keys_at) from None

    def to_yaml(self) -> str:
        """Return YAML that `read` reads back as it is."""
        plain = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return _HEAD + dump_yaml(plain)

    def rows(self) -> dict[str, tuple[dict[str, Any], ...]]:
        """Return the recipes of each class, their weights scaled to sum to 1."""
        return {name: mixture.rows() for name, mixture in self.classes.items()}


def is_mixtures_file(path: Path) -> bool:
    """Return whether a path names a YAML file, not a folder."""
    return path.suffix.lower() in SUFFIXES


def _keys_at(keys: Sequence[str | int], data: Mapping[str, Any]) -> list[str]:
    """Name what may stand below some keys: `classes.frog.recipes[0].camera`."""
    sections: tuple[type[BaseModel] | None, ...] = (
        MixturesFile,
        None,  # the names of classes are free
        ClassMixture,
        None,
        GivenRecipe,
        FixedCamera,
    )
    section = sections[len(keys)] if len(keys) < len(sections) else None
    if section is None:
        return []
    return [field.alias or name for name, field in section.model_fields.items()]
