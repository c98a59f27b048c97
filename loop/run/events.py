"""Events: the lines of a run's journal, one frozen model a kind.

The loop appends them, `state` folds them, `Searches` replays them, and reporters receive the same
ones, beside the notices of `notices` that no journal keeps. They hold facts: reasons are
enums, and what a person reads is made of them in `report` and `progress`. A newer version may add
fields; a reader ignores those that it does not know.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, TypeAdapter, model_serializer

from gapclose.loop.run.fact import Fact, Text
from gapclose.loop.run.shapes import (
    CameraJson,
    ClassRow,
    Costs,
    Findings,
    GivenJson,
    LeftOut,
    Mixture,
    Params,
    RecipeJson,
    Seed,
)

__all__ = [
    "CameraChosen",
    "ClassVerdict",
    "ConfirmationFailed",
    "Digests",
    "Event",
    "FoldEvaluated",
    "FoldOpened",
    "Job",
    "MixturesGiven",
    "PhotosGrouped",
    "PhotosListed",
    "Progress",
    "PromptsPrioritized",
    "PromptsProposed",
    "Recall",
    "RecallsMeasured",
    "RoundStarted",
    "RunFinished",
    "RunStarted",
    "SessionStarted",
    "Stage",
    "StopReason",
    "Stopped",
    "TrialFailed",
    "TrialFinished",
    "TrialProposed",
    "VerdictsReached",
    "read_event",
]


Stage = Literal["baseline", "given", "parameters", "screen", "settings", "joint", "mixture"]
"""What a trial tries."""


class StopReason(StrEnum):
    """Why a class gets no more trials."""

    CONFIRMED = "confirmed"
    CLOSED_FROM_START = "closed_from_start"
    CLOSED_ON_TUNE_SPLIT = "closed_on_tune_split"
    BASELINE_KEPT = "baseline_kept"
    FAILURES = "failures"
    CONFIRMATION_FAILED = "confirmation_failed"
    LIMIT = "limit"
    SEEDS_SPENT = "seeds_spent"
    NO_PHOTOS_LEFT = "no_photos_left"
    NO_FOLDS_LEFT = "no_folds_left"
    INTERRUPTED = "interrupted"
    OUT_OF_BUDGET = "out_of_budget"
    TOO_LITTLE_TIME = "too_little_time"
    OBJECTIVE = "objective"


class Stopped(Fact):
    """Why a class stopped.

    Attributes:
        reason: One of ours; `OBJECTIVE` for any other that an objective gives.
        detail: The message of the error that stopped it, or the objective's own words.
    """

    reason: StopReason
    detail: Text | None = None


class Job(Fact):
    """A recipe, and the seeds that it is generated with."""

    recipe: RecipeJson
    seeds: tuple[Seed, ...]


class Digests(Fact):
    """What an event names on the disk, as `gapclose.loop.work.evidence` digests it.

    Attributes:
        rows: Of the embeddings, with the recipes and seeds that they are of.
        images: Of the images that were embedded, before the camera; of a fold's after it, too.
        judges: Of the judges' embeddings of a fold; None where there are none.
    """

    rows: str
    images: str
    judges: str | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, write: SerializerFunctionWrapHandler) -> dict[str, str]:
        """Leave out what most events lack: there is one in every line of a trial."""
        return {name: its for name, its in write(self).items() if its is not None}


class Progress(Fact):
    """Where the search of a class stands after an event; gaps are squared MMD to the tune split.

    Attributes:
        floor: `floor_p95` at the size of a confirmation.
        baseline_gap: Of trial 0; None before.
        gap: Of the mixture, on images that it was not fitted to.
        expected: Its estimate before fresh images were scored.
        since_gain: Trials since the gap fell.
        evidence: How many times the mixture was fitted or scored anew.
        closed_from_start: Whether the baseline has no gap.
        closed: Whether the mixture has none.
        opened: Whether the first prompts have been tried.
        pending: Whether a prioritized prompt is still to be tried.
        given: Whether a given mixture is still to be tried, or measured further.
        winner: The settings that the class has chosen.
    """

    floor: float | None = None
    baseline_gap: float | None = None
    gap: float | None = None
    expected: float | None = None
    since_gain: int = 0
    evidence: int = 0
    closed_from_start: bool = False
    closed: bool = False
    opened: bool = False
    pending: bool = False
    given: bool = False
    winner: Params | None = None


class Recall(Fact):
    """What a class's images are worth to whoever trains on those of all classes.

    Attributes:
        real: Share of its real photos told right after training on real ones, in [0, 1].
        synthetic: The same after training on synthetic ones.
        n: Photos that were told.
    """

    real: float
    synthetic: float
    n: int

    @property
    def shortfall(self) -> float:
        """Return what is missing; it may be slightly negative."""
        return self.real - self.synthetic


class _Event(Fact):
    """What every line has.

    Attributes:
        at: Unix time in seconds.
        used: Seconds of the budget that all sessions have used.
    """

    at: float = 0.0
    used: float = 0.0


class RunStarted(_Event):
    """The first line.

    Attributes:
        run: Names the run's Optuna studies.
        config: `identity.measured_as` of the config; None in journals that do not say.
    """

    kind: Literal["run_started"] = "run_started"
    run: str
    config: str | None = None


class SessionStarted(_Event):
    """A process has begun to work on the run.

    Attributes:
        classes: Of the run, in its order.
        budget: Of all sessions, in seconds.
        probe: Seconds of `probe()`.
    """

    kind: Literal["session_started"] = "session_started"
    classes: tuple[str, ...]
    budget: float | None = None
    probe: float | None = None


class PhotosListed(_Event):
    """The real images as they are from now on.

    Attributes:
        tune: By class, the photos of the tune split, by content.
        cuts: By class, which of its cuts is not the first.
        left_out: What is not scored, as gap.json has it.
    """

    kind: Literal["photos_listed"] = "photos_listed"
    tune: dict[str, tuple[str, ...]]
    cuts: dict[str, int] = Field(default_factory=dict)
    left_out: LeftOut = Field(default_factory=dict)


class PhotosGrouped(_Event):
    """The photo groups of a class, which its recipes may name from now on.

    Attributes:
        groups: Name -> digest of the `PhotoGroup`.
    """

    kind: Literal["photos_grouped"] = "photos_grouped"
    cls: str
    groups: dict[str, str]


class MixturesGiven(_Event):
    """The mixtures that classes begin with, from another run; before any trial.

    Attributes:
        source: The run or file that they are of.
        mixtures: By class, also of classes that the run does not have: recipes with their weights,
            as `gapclose.loop.config.mixtures` reads them.
    """

    kind: Literal["mixtures_given"] = "mixtures_given"
    source: Text
    mixtures: dict[str, tuple[GivenJson, ...]]


class RoundStarted(_Event):
    """A round of search and confirmation begins.

    Attributes:
        due: Classes to search and then to confirm.
        reopened: Of them, those that failed their last confirmation, with the gap it saw.
        reset: Of them, those whose failures are forgotten.
        halfway: Seconds left when half of the round's search time is used.
    """

    kind: Literal["round_started"] = "round_started"
    due: tuple[str, ...]
    reopened: dict[str, float] = Field(default_factory=dict)
    reset: tuple[str, ...] = ()
    halfway: float | None = None


class PromptsPrioritized(_Event):
    """What a person tagged puts these prompts first; `reset` forgets the class's failures."""

    kind: Literal["prompts_prioritized"] = "prompts_prioritized"
    cls: str
    prompts: tuple[dict[str, str], ...]
    reset: bool = False


