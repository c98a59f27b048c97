"""Exact answers on predictions made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gapclose.loop.validation.results import Said, primary_of, results
from gapclose.loop.validation.test_photos import TestPhotos
from gapclose.loop.validation.trainings import Outcome

N = 40  # test photos of a class
CONTRACT = {  # of DESIGN.md, section 5
    "arms": {"arm", "classifier", "n_per_class", "accuracy", "low", "high", "macro_f1", "recall"},
    "groups": {"class", "name", "n", "recall"},
    "reverse": {"classifier", "arm", "accuracy", "recall"},
    "worst_groups": {"classifier", "arm", "class", "name", "n", "recall"},
}


def photos() -> TestPhotos:
    """Frogs, half brown and half green, and ships, of which few are red."""
    colors = ["brown frog"] * 20 + ["green frog"] * 20 + ["red ship"] * 5 + ["blue ship"] * 35
    return TestPhotos(
        classes=("frog", "ship"),
        paths=tuple(Path(f"{i}.png") for i in range(2 * N)),
        labels=np.repeat([0, 1], N),
        groups={"color": tuple(colors), "place": (None,) * 2 * N},
        key="k",
    )


def outcome(frogs: int, ships: int = N, *, n: tuple[int, int] = (50, 50)) -> Outcome:
    """The last so many frogs and ships are told right."""
    predicted = np.array([1] * (N - frogs) + [0] * frogs + [0] * (N - ships) + [1] * ships)
    reverse = {"baseline": np.array([[5, 10], [10, 10]]), "tuned": np.array([[9, 8], [10, 10]])}
    return Outcome(predicted=predicted, trained_on=np.array(n), reverse=reverse)


def said(classifier: str = "cnn", **arms: list[list[Outcome]]) -> Said:
    return Said(classifier=classifier, outcomes=arms)


def run() -> Said:
    """Two draws, two seeds; one seed tells five frogs more."""
    return said(
        baseline=[[outcome(10), outcome(10)], [outcome(10), outcome(10)]],
        tuned=[[outcome(30), outcome(35)], [outcome(30), outcome(35)]],
        real=[[outcome(N), outcome(N)], [outcome(N), outcome(N)]],
    )


def test_every_key_of_the_contract_is_there() -> None:
    found = results([run()], photos())
    assert (found["schema"], found["n_test"], found["seeds"], found["draws"]) == (1, 80, 2, 2)
    assert found["classes"] == ["frog", "ship"]
    for name, keys in CONTRACT.items():
        assert found[name], name
        assert all(keys <= row.keys() for row in found[name]), name


def test_figures_are_means_over_draws_and_seeds() -> None:
    found = results([run()], photos())
    arms = {row["arm"]: row for row in found["arms"]}
    assert [*arms] == ["baseline", "tuned", "real"]
    assert arms["baseline"]["accuracy"] == pytest.approx(50 / 80)
    assert arms["tuned"]["recall"] == pytest.approx({"frog": 32.5 / 40, "ship": 1.0})
    assert arms["real"]["low"] == arms["real"]["high"] == 1.0
    assert arms["tuned"]["low"] < 72.5 / 80 < arms["tuned"]["high"]
    assert found["primary"] == "tuned"
    assert found["recovered"] == {"cnn": pytest.approx(22.5 / 30)}
    assert found["too_easy"] == []


def test_the_primary_arm_is_held_against_the_others_and_each_against_real() -> None:
    found = results([run()], photos())
    against = {row["against"]: row["value"] for row in found["differences"]}
    assert against == pytest.approx({"baseline": 22.5 / 80, "real": -7.5 / 80})
    short = {(row["arm"], row["class"]): row for row in found["shortfalls"]}
    assert {arm for arm, _ in short} == {"baseline", "tuned"}
    assert short["tuned", "frog"]["shortfall"] == pytest.approx(7.5 / 40)
    assert short["tuned", "frog"]["adjusted_p_value"] <= 0.05
    assert short["tuned", "ship"]["adjusted_p_value"] > 0.05


def test_groups_are_named_and_the_worst_of_each_arm_is_too() -> None:
    found = results([run()], photos())
    groups = {row["name"]: row for row in found["groups"]}
    assert {*groups} == {"brown frog", "green frog", "blue ship"}, "five red ships say nothing"
    assert groups["brown frog"]["recall"] == pytest.approx(
        {"baseline": 0.0, "tuned": 12.5 / 20, "real": 1.0}
    )
    assert groups["brown frog"]["group"] == "color"
    worst = {
        row["arm"]: (row["name"], row["group"], row["recall"]) for row in found["worst_groups"]
    }
    assert worst["baseline"] == ("brown frog", "color", 0.0)
    assert worst["tuned"][0] == "brown frog"
    assert len(found["worst_groups"]) == 3


def test_reverse_is_of_all_images_that_were_told() -> None:
    rows = {row["arm"]: row for row in results([run()], photos())["reverse"]}
    assert rows["baseline"]["recall"] == {"frog": 0.5, "ship": 1.0}
    assert rows["baseline"]["accuracy"] == pytest.approx(0.75)
    assert rows["tuned"]["accuracy"] == pytest.approx(0.85)
    without = replace(outcome(N), reverse={"tuned": np.array([[3, 0], [4, 0]])})
    one = said(tuned=[[outcome(30)]], real=[[without]])
    (row,) = results([one], photos())["reverse"]
    assert row["recall"] == {"frog": 0.75, "ship": None}, "no image of a ship could be used"


def test_an_arm_says_how_many_images_every_class_had() -> None:
    few = outcome(30, n=(12, 50))
    one = said(tuned=[[outcome(30)]], real=[[few]])
    arms = {row["arm"]: row for row in results([one], photos())["arms"]}
    assert arms["real"]["n_per_class"] == 12
    assert arms["real"]["images"] == {"frog": 12, "ship": 50}
    assert arms["tuned"]["n_per_class"] == 50
    assert "images" not in arms["tuned"]


def test_of_folders_the_synthetic_images_are_held_against_real_ones() -> None:
    one = said(synthetic=[[outcome(20)]], real=[[outcome(N)]])
    found = results([one], photos())
    assert (found["primary"], found["recovered"], found["too_easy"]) == ("synthetic", {}, [])
    assert {row["arm"] for row in found["shortfalls"]} == {"synthetic"}


def test_of_an_audited_config_the_baseline_is_the_arm_that_counts() -> None:
    one = said(baseline=[[outcome(20)]], even=[[outcome(30)]], real=[[outcome(N)]])
    found = results([one], photos())
    assert (found["primary"], found["recovered"]) == ("baseline", {})
    assert {row["against"] for row in found["differences"]} == {"even", "real"}


def test_what_all_images_teach_is_too_easy() -> None:
    every = [[outcome(N)]]
    found = results([said(baseline=every, tuned=every, real=every)], photos())
    assert found["too_easy"] == ["cnn"]
    assert found["recovered"] == {"cnn": None}


def test_each_classifier_has_rows_of_its_own() -> None:
    both = [run(), replace(run(), classifier="linear:pond")]
    found = results(both, photos())
    for name in ("arms", "differences", "shortfalls", "reverse", "groups", "worst_groups"):
        assert {row["classifier"] for row in found[name]} == {"cnn", "linear:pond"}, name
    assert {*found["recovered"]} == {"cnn", "linear:pond"}


def test_the_headline_is_of_what_is_exported() -> None:
    assert primary_of(["real", "even", "baseline", "tuned"]) == "tuned"
    assert primary_of(["real", "even", "baseline"]) == "baseline"
    assert primary_of(["real", "synthetic"]) == "synthetic"
