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
    """Minimise w'Qw - 2 w'q over the simplex by accelerated projected gradient.

    FISTA (Beck & Teboulle 2009) with restart when the objective rises. An unbiased Q can be
    indefinite; the result is then a stationary point, never worse than where it started.

    Args:
        Q: (n, n) symmetric mean kernel values between atoms.
        q: (n,) mean kernel values between atoms and the real images.
        start: (n,) feasible warm start; the uniform weights if not given.
        tolerance: Stop when the Frank-Wolfe gap, an upper bound on what is left to gain for
            convex problems, is below this.
        max_iterations: Gradient steps at most.

    Returns:
        (n,) weights, non-negative, summing to 1.
    """
    n = len(q)
    w = np.full(n, 1.0 / n) if start is None else project_to_simplex(start)
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
class Bank:
    """Every scored image of a class: atoms, and the kernel means between them.

    Attributes:
        kernel: Frozen from the class's real images.
        real: (n_real, d) unit rows of the tune split.
    """

    kernel: Kernel
    real: NDArray[np.float32]
    _sums: Floats = field(init=False)  # kernel sums between atoms, same-seed pairs left out
    _pairs: Floats = field(init=False)
    _q: Floats = field(init=False)
    real_real: float = field(init=False)  # mean kernel value of distinct real pairs
    _embeddings: NDArray[np.float32] = field(init=False)
    _seeds: NDArray[np.int64] = field(init=False)
    _atom: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Start empty."""
        width = self.real.shape[1]
        self._sums, self._pairs = np.zeros((0, 0)), np.zeros((0, 0))
        self._q = np.zeros(0)
        self.real_real = self.kernel.mean_distinct(self.real)
        self._embeddings = np.zeros((0, width), dtype=np.float32)
        self._seeds = np.zeros(0, dtype=np.int64)
        self._atom = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        """Number of atoms."""
        return len(self._q)

    def add(self, embeddings: NDArray[np.float32], seeds: Sequence[int]) -> int:
        """Add an atom; only its rows of the kernel are computed.

        Args:
            embeddings: (n, d) unit rows, n >= 2.
            seeds: Of its images, all different. Images of one seed under two recipes are
                dependent, so pairs of one seed enter no mean.

        Returns:
            The atom's number.

        Raises:
            ValueError: Fewer than two images, or one seed twice.
        """
        number, n = len(self), len(embeddings)
        if n < 2:
            raise ValueError(f"an atom needs at least 2 images, not {n}")
        if len(set(seeds)) < n:
            raise ValueError("an atom's images need a seed each")
        new_seeds = np.asarray(seeds, dtype=np.int64)
        everything = np.concatenate([self._embeddings, embeddings])
        all_seeds = np.concatenate([self._seeds, new_seeds])
        atoms = np.concatenate([self._atom, np.full(n, number)])
        distinct = new_seeds[:, None] != all_seeds[None, :]
        column = (self.kernel.gram(embeddings, everything) * distinct).sum(0)
        sums = np.bincount(atoms, weights=column, minlength=number + 1)
        pairs = np.bincount(atoms, weights=distinct.sum(0), minlength=number + 1)
        self._sums = _bordered(self._sums, np.asarray(sums, dtype=np.float64))
        self._pairs = _bordered(self._pairs, np.asarray(pairs, dtype=np.float64))
        self._q = np.append(self._q, self.kernel.mean(embeddings, self.real))
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
        return self._q

    def fit(self, *, start: Floats | None = None, ridge: bool = False) -> Floats:
        """Fit the weights; with `ridge`, for the final solve.

        The ridge (1 - Q_jj) / n_j is the variance that atom j's mean embedding has from its
        few images; without it small lucky atoms are overweighted.
        """
        Q = self.Q  # noqa: N806
        if ridge:
            diagonal = np.diag(Q)
            Q = Q + np.diag((1.0 - diagonal) / self.sizes)  # noqa: N806
        return solve_weights(Q, self._q, start=start)

    def gap(self, weights: Floats) -> float:
        """Squared MMD of a mixture to the real tune split; optimistic for fitted weights."""
        return objective(weights, self.Q, self._q) + self.real_real

    def scores(self, weights: Floats) -> Floats:
        """(n,) Frank-Wolfe scores (Qw)_r - q_r: the lower, the more the atom would help."""
        return np.asarray(self.Q @ weights - self._q)

    def step_gain(self, weights: Floats) -> float:
        """What a step from a mixture towards the newest atom would gain, exact line search.

        From the Frank-Wolfe gap of that atom and the curvature towards it (Jaggi 2013, "Revisiting
        Frank-Wolfe", section 2); 0 where the mixture is better off without it.

        Args:
            weights: (n,) of all atoms, fitted before the newest came: 0 for that one.
        """
        Q = self.Q  # noqa: N806
        slope = Q @ weights - self._q
        gap = float(weights @ slope - slope[-1])
        curvature = float(Q[-1, -1] - 2.0 * Q[-1] @ weights + weights @ Q @ weights)
        step = min(max(gap, 0.0) / max(curvature, 1e-12), 1.0)
        return 2.0 * step * gap - step**2 * curvature


def _bordered(square: Floats, border: Floats) -> Floats:
    """Append a symmetric last row and column."""
    n = len(square)
    out = np.empty((n + 1, n + 1))
    out[:n, :n] = square
    out[n, :] = border
    out[:, n] = border
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