class PromptsProposed(_Event):
    """What a proposer made of a class's diagnosis; its prompts come first.

    Attributes:
        prompts: Empty where it failed, or knew nothing new.
        progress: Of the class, which they come first in.
        seconds: That it took.
        error: What it failed with; None where it did not.
    """

    kind: Literal["prompts_proposed"] = "prompts_proposed"
    cls: str
    prompts: tuple[dict[str, str], ...]
    progress: Progress
    seconds: float
    error: str | None = None


class CameraChosen(_Event):
    """The run's camera; the search of each class stands elsewhere under it.

    Attributes:
        camera: As `Camera.to_json`.
        turn: The class whose trial comes next.
        progress: By class.
        digests: By class, of its images under the camera.
    """

    kind: Literal["camera_chosen"] = "camera_chosen"
    camera: CameraJson
    turn: str
    progress: dict[str, Progress]
    digests: dict[str, Digests] = Field(default_factory=dict)


class RecallsMeasured(_Event):
    """A CNN was trained on the mixtures as they stand, and told photos of the tune split.

    Attributes:
        recalls: By class.
        prompts: By class, that come before all others from now on: they would bring more of the
            photos which were told wrong. Where there are none, no more do.
        progress: Of the same classes.
        seconds: That it took.
    """

    kind: Literal["recalls_measured"] = "recalls_measured"
    recalls: dict[str, Recall]
    prompts: dict[str, tuple[dict[str, str], ...]] = Field(default_factory=dict)
    progress: dict[str, Progress] = Field(default_factory=dict)
    seconds: float = 0.0


class TrialProposed(_Event):
    """A trial is about to be run: its number, recipes and seeds stand before any work is done."""

    kind: Literal["trial_proposed"] = "trial_proposed"
    cls: str
    number: int
    stage: Stage
    params: Params
    jobs: tuple[Job, ...]


