"""Worth: exact figures on small cases, scikit-learn as oracle, intervals that cover."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from gapclose.analysis.downstream.scores import GroupRecall, worst_group
from gapclose.analysis.downstream.worth import Arm, Worth
from gapclose.analysis.significance import LEVEL

CLASSES = ("bird", "cat", "frog")


def arm(name: str, predicted: NDArray[np.int64]) -> Arm:
    return Arm(name=name, n_per_class=200, predicted=predicted)


def answers(truth: NDArray[np.int64], right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Labels that are right where they are to be, else those of the next class."""
    return np.where(right, truth, (truth + 1) % (truth.max() + 1))


def told(truth: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """(2, 3, m) labels: this share of each class is right in every run."""
    place = np.zeros(len(truth), int)
    for label in np.unique(truth):
        place[truth == label] = np.arange((truth == label).sum())
    right = place < share * np.bincount(truth)[truth]
    return np.broadcast_to(answers(truth, right), (2, 3, len(truth)))


def simple(**shares: float) -> Worth:
    """Arms that tell these shares of 100 test images a class."""
    truth = np.repeat(np.arange(3), 100)
    arms = [arm(name, told(truth, share)) for name, share in shares.items()]
    return Worth(arms, truth, classes=CLASSES, classifier="cnn")


def random_case() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(2)
    truth = rng.choice(3, 120, p=[0.5, 0.3, 0.2])
    right = rng.random((2, 3, 120)) < np.array([0.8, 0.5, 0.3])[truth]
    return truth, np.where(right, truth, rng.integers(0, 3, (2, 3, 120)))


def test_a_score_is_scikit_learns_mean_over_runs() -> None:
    truth, predicted = random_case()
    score = Worth([arm("a", predicted)], truth, classes=CLASSES, classifier="cnn").score("a")
    runs = predicted.reshape(6, -1)
    assert score.accuracy.value == pytest.approx(
        np.mean([accuracy_score(truth, run) for run in runs])
    )
    assert score.macro_f1 == pytest.approx(
        np.mean([f1_score(truth, run, average="macro") for run in runs])
    )
    recalls = np.mean([recall_score(truth, run, average=None) for run in runs], axis=0)
    assert list(score.recall.values()) == pytest.approx(list(recalls))
    assert list(score.recall) == list(CLASSES)
    np.testing.assert_array_equal(
        score.confusion, sum(confusion_matrix(truth, run) for run in runs)
    )
    assert score.accuracy.low < score.accuracy.value < score.accuracy.high


def test_a_class_that_is_never_told_has_no_f1_and_no_recall() -> None:
    truth = np.array([0, 0, 1, 1])
    worth = Worth(
        [arm("a", np.zeros((1, 1, 4), int))], truth, classes=["x", "y"], classifier="cnn"
    )
    score = worth.score("a")
    assert score.macro_f1 == pytest.approx((2 / 3 + 0) / 2)
    assert score.recall == {"x": 1.0, "y": 0.0}


def test_a_score_is_a_row_of_validation_json() -> None:
    row = simple(tuned=0.7).score("tuned").to_json()
    assert json.loads(json.dumps(row)) == row
    assert {"arm", "classifier", "n_per_class", "accuracy", "low", "high"} < set(row)
    assert (row["arm"], row["classifier"], row["n_per_class"]) == ("tuned", "cnn", 200)
    assert row["accuracy"] == pytest.approx(0.7)
    assert row["recall"] == pytest.approx(dict.fromkeys(CLASSES, 0.7))
    assert row["confusion"][0] == [6 * 70, 6 * 30, 0]


def test_what_is_recovered_is_a_share_of_the_way() -> None:
    worth = simple(baseline=0.5, tuned=0.7, real=0.9, better=0.95, worse=0.4)
    shares = {"baseline": 0, "tuned": 0.5, "real": 1, "better": 1.125, "worse": -0.25}
    for name, share in shares.items():
        found = worth.recovered(name)
        assert found is not None
        assert found.value == pytest.approx(share)
        assert found.low <= found.value <= found.high
    # Its ends are known; between them the test images leave room.
    ends = [worth.recovered("baseline"), worth.recovered("real")]
    assert [(end.low, end.high) for end in ends if end] == [(0, 0), (1, 1)]
    tuned = worth.recovered("tuned")
    assert tuned is not None
    assert 0.3 < tuned.low < 0.45 < 0.55 < tuned.high < 0.7


@pytest.mark.parametrize("real", [0.5, 0.505, 0.4])
def test_without_a_way_nothing_is_recovered(real: float) -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 100)
    arms = [
        arm(name, answers(truth, rng.random((2, 3, 300)) < share))
        for name, share in (("baseline", 0.5), ("tuned", 0.6), ("real", real))
    ]
    worth = Worth(arms, truth, classes=CLASSES, classifier="cnn")
    assert worth.recovered("tuned") is None
    assert worth.too_easy()


