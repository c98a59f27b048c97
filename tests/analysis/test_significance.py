from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapclose.analysis.significance import benjamini_hochberg, holm


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
