"""Shapes: what the JSON of a run holds at least, so that whoever reads it may rely on it.

A run folder may come from elsewhere, or be edited by hand: a file or an event of another shape is
refused in one line where it is read, and nowhere else. Keys that are not named here are let
through, for a newer version may add some (recipes and cameras know all of theirs), and no value is
changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from gapclose.generators.parameters import Parameters
from gapclose.generators.recipe import Camera, Recipe

__all__ = [
    "CameraJson",
    "ClassRow",
    "EnvironmentFile",
    "Findings",
    "GapFile",
    "GivenJson",
    "LeftOut",
    "Mixture",
    "MixturesFile",
    "Params",
    "RecipeJson",
    "Sample",
    "StateFile",
    "TagsFile",
    "TrialRow",
    "fingerprint_of",
    "mismatch",
    "mixture_key",
]

_ROUNDING: Final = 0.01
_MOST: Final = 10**12  # of images, seconds, floors ...

Item = TypeVar("Item")

Many = Annotated[list[Item], Field(strict=False)]
"""A list, of JSON; a tuple, of what is not written yet."""
Number = Annotated[float, Field(ge=-_MOST, le=_MOST)]
Count = Annotated[int, Field(ge=0, le=_MOST)]
Chance = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Side = Literal["real", "synthetic"]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


@lru_cache(maxsize=4096)
def _check_recipe(text: str) -> None:
    Recipe.from_json(json.loads(text))


def _is_recipe(value: dict[str, Any]) -> dict[str, Any]:
    """Check that a recipe can be made of it; a mixture's come again in trial after trial."""
    if not all(isinstance(part, dict) for part in value.values()):
        raise ValueError("no recipe: draw and camera have keys of their own")
    try:
        _check_recipe(json.dumps(value))
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"no recipe: {error!r}") from None
    return value


def _is_camera(value: dict[str, Any]) -> dict[str, Any]:
    try:
        Camera.from_json(value)
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"no camera: {error!r}") from None
    return value


def _is_given(value: dict[str, Any]) -> dict[str, Any]:
    from gapclose.loop.config.mixtures import GivenRecipe

    GivenRecipe.model_validate(value)
    return value


def _are_parameters(value: dict[str, Any]) -> dict[str, Any]:
    Parameters(value)
    return value


ParametersJson = Annotated[dict[str, bool | int | float | str], AfterValidator(_are_parameters)]
GivenJson = Annotated[dict[str, Any], AfterValidator(_is_given)]
RecipeJson = Annotated[dict[str, Any], AfterValidator(_is_recipe)]
CameraJson = Annotated[dict[str, Any], AfterValidator(_is_camera)]
Params = dict[str, str | bool | int | float | None]
Costs = dict[str, tuple[int, float]]


class Part(_Shape):
    """A recipe of a mixture."""

    fingerprint: str
    weight: Annotated[float, Field(ge=0.0, le=1.0 + 1e-9)]
    recipe: RecipeJson


class _Mixture(_Shape):
    recipes: Annotated[list[Part], Field(min_length=1, strict=False)]
    gap_tune: Number | None
    effective: Number | None = None

    @model_validator(mode="after")
    def _weighs(self) -> _Mixture:
        if abs(sum(part.weight for part in self.recipes) - 1.0) > _ROUNDING:
            raise ValueError("the weights do not sum to 1")
        return self


class MixturesFile(_Shape):
    """mixtures.json."""

    classes: dict[str, _Mixture]


class Judge(_Shape):
    """What a judge says of a class."""

    name: str | None = None
    gap: Number | None
    floor_p95: Number | None
    ratio: Number | None
    effect: Number | None
    p_value: Chance | None
    q_value: Chance | None


class Attribute(_Shape):
    """How often an attribute word is read, on both sides."""

    group: str
    word: str
    real: Number
    synthetic: Number
    q_value: Chance | None = None
    standard_error: Number | None = None


class Witness(_Shape):
    """Images that are most unlike the other side."""

    real: Many[str]
    synthetic: Many[str]


class Reference(_Shape):
    """Distances of the literature."""

    kid: Number | None
    fid: Number | None
    cmmd: Number | None


class Spectrum(_Shape):
    """Power by frequency."""

    frequency: Many[Number]
    real: Many[Number]
    synthetic: Many[Number]


class Read(_Shape):
    """What a zero-shot classifier takes one side for."""

    agreement: Number | None
    counts: dict[str, Many[Count]]


class Zeroshot(_Shape):
    """The same of both sides."""

    n_labels: Count | None = None
    real: Read | None = None
    synthetic: Read | None = None


class Stored(_Shape):
    """How the files of both sides differ."""

    real: str
    synthetic: str
    form: str
    differs: Many[str] = []
    gap_as_stored: Number | None = None
    ratio_as_stored: Number | None = None
    gap_in_one_form: Number | None = None
    ratio_in_one_form: Number | None = None


