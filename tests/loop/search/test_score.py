"""A score is replaceable: the search asks for nothing that the Protocol does not name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import modes
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import nnls

from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.recording import Recorder, Recording
from gapclose.loop.search.score import Floats, Rows, Score

TRUTH = {"brown": 0.5, "gray": 0.3, "plain": 0.2}


class MeanDistance:
    """The squared distance of the mean embeddings, where a mixture's is that of its atoms' means.

    It has no kernel, keeps its images in lists, and records nothing.
    """

    def __init__(self, real: Rows) -> None:
        self.real = real
        self.target = real.mean(0).astype(np.float64)
        self.images: list[list[tuple[NDArray[np.float32], int]]] = []

    @property
    def n_real(self) -> int:
        return len(self.real)

    @property
    def sizes(self) -> NDArray[np.int64]:
        return np.array([len(its) for its in self.images], dtype=np.int64)

    @property
    def means(self) -> Floats:
        return np.stack([np.mean([row for row, _ in its], axis=0) for its in self.images])

    def __len__(self) -> int:
        return len(self.images)

    def empty(self) -> MeanDistance:
        return MeanDistance(self.real)

    def add(
        self,
        embeddings: Rows,
        seeds: Sequence[int],
        *,
        sources: Sequence[int] = (),
        atom: int | None = None,
    ) -> int:
        if atom is None:
            self.images.append([])
        number = len(self.images) - 1 if atom is None else atom
        self.images[number] += zip(embeddings, seeds, strict=True)
        return number

    def rows_of(self, atom: int) -> tuple[Rows, NDArray[np.int64]]:
        rows, seeds = zip(*self.images[atom], strict=True)
        return np.stack(rows), np.array(seeds)

    def fit(
        self,
        *,
        start: Floats | None = None,
        without: NDArray[np.bool_] | None = None,
        favoured: NDArray[np.bool_] | None = None,
    ) -> Floats:
        ones = 100.0 * np.ones(len(self))  # they sum to 1
        found, _ = nnls(np.vstack([self.means.T, ones]), np.append(self.target, 100.0))
        return np.asarray(found / found.sum())

    def gap(self, weights: Floats) -> float:
        return float(((weights @ self.means - self.target) ** 2).sum())

    def gap_of(self, embeddings: Rows, *, sources: Sequence[int] = ()) -> float:
        return float(((embeddings.mean(0) - self.target) ** 2).sum())

    def scores(self, weights: Floats) -> Floats:
        return np.asarray(self.means @ (weights @ self.means - self.target))

    def score(self, weights: Floats, atom: int) -> float:
        return float(self.scores(weights)[atom])

    def products(self, atoms: Sequence[int]) -> tuple[Floats, Floats]:
        rows = np.concatenate([self.rows_of(atom)[0] for atom in atoms]).astype(np.float64)
        return rows @ rows.T * (1.0 - np.eye(len(rows))), rows @ self.target

    def promise(
        self,
        weights: Floats,
        embeddings: Rows,
        seeds: Sequence[int],
        *,
        sources: Sequence[int] = (),
    ) -> float:
        return 0.0

    def change(
        self,
        weights: Floats,
        before: Rows,
        after: Rows,
        seeds: Sequence[int],
        *,
        sources: Sequence[int] = (),
    ) -> float:
        moved = weights @ self.means - self.target + (after - before).mean(0)
        return float((moved**2).sum()) - self.gap(weights)

    @contextmanager
    def noting(self, known: Recording | None = None) -> Iterator[Recorder]:
        yield Recorder("mean distance")


@pytest.mark.parametrize("settings", [False, True])
def test_a_search_finds_the_mixture_by_another_score(settings: bool) -> None:
    real = modes.mixed(TRUTH, 300, np.random.default_rng(1))
    options = {"guidance_scale": [1.0, 9.0]} if settings else {}
    score: Score = MeanDistance(real)
    search = modes.make_search(real, space=modes.make_space(**options), bank=score)
    stages = set()
    while search.number < 30 and modes.stopped(search) is None:
        proposal = modes.propose(search, settings_trials=6)
        search.absorb(proposal, modes.generate(proposal))
        stages.add(proposal.stage)
    assert stages >= {"baseline", "joint", "mixture"} | ({"settings"} if settings else set())
    mixture = search.mixture()
    found = modes.weights_by_word(mixture.recipes, mixture.weights)
    for word in modes.WORDS:
        assert found[word] == pytest.approx(TRUTH.get(word, 0.0), abs=0.12), found
    assert mixture.gap_tune < 0.1 * search.baseline_gap


def test_an_empty_one_has_no_images_and_the_same_photos() -> None:
    real = modes.mixed(TRUTH, 60, np.random.default_rng(0))
    bank: Score = AtomBank(kernel=Kernel.fit(real), real=real)
    rows = modes.rows_of("brown", 8, np.random.default_rng(1))
    bank.add(rows, range(8))
    again = bank.empty()
    assert (len(again), again.n_real, len(bank)) == (0, 60, 1)
    assert again.gap_of(rows) == bank.gap_of(rows)
