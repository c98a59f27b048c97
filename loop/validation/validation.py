"""A validation: all its trainings in turn, and what they say together.

`validating` puts one together from a run. What comes of each training is kept as it goes, so it
can be stopped at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gapclose.analysis.downstream.classifier import Classifier
from gapclose.loop.run.notices import Task, TaskStarted, WarningRaised
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.validation.arms import Arm
from gapclose.loop.validation.results import Said, results
from gapclose.loop.validation.trainings import Outcome, Training, Trainings

__all__ = ["Validation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What is compared with what, and how often.

    Attributes:
        trainings: Trains, and reads back.
        classifiers: That are trained.
        arms: That they are trained on.
        seeds: How many trainings of each draw of an arm.
        draws: How many draws.
        generated: Seconds that the images of the first draw have taken, and those of another one
            will.
        reporter: Receives the progress.
    """

    trainings: Trainings
    classifiers: Sequence[Classifier]
    arms: Sequence[Arm]
    seeds: int
    draws: int
    reporter: Reporter
    generated: float = 0.0

    def run(self, *, budget: float | None = None, spent: float = 0.0) -> dict[str, Any]:
        """Train all that is not trained yet, and return validation.json.

        Args:
            budget: Seconds for it. The first seed of the first draw is trained on every arm
                whatever it takes; then there is as much as there is time for, alike for all arms.
            spent: Seconds of them that have gone already.
        """
        start, longest = time.monotonic() - spent, 0.0
        reached: list[tuple[int, int]] = []
        for draw in range(self.draws):
            for seed in range(self.seeds):
                missing = self._missing(draw, seed)
                needed = longest + (self.generated if seed == 0 else 0.0)
                late = budget is not None and time.monotonic() - start + needed > budget
                if missing and reached and late:
                    return self._results(reached)
                if missing:
                    self.trainings.generate(self.arms, draw=draw, reporter=self.reporter)
                began = time.monotonic()  # only a draw's first seed waits for images
                self._train(missing)
                reached.append((draw, seed))
                longest = max(longest, time.monotonic() - began)
            self.trainings.forget_draws()
        return self._results(reached)

    def _missing(self, draw: int, seed: int) -> list[Training]:
        """Return the trainings of a seed that are still to be done."""
        every = [self._training(c, arm, draw, seed) for c in self.classifiers for arm in self.arms]
        return [training for training in every if self.trainings.known(training) is None]

    def _training(self, classifier: Classifier, arm: Arm, draw: int, seed: int) -> Training:
        return Training.of(classifier, arm, draw=draw, seed=seed)

    def _train(self, missing: Sequence[Training]) -> None:
        """Do some trainings, in the order of the classifiers."""
        for classifier in self.classifiers:
            mine = [training for training in missing if training.classifier is classifier]
            if not mine:
                continue
            doing = TaskStarted(task=Task.TRAINING, classifier=classifier.id)
            total, done = self._count(classifier)
            self.reporter.tell(doing)
            self.reporter.tell(doing.advanced(done, total))
            for number, training in enumerate(mine, start=done + 1):
                self.trainings.run(training)
                self.reporter.tell(doing.advanced(number, total))

    def _count(self, classifier: Classifier) -> tuple[int, int]:
        """Count a classifier's trainings, and those that are done."""
        every = {
            (arm.name, draw, training.seed): self.trainings.known(training) is not None
            for arm in self.arms
            for draw in range(self.draws)
            for seed in range(self.seeds)
            for training in [self._training(classifier, arm, draw, seed)]
        }
        return len(every), sum(every.values())

    def _results(self, reached: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Say what came of the largest part that has every draw with every seed."""
        whole = [draw for draw in range(self.draws) if (draw, self.seeds - 1) in reached]
        seeds = self.seeds if whole else len(reached)
        draws = whole or [0]
        if len(reached) < self.seeds * self.draws:
            message = (
                f"the budget left time for {seeds} of {self.seeds} training seeds and "
                f"{len(draws)} of {self.draws} draws; again with more --budget goes on with it"
            )
            self.reporter.tell(WarningRaised(message=message))
        said = [
            Said(
                classifier=classifier.id,
                outcomes={
                    arm.name: [
                        [self._outcome(classifier, arm, draw, seed) for seed in range(seeds)]
                        for draw in draws
                    ]
                    for arm in self.arms
                },
            )
            for classifier in self.classifiers
        ]
        return results(said, self.trainings.test)

    def _outcome(self, classifier: Classifier, arm: Arm, draw: int, seed: int) -> Outcome:
        outcome = self.trainings.known(self._training(classifier, arm, draw, seed))
        assert outcome is not None, "only what is done is asked for"
        return outcome