class Moments(_Shape):
    """Of a number of a mixture's recipes."""

    mean: Number
    sd: Number


class MarginalShares(_Shape):
    """Of a mixture's words, choices and numbers."""

    words: dict[str, dict[str, Number]]
    unread: dict[str, Number]
    choices: dict[str, dict[str, Number]]
    numbers: dict[str, Moments]


class BothShares(_Shape):
    """Of what was kept, and of the baseline."""

    mixture: MarginalShares
    baseline: MarginalShares

    @model_validator(mode="after")
    def _is_of_one_space(self) -> BothShares:
        for kind in ("words", "choices", "numbers"):
            if getattr(self.mixture, kind).keys() != getattr(self.baseline, kind).keys():
                raise ValueError(f"mixture and baseline have other {kind}")
        return self


class Copy(_Shape):
    """An image that is nearly a photo."""

    synthetic: str
    real: str


class _Measured(_Shape):
    """What gap.json says of a class, before or after tuning."""

    name: str
    n_real: Count
    n_synthetic: Count
    gap: Number | None
    floor_p95: Number | None
    ratio: Number | None
    effect: Number | None
    p_value: Chance | None
    q_value: Chance | None
    closed: bool | None
    confirmed: bool | None
    auc: Number | None
    precision: Number | None
    recall: Number | None
    density: Number | None
    coverage: Number | None
    spectrum_gap: Number | None
    label_agreement: Number | None
    duplicates: Count | None
    invalid: Count | None
    judge: Judge | None
    detectable: Number | None = None
    vendi_ratio: Number | None = None
    judges: Many[Judge] | None = None
    attributes: Many[Attribute] | None = None
    witness: Witness | None = None
    reference: Reference | None = None
    spectrum: Spectrum | None = None
    zeroshot: Zeroshot | None = None
    stored: Stored | None = None
    repeats: dict[str, Count] | None = None
    invalid_real: Count = 0
    guards: dict[str, Number | None] | None = None
    neighbors: dict[str, Number | None] | None = None
    standard_error: Number | None = None
    objections: Many[str] | None = None
    copies: Many[Copy] | None = None
    recall_shortfall: Number | None = None
    recall_real: Number | None = None
    recall_synthetic: Number | None = None


class _Evaluated(_Measured):
    gap: Number
    floor_p95: Number
    p_value: Chance


class _ClassRow(_Measured):
    before: _Measured | None = None
    mixture: str | None = None
    generator: str | None = None
    optimism: Number | None = None
    shares: BothShares | None = None
    importances: dict[str, Number] | None = None
    parameter_importances: dict[str, Number] | None = None


class Cluster(_Shape):
    """Images that lie apart."""

    id: Count
    size: Count
    n_real: Count
    n_synthetic: Count
    cls: Annotated[str, Field(alias="class")]
    class_share: Number
    side: Side
    name: str | None
    samples: Many[str]
    q_value: Chance | None
    stage: str | None = None


class Reason(_Shape):
    """A file that is not scored, and why."""

    path: str
    why: str
    side: Side | None = None
    cls: Annotated[str | None, Field(alias="class")] = None


class OtherFile(Reason):
    """A file that was passed over."""

    side: Side


class Repeats(_Shape):
    """Images that repeat one another."""

    cls: Annotated[str, Field(alias="class")]
    side: str
    kind: Literal["exact", "near"]
    kept: str
    copies: Many[str]
    counted: bool | None = None


class Skipped(_Shape):
    """A class that is not scored."""

    cls: Annotated[str, Field(alias="class")]
    why: str


class Shortcut(_Shape):
    """How well one kind of low-level features tells the classes."""

    feature: str
    real: Number | None
    synthetic: Number | None
    by_real_rule: Number | None
    objection: str | None


class _LeftOut(_Shape):
    unreadable: Many[Reason] = []
    invalid_images: Many[Reason] = []
    other_files: Many[OtherFile] = []
    n_other_files: dict[str, Count] = {}
    repeats: Many[Repeats] = []


class _Found(_LeftOut):
    confounds: Many[str] = []
    clusters: Many[Cluster] = []
    notes: Many[str] | None = None
    shortcuts: Many[Shortcut] | None = None
    shortcuts_before: Many[Shortcut] | None = None
    generators: Many[GeneratorInfo] | None = None


