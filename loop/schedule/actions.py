"""The actions that a run can be decided to do next; an executor does each."""

from __future__ import annotations

from dataclasses import dataclass, field

from gapclose.loop.run.events import Stopped, TrialProposed
from gapclose.loop.schedule.budget import BASELINE_IMAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposeTrial:
    """Propose a class's next trial.

    Attributes:
        cls: The class.
        baseline_images: Of trial 0.
        settings_trials: That its settings stage gets.
        batch: Images of a mixture; None for as many as are usual.
        hints: Settings that other classes have chosen.
        prices: Seconds of an image by generator, where time is what ends the search.
    """

    cls: str
    baseline_images: int = BASELINE_IMAGES
    settings_trials: int = 0
    batch: int | None = None
    hints: tuple[dict[str, object], ...] = ()
    prices: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTrial:
    """Run a trial in flight: the one that was proposed first."""

    trial: TrialProposed


@dataclass(frozen=True, slots=True, kw_only=True)
class ChooseCamera:
    """Choose the run's camera, before this class's next trial."""

    turn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskProposer:
    """Ask for prompts that would close what a class lacks."""

    cls: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRecalls:
    """Measure what the mixtures of all classes are worth to a classifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateFold:
    """Evaluate a class on its next fold; `early` while others are searched."""

    cls: str
    fold: int
    early: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Judge all classes that were evaluated, together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRound:
    """Begin a round; fields as in `RoundStarted`."""

    due: tuple[str, ...]
    reopened: dict[str, float] = field(default_factory=dict)
    reset: tuple[str, ...] = ()
    halfway: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """End the run: nothing is worth another trial.

    Attributes:
        stopped: Why, by class.
    """

    stopped: dict[str, Stopped]


Action = (
    ProposeTrial
    | RunTrial
    | ChooseCamera
    | AskProposer
    | MeasureRecalls
    | EvaluateFold
    | Judge
    | StartRound
    | Finish
)
