from __future__ import annotations

import numpy as np

from gapclose.analysis.downstream.squares import to_squares


def test_an_image_of_the_size_is_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(to_squares([image], side=32)[0], image)


def test_a_larger_one_is_averaged_and_cut_in_the_middle() -> None:
    image = np.zeros((64, 96, 3), dtype=np.uint8)
    image[:, 16:80] = 200  # the middle square
    image[::2, 16:80:2] = 100
    (square,) = to_squares([image], side=32)
    assert (square == 175).all()


def test_a_smaller_one_is_enlarged() -> None:
    (square,) = to_squares([np.full((8, 8, 3), 50, dtype=np.uint8)], side=32)
    assert square.shape == (32, 32, 3)
    assert (square == 50).all()


def test_none_are_none() -> None:
    assert to_squares([], side=32).shape == (0, 32, 32, 3)
