"""The weights of a mixture: fitted over the simplex, thinned, and shared out as images.

The bank fits by them and `export` allots images by them. They know numbers alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMALLEST_WEIGHT = 0.001
"""Weights below this are dropped: at export they would not get one image in a thousand."""

_WHOLE = 200  # atoms that are solved for at once
_COLUMNS = 64  # atoms that the solution would take in besides, at a time


def project_to_simplex(v: Floats) -> Floats:
    """Project onto {w >= 0, sum w = 1} in Euclidean distance (Duchi et al. 2008, figure 1).

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
    without: NDArray[np.bool_] | None = None,
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
        without: (n,) atoms that get no weight; never all.
        tolerance: Stop when the Frank-Wolfe gap, an upper bound on what is left to gain for
            convex problems, is below this.
        max_iterations: Gradient steps at most, on each set of atoms.

    Returns:
        (n,) weights, non-negative, summing to 1.
    """
    n = len(q)
    if without is not None:
        kept, weights = np.flatnonzero(~without), np.zeros(n)
        weights[kept] = solve_weights(
            Q[np.ix_(kept, kept)],
            q[kept],
            start=None if start is None else start[kept],
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
        return weights
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


def fit_weights(
    Q: Floats,  # noqa: N803
    q: Floats,
    *,
    counted: NDArray[np.int64],
    start: Floats | None = None,
    without: NDArray[np.bool_] | None = None,
) -> Floats:
    """Minimise as `solve_weights` does, where means are of few images.

    The ridge (1 - Q_jj) / n_j is the variance that atom j's mean embedding has from its few
    images; without it small lucky atoms are overweighted.

    Args:
        Q: (n, n) mean kernel values between atoms.
        q: (n,) those between atoms and the real images.
        counted: (n,) images that each atom's are of.
        start: See `solve_weights`, and so is the next.
        without: (n,).
    """
    noise = np.diag((1.0 - np.diag(Q)) / counted)
    return solve_weights(Q + noise, q, start=start, without=without)


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
    """Return the largest curvature of w'Qw along the simplex, where steps sum to zero.

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


def drop_small(weights: Floats, smallest: float = SMALLEST_WEIGHT) -> Floats:
    """Set weights below `smallest` to zero and rescale the rest to sum to 1.

    Of more than a thousand equal weights all may be that small: the largest always stay.
    """
    kept = np.where(weights < min(smallest, float(weights.max())), 0.0, weights)
    return np.asarray(kept / kept.sum())


def effective_number(weights: Floats) -> float:
    """Return the inverse Simpson index 1 / sum w^2: how many recipes carry the mixture."""
    return float(1.0 / np.square(weights).sum())
