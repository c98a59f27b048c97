"""The weights of a mixture: on the simplex, where an oracle puts them, and shared out fairly."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import minimize

from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.mixture_weights import (
    _descend,
    allot,
    drop_small,
    effective_number,
    objective,
    project_to_simplex,
    solve_weights,
)

Floats = NDArray[np.float64]

vectors = st.integers(1, 12).flatmap(
    lambda n: arrays(np.float64, n, elements=st.floats(-50, 50, allow_subnormal=False))
)
small_vectors = st.integers(1, 4).flatmap(
    lambda n: arrays(np.float64, n, elements=st.floats(-3, 3, allow_subnormal=False))
)


def unit(rng: np.random.Generator, n: int, d: int = 6, towards: int = 0) -> NDArray[np.float32]:
    """Unit rows round the axis `towards`."""
    rows = rng.normal(size=(n, d)) * 0.4
    rows[:, towards] += 1.0
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def faces(n: int) -> list[list[int]]:
    return [list(s) for k in range(1, n + 1) for s in itertools.combinations(range(n), k)]


# ------------------------------------------------------------------------------ the simplex


@given(vectors)
def test_projection_lies_on_the_simplex_and_stays(v: Floats) -> None:
    w = project_to_simplex(v)
    assert w.min() >= 0
    assert w.sum() == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose(project_to_simplex(w), w, atol=1e-12)


@given(small_vectors)
def test_projection_is_the_nearest_point(v: Floats) -> None:
    # By brute force: on the face of each support the nearest point of the plane is v minus a
    # constant; of those that are feasible the nearest is the projection.
    best = np.inf
    for face in faces(len(v)):
        w = np.zeros(len(v))
        w[face] = v[face] - (v[face].sum() - 1.0) / len(face)
        if w.min() >= -1e-12:
            best = min(best, float(np.square(w - v).sum()))
    assert np.square(project_to_simplex(v) - v).sum() == pytest.approx(best, abs=1e-9)


@given(vectors, st.floats(-20, 20))
def test_projection_ignores_a_common_shift(v: Floats, shift: float) -> None:
    np.testing.assert_allclose(project_to_simplex(v + shift), project_to_simplex(v), atol=1e-9)


# ------------------------------------------------------------------------------- the solver


def kernel_matrix(rng: np.random.Generator, n: int) -> Floats:
    """Positive semidefinite with entries in [0, 1], as mean kernel values are."""
    points = rng.normal(size=(n, 3))
    d2 = np.square(points[:, None] - points[None]).sum(-1)
    return np.asarray(np.exp(-0.5 * d2))


@pytest.mark.parametrize("seed", range(12))
def test_weights_agree_with_slsqp(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 16))
    Q, q = kernel_matrix(rng, n), rng.uniform(0, 1, n)  # noqa: N806
    w = solve_weights(Q, q)
    assert w.min() >= 0
    assert w.sum() == pytest.approx(1.0)
    theirs = minimize(
        lambda x: x @ Q @ x - 2 * x @ q,
        np.full(n, 1 / n),
        jac=lambda x: 2 * (Q @ x - q),
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1, "jac": lambda x: np.ones(n)},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    assert objective(w, Q, q) <= theirs.fun + 1e-6


def test_weights_of_closed_forms() -> None:
    # With Q = I the objective is |w - q|^2 - |q|^2: the projection of q.
    q = np.array([0.9, 0.3, -0.4, 0.2])
    np.testing.assert_allclose(solve_weights(np.eye(4), q), project_to_simplex(q), atol=1e-4)
    # A corner: the second atom is the nearest to the real, and every mixture is farther.
    Q = np.array([[1.0, 0.2], [0.2, 0.3]])  # noqa: N806
    np.testing.assert_allclose(solve_weights(Q, np.array([0.1, 0.8])), [0, 1], atol=1e-6)
    # One atom has no choice.
    np.testing.assert_allclose(solve_weights(np.array([[0.4]]), np.array([0.7])), [1.0])


@pytest.mark.parametrize("seed", range(20))
def test_an_indefinite_problem_ends_no_worse_than_it_began(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    n = int(rng.integers(2, 12))
    raw = rng.uniform(-0.2, 1, (n, n))
    Q, q = (raw + raw.T) / 2, rng.uniform(0, 1, n)  # noqa: N806
    start = rng.dirichlet(np.ones(n))
    w = solve_weights(Q, q, start=start)
    assert w.min() >= 0
    assert w.sum() == pytest.approx(1.0)
    assert objective(w, Q, q) <= objective(start, Q, q) + 1e-12


def test_what_all_kernel_values_have_in_common_costs_no_steps() -> None:
    # On the simplex it adds the same to every mixture. A step by the curvature of Q itself would
    # shrink with it, and a hundred of them would get nowhere.
    rng = np.random.default_rng(5)
    Q, q = kernel_matrix(rng, 30), rng.uniform(0, 1, 30)  # noqa: N806
    best = solve_weights(Q, q)
    w = solve_weights(Q + 1000.0, q, max_iterations=100)
    assert objective(w, Q, q) == pytest.approx(objective(best, Q, q), abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 100])
def test_atoms_that_are_all_the_same_share_evenly(n: int) -> None:
    w = solve_weights(np.full((n, n), 0.6), np.full(n, 0.8))
    np.testing.assert_allclose(w, 1 / n, atol=1e-9)


def test_atoms_of_one_point_are_mixed_on_the_simplex() -> None:
    rows = unit(np.random.default_rng(2), 41)
    bank = AtomBank(kernel=Kernel.fit(rows), real=rows[1:])
    for number in range(40):
        bank.add(np.repeat(rows[:1], 8, axis=0), range(8 * number, 8 * number + 8))
    assert bank.fit().sum() == pytest.approx(1.0, abs=1e-9)


def test_a_start_at_the_answer_stays_there() -> None:
    rng = np.random.default_rng(3)
    Q, q = kernel_matrix(rng, 8), rng.uniform(0, 1, 8)  # noqa: N806
    w = solve_weights(Q, q, tolerance=1e-10)
    again = solve_weights(Q, q, start=w, max_iterations=1)
    assert np.abs(w - 1 / 8).max() > 0.05
    np.testing.assert_allclose(again, w, atol=1e-6)


def noisy_atoms(rng: np.random.Generator, n: int, each: int = 8) -> tuple[Floats, Floats]:
    """Q and q of atoms of a few images, all alike more than not."""
    modes = unit(rng, 12, d=16)
    rows = np.repeat(modes[rng.integers(12, size=n)], each, axis=0)
    rows = rows + 0.15 * rng.normal(size=rows.shape)
    rows[:, 0] += 1.0
    bank = AtomBank(kernel=Kernel.fit(rows[::each][:200]), real=np.float32(rows[: 7 * each : 2]))
    gram = bank.kernel.gram(np.float32(rows)).reshape(n, each, n, each).mean((1, 3))
    real = bank.kernel.mean_rows(np.float32(rows), bank.real).reshape(n, each).mean(1)
    return gram + 0.05 * np.eye(n), real


@pytest.mark.parametrize("n", [150, 201, 500])
@pytest.mark.parametrize("seed", range(3))
def test_many_atoms_are_weighed_as_by_the_plain_solver(n: int, seed: int) -> None:
    rng = np.random.default_rng([seed, n])
    Q, q = noisy_atoms(rng, n)  # noqa: N806
    plain = _descend(Q, q, np.full(n, 1 / n), tolerance=1e-9, max_iterations=20_000)
    for start in (None, rng.dirichlet(np.full(n, 0.02)), plain):
        w = solve_weights(Q, q, start=start, tolerance=1e-9)
        assert w.min() >= 0
        assert w.sum() == pytest.approx(1.0)
        assert objective(w, Q, q) == pytest.approx(objective(plain, Q, q), abs=1e-8)
        np.testing.assert_allclose(w, plain, atol=2e-3)
    slope = Q @ w - q
    assert w @ slope - slope.min() < 1e-6
    assert 2 < (w > 1e-6).sum() < n


@pytest.mark.parametrize("seed", range(4))
def test_many_atoms_with_an_indefinite_problem_end_no_worse(seed: int) -> None:
    rng = np.random.default_rng([seed, 7])
    n = 260
    raw = rng.uniform(-0.2, 1, (n, n))
    Q, q = (raw + raw.T) / 2, rng.uniform(0, 1, n)  # noqa: N806
    start = rng.dirichlet(np.full(n, 0.1))
    w = solve_weights(Q, q, start=start, max_iterations=300)
    assert w.min() >= 0
    assert w.sum() == pytest.approx(1.0)
    assert objective(w, Q, q) <= objective(start, Q, q) + 1e-12


# ---------------------------------------------------------------------------------- sharing


@given(
    st.lists(st.floats(1e-3, 10), min_size=1, max_size=12),
    st.integers(0, 400),
)
def test_allot_shares_everything_fairly(weights: Sequence[float], total: int) -> None:
    counts = allot(weights, total)
    assert sum(counts) == total
    exact = np.asarray(weights) / np.sum(weights) * total
    assert np.all(np.abs(np.asarray(counts) - exact) < 1 + 1e-6)


def test_allot_gives_what_is_over_to_the_largest_remainders() -> None:
    assert allot([0.5, 0.3, 0.2], 10) == [5, 3, 2]
    assert allot([0.47, 0.31, 0.22], 10) == [5, 3, 2]  # 4.7, 3.1, 2.2
    assert allot([1, 1, 1], 8) == [3, 3, 2]  # ties go to the earlier
    assert allot([0.999, 0.001], 8) == [8, 0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10).filter(lambda w: max(w) > 0.01))
def test_drop_small_keeps_a_mixture(raw: list[float]) -> None:
    weights = np.asarray(raw) / np.sum(raw)
    kept = drop_small(weights, 0.05)
    assert kept.sum() == pytest.approx(1.0)
    assert np.all((kept == 0) == (weights < 0.05))


def test_effective_number() -> None:
    assert effective_number(np.array([1.0, 0.0])) == pytest.approx(1.0)
    assert effective_number(np.full(5, 0.2)) == pytest.approx(5.0)


def test_atoms_that_are_left_out_get_no_weight_and_the_rest_is_as_without_them() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(6, 4))
    Q, q = rows @ rows.T + np.eye(6), rows @ rng.normal(size=4)  # noqa: N806
    without = np.array([True, False, False, True, False, False])
    kept = ~without
    found = solve_weights(Q, q, without=without)
    assert found[without].tolist() == [0.0, 0.0]
    assert found[kept] == pytest.approx(solve_weights(Q[np.ix_(kept, kept)], q[kept]))
    start = np.full(6, 1 / 6)
    assert solve_weights(Q, q, start=start, without=without) == pytest.approx(found, abs=1e-3)
