from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from toy_validation import CLASSES, GREYS, TESTED, MeanGrey, ToyPool, toy_test, toy_trainings

from gapclose.generators.errors import GenerationError
from gapclose.loop.validation.arms import Arm, arms_of
from gapclose.loop.validation.trainings import Outcome, Training, Trainings

ARMS = {arm.name: arm for arm in arms_of(("baseline", "tuned", "even", "real"), n=40)}


def training(arm: str = "tuned", *, draw: int = 0, seed: int = 0, **of: object) -> Training:
    classifier = MeanGrey(**of)  # type: ignore[arg-type]
    return Training.of(classifier, ARMS[arm], draw=draw, seed=seed)


def done(trainings: Trainings, one: Training) -> Outcome:
    if trainings.known(one) is None:
        trainings.run(one)
    outcome = trainings.known(one)
    assert outcome is not None
    return outcome


def files(folder: Path) -> list[Path]:
    return sorted((folder / "run" / "validation" / "predictions").glob("*"))


def test_what_a_classifier_says_of_the_test_photos_is_kept(tmp_path: Path) -> None:
    one = training()
    outcome = done(toy_trainings(tmp_path), one)
    assert outcome.predicted.tolist() == [0] * TESTED + [1] * TESTED
    assert outcome.trained_on.tolist() == [40, 40]
    assert outcome.reverse == {}
    again = toy_trainings(tmp_path).known(training())
    assert again is not None
    assert again.predicted.tolist() == outcome.predicted.tolist()


def test_arms_are_put_together_from_their_parts(tmp_path: Path) -> None:
    trainings = toy_trainings(tmp_path)
    for name, n in {"mixed": 40, "few": 20, "few+tuned": 60, "real": 40}.items():
        assert done(trainings, training(name)).trained_on.tolist() == [n, n], name


def test_a_class_with_fewer_photos_says_how_many_there_were(tmp_path: Path) -> None:
    pools = {"real": ToyPool(n={"dark": 7})}
    trainings = toy_trainings(tmp_path, pools=pools)
    assert done(trainings, training("real")).trained_on.tolist() == [7, 40]
    assert done(trainings, training("few")).trained_on.tolist() == [7, 20]


def test_real_photos_teach_what_generated_images_show(tmp_path: Path) -> None:
    reverse = done(toy_trainings(tmp_path), training("real")).reverse
    # The baseline's dark images are as light as light photos.
    assert {name: counts.tolist() for name, counts in reverse.items()} == {
        "baseline": [[0, 40], [40, 40]],
        "tuned": [[40, 40], [40, 40]],
        "even": [[40, 40], [40, 40]],
    }


def test_what_needs_no_seed_is_trained_once(tmp_path: Path) -> None:
    trainings = toy_trainings(tmp_path)
    done(trainings, training(id="fixed", seeded=False, seed=0))
    assert trainings.known(training(id="fixed", seeded=False, seed=2)) is not None
    assert trainings.known(training(seed=2)) is None


def test_nothing_is_read_back_that_follows_from_something_else(tmp_path: Path) -> None:
    pools = {"tuned": ToyPool(shift=1), "real": ToyPool()}
    trainings = toy_trainings(tmp_path, pools=pools)
    for arm in ("tuned", "real"):
        done(trainings, training(arm))
    photos = toy_test(tmp_path / "photos")
    others = {
        "test photos": toy_trainings(tmp_path, pools=pools, test=replace(photos, key="other")),
        "size": toy_trainings(tmp_path, pools=pools, versions={"mean-grey": "2"}),
        "mixtures": toy_trainings(tmp_path, pools={"tuned": ToyPool(shift=2), "real": ToyPool()}),
    }
    for why, other in others.items():
        assert other.known(training()) is None, why
        # After training on real photos the others are predicted, too.
        assert other.known(training("real")) is None, why
    assert trainings.known(training(draw=1)) is None
    assert trainings.known(training(seed=1)) is None
    assert toy_trainings(tmp_path, pools=pools).known(training()) is not None


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"cut"], ids=["empty", "zeros", "torn"])
def test_a_damaged_file_is_trained_again(tmp_path: Path, damage: bytes) -> None:
    trainings, one = toy_trainings(tmp_path), training()
    before = done(trainings, one)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage == b"cut" else damage)
    assert trainings.known(one) is None
    assert done(trainings, one).predicted.tolist() == before.predicted.tolist()
    assert files(tmp_path) == [file]
    assert file.read_bytes() == whole


