from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from gapclose.analysis.significance import LEVEL, benjamini_hochberg, holm, panel


def test_benjamini_hochberg_by_hand() -> None:
    # 0.01*4/1, 0.02*4/2, 0.03*4/3, 0.5*4/4
    assert benjamini_hochberg([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.04, 0.04])
    assert benjamini_hochberg([]) == []
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        benjamini_hochberg([1.1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_q_values_bound_p_values_and_keep_their_order(p_values: list[float]) -> None:
    q_values = benjamini_hochberg(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, q_values, strict=True))
    for p, q in zip(p_values, q_values, strict=True):
        assert all(q <= q2 for p2, q2 in zip(p_values, q_values, strict=True) if p2 > p)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.randoms())
def test_the_order_in_which_classes_come_changes_no_q_value(
    p_values: list[float], random: object
) -> None:
    order = list(range(len(p_values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    q_values = benjamini_hochberg(p_values)
    assert benjamini_hochberg([p_values[i] for i in order]) == [q_values[i] for i in order]


def test_what_is_no_p_value_is_refused() -> None:
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            benjamini_hochberg([0.5, wrong])
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            holm([0.5, wrong])
    assert benjamini_hochberg([0.03]) == [0.03]  # alone it is its own


def test_holm_by_hand() -> None:
    # Sorted 0.01*4, 0.02*3, 0.03*2 (below the one before, which it takes), 0.5*1
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.3, 0.6]) == pytest.approx([0.6, 0.6])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([float("nan")])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_lies_between_the_q_values_and_bonferroni(p_values: list[float]) -> None:
    bounds = zip(benjamini_hochberg(p_values), holm(p_values), p_values, strict=True)
    assert all(q <= h + 1e-12 and h <= min(1, len(p_values) * p) + 1e-12 for q, h, p in bounds)


def q_values(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: q for name, (_, q) in row.items()} for row in panel(rows)]


def test_a_panel_by_hand() -> None:
    # Holm in each class (x2, then x1 or the one before), then a judge's own over the classes.
    told = panel([{"a": 0.01, "b": 0.3}, {"a": 0.2, "b": 0.04}])
    assert [{name: its[0] for name, its in row.items()} for row in told] == [
        {"a": pytest.approx(0.02), "b": pytest.approx(0.3)},
        {"a": pytest.approx(0.2), "b": pytest.approx(0.08)},
    ]
    assert [{name: its[1] for name, its in row.items()} for row in told] == [
        {"a": pytest.approx(0.04), "b": pytest.approx(0.3)},
        {"a": pytest.approx(0.2), "b": pytest.approx(0.16)},
    ]
    # Three judges of one class at Holm's bounds: 0.016 * 3, 0.02 * 2 and 0.9 * 1.
    (only,) = q_values([{"a": 0.02, "b": 0.016, "c": 0.9}])
    assert only == {"a": pytest.approx(0.048), "b": pytest.approx(0.048), "c": 0.9}
    assert panel([]) == []
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        panel([{"a": 1.1}])


def test_a_judge_that_a_class_lacks_counts_in_no_other() -> None:
    told = q_values([{"a": 0.01}, {}, {"a": 0.03, "b": 0.5}])
    assert told == [{"a": pytest.approx(0.02)}, {}, {"a": pytest.approx(0.06), "b": 0.5}]


PANELS = st.integers(1, 4).flatmap(
    lambda m: st.lists(
        st.lists(st.floats(0, 1), min_size=m, max_size=m).map(
            lambda row: {f"judge {i}": p for i, p in enumerate(row)}
        ),
        min_size=1,
        max_size=8,
    )
)


@given(PANELS)
def test_a_panel_is_bounded_by_its_p_values_and_bonferroni(rows: list[dict[str, float]]) -> None:
    m, n = len(rows[0]), len(rows)
    for row, told in zip(rows, panel(rows), strict=True):
        for name, (adjusted, q_value) in told.items():
            assert row[name] <= adjusted <= q_value + 1e-12
            assert adjusted <= min(1.0, m * row[name]) + 1e-12
            assert q_value <= min(1.0, m * n * row[name]) + 1e-12


@given(PANELS)
def test_one_judge_is_what_it_was_and_one_class_is_holm(rows: list[dict[str, float]]) -> None:
    alone = [{"judge 0": row["judge 0"]} for row in rows]
    assert [its["judge 0"] for its in q_values(alone)] == benjamini_hochberg(
        [row["judge 0"] for row in rows]
    )
    assert all(
        its["judge 0"][0] == row["judge 0"] for its, row in zip(panel(alone), alone, strict=True)
    )
    (told,) = q_values(rows[:1])
    assert [*told.values()] == holm([*rows[0].values()])


@given(PANELS, st.data())
def test_a_panel_objects_no_less_where_a_p_value_falls(
    rows: list[dict[str, float]], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(sorted(rows[at])))
    lower = [dict(row) for row in rows]
    lower[at][name] *= data.draw(st.floats(0, 1))
    for before, after in zip(q_values(rows), q_values(lower), strict=True):
        assert all(after[judge] <= before[judge] + 1e-12 for judge in before)


def test_a_panel_errs_no_more_often_than_one_judge() -> None:
    """Without any gap, three judges that see alike, or nothing alike, object in 5 % of runs."""
    rng = np.random.default_rng(0)
    for alike in (0.0, 0.9):
        shared = rng.normal(size=(2_000, 5, 1))
        own = rng.normal(size=(2_000, 5, 3))
        p_values = norm.sf(alike * shared + np.sqrt(1 - alike**2) * own)
        wrong = [
            any(q <= LEVEL for row in q_values([*map(_named, run)]) for q in row.values())
            for run in p_values
        ]
        assert np.mean(wrong) <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / len(wrong))


def _named(p_values: NDArray[np.float64]) -> dict[str, float]:
    return {str(i): float(p) for i, p in enumerate(p_values)}