def _checking(shape: type[BaseModel]) -> AfterValidator:
    """Return what checks a mapping and leaves it as it is."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        if problem := mismatch(shape, value):
            raise ValueError(problem)
        return value

    return AfterValidator(check)


Mixture = Annotated[dict[str, Any], _checking(_Mixture)]


class GeneratorAlone(_Shape):
    """What one of several generators comes to in a class by itself."""

    name: str
    weight: Number
    images: Count
    gap: Number | None = None
    mixture: Mixture | None = None


class ClassGenerators(_Shape):
    """What several generators come to in a class; gaps are on images that were not fitted to."""

    floor_p95: Number
    together: Number | None = None
    alone: Many[GeneratorAlone]


class GeneratorInfo(_Shape):
    """A generator of a run; the only one has no name."""

    name: str | None
    id: str
    revision: str | None = None
    license: str | None = None
    seconds_per_image: Number | None = None


class _Finding(_Shape):
    stored: Stored | None = None
    shares: BothShares | None = None
    importances: dict[str, Number] | None = None
    parameter_importances: dict[str, Number] | None = None
    generators: ClassGenerators | None = None
    before: dict[str, Any] = {}


class _Findings(_Found):
    rows: dict[str, _Finding] = {}


class GapFile(_Found):
    """gap.json, schema 1."""

    embedder: str
    judge: str | None
    judges: Many[str] | None = None
    camera: CameraJson | None = None
    equalized: bool | None = None
    classes: Many[_ClassRow]
    skipped: Many[Skipped]
    stopped: dict[str, str] | None = None
    stop_reasons: dict[str, str] | None = None


class _ClassCount(_Shape):
    gap: Number | None = None
    ratio: Number | None = None
    floor_p95: Number | None = None
    effect: Number | None = None
    trials: Count | None = None
    failed: Count | None = None
    images: Count | None = None
    closed: bool | None = None
    confirmed: bool | None = None


class StateFile(_Shape):
    """state.json."""

    stage: str
    kind: str | None = None
    seconds_used: Number | None = None
    budget_seconds: Number | None = None
    images: Count | None = None
    classes: dict[str, _ClassCount] = {}
    given: str | None = None
    stopped_because: str | None = None


class _Job(_Shape):
    recipe: RecipeJson
    seeds: Many[Seed]


Plain = str | bool | int | float | None


class EnvironmentFile(_Shape):
    """environment.json: names and what they say, some in groups."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, Plain | dict[str, Plain]]

    origin: Annotated[str, Field(max_length=400)] | None = None


class Tagged(_Shape):
    """An image that bears tags."""

    path: str
    tags: Many[str]


class TagsFile(_Shape):
    """tags.json."""

    samples: Many[Tagged]
    dataset: str | None = None


class TrialRow(_Shape):
    """A line of trials.jsonl."""

    cls: Annotated[str, Field(alias="class")]
    number: Count
    stage: str
    state: str
    recipe: RecipeJson | None = None
    jobs: Many[_Job] | None = None
    seeds: Many[Seed] | None = None
    error: str | None = None
    invalid: Count | None = None
    gap: Number | None = None
    mixture_gap: Number | None = None
    value: Number | None = None
    images_total: Count | None = None
    seconds: Number | None = None


class Sample(_Shape):
    """A line of samples.jsonl."""

    path: str
    cls: Annotated[str, Field(alias="class")]
    side: Side
    stage: Literal["real", "baseline", "tuned"]
    split: str | None = None
    recipe: str | None = None
    seed: Seed | None = None
    clusters: Many[Count] | None = None
    witness: Number | None = None
    nearest_real: Number | None = None
    outlier: Number | None = None
    label: str | None = None
    confidence: Number | None = None
    prompt: str | None = None
    guidance_scale: Number | None = None
    num_inference_steps: Count | None = None
    scheduler: str | None = None
    parameters: ParametersJson | None = None
    generator: str | None = None
    camera: CameraJson | None = None


def mixture_key(mixture: Mapping[str, Any]) -> str:
    """Return 32 hex digits that say which mixture it is; a verdict names it by them.

    Args:
        mixture: Of a class, as in mixtures.json.
    """
    parts = sorted((fingerprint_of(part["recipe"]), part["weight"]) for part in mixture["recipes"])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def fingerprint_of(recipe: Mapping[str, Any]) -> str:
    """Return the fingerprint of a recipe, whatever a file says that it is."""
    return Recipe.from_json(recipe).fingerprint()


ClassRow = Annotated[dict[str, Any], _checking(_Evaluated)]
Findings = Annotated[dict[str, Any], _checking(_Findings)]
LeftOut = Annotated[dict[str, Any], _checking(_LeftOut)]


def mismatch(shape: Any, value: object) -> str | None:
    """Say where a value is not of a shape, and what is expected there; None if it is."""
    try:
        _adapter(shape).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"])
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    except RecursionError:
        return "nested too deeply"
    return None


@lru_cache
def _adapter(shape: Any) -> TypeAdapter[Mapping[str, Any]]:
    return TypeAdapter(shape)
