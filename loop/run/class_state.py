"""The state of one class of a run, and what a fold said of its mixture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gapclose.loop.run.events import ClassVerdict, FoldEvaluated, FoldOpened, Progress, Recall

__all__ = ["FAILURES", "ClassState", "Evaluation"]

FAILURES: Final = 3  # in a row stop a class


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What one fold said of one mixture.

    Attributes:
        opened: The fold and the mixture.
        result: What was measured.
        verdict: None until all classes have been judged together.
        tagged: Whether what a person tagged in it has chosen prompts: its fold is spent, then.
    """

    opened: FoldOpened
    result: FoldEvaluated
    verdict: ClassVerdict | None = None
    tagged: bool = False

    @property
    def kept_baseline(self) -> bool:
        """Whether the mixture did no better than the baseline, which is kept in its place."""
        judged, kept = (
            [recipe["fingerprint"] for recipe in mixture["recipes"]]
            for mixture in (self.opened.mixture, self.result.mixture)
        )
        return judged != kept

    @property
    def confirmed(self) -> bool:
        """Whether the mixture is confirmed."""
        return self.verdict is not None and self.verdict.confirmed

    @property
    def gap(self) -> float:
        """Of the mixture that is kept, on the fold: a squared MMD, whatever trials score."""
        return float(self.result.after["gap"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassState:
    """Where a class stands.

    Attributes:
        trials: Finished ones, failed ones included.
        proposed: Those under way included; the number of the next.
        images: Generated for its trials.
        failed: Trials that failed.
        failures: Failed trials in a row.
        error: Of the last trial that failed.
        progress: Of its search.
        reopened: Whether it is searched after a confirmation that failed, or because of tags.
        reopened_at: Trials when a round last reopened it.
        unseen_gap: What the confirmation that reopened it saw, a squared MMD.
        prioritized: Prompts that a person had come first.
        asked: Whether they did so last: nothing else has had others come first since.
        proposing: Whether what a proposer said did so last.
        proposals: How often a proposer was asked for prompts.
        proposed_at: Trials when it was asked last.
        recall: What its images were worth when that was measured last.
        retryable: Whether a restart may forget its failures.
        opened: The fold that was opened and is not evaluated.
        spent_folds: Photos of the folds that have judged a mixture, by content.
        evaluation: The last one.
        judged: The last one that has a verdict.
        confirmation_error: Why its last confirmation of this session failed.
    """

    trials: int = 0
    proposed: int = 0
    images: int = 0
    failed: int = 0
    failures: int = 0
    error: str | None = None
    progress: Progress = field(default_factory=Progress)
    reopened: bool = False
    reopened_at: int | None = None
    unseen_gap: float = 0.0
    prioritized: tuple[Mapping[str, str], ...] = ()
    asked: bool = False
    proposing: bool = False
    proposals: int = 0
    proposed_at: int = 0
    recall: Recall | None = None
    retryable: bool = False
    opened: FoldOpened | None = None
    spent_folds: tuple[tuple[str, ...], ...] = ()
    evaluation: Evaluation | None = None
    judged: Evaluation | None = None
    confirmation_error: str | None = None

    @property
    def has_baseline(self) -> bool:
        """Whether trial 0 has been scored; nothing else is tried before."""
        return self.progress.baseline_gap is not None

    @property
    def awaits_result(self) -> bool:
        """Whether what comes next depends on the trial under way: nothing is proposed beside it.

        Of the baseline, of all until the settings are chosen, and of prioritized prompts.
        """
        settled = self.has_baseline and self.progress.winner is not None
        return self.proposed > self.trials and (not settled or self.progress.pending)

    @property
    def untried(self) -> bool:
        """Whether time ran out before anything but the baseline was tried.

        The baseline is then evaluated on the images of trial 0, which nothing was chosen by, and
        costs no more images. One that closed from the start was chosen by them.
        """
        return self.progress.evidence <= 1 and not self.progress.closed_from_start

    def next_fold(self) -> int:
        """Return the first fold that has judged no mixture of the search."""
        if self.evaluation is None:
            return 0
        spent = self.evaluation.opened.spends or self.evaluation.tagged
        return self.evaluation.opened.fold + int(spent)