def test_a_difference_is_paired() -> None:
    # The same hard images are missed by both: most of the noise is shared.
    worth = simple(baseline=0.5, tuned=0.52)
    found = worth.difference("tuned", "baseline")
    assert found.value == pytest.approx(0.02)
    assert 0 < found.low < found.value < found.high < 0.045
    assert worth.score("tuned").accuracy.low < 0.5
    assert worth.difference("baseline", "tuned").value == pytest.approx(-0.02)


def test_a_shortfall_is_of_one_class_and_holm_adjusts_it() -> None:
    truth = np.repeat(np.arange(3), 100)
    rng = np.random.default_rng(0)
    real = answers(truth, rng.random((2, 3, 300)) < 0.9)
    tuned = answers(truth, rng.random((2, 3, 300)) < np.array([0.9, 0.9, 0.5])[truth])
    worth = Worth(
        [arm("real", real), arm("tuned", tuned)], truth, classes=CLASSES, classifier="cnn"
    )
    bird, cat, frog = worth.shortfalls("tuned")
    assert frog.adjusted_p_value <= LEVEL
    assert frog.recall.value == pytest.approx(0.4, abs=0.03)
    assert frog.recall.low > 0.2
    assert frog.p_value == pytest.approx(1 / 2001)
    assert frog.adjusted_p_value == pytest.approx(3 / 2001)
    assert bird.adjusted_p_value > LEVEL
    assert cat.adjusted_p_value > LEVEL
    assert abs(bird.recall.value) < 0.05
    assert frog.to_json()["class"] == "frog"
    assert {s.p_value for s in worth.shortfalls("real")} == {1.0}


def test_arms_without_a_mistake_are_equal_to_the_bit() -> None:
    worth = simple(baseline=1.0, tuned=1.0, real=1.0)
    found = worth.difference("real", "tuned")
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert {s.p_value for s in worth.shortfalls("tuned")} == {1.0}
    assert worth.too_easy()


def test_a_class_among_many_can_still_fall_short() -> None:
    truth = np.repeat(np.arange(80), 4)
    right = np.ones((1, 1, 320), bool)
    arms = [arm("real", answers(truth, right)), arm("tuned", answers(truth, right & (truth > 0)))]
    worth = Worth(arms, truth, classes=[str(i) for i in range(80)], classifier="cnn")
    first, *others = worth.shortfalls("tuned")
    assert first.adjusted_p_value <= LEVEL
    assert all(other.adjusted_p_value > LEVEL for other in others)


@pytest.mark.parametrize(
    ("baseline", "real", "easy"),
    [(0.995, 1.0, True), (0.5, 0.5, True), (0.9, 0.8, True), (0.5, 0.9, False), (0.8, 1, False)],
)
def test_it_is_too_easy_where_arms_are_not_told_apart(
    baseline: float, real: float, *, easy: bool
) -> None:
    truth = np.repeat(np.arange(3), 200)
    arms = [arm("baseline", told(truth, baseline)), arm("real", told(truth, real))]
    assert Worth(arms, truth, classes=CLASSES, classifier="cnn").too_easy() is easy


def test_groups_are_of_a_class_and_of_twenty_images() -> None:
    truth = np.repeat(np.arange(3), 50)
    right = np.ones((2, 3, 150), bool)
    right[:, :2, 100:125] = False  # two of three seeds miss the green frogs
    names = [None] * 50 + ["dark"] * 19 + ["pale"] * 31 + ["green"] * 25 + ["pale"] * 25
    worth = Worth([arm("a", answers(truth, right))], truth, classes=CLASSES, classifier="cnn")
    groups = worth.groups(names)
    assert [(g.cls, g.name, g.n) for g in groups] == [
        ("cat", "pale", 31),
        ("frog", "green", 25),
        ("frog", "pale", 25),
    ]
    worst = worst_group(groups, "a")
    assert worst == GroupRecall(cls="frog", name="green", n=25, recall={"a": pytest.approx(1 / 3)})
    assert worst.to_json()["recall"] == {"a": pytest.approx(1 / 3)}
    assert worst_group((), "a") is None
    with pytest.raises(ValueError, match="149 names"):
        worth.groups(names[:-1])


