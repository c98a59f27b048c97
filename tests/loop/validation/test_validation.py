from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from toy_validation import MeanGrey, Pixels, ToyPool, toy_trainings

from gapclose.loop.run.notices import Notice, Task, TaskAdvanced, TaskStarted, WarningRaised
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.validation import results
from gapclose.loop.validation import validation as module
from gapclose.loop.validation.arms import arms_of
from gapclose.loop.validation.validation import Validation

ARMS = arms_of(("baseline", "tuned", "even", "real"), n=40)  # seven


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples: what is tested is what is trained, and when."""
    monkeypatch.setattr(results, "Worth", partial(results.Worth, resamples=40))


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.told: list[Notice] = []

    def tell(self, notice: Notice) -> None:
        self.told.append(notice)

    def counts(self, task: Task) -> list[tuple[str | None, int, int]]:
        return [
            (n.classifier, n.done, n.total)
            for n in self.told
            if isinstance(n, TaskAdvanced) and n.task is task
        ]


def validation(folder: Path, *classifiers: MeanGrey, **changes: Any) -> Validation:
    arguments: dict[str, Any] = {"seeds": 2, "draws": 2, "reporter": SilentReporter()}
    return Validation(
        trainings=toy_trainings(folder),
        classifiers=classifiers or (MeanGrey(),),
        arms=ARMS,
        **(arguments | changes),
    )


class Clock:
    """Every training takes ten seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Slow(MeanGrey):
    clock: Clock

    def fit(self, *args: Any, **options: Any) -> Any:
        self.clock.now += 10.0
        return super().fit(*args, **options)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    classifier = Slow()
    classifier.clock = Clock()
    monkeypatch.setattr(module, "time", classifier.clock)
    return classifier


def test_every_arm_is_trained_with_every_seed_of_every_draw(tmp_path: Path) -> None:
    classifier = MeanGrey()
    found = validation(tmp_path, classifier).run()
    assert (found["seeds"], found["draws"]) == (2, 2)
    assert len(classifier.fits) == 7 * 2 * 2
    assert {row["arm"] for row in found["arms"]} == {arm.name for arm in ARMS}


def test_done_again_it_trains_nothing_and_says_the_same(tmp_path: Path) -> None:
    first = validation(tmp_path).run()
    classifier, listener = MeanGrey(), Listener()
    again = validation(tmp_path, classifier, reporter=listener).run()
    assert json.dumps(again) == json.dumps(first)
    assert classifier.fits == []
    assert listener.counts(Task.TRAINING) == listener.counts(Task.TRAINING_IMAGES) == []


@pytest.mark.parametrize("after", [0, 1, 8, 20])
def test_cut_off_anywhere_it_goes_on_to_the_same_figures(tmp_path: Path, after: int) -> None:
    class Interrupted(MeanGrey):
        def fit(self, *args: Any, **options: Any) -> Any:
            if len(self.fits) == after:
                raise KeyboardInterrupt
            return super().fit(*args, **options)

    with pytest.raises(KeyboardInterrupt):
        validation(tmp_path / "cut", Interrupted()).run()
    rest = MeanGrey()
    found = validation(tmp_path / "cut", rest).run()
    assert len(rest.fits) == 28 - after
    assert json.dumps(found) == json.dumps(validation(tmp_path / "whole").run())


def test_more_draws_and_seeds_go_on_with_what_there_is(tmp_path: Path) -> None:
    validation(tmp_path, seeds=1, draws=1).run()
    classifier = MeanGrey()
    found = validation(tmp_path, classifier, seeds=2, draws=2).run()
    assert len(classifier.fits) == 21
    assert (found["seeds"], found["draws"]) == (2, 2)


def test_what_needs_no_seed_is_trained_once_a_draw_and_counts_for_all(tmp_path: Path) -> None:
    fixed, seeded = MeanGrey(id="fixed", seeded=False), MeanGrey()
    listener = Listener()
    found = validation(tmp_path, fixed, seeded, reporter=listener).run()
    assert (len(fixed.fits), len(seeded.fits)) == (14, 28)
    assert (found["seeds"], found["draws"]) == (2, 2)
    done = listener.counts(Task.TRAINING)
    assert [count for name, *count in done if name == "fixed"] == [
        [n, 14] for n in (*range(8), *range(7, 15))
    ]
    assert done[-1] == ("mean-grey", 28, 28)


def test_images_are_generated_before_the_first_training_of_a_draw(tmp_path: Path) -> None:
    listener = Listener()
    validation(tmp_path, reporter=listener).run()
    begun = [n.task for n in listener.told if isinstance(n, TaskStarted)]
    assert begun == [Task.TRAINING_IMAGES, *[Task.TRAINING] * 2] * 2


def test_the_budget_allows_one_seed_of_every_arm_whatever_it_takes(
    tmp_path: Path, slow: Slow
) -> None:
    listener = Listener()
    found = validation(tmp_path, slow, reporter=listener).run(budget=1.0)
    assert len(slow.fits) == 7
    assert (found["seeds"], found["draws"]) == (1, 1)
    (warning,) = [n.message for n in listener.told if isinstance(n, WarningRaised)]
    assert "1 of 2 training seeds and 1 of 2 draws" in warning


def test_a_seed_that_the_budget_does_not_allow_is_not_begun(tmp_path: Path, slow: Slow) -> None:
    """A seed of all arms takes 70 s."""
    found = validation(tmp_path, slow).run(budget=145.0)
    assert len(slow.fits) == 14
    assert (found["seeds"], found["draws"]) == (2, 1)


def test_a_draw_that_was_not_finished_does_not_count(tmp_path: Path, slow: Slow) -> None:
    found = validation(tmp_path, slow).run(budget=215.0)
    assert len(slow.fits) == 21
    assert (found["seeds"], found["draws"]) == (2, 1)
    rest = MeanGrey()
    assert validation(tmp_path, rest).run()["draws"] == 2
    assert len(rest.fits) == 7


def test_images_are_waited_for_once_a_draw(tmp_path: Path, slow: Slow) -> None:
    """Those of a draw take 600 s, a seed of all arms 70: the second seed needs no images."""
    waited = validation(tmp_path, slow, generated=600.0)
    for pool in waited.trainings.pools.values():
        pool.images = partial(_waiting, slow.clock, pool)  # type: ignore[method-assign]
    found = waited.run(budget=745.0)
    assert (found["seeds"], found["draws"]) == (2, 1)
    assert waited.run(budget=599.0)["draws"] == 1, "too little for another draw's images"
    assert len(slow.fits) == 14
    assert waited.run(budget=745.0)["draws"] == 2


def _waiting(clock: Clock, pool: ToyPool, cls: str, *, draw: int, n: int) -> Iterator[Pixels]:
    if not pool.is_ready(cls, draw=draw, n=n) and n == 40:
        clock.now += 75.0  # of four pools' two classes
    return ToyPool.images(pool, cls, draw=draw, n=n)


def test_what_was_trained_before_costs_no_budget(tmp_path: Path, slow: Slow) -> None:
    validation(tmp_path).run()
    assert validation(tmp_path, slow).run(budget=0.001)["draws"] == 2
