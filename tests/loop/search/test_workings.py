"""Workings: numbers are computed once, and come back in the order that they were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gapclose.loop.search.workings import Floats, Notebook, Workings


def asked(notebook: Notebook, sizes: list[int], compute: Callable[[int], Floats]) -> list[Floats]:
    return [notebook.numbers(size, lambda size=size: compute(size)) for size in sizes]


def counting() -> Callable[[int], Floats]:
    rng = np.random.default_rng(0)
    return lambda size: rng.normal(size=size)


def never(_: int) -> Floats:
    raise AssertionError("it is known")


def test_what_is_noted_comes_back_to_the_bit() -> None:
    first = Notebook("photos")
    told = asked(first, [3, 1, 5], counting())
    noted = first.workings
    assert (noted.ruler, noted.numbers.shape, noted.numbers.dtype) == ("photos", (9,), np.float64)
    again = Notebook("photos", noted)
    for one, other in zip(asked(again, [3, 1, 5], never), told, strict=True):
        assert one.tobytes() == other.tobytes()
    assert again.workings.numbers.tobytes() == noted.numbers.tobytes()


def test_what_lies_beyond_what_is_known_is_computed() -> None:
    known = Workings(ruler="photos", numbers=np.arange(4.0))
    notebook = Notebook("photos", known)
    assert notebook.numbers(4, lambda: never(4)).tolist() == [0.0, 1.0, 2.0, 3.0]
    assert notebook.numbers(2, lambda: np.array([7.0, 8.0])).tolist() == [7.0, 8.0]
    assert notebook.workings.numbers.tolist() == [0.0, 1.0, 2.0, 3.0, 7.0, 8.0]


def test_what_was_noted_against_other_photos_is_of_no_use() -> None:
    known = Workings(ruler="photos", numbers=np.arange(4.0))
    with pytest.raises(AssertionError, match="it is known"):
        Notebook("other photos", known).numbers(4, lambda: never(4))
    assert Notebook("other photos", replace(known, ruler="other photos")).numbers(
        1, lambda: never(1)
    ) == [0.0]


def test_an_empty_notebook_has_no_numbers() -> None:
    assert Notebook("photos").workings.numbers.shape == (0,)
