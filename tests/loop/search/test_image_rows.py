"""Image rows: they come back as they were appended, however often their buffers grew."""

from __future__ import annotations

import numpy as np
import pytest

from gapclose.loop.search.image_rows import ImageRows


def test_rows_are_those_that_were_appended() -> None:
    rng = np.random.default_rng(0)
    images, rows, seeds, atoms = ImageRows(5), [], [], []
    assert (len(images), images.embeddings.shape) == (0, (0, 5))
    for number in range(120):
        n = int(rng.integers(1, 20)) if number else 600  # more than a buffer at once
        block = rng.normal(size=(n, 5)).astype(np.float32)
        its = range(1000 * number, 1000 * number + n)
        images.append(block, its, number % 7)
        rows.append(block)
        seeds += its
        atoms += [number % 7] * n
    assert len(images) == len(seeds)
    np.testing.assert_array_equal(images.embeddings, np.concatenate(rows))
    assert images.embeddings.flags.c_contiguous
    assert images.seeds.tolist() == seeds
    assert images.atoms.tolist() == atoms


def test_images_of_one_seed_are_found_under_every_atom() -> None:
    images = ImageRows(2)
    images.append(np.zeros((2, 2), np.float32), [4, 5], 0)
    images.append(np.zeros((2, 2), np.float32), [5, 6], 1)
    assert [images.of_seed(seed) for seed in (4, 5, 6, 7)] == [[0], [1, 2], [3], []]


@pytest.mark.parametrize("seeds", [[1, 2], [8, 8]])
def test_a_seed_comes_once_to_an_atom_and_what_is_refused_leaves_nothing(seeds: list[int]) -> None:
    images = ImageRows(2)
    images.append(np.zeros((2, 2), np.float32), [1, 3], 0)
    with pytest.raises(ValueError, match="a seed each"):
        images.append(np.zeros((2, 2), np.float32), seeds, 0)
    assert (len(images), images.of_seed(2), images.of_seed(8)) == (2, [], [])