def test_what_cannot_be_scored_is_refused() -> None:
    truth, predicted = random_case()
    good = arm("a", predicted)

    def made(*arms: Arm, truth: NDArray[np.int64] = truth) -> Worth:
        return Worth(arms, truth, classes=CLASSES, classifier="cnn")

    for arms, said in (
        ([good, good], "two arms"),
        ([arm("a", predicted[0])], "a: "),
        ([arm("a", predicted[:, :, 1:])], "a: "),
        ([arm("a", predicted + 1)], "none of 3"),
        ([arm("a", predicted[:0])], "or there is none"),
    ):
        with pytest.raises(ValueError, match=said):
            made(*arms)
    with pytest.raises(ValueError, match="no test image of frog"):
        made(good, truth=truth % 2)
    with pytest.raises(ValueError, match="none of 3"):
        made(good, truth=np.where(truth == 0, [3, 0] * 60, truth))


# A world whose accuracies are known: an image is told right if its ease, the draw's and the seed's
# luck and chance come to more than 0, all of them Gaussian.
EASE, CHANCE, LUCK = 1.5, 1.0, 0.08


def simulated(
    rng: np.random.Generator, ease: NDArray[np.float64], level: float
) -> NDArray[np.bool_]:
    draws, seeds = rng.normal(0, LUCK, (2, 1, 1)), rng.normal(0, LUCK, (1, 3, 1))
    noise = rng.normal(0, CHANCE, (2, 3, len(ease)))
    return np.asarray(level + ease + draws + seeds + noise > 0)


def expected(level: float) -> float:
    return float(norm.cdf(level / np.sqrt(EASE**2 + CHANCE**2 + 2 * LUCK**2)))


def test_intervals_cover_and_equal_arms_rarely_fall_short() -> None:
    rng = np.random.default_rng(11)
    truth = np.arange(900) % 3
    levels = {"baseline": -0.3, "tuned": 0.9, "real": 0.9}
    n, covered, false, found = 200, np.zeros(3), 0, 0
    values, widths = np.zeros((n, 3)), np.zeros((n, 3))
    for index in range(n):
        ease = rng.normal(0, EASE, 900)
        arms = [
            arm(name, answers(truth, simulated(rng, ease, level)))
            for name, level in levels.items()
        ]
        worth = Worth(arms, truth, classes=CLASSES, classifier="cnn", resamples=1000, seed=index)
        way = expected(0.9) - expected(-0.3)
        estimates = (
            (worth.score("real").accuracy, expected(0.9)),
            (worth.difference("real", "baseline"), way),
            (worth.recovered("tuned"), 1.0),
        )
        covered += [e is not None and e.low <= true <= e.high for e, true in estimates]
        values[index] = [np.nan if e is None else e.value for e, _ in estimates]
        widths[index] = [np.nan if e is None else e.high - e.low for e, _ in estimates]
        false += any(s.adjusted_p_value <= LEVEL for s in worth.shortfalls("tuned"))
        found += all(s.adjusted_p_value <= LEVEL for s in worth.shortfalls("baseline"))
    assert (covered >= 0.9 * n).all(), covered
    assert (widths.mean(axis=0) < 1.6 * 2 * 1.96 * values.std(axis=0)).all(), "too wide"
    assert false <= 0.1 * n
    assert found >= 0.9 * n


def test_a_whole_validation_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(10), 1000)
    arms = [
        arm(f"arm {i}", answers(truth, rng.random((3, 2, 10_000)) < expit(i))) for i in range(7)
    ]
    start = time.process_time()
    worth = Worth(arms, truth, classes=[str(i) for i in range(10)], classifier="cnn")
    for one in arms:
        worth.score(one.name)
        worth.shortfalls(one.name, real="arm 6")
        worth.recovered(one.name, baseline="arm 0", real="arm 6")
    assert time.process_time() - start < 20
