"""An archive: what is put there comes back as it was, the last images first to be taken."""

from __future__ import annotations

import numpy as np

from gapclose.loop.search.archive import Archive, Block


def block(*seeds: int) -> Block:
    its = np.array(seeds, dtype=np.int64)
    rows = np.float32(np.stack([its, -its], axis=1))
    return Block(embeddings=rows, seeds=its, sources=its % 3 - 1)


def same(one: Block, *seeds: int) -> bool:
    wanted = block(*seeds) if seeds else block(0).at(slice(0, 0))
    return all(
        np.array_equal(getattr(one, name), getattr(wanted, name))
        for name in ("embeddings", "seeds", "sources")
    )


def test_the_last_images_are_taken_and_the_others_stay() -> None:
    archive = Archive(2)
    archive.put(4, block(1, 2, 3))
    archive.put(7, block(9))
    archive.put(4, block(5))
    assert same(archive.of(4), 1, 2, 3, 5)
    assert same(archive.take(4, 2), 3, 5)
    assert same(archive.of(4), 1, 2)
    archive.put(4, block(6, 8))
    assert same(archive.take(4, 9), 1, 2, 6, 8)
    assert same(archive.of(4))
    assert same(archive.of(7), 9)


def test_a_seed_is_found_under_its_atom_alone() -> None:
    archive = Archive(2)
    archive.put(4, block(1, 2))
    archive.put(5, block(3))
    assert archive.holds_one(4, [8, 2])
    assert not archive.holds_one(4, [3])
    assert not archive.holds_one(6, [1, 2, 3])
    archive.take(4, 1)
    assert not archive.holds_one(4, [2])
