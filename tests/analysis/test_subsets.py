from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gapclose.analysis.subsets import spread, spread_indices


def test_they_lie_evenly() -> None:
    assert spread("abcdefghij", 5) == ["a", "c", "e", "g", "i"]
    assert spread_indices(7, 3) == [0, 2, 4]


@given(st.integers(0, 500), st.integers(0, 500))
def test_they_are_distinct_and_in_order_and_no_two_gaps_differ_by_more_than_one(
    total: int, n: int
) -> None:
    chosen = spread_indices(total, n)
    assert len(chosen) == min(n, total)
    assert all(0 <= i < total for i in chosen)
    steps = {after - before for before, after in pairwise(chosen)}
    assert len(steps) <= 2
    assert all(step >= 1 for step in steps)
    assert max(steps, default=0) - min(steps, default=0) <= 1


def test_of_fewer_all_are_taken() -> None:
    assert spread([1, 2], 5) == [1, 2]
    assert spread([], 5) == []
