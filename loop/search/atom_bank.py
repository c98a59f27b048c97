"""The bank of every image made for a class, and the kernel sums between them.

`atoms` adds images and asks for weights and scores. It knows kernels and numbers, never recipes,
Optuna or files.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.bank_limits import BankLimits
from gapclose.loop.search.favoured import left_out
from gapclose.loop.search.image_steps import paired_change, step_gain
from gapclose.loop.search.inactive import AtomStates, choose
from gapclose.loop.search.kernel_means import KernelMeans
from gapclose.loop.search.mixture_weights import fit_weights, objective
from gapclose.loop.search.recording import Notes, Recorder, Recording

Floats = NDArray[np.float64]

VERSION: Final = 4  # of recorded numbers: another order, sum or solver is another version


@dataclass(slots=True)
class AtomBank:
    """Every scored image of a class: atoms, and the kernel means between them.

    Attributes:
        kernel: Frozen from the class's real images.
        real: (n_real, d) unit rows of the tune split.
        real_real: Mean kernel value of distinct real pairs; computed, and so is the next.
        basis: Names the kernel, the real images and the limits.
        limits: Of what new images are compared with; beyond, atoms without weight are inactive.
    """

    kernel: Kernel
    real: NDArray[np.float32]
    real_real: float = math.nan
    basis: str = ""
    limits: BankLimits = field(default_factory=BankLimits)
    _means: KernelMeans = field(init=False)
    _real_sums: Floats = field(default_factory=lambda: np.zeros(0))  # of means over real images
    _sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _inactive_scores: Floats = field(default_factory=lambda: np.zeros(0))
    _notes: Notes = field(default_factory=Notes)

    def __post_init__(self) -> None:
        """Start empty."""
        if not self.basis:
            self.real_real = self.kernel.mean_distinct(self.real)
            self.basis = basis_of(self.kernel, self.real, self.limits)
        self._means = KernelMeans(self.kernel, self.real.shape[1])

    def __len__(self) -> int:
        """Number of atoms."""
        return len(self._real_sums)

    @property
    def n_real(self) -> int:
        """Number of real images."""
        return len(self.real)

    def empty(self) -> AtomBank:
        """Return a bank without images, with the same kernel and real images."""
        return AtomBank(self.kernel, self.real, self.real_real, self.basis, self.limits)

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
            seeds: All different. Images of one seed are dependent, and enter no mean as pairs.
            sources: As `near_real` has them.
            atom: Whose images they are; a new atom's if not given.

        Raises:
            ValueError: Fewer than two images, or one seed twice.
        """
        n, number = len(embeddings), len(self) if atom is None else atom
        if (new := atom is None) and n < 2:
            raise ValueError(f"an atom needs at least 2 images, not {n}")
        self._means.add(number, embeddings, seeds, sources, self._notes.numbers)
        if new:
            self._real_sums = np.append(self._real_sums, 0.0)
            self._sizes = np.append(self._sizes, 0)
            self._inactive_scores = np.append(self._inactive_scores, 0.0)
        near = self._notes.number(lambda: self._near(embeddings, sources).sum())
        self._real_sums[number] += near
        self._sizes[number] += n
        return number

    def _near(self, embeddings: NDArray[np.float32], sources: Sequence[int]) -> Floats:
        return near_real(self.kernel, embeddings, self.real, sources)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Images per atom."""
        return self._sizes

    @property
    def active(self) -> NDArray[np.int64]:
        """(k,) numbers of the atoms that weights are fitted over; all until there are many."""
        return self._means.active

    @property
    def Q(self) -> Floats:  # noqa: N802
        """(k, k) mean kernel values between active atoms, unbiased on the diagonal."""
        return self._means.values

    @property
    def q(self) -> Floats:
        """(n,) mean kernel values between atoms and the real tune split."""
        return np.asarray(self._real_sums / self.sizes)

    def rows_of(self, atom: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return an atom's images and their seeds, in the order that they came."""
        return self._means.all_of(atom)

    def fit(
        self,
        *,
        start: Floats | None = None,
        without: NDArray[np.bool_] | None = None,
        favoured: NDArray[np.bool_] | None = None,
    ) -> Floats:
        """Fit the weights as `fit_weights` does; those of inactive atoms are 0."""
        bounded, means = len(self.active) < len(self), self._means
        if bounded and without is not None and without[self.active].all():
            known = np.full(len(self), 1.0 / len(self)) if start is None else start
            self._choose(known, without)
        active, weights = self.active, np.zeros(len(self))

        def solved() -> Floats:
            out = left_out(None if bounded else favoured, without, means.images, self.empty)
            return fit_weights(
                self.Q,
                self.q[active],
                counted=means.counted,
                start=None if start is None else start[active],
                without=None if out is None else out[active],
            )

        weights[active] = self._notes.numbers(len(active), solved)
        lost = start is not None and without is not None and bool(start[without].any())
        if self.limits.is_exceeded(images=len(means.images), atoms=len(active)) or (
            bounded and lost
        ):
            self._choose(weights, without)
        return weights

    def _choose(self, weights: Floats, without: NDArray[np.bool_] | None) -> None:
        states = AtomStates(
            weights=weights,
            scores=self.scores(weights),
            near=lambda block: self._near(block.embeddings, block.sources.tolist()),
            sizes=self.sizes,
            without=without,
        )
        self._inactive_scores = choose(self._means, self.limits, states, self._notes.numbers)

    def gap(self, weights: Floats) -> float:
        """Squared MMD of a mixture to the real tune split; optimistic for fitted weights."""
        active = self.active
        return objective(weights[active], self.Q, self.q[active]) + self.real_real

    def gap_of(self, embeddings: NDArray[np.float32], *, sources: Sequence[int] = ()) -> float:
        """Squared MMD of images to the real tune split.

        Args:
            embeddings: (m, d) unit rows, in the bank or not; m >= 2.
            sources: As `near_real` has them.
        """

        def measured() -> float:
            near = float(self._near(embeddings, sources).mean())
            return self.kernel.mean_distinct(embeddings) - 2.0 * near + self.real_real

        return self._notes.number(measured)

    def scores(self, weights: Floats) -> Floats:
        """Return (n,) Frank-Wolfe scores (Qw)_r - q_r: the lower, the more the atom would help.

        Those of inactive atoms are as they were computed last, when atoms were last chosen.
        """
        scores, active = self._inactive_scores.copy(), self.active
        scores[active] = self.Q @ weights[active] - self.q[active]
        return scores

    def score(self, weights: Floats, atom: int) -> float:
        """Return the Frank-Wolfe score of one atom."""
        return self._notes.number(lambda: float(self.scores(weights)[atom]))

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
        return self._means.towards(weights, embeddings, np.asarray(seeds)) - near

    def change(
        self,
        weights: Floats,
        before: NDArray[np.float32],
        after: NDArray[np.float32],
        seeds: Sequence[int],
        *,
        sources: Sequence[int] = (),
    ) -> float:
        """Estimate what happens to a mixture's squared MMD, as `Score.change`."""
        both = np.concatenate([after, before])
        near = self._near(both, [*sources, *sources])
        return paired_change(self.kernel, both, self.slopes(weights, both, [*seeds, *seeds], near))

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
            held = weights[self.active]
            own = held @ self.Q @ held
            near = self._near(embeddings, sources)
            slopes = self.slopes(weights, embeddings, seeds, near)
            curvature = self.kernel.mean_distinct(embeddings) - 2.0 * (slopes + near).mean() + own
            return step_gain(float(own - held @ self.q[self.active]) - slopes, curvature)

        return self._notes.number(estimated)

    def products(self, atoms: Sequence[int]) -> tuple[Floats, Floats]:
        """Return kernel values as `Score.products`; no image may be made from a real one."""
        rows, seeds = map(np.concatenate, zip(*map(self.rows_of, atoms), strict=True))
        gram = self.kernel.gram(rows, rows) * (seeds[:, None] != seeds)
        return gram.astype(np.float64), self._near(rows, ())

    def noting(self, known: Recording | None = None) -> AbstractContextManager[Recorder]:
        """Note what is computed meanwhile, or take it from what was noted before."""
        return self._notes.open(self.basis, known)


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


def basis_of(kernel: Kernel, real: NDArray[np.float32], limits: BankLimits) -> str:
    """Return 16 hex digits that name a kernel, the real images that it compares with, and limits.

    Within other limits, other numbers are asked for: those noted would be read as others.
    """
    found = hashlib.sha256(f"{VERSION} {kernel.bandwidths!r} {limits!r}".encode())
    found.update(np.ascontiguousarray(real).tobytes())
    return found.hexdigest()[:16]
