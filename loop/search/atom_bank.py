"""The bank of every image made for a class, and the kernel sums between them.

`atoms` adds images and asks for weights and scores. It knows kernels and numbers, never recipes,
Optuna or files.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.favoured import left_out
from gapclose.loop.search.image_rows import ImageRows
from gapclose.loop.search.mixture_weights import objective, solve_weights
from gapclose.loop.search.recording import Recorder, Recording

Floats = NDArray[np.float64]

VERSION: Final = 2  # of recorded numbers: another order, sum or solver is another version


class Square:
    """A square matrix that grows by a row and a column, without being copied each time."""

    def __init__(self) -> None:
        """Start empty."""
        self._size, self._all = 0, np.zeros((8, 8))

    @property
    def values(self) -> Floats:
        """(n, n)."""
        return self._all[: self._size, : self._size]

    def grow(self) -> None:
        """Add one more row and column of zeros."""
        if self._size == len(self._all):
            wider = np.zeros((2 * self._size, 2 * self._size))
            wider[: self._size, : self._size] = self._all
            self._all = wider
        self._size += 1

    def add(self, number: int, column: Floats) -> None:
        """Add to one row, and to the column that mirrors it."""
        self.values[number] += column
        self.values[:, number] = self.values[number]


@dataclass(slots=True)
class AtomBank:
    """Every scored image of a class: atoms, and the kernel means between them.

    Attributes:
        kernel: Frozen from the class's real images.
        real: (n_real, d) unit rows of the tune split.
        real_real: Mean kernel value of distinct real pairs; computed, and so is the next.
        basis: Names the kernel and the real images.
    """

    kernel: Kernel
    real: NDArray[np.float32]
    real_real: float = math.nan
    basis: str = ""
    _sums: Square = field(default_factory=Square)  # between atoms, one seed's pairs out
    _pairs: Square = field(default_factory=Square)
    _real_sums: Floats = field(default_factory=lambda: np.zeros(0))  # of means over real images
    _sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _images: ImageRows = field(init=False)
    _recorder: Recorder | None = None

    def __post_init__(self) -> None:
        """Start empty."""
        if not self.basis:
            self.real_real = self.kernel.mean_distinct(self.real)
            self.basis = basis_of(self.kernel, self.real)
        self._images = ImageRows(self.real.shape[1])

    def __len__(self) -> int:
        """Number of atoms."""
        return len(self._real_sums)

    @property
    def n_real(self) -> int:
        """Number of real images."""
        return len(self.real)

    def empty(self) -> AtomBank:
        """Return a bank without images, with the same kernel and real images."""
        return AtomBank(self.kernel, self.real, self.real_real, self.basis)

    def add(
        self,
        embeddings: NDArray[np.float32],
        seeds: Sequence[int],
        *,
        sources: Sequence[int] = (),
        atom: int | None = None,
    ) -> int:
        """Add an atom, or images to one; return its number. Only their kernel rows are computed.

        Args:
            embeddings: (n, d) unit rows; n >= 2 for a new atom.
            seeds: Of its images, all different. Images of one seed under two recipes are
                dependent, so pairs of one seed enter no mean.
            sources: As `near_real` has them.
            atom: Whose images they are; a new atom's if not given.

        Raises:
            ValueError: Fewer than two images, or one seed twice.
        """
        n, new = len(embeddings), atom is None
        number = len(self) if atom is None else atom
        if n < 2 and new:
            raise ValueError(f"an atom needs at least 2 images, not {n}")
        before = len(self._images)
        self._images.append(embeddings, seeds, number, sources)
        if new:
            self._sums.grow()
            self._pairs.grow()
            self._real_sums = np.append(self._real_sums, 0.0)
            self._sizes = np.append(self._sizes, 0)
        size = len(self)

        def sums() -> Floats:
            near = self._near(embeddings, sources)
            return np.append(self._images.sums(self.kernel, since=before, atoms=size), near.sum())

        found = self._numbers(size + 1, sums)
        self._sums.add(number, found[:size])
        self._pairs.add(number, self._images.pairs(since=before, atoms=size))
        self._real_sums[number] += found[size]
        self._sizes[number] += n
        return number

    def _near(self, embeddings: NDArray[np.float32], sources: Sequence[int]) -> Floats:
        return near_real(self.kernel, embeddings, self.real, sources)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Images per atom."""
        return self._sizes

    @property
    def Q(self) -> Floats:  # noqa: N802
        """(n, n) mean kernel values between atoms, unbiased on the diagonal."""
        return self._sums.values / self._pairs.values

    @property
    def q(self) -> Floats:
        """(n,) mean kernel values between atoms and the real tune split."""
        return np.asarray(self._real_sums / self.sizes)

    def rows_of(self, atom: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return an atom's images and their seeds, in the order that they came."""
        mine = self._images.atoms == atom
        return self._images.embeddings[mine], self._images.seeds[mine]

    def fit(
        self,
        *,
        start: Floats | None = None,
        without: NDArray[np.bool_] | None = None,
        favoured: NDArray[np.bool_] | None = None,
    ) -> Floats:
        """Fit the weights.

        The ridge (1 - Q_jj) / n_j is the variance that atom j's mean embedding has from its
        few images; without it small lucky atoms are overweighted.
        """

        def solved() -> Floats:
            out = left_out(favoured, without, self._images, self.empty)
            noise = np.diag((1.0 - np.diag(self.Q)) / self.sizes)
            return solve_weights(self.Q + noise, self.q, start=start, without=out)

        return self._numbers(len(self), solved)

    def gap(self, weights: Floats) -> float:
        """Squared MMD of a mixture to the real tune split; optimistic for fitted weights."""
        return objective(weights, self.Q, self.q) + self.real_real

    def gap_of(self, embeddings: NDArray[np.float32], *, sources: Sequence[int] = ()) -> float:
        """Squared MMD of images to the real tune split.

        Args:
            embeddings: (m, d) unit rows, in the bank or not; m >= 2.
            sources: As `near_real` has them.
        """

        def measured() -> float:
            near = float(self._near(embeddings, sources).mean())
            return self.kernel.mean_distinct(embeddings) - 2.0 * near + self.real_real

        return self._number(measured)

    def scores(self, weights: Floats) -> Floats:
        """Return (n,) Frank-Wolfe scores (Qw)_r - q_r: the lower, the more the atom would help."""
        return np.asarray(self.Q @ weights - self.q)

    def score(self, weights: Floats, atom: int) -> float:
        """Return the Frank-Wolfe score of one atom."""
        return self._number(lambda: float(self.scores(weights)[atom]))

    def slopes(
        self,
        weights: Floats,
        embeddings: NDArray[np.float32],
        seeds: Sequence[int],
        near: Floats,
    ) -> Floats:
        """Return how much nearer each image is to the mixture than to the real images.

        Its mean over an atom's images is the atom's Frank-Wolfe score.

        Args:
            weights: (n,) of the mixture.
            embeddings: (m, d) unit rows, in the bank or not.
            seeds: (m,) Images of the bank with an image's seed are left out for it.
            near: (m,) as `near_real` computes it.
        """
        shares = (weights / self.sizes)[self._images.atoms]
        return self._images.mean_with(self.kernel, embeddings, seeds, shares=shares) - near

    def change(
        self,
        weights: Floats,
        before: NDArray[np.float32],
        after: NDArray[np.float32],
        seeds: Sequence[int],
        *,
        sources: Sequence[int] = (),
    ) -> float:
        """Estimate what happens to a mixture's squared MMD when its images change as pairs do.

        With D the mean difference that a change makes to an image's kernel embedding, and r what
        separates the mixture's from the real one, |r + D|^2 - |r|^2 = 2 <D, r> + |D|^2. The whole
        bank estimates r, so a few pairs need only estimate D, and do so well.

        Args:
            weights: (n,) of the mixture, whose images are as those before.
            before: (m, d) unit rows, m >= 2.
            after: (m, d) the same images, changed.
            seeds: (m,) theirs.
            sources: Theirs, as `near_real` has them.
        """
        m, both = len(seeds), np.concatenate([after, before])
        near = self._near(both, [*sources, *sources])
        slopes = self.slopes(weights, both, [*seeds, *seeds], near)
        gram = self.kernel.gram(both)
        square = gram[:m, :m] - gram[:m, m:] - gram[m:, :m] + gram[m:, m:]
        # Distinct pairs alone: an image's own change would add its scatter.
        length = (square.sum() - np.trace(square)) / (m * (m - 1))
        return float(2.0 * (slopes[:m].mean() - slopes[m:].mean()) + length)

    def promise(
        self,
        weights: Floats,
        embeddings: NDArray[np.float32],
        seeds: Sequence[int],
        *,
        sources: Sequence[int] = (),
    ) -> float:
        """Estimate the gain of a step from a mixture towards fresh images of one recipe.

        From the Frank-Wolfe gap of that atom and the curvature towards it (Jaggi 2013, "Revisiting
        Frank-Wolfe", section 2). The step is found on each half of the images and paid for by the
        other: on the same ones, chance alone promises a gain. It may be below 0.

        Args:
            weights: (n,) of the mixture, fitted without these images.
            embeddings: (m, d) unit rows, m >= 4.
            seeds: (m,).
            sources: As `near_real` has them.
        """

        def estimated() -> float:
            own = weights @ self.Q @ weights
            near = self._near(embeddings, sources)
            slopes = self.slopes(weights, embeddings, seeds, near)
            towards = slopes + near
            curvature = self.kernel.mean_distinct(embeddings) - 2.0 * towards.mean() + own
            return step_gain(float(own - weights @ self.q) - slopes, curvature)

        return self._number(estimated)

    @contextmanager
    def noting(self, known: Recording | None = None) -> Iterator[Recorder]:
        """Note what is computed meanwhile, or take it from what was noted before."""
        self._recorder = Recorder(self.basis, known)
        try:
            yield self._recorder
        finally:
            self._recorder = None

    def _numbers(self, size: int, compute: Callable[[], Floats]) -> Floats:
        return compute() if self._recorder is None else self._recorder.numbers(size, compute)

    def _number(self, compute: Callable[[], float]) -> float:
        return float(self._numbers(1, lambda: np.array([compute()]))[0])


def near_real(
    kernel: Kernel,
    embeddings: NDArray[np.float32],
    real: NDArray[np.float32],
    sources: Sequence[int] = (),
) -> Floats:
    """Return the mean kernel value of each image to the real images, leaving out its own source.

    An image that owes its caption or picture to a real one is nearer to that one than to unseen
    photos, among which it has no source. Where images draw on all photos alike, the mean without
    it is what unseen photos would show. Images of one photo group then count its other photos less
    than a fold does, by one: their gap comes out too large rather than too small.

    Args:
        kernel: To compare with.
        embeddings: (m, d) unit rows.
        real: (n, d) unit rows, n >= 2.
        sources: (m,) the row in `real` that each image was made from, -1 of none; empty where
            none was made from any.

    Returns:
        (m,) in (0, 1].
    """
    near = kernel.mean_rows(embeddings, real)
    made = np.flatnonzero(np.asarray(sources, dtype=np.int64) >= 0)
    if len(made):
        own = np.asarray(sources, dtype=np.int64)[made]
        apart = embeddings[made] - real[own]
        alike = kernel.of_squared(np.einsum("ij,ij->i", apart, apart))
        near[made] = (len(real) * near[made] - alike) / (len(real) - 1)
    return near


def step_gain(gaps: Floats, curvature: float) -> float:
    """Estimate what a step towards an atom gains, found on half of its images, paid by the other.

    Args:
        gaps: (m,) Frank-Wolfe gap of each of its images, m >= 2.
        curvature: Of the squared MMD along the way to it.
    """
    halves = gaps[::2].mean(), gaps[1::2].mean()
    gains = []
    for found, paid in (halves, halves[::-1]):
        step = min(max(found, 0.0) / max(curvature, 1e-12), 1.0)
        gains.append(2.0 * step * paid - step**2 * curvature)
    return float(np.mean(gains))


def basis_of(kernel: Kernel, real: NDArray[np.float32]) -> str:
    """Return 16 hex digits that name a kernel and the real images that it compares with."""
    found = hashlib.sha256(f"{VERSION} {kernel.bandwidths!r}".encode())
    found.update(np.ascontiguousarray(real).tobytes())
    return found.hexdigest()[:16]
