"""Mixtures: the bank of every image made for a class, and the weights that fit it to the real.

`search` adds atoms (a recipe with its images) and asks for scores; `export` allots images by the
weights. It knows kernels and numbers, never Optuna or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.kernel import Kernel

Floats = NDArray[np.float64]

SMALLEST_WEIGHT = 0.001
"""Weights below this are dropped: at export they would not get one image in a thousand."""


_WHOLE = 200  # atoms that are solved for at once
_COLUMNS = 64  # atoms that the solution would take in besides, at a time


def project_to_simplex(v: Floats) -> Floats:
    """Euclidean projection onto {w >= 0, sum w = 1} (Duchi et al. 2008, figure 1).

    Args:
        v: (n,) any real numbers, n >= 1.
    """
    u = np.sort(v)[::-1]
    excess = (np.cumsum(u) - 1.0) / np.arange(1, len(u) + 1)
    theta = excess[np.nonzero(u > excess)[0][-1]]
    return np.asarray(np.maximum(v - theta, 0.0))


def solve_weights(
    Q: Floats,  # noqa: N803
    q: Floats,
    *,
    start: Floats | None = None,
    tolerance: float = 1e-7,
    max_iterations: int = 4000,
) -> Floats:
    """Minimise w'Qw - 2 w'q over the simplex.

    Few of many atoms end up with weight, so a large problem is solved by column generation: on
    the atoms that may carry some, then on those that the solution would take in besides. An
    unbiased Q can be indefinite; the result is then a stationary point, never worse than where it
    started.

    Args:
        Q: (n, n) symmetric mean kernel values between atoms.
        q: (n,) mean kernel values between atoms and the real images.
        start: (n,) feasible warm start; the uniform weights if not given.
        tolerance: Stop when the Frank-Wolfe gap, an upper bound on what is left to gain for
            convex problems, is below this.
        max_iterations: Gradient steps at most, on each set of atoms.

    Returns:
        (n,) weights, non-negative, summing to 1.
    """
    n = len(q)
    w = np.full(n, 1.0 / n) if start is None else project_to_simplex(start)
    if n <= _WHOLE:
        return _descend(Q, q, w, tolerance=tolerance, max_iterations=max_iterations)
    if start is None:
        working = np.argsort(np.diag(Q) - 2.0 * q, kind="stable")[:_COLUMNS]
        w = np.zeros(n)
        w[working] = 1.0 / len(working)
    else:
        working = np.flatnonzero(w)
    while True:
        inner = np.ix_(working, working)
        w[working] = _descend(
            Q[inner], q[working], w[working], tolerance=tolerance, max_iterations=max_iterations
        )
        slope = Q[:, working] @ w[working] - q
        outside = np.setdiff1d(np.argsort(slope, kind="stable")[:_COLUMNS], working)
        if float(w @ slope - slope.min()) < tolerance or not len(outside):
            return w
        working = np.sort(np.concatenate([working, outside]))


def _descend(
    Q: Floats,  # noqa: N803
    q: Floats,
    w: Floats,
    *,
    tolerance: float,
    max_iterations: int,
) -> Floats:
    """FISTA (Beck & Teboulle 2009) on the simplex, restarted when the objective rises."""
    # Of a smaller curvature nothing is seen, and so long a step would drown the sum in rounding.
    step = 1.0 / max(2.0 * _curvature(Q), 1e-6)
    Qw = Q @ w  # noqa: N806
    value = float(w @ Qw - 2.0 * w @ q)
    best, best_value = w, value
    ahead, Q_ahead, t = w, Qw, 1.0  # noqa: N806
    for _ in range(max_iterations):
        new = project_to_simplex(ahead - 2.0 * step * (Q_ahead - q))
        Q_new = Q @ new  # noqa: N806
        new_value = float(new @ Q_new - 2.0 * new @ q)
        if new_value > value and t > 1.0:  # restart: overshot
            ahead, Q_ahead, t = w, Qw, 1.0  # noqa: N806
            continue
        t_new = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * t * t))
        momentum = (t - 1.0) / t_new
        ahead, Q_ahead = new + momentum * (new - w), Q_new + momentum * (Q_new - Qw)  # noqa: N806
        w, Qw, t, value = new, Q_new, t_new, new_value  # noqa: N806
        if value < best_value:
            best, best_value = w, value
        slope = Qw - q
        if float(w @ slope - slope.min()) < tolerance:
            break
    return best


def _curvature(Q: Floats) -> float:  # noqa: N803
    """The largest curvature of w'Qw along the simplex, where steps sum to zero.

    That of Q itself is several times larger, or hundreds of times where atoms are alike: such a
    step does not feel what all mean kernel values have in common.
    """
    rows = Q.mean(0)
    centred = Q - rows[:, None] - rows[None, :] + rows.mean()
    return float(np.abs(np.linalg.eigvalsh(centred)).max())


def objective(w: Floats, Q: Floats, q: Floats) -> float:  # noqa: N803
    """W'Qw - 2 w'q: the squared MMD up to the real-real term, which no weight changes."""
    return float(w @ Q @ w - 2.0 * w @ q)


def allot(weights: Sequence[float], total: int) -> list[int]:
    """Share `total` items by largest remainder; ties go to the earlier."""
    exact = np.asarray(weights, dtype=np.float64) / float(np.sum(weights)) * total
    counts = np.floor(exact).astype(int)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return [int(c) for c in counts]


@dataclass(slots=True)
class AtomBank:
    """Every scored image of a class: atoms, and the kernel means between them.

    Attributes:
        kernel: Frozen from the class's real images.
        real: (n_real, d) unit rows of the tune split.
    """

    kernel: Kernel
    real: NDArray[np.float32]
    _sums: Floats = field(init=False)  # kernel sums between atoms, same-seed pairs left out
    _pairs: Floats = field(init=False)
    _real_sums: Floats = field(init=False)  # of each atom's images, their mean over real ones
    real_real: float = field(init=False)  # mean kernel value of distinct real pairs
    _embeddings: NDArray[np.float32] = field(init=False)
    _seeds: NDArray[np.int64] = field(init=False)
    _atom: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Start empty."""
        width = self.real.shape[1]
        self._sums, self._pairs = np.zeros((0, 0)), np.zeros((0, 0))
        self._real_sums = np.zeros(0)
        self.real_real = self.kernel.mean_distinct(self.real)
        self._embeddings = np.zeros((0, width), dtype=np.float32)
        self._seeds = np.zeros(0, dtype=np.int64)
        self._atom = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        """Number of atoms."""
        return len(self._real_sums)

    def add(
        self, embeddings: NDArray[np.float32], seeds: Sequence[int], *, atom: int | None = None
    ) -> int:
        """Add an atom, or images to one; only their rows of the kernel are computed.

        Args:
            embeddings: (n, d) unit rows; n >= 2 for a new atom.
            seeds: Of its images, all different. Images of one seed under two recipes are
                dependent, so pairs of one seed enter no mean.
            atom: Whose images they are; a new atom's if not given.

        Returns:
            The atom's number.

        Raises:
            ValueError: Fewer than two images, or one seed twice.
        """
        number, n = len(self) if atom is None else atom, len(embeddings)
        if n < 2 and atom is None:
            raise ValueError(f"an atom needs at least 2 images, not {n}")
        new_seeds = np.asarray(seeds, dtype=np.int64)
        mine = self._seeds[self._atom == number]
        if len({*seeds, *mine.tolist()}) < n + len(mine):
            raise ValueError("an atom's images need a seed each")
        everything = np.concatenate([self._embeddings, embeddings])
        all_seeds = np.concatenate([self._seeds, new_seeds])
        atoms = np.concatenate([self._atom, np.full(n, number)])
        if atom is None:
            self._sums, self._pairs = _bordered(self._sums), _bordered(self._pairs)
            self._real_sums = np.append(self._real_sums, 0.0)
        distinct = new_seeds[:, None] != all_seeds[None, :]
        gram = self.kernel.gram(embeddings, everything) * distinct
        size, before = len(self), len(self._seeds)
        for square, values in ((self._sums, gram), (self._pairs, distinct)):
            # Pairs with an older image of the atom count in both orders, as do those among them.
            column = np.bincount(atoms, weights=values.sum(0), minlength=size)
            mine = atoms[:before] == number
            column[number] += float(values[:, :before][:, mine].sum())
            square[number] += column
            square[:, number] = square[number]
        self._real_sums[number] += float(self.kernel.mean_rows(embeddings, self.real).sum())
        self._embeddings, self._seeds, self._atom = everything, all_seeds, atoms
        return number

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Images per atom."""
        return np.bincount(self._atom, minlength=len(self))

    @property
    def Q(self) -> Floats:  # noqa: N802
        """(n, n) mean kernel values between atoms, unbiased on the diagonal."""
        return self._sums / self._pairs

    @property
    def q(self) -> Floats:
        """(n,) mean kernel values between atoms and the real tune split."""
        return np.asarray(self._real_sums / self.sizes)

    def rows_of(self, atom: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """An atom's images and their seeds, in the order that they came."""
        mine = self._atom == atom
        return self._embeddings[mine], self._seeds[mine]

    def fit(self, *, start: Floats | None = None) -> Floats:
        """Fit the weights.

        The ridge (1 - Q_jj) / n_j is the variance that atom j's mean embedding has from its
        few images; without it small lucky atoms are overweighted.
        """
        Q = self.Q  # noqa: N806
        return solve_weights(Q + np.diag((1.0 - np.diag(Q)) / self.sizes), self.q, start=start)

    def gap(self, weights: Floats) -> float:
        """Squared MMD of a mixture to the real tune split; optimistic for fitted weights."""
        return objective(weights, self.Q, self.q) + self.real_real

    def scores(self, weights: Floats) -> Floats:
        """(n,) Frank-Wolfe scores (Qw)_r - q_r: the lower, the more the atom would help."""
        return np.asarray(self.Q @ weights - self.q)

    def slopes(
        self, weights: Floats, embeddings: NDArray[np.float32], seeds: Sequence[int]
    ) -> Floats:
        """Of each image, how much nearer it is to the mixture than to the real images.

        Its mean over an atom's images is the atom's Frank-Wolfe score.

        Args:
            weights: (n,) of the mixture.
            embeddings: (m, d) unit rows, in the bank or not.
            seeds: (m,) Images of the bank with an image's seed are left out for it.
        """
        shares = (weights / self.sizes)[self._atom]
        used = np.flatnonzero(shares)
        apart = np.asarray(seeds)[:, None] != self._seeds[used][None, :]
        gram = self.kernel.gram(embeddings, self._embeddings[used]) * apart
        own = (gram @ shares[used]) / (apart @ shares[used])
        return np.asarray(own - self.kernel.mean_rows(embeddings, self.real))

    def promise(
        self, weights: Floats, embeddings: NDArray[np.float32], seeds: Sequence[int]
    ) -> float:
        """What a step from a mixture towards fresh images of one recipe would gain.

        From the Frank-Wolfe gap of that atom and the curvature towards it (Jaggi 2013, "Revisiting
        Frank-Wolfe", section 2). The step is found on each half of the images and paid for by the
        other: on the same ones, chance alone promises a gain. It may be below 0.

        Args:
            weights: (n,) of the mixture, fitted without these images.
            embeddings: (m, d) unit rows, m >= 4.
            seeds: (m,).
        """
        Q = self.Q  # noqa: N806
        own = weights @ Q @ weights
        slopes = self.slopes(weights, embeddings, seeds)
        towards = slopes + self.kernel.mean_rows(embeddings, self.real)
        curvature = self.kernel.mean_distinct(embeddings) - 2.0 * towards.mean() + own
        gaps = float(own - weights @ self.q) - slopes
        halves = gaps[::2].mean(), gaps[1::2].mean()
        gains = []
        for found, paid in (halves, halves[::-1]):
            step = min(max(found, 0.0) / max(curvature, 1e-12), 1.0)
            gains.append(2.0 * step * paid - step**2 * curvature)
        return float(np.mean(gains))


def _bordered(square: Floats) -> Floats:
    """With one more row and column, empty."""
    n = len(square)
    out = np.zeros((n + 1, n + 1))
    out[:n, :n] = square
    return out


def drop_small(weights: Floats, smallest: float = SMALLEST_WEIGHT) -> Floats:
    """Set weights below `smallest` to zero and rescale the rest to sum to 1.

    Of more than a thousand equal weights all may be that small: the largest always stay.
    """
    kept = np.where(weights < min(smallest, float(weights.max())), 0.0, weights)
    return np.asarray(kept / kept.sum())


def effective_number(weights: Floats) -> float:
    """Inverse Simpson index 1 / sum w^2: how many recipes carry the mixture."""
    return float(1.0 / np.square(weights).sum())
