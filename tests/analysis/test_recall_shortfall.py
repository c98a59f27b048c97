"""Recall shortfalls of sets whose answer is known."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis import recall_shortfall
from gapclose.analysis.recall_shortfall import recall_shortfalls

Rows = NDArray[np.float32]
PLACES = ("brown frog", "green frog", "toad", "ship")


def rows(*, seed: int = 0, spread: float = 0.02, **counts: int) -> Rows:
    """Unit rows near the corners of a simplex: so many at each place, in that order."""
    rng = np.random.default_rng(seed)
    found = []
    for name, n in counts.items():
        near = spread * rng.normal(size=(n, len(PLACES)))
        near[:, PLACES.index(name.replace("_", " "))] += 1.0
        found.append(near / np.linalg.norm(near, axis=1, keepdims=True))
    return np.concatenate(found).astype(np.float32)


def world(seed: int = 0) -> dict[str, Rows]:
    return {
        "frog": rows(seed=seed, brown_frog=60, green_frog=20),
        "toad": rows(seed=seed + 1, toad=80),
        "ship": rows(seed=seed + 2, ship=80),
    }


def blobs(seed: int, n: int = 150) -> dict[str, Rows]:
    """Four classes that overlap: about two of three images are told right."""
    rng = np.random.default_rng(seed)
    found = {}
    for number in range(4):
        own = rng.normal(size=(n, 8)) + 1.6 * np.eye(8)[number]
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        found[f"c{number}"] = own.astype(np.float32)
    return found


def test_nothing_is_missing_where_both_sides_are_alike() -> None:
    found = recall_shortfalls(real=world(), synthetic=world(seed=10))
    assert [*found] == ["frog", "toad", "ship"]
    for name, row in found.items():
        assert (row.real, row.synthetic, row.value) == (1.0, 1.0, 0.0)
        assert row.told.shape == (len(world()[name]),)
        assert row.told.all()


def test_a_class_falls_short_of_what_its_images_lack_and_others_show_in_its_place() -> None:
    synthetic = world(seed=10) | {
        "frog": rows(seed=10, green_frog=80),
        "toad": rows(seed=11, toad=40, brown_frog=40),
    }
    found = recall_shortfalls(real=world(), synthetic=synthetic)
    frog = found["frog"]
    assert (frog.real, frog.synthetic, frog.value) == (1.0, 0.25, 0.75)
    assert frog.told.tolist() == [False] * 60 + [True] * 20
    assert (found["toad"].value, found["ship"].value) == (0.0, 0.0)


def test_classes_that_a_side_lacks_or_has_few_of_are_left_out() -> None:
    real, synthetic = world(), world(seed=10)
    del synthetic["toad"]
    whole = recall_shortfalls(real=real, synthetic=synthetic)
    assert [*whole] == ["frog", "ship"]
    assert whole["frog"].synthetic == 1.0
    assert [*recall_shortfalls(real=world(), synthetic=world() | {"toad": real["toad"][:19]})] == [
        "frog",
        "ship",
    ]
    assert "toad" in recall_shortfalls(
        real=world(), synthetic=world() | {"toad": real["toad"][:20]}
    )


def test_of_fewer_than_two_classes_there_is_nothing_to_tell() -> None:
    real = world()
    assert recall_shortfalls(real={}, synthetic={}) == {}
    assert recall_shortfalls(real=real, synthetic={"frog": real["frog"]}) == {}
    assert recall_shortfalls(real=real, synthetic={"cat": real["frog"], "ox": real["ship"]}) == {}


def test_halves_of_one_set_fall_short_by_chance_alone() -> None:
    values = []
    for seed in range(4):
        found = recall_shortfalls(real=blobs(2 * seed), synthetic=blobs(2 * seed + 1), seed=seed)
        assert all(0.4 < row.real < 0.95 for row in found.values())
        values.append([row.value for row in found.values()])
    assert abs(np.mean(values)) < 0.02
    assert np.abs(values).max() < 0.15


def test_the_same_seed_gives_the_same_and_nothing_is_changed() -> None:
    real, synthetic = blobs(0), blobs(1, n=90)
    kept = {name: own.copy() for name, own in real.items()}
    one, same, other = (
        {n: r.to_json() for n, r in recall_shortfalls(
            real=real, synthetic=synthetic, seed=seed).items()}
        for seed in (0, 0, 1)
    )  # fmt: skip
    assert one == same != other
    assert all((kept[name] == own).all() for name, own in real.items())


def test_photos_that_are_sorted_by_what_they_show_are_all_learnt_from() -> None:
    # Of few synthetic images as few real ones are trained on: not the first ones.
    real = {
        "frog": rows(seed=1, brown_frog=150, green_frog=50),
        "toad": rows(seed=2, toad=200),
        "ship": rows(seed=3, ship=200),
    }
    synthetic = {
        "frog": rows(seed=4, brown_frog=30, green_frog=10),
        "toad": rows(seed=5, toad=40),
        "ship": rows(seed=6, ship=40),
    }
    found = recall_shortfalls(real=real, synthetic=synthetic)
    assert {name: row.real for name, row in found.items()} == dict.fromkeys(real, 1.0)


def test_rows_that_are_all_alike_and_rows_in_plain_numbers() -> None:
    same = dict.fromkeys(("frog", "ship"), np.tile(rows(ship=1), (30, 1)))
    told = json.loads(json.dumps({n: r.to_json() for n, r in recall_shortfalls(
        real=same, synthetic=same).items()}))  # fmt: skip
    for row in told.values():
        assert set(row) == {"recall_shortfall", "recall_real", "recall_synthetic"}
        assert all(math.isfinite(value) for value in row.values())
        assert row["recall_shortfall"] == row["recall_real"] - row["recall_synthetic"]


def test_no_more_images_are_trained_on_than_help(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[list[int]] = []

    def noting(x: Rows, labels: NDArray[np.int64], *, classes: int) -> Any:
        sizes.append(np.bincount(labels, minlength=classes).tolist())
        return lambda rows: np.eye(classes)[np.zeros(len(rows), dtype=int)]

    monkeypatch.setattr(recall_shortfall, "fit_regression", noting)
    real = {"a": np.zeros((900, 4), np.float32), "b": np.zeros((101, 4), np.float32)}
    recall_shortfalls(real=real, synthetic=real)
    assert sizes == [[500, 80]] * 6
    sizes.clear()
    many = {str(i): np.zeros((60, 4), np.float32) for i in range(600)}
    recall_shortfalls(real=many, synthetic=many)
    assert sizes == [[20] * 600] * 6
