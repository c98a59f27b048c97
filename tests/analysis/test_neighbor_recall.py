from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sphere import unit

from gapclose.analysis.neighbor_recall import neighbor_accuracy, neighbor_recalls


def around(centre: int, n: int, *, seed: int, spread: float = 0.1) -> np.ndarray:
    rows = spread * np.random.default_rng([seed, centre]).standard_normal((n, 8))
    rows[:, centre] += 1.0
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


REAL = {"frog": around(0, 60, seed=1), "ship": around(1, 60, seed=1)}


def test_halves_of_one_set_tell_each_other_right() -> None:
    found = neighbor_recalls(
        real=REAL, synthetic={"frog": around(0, 60, seed=2), "ship": around(1, 60, seed=2)}
    )
    assert {name: (its.real, its.synthetic) for name, its in found.items()} == {
        "frog": (1.0, 1.0),
        "ship": (1.0, 1.0),
    }
    assert all(its.p_value == 1.0 and its.n == 60 for its in found.values())


def test_half_a_class_that_is_never_made_is_told_wrong() -> None:
    """Frogs come in two kinds; only one is made, and ships lie near to the other."""
    kinds = np.concatenate([around(0, 30, seed=3), around(2, 30, seed=3)])
    ships = np.concatenate([around(1, 30, seed=3), around(1, 30, seed=4)])
    near = around(1, 60, seed=5)
    near[:30] = around(2, 30, seed=6, spread=0.6)
    made = {"frog": around(0, 60, seed=7), "ship": near}
    found = neighbor_recalls(real={"frog": kinds, "ship": ships}, synthetic=made)
    assert found["frog"].real == 1.0
    assert found["frog"].synthetic == pytest.approx(0.5, abs=0.05)
    assert found["frog"].p_value < 1e-6
    assert found["ship"].p_value > 0.05


def test_no_image_is_its_own_neighbour() -> None:
    """Each of two classes' images lies right beside one of the other."""
    rows = around(0, 20, seed=8, spread=1.0)
    beside = rows + np.float32(0.02) * around(3, 20, seed=9, spread=1.0)
    real = {"a": rows, "b": beside / np.linalg.norm(beside, axis=1, keepdims=True)}
    found = neighbor_recalls(real=real, synthetic=real, k=1)
    assert found["a"].real == 0.0
    assert found["a"].synthetic == 1.0  # as its own copies


def test_the_side_with_more_images_has_no_more_votes() -> None:
    made = {"frog": around(0, 60, seed=2), "ship": around(1, 600, seed=2)}
    fewer = {"frog": made["frog"], "ship": made["ship"][::10]}
    assert neighbor_recalls(real=REAL, synthetic=made) == neighbor_recalls(
        real=REAL, synthetic=fewer
    )


def test_every_recipe_of_a_mixture_votes_where_there_are_fewer_photos() -> None:
    """Images come sorted by the weights of their recipes: the second kind of frog comes last."""
    kinds = np.concatenate([around(0, 40, seed=1), around(2, 20, seed=1)])
    made = np.concatenate([around(0, 140, seed=2), around(2, 60, seed=2)])
    found = neighbor_recalls(
        real={"frog": kinds, "ship": REAL["ship"]},
        synthetic={"frog": made, "ship": around(1, 200, seed=2)},
    )
    assert found["frog"].synthetic == 1.0


def test_where_a_class_has_more_photos_no_photo_is_its_own_neighbour() -> None:
    """Each photo of a class lies right beside one of the other, and only half of them vote."""
    rows = around(0, 40, seed=8, spread=1.0)
    beside = rows + np.float32(0.02) * around(3, 40, seed=9, spread=1.0)
    real = {"a": rows, "b": beside / np.linalg.norm(beside, axis=1, keepdims=True)}
    half = {name: its[::2] for name, its in real.items()}
    found = neighbor_recalls(real=real, synthetic=half, k=1)
    voting = neighbor_recalls(real=half, synthetic=half, k=1)
    assert voting["a"].real == 0.0
    assert found["a"].real <= 0.5


def test_a_class_alone_has_none() -> None:
    assert neighbor_recalls(real={"frog": REAL["frog"]}, synthetic=REAL) == {}
    assert neighbor_recalls(real=REAL, synthetic={"ship": REAL["ship"]}) == {}


@given(st.integers(0, 2**16))
def test_the_order_of_the_classes_is_nothing(seed: int) -> None:
    real = {name: around(i, 20, seed=seed, spread=0.8) for i, name in enumerate("abc")}
    made = {name: around(i, 20, seed=seed + 1, spread=0.8) for i, name in enumerate("abc")}
    one = neighbor_recalls(real=real, synthetic=made)
    other = neighbor_recalls(
        real=dict(reversed(real.items())), synthetic=dict(reversed(made.items()))
    )
    for name in "abc":
        assert one[name].real == pytest.approx(other[name].real, abs=0.051)
        assert 0.0 <= one[name].p_value <= 1.0


def test_the_accuracy_of_an_encoder_by_hand() -> None:
    """Each photo is told by the nearest others, never by itself, and classes count alike."""
    east, north = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    apart = {"a": np.repeat(east, 12, axis=0), "b": np.repeat(north, 40, axis=0)}
    apart = {name: rows.astype(np.float32) for name, rows in apart.items()}
    assert neighbor_accuracy(apart) == 1.0
    # One of a's lies among b's: it is told wrong, and of b's 12 that take part none is.
    apart["a"][3] = north
    assert neighbor_accuracy(apart) == pytest.approx(23 / 24)


def test_an_encoder_that_sees_nothing_is_at_chance() -> None:
    rows = {str(i): unit(100, seed=i) for i in range(4)}
    assert neighbor_accuracy(rows) == pytest.approx(0.25, abs=0.07)
