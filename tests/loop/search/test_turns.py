"""Turns: time goes where the weight is, and a part of it everywhere."""

from __future__ import annotations

import pytest

from gapclose.loop.search.turns import EVEN_SHARE, most_due


def turns(n: int, weights: dict[str, float], prices: dict[str, float]) -> dict[str, int]:
    """Images of each after n turns of eight images."""
    images = dict.fromkeys(weights, 8)
    for _ in range(n):
        images[most_due([*weights], weights=weights, images=images, prices=prices)] += 8
    return images


def test_images_go_by_weight_where_nothing_has_a_price() -> None:
    images = turns(200, {"a": 0.75, "b": 0.25}, {})
    share = (1 - EVEN_SHARE) * 0.75 + EVEN_SHARE / 2
    assert images["a"] / sum(images.values()) == pytest.approx(share, abs=0.02)


def test_time_goes_by_weight_where_all_have_a_price() -> None:
    images = turns(300, {"a": 0.5, "b": 0.5}, {"a": 1.0, "b": 0.1})
    assert images["b"] / images["a"] == pytest.approx(10.0, rel=0.1)
    even = {"a": 0.5, "b": 0.5}
    assert turns(50, even, {"a": 1.0}) == turns(50, even, {}), "one price says nothing"


def test_one_without_weight_still_has_its_part_of_the_time() -> None:
    images = turns(200, {"a": 1.0, "b": 0.0}, {})
    assert images["b"] / sum(images.values()) == pytest.approx(EVEN_SHARE / 2, abs=0.02)


def test_of_equals_it_is_the_firsts_turn() -> None:
    none = {"a": 0, "b": 0}
    assert most_due(["b", "a"], weights={"a": 0.5, "b": 0.5}, images=none, prices={}) == "b"