class TrialFinished(_Event):
    """A trial's images are scored.

    Attributes:
        gap: Of its own images.
        value: What the Optuna study records.
        mixture_gap: Of the best mixture after it.
        invalid: Images that could not be scored.
        images: Generated for it.
        seconds: That it took.
        copied: Seeds of images that copy the photo that they are made from.
        probe: Seconds of `probe()`, where it was asked.
        digests: Of what it brought; None in journals that do not say.
        costs: Images and seconds of each generator that drew for it, where there are several.
    """

    kind: Literal["trial_finished"] = "trial_finished"
    cls: str
    number: int
    gap: float | None
    value: float | None
    mixture_gap: float | None
    invalid: int
    images: int
    seconds: float
    progress: Progress
    copied: tuple[int, ...] = ()
    probe: float | None = None
    digests: Digests | None = None
    costs: Costs | None = None


class TrialFailed(_Event):
    """A trial has no score; fields as in `TrialFinished`."""

    kind: Literal["trial_failed"] = "trial_failed"
    cls: str
    number: int
    error: Text
    invalid: int
    images: int
    seconds: float
    progress: Progress
    probe: float | None = None
    costs: Costs | None = None


class FoldOpened(_Event):
    """A fold of the confirm split is about to judge a mixture, and from now on no other.

    Attributes:
        fold: Its number.
        photos: Of the fold, by content.
        mixture: As in mixtures.json.
        trials: Of the class so far.
        evidence: `Progress.evidence`.
        spends: False for the mere baseline, from which no search has learned: the same fold may
            judge the first mixture.
        early: Whether others are still searched.
    """

    kind: Literal["fold_opened"] = "fold_opened"
    cls: str
    fold: int
    photos: tuple[str, ...]
    mixture: Mixture
    trials: int
    evidence: int
    spends: bool
    early: bool = False


class FoldEvaluated(_Event):
    """What a fold says of a class; nothing is decided before all classes are judged together.

    Attributes:
        mixture: That is kept: the fold's, or the baseline where that did no better.
        before: Row of gap.json of the baseline, with q-values of the class alone.
        after: Row of the mixture.
        agreement: Share of the fold's photos that are read as the class.
        drawn: Of what was generated: fingerprint of the draw, first seed, count of seeds.
        images: Generated for it.
        seconds: That it took.
        generator: What generated them, as `version_of`; None in journals that do not say.
        probe: Seconds of `probe()`.
        digests: By stage, of what was measured.
    """

    kind: Literal["fold_evaluated"] = "fold_evaluated"
    cls: str
    fold: int
    mixture: Mixture
    before: ClassRow
    after: ClassRow
    agreement: float | None
    drawn: tuple[tuple[str, int, int], ...]
    images: int
    seconds: float
    generator: Text | None = None
    probe: float | None = None
    digests: dict[str, Digests] = Field(default_factory=dict)


class ConfirmationFailed(_Event):
    """A fold could not be evaluated."""

    kind: Literal["confirmation_failed"] = "confirmation_failed"
    cls: str
    fold: int
    error: Text


class ClassVerdict(Fact):
    """What became of a class; figures as in gap.json.

    Attributes:
        objections: Why a closed class is not confirmed; None in journals that do not say.
        recall: Of the fold's photos, by their neighbours; None where it was not asked.
        mixture: `shapes.mixture_key` of what it is a verdict of; None in journals that do not say.
    """

    fold: int
    gap: float
    ratio: float | None
    floor_p95: float
    effect: float | None
    q_value: float
    closed: bool | None
    confirmed: bool
    objections: tuple[Text, ...] | None = None
    recall: Recall | None = None
    mixture: str | None = None


class VerdictsReached(_Event):
    """All classes that were evaluated are judged together, for their q-values are."""

    kind: Literal["verdicts_reached"] = "verdicts_reached"
    verdicts: dict[str, ClassVerdict]


class RunFinished(_Event):
    """Nothing is worth another trial.

    Attributes:
        stopped: By class.
        findings: What gap.json has besides its rows: clusters, confounds, shares ...
    """

    kind: Literal["run_finished"] = "run_finished"
    stopped: dict[str, Stopped]
    findings: Findings = Field(default_factory=dict)


Event = Annotated[
    RunStarted
    | SessionStarted
    | PhotosListed
    | PhotosGrouped
    | MixturesGiven
    | RoundStarted
    | PromptsPrioritized
    | PromptsProposed
    | CameraChosen
    | RecallsMeasured
    | TrialProposed
    | TrialFinished
    | TrialFailed
    | FoldOpened
    | FoldEvaluated
    | ConfirmationFailed
    | VerdictsReached
    | RunFinished,
    Field(discriminator="kind"),
]

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def read_event(line: bytes | str) -> Event:
    """Read one line of a journal.

    Raises:
        ValueError: It is no event.
    """
    return _EVENT.validate_json(line)