def _bent(**changes: object) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    return lambda kept: kept | {key.replace("_of_", "."): np.array(value)
                                for key, value in changes.items()}  # fmt: skip


BENT = {
    "labels of no class": _bent(predicted=[2] * 2 * TESTED),
    "negative labels": _bent(predicted=[-1] * 2 * TESTED),
    "labels that are no integers": _bent(predicted=[0.5] * 2 * TESTED),
    "too few labels": _bent(predicted=[0] * TESTED),
    "three classes": _bent(trained_on=[40, 40, 40]),
    "negative images": _bent(trained_on=[40, -1]),
    "more images than were asked for": _bent(trained_on=[40, 2**62]),
    "reverse of another shape": _bent(reverse_of_tuned=[40, 40]),
    "reverse of huge numbers": _bent(reverse_of_tuned=[[0, 0], [40, 2**62]]),
    "negative reverse": _bent(reverse_of_tuned=[[-1, 0], [40, 40]]),
    "more right than there are": _bent(reverse_of_tuned=[[31, 0], [30, 40]]),
}


@pytest.mark.parametrize("bend", BENT.values(), ids=BENT)
def test_what_no_training_can_have_said_is_not_believed(
    tmp_path: Path, bend: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
) -> None:
    trainings, one = toy_trainings(tmp_path), training("real")
    done(trainings, one)
    (file,) = files(tmp_path)
    kept = load_file(file)
    save_file(kept, file)
    assert trainings.known(one) is not None
    save_file(bend(kept), file)
    assert trainings.known(one) is None


def test_a_training_that_was_cut_off_leaves_nothing(tmp_path: Path) -> None:
    class Interrupted(MeanGrey):
        def fit(self, *_: object, **__: object) -> object:  # type: ignore[override]
            raise KeyboardInterrupt

    trainings = toy_trainings(tmp_path)
    one = Training.of(Interrupted(), ARMS["tuned"], draw=0, seed=0)
    with pytest.raises(KeyboardInterrupt):
        trainings.run(one)
    assert files(tmp_path) == []


def test_images_are_prepared_once_for_all_trainings_of_a_draw(tmp_path: Path) -> None:
    class Counting(MeanGrey):
        prepared = 0

        def prepare(self, images):  # type: ignore[no-untyped-def]
            Counting.prepared += len(images)
            return super().prepare(images)

    trainings, classifier = toy_trainings(tmp_path), Counting()
    for name in ("tuned", "even", "mixed", "tuned"):
        for seed in range(2):
            trainings.run(Training.of(classifier, ARMS[name], draw=0, seed=seed))
    assert Counting.prepared == 2 * 80 + 2 * TESTED
    assert len(classifier.fits) == 8


def test_large_photos_are_prepared_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most: list[int] = []

    class Watching(MeanGrey):
        def prepare(self, images):  # type: ignore[no-untyped-def]
            most.append(len(images))
            return super().prepare(images)

    monkeypatch.setattr("gapclose.loop.validation.trainings._BATCH_BYTES", 5 * 48)
    outcome = done(toy_trainings(tmp_path), Training.of(Watching(), ARMS["tuned"], draw=0, seed=0))
    assert max(most) == 5
    assert outcome.trained_on.tolist() == [40, 40]
    assert outcome.predicted.tolist() == [0] * TESTED + [1] * TESTED


def test_a_pool_without_a_usable_image_is_the_generators_fault(tmp_path: Path) -> None:
    trainings = toy_trainings(tmp_path, pools={"tuned": ToyPool(n=dict.fromkeys(CLASSES, 0))})
    with pytest.raises(GenerationError, match="no image of tuned can be used"):
        trainings.run(training())


def test_generating_ahead_takes_every_part_of_the_arms(tmp_path: Path) -> None:
    from gapclose.loop.run.reporter import SilentReporter

    trainings = toy_trainings(tmp_path)
    arms: list[Arm] = [*ARMS.values()]
    trainings.generate(arms, draw=1, reporter=SilentReporter())
    real = trainings.pools["real"]
    assert isinstance(real, ToyPool)
    assert real.made == {(cls, 1, n) for cls in CLASSES for n in (20, 40)}


def test_predictions_are_of_the_classes_order() -> None:
    assert [*GREYS] == [*CLASSES]
    assert np.argmin([GREYS[cls] for cls in CLASSES]) == 0
