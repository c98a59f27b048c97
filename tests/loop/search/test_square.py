"""The square: it grows by rows and columns that mirror each other, and shrinks to some of them."""

from __future__ import annotations

import numpy as np

from gapclose.loop.search.square import Square


def test_a_square_grows_and_mirrors_what_is_added() -> None:
    square, wanted = Square(), np.zeros((0, 0))
    rng = np.random.default_rng(4)
    for n in range(1, 20):
        square.grow()
        wanted = np.pad(wanted, ((0, 1), (0, 1)))
        number, column = int(rng.integers(n)), rng.normal(size=n)
        square.add(number, column)
        wanted[number] += column
        wanted[:, number] = wanted[number]
        np.testing.assert_array_equal(square.values, wanted)


def test_a_square_of_some_rows_grows_on() -> None:
    square = Square()
    for n in range(1, 13):
        square.grow()
        square.add(n - 1, np.arange(1.0, n + 1))
    kept = np.array([0, 2, 3, 5, 6, 7, 8, 9, 11])
    wanted = square.values[np.ix_(kept, kept)]
    square.keep(kept)
    np.testing.assert_array_equal(square.values, wanted)
    square.grow()
    np.testing.assert_array_equal(square.values, np.pad(wanted, ((0, 1), (0, 1))))
    square.keep(np.array([], dtype=np.int64))
    square.grow()
    np.testing.assert_array_equal(square.values, np.zeros((1, 1)))
