from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapclose.analysis.gap import MIN_IMAGES
from gapclose.loop.schedule.reserve import (
    FEWEST_BASELINE,
    ClassProgress,
    baseline_images,
    confirmation_reserve,
    reopen_candidates,
)

CONFIRM = 100.0
REPORT = 16.0 + 2 * 3.3


def standing(name: str = "frog", **facts: float | bool) -> ClassProgress:
    shown = {"gap": 3.0, "seconds": CONFIRM, "tried": True, "new": True} | facts
    shown.setdefault("gain", max(0.0, shown["gap"]))
    return ClassProgress(name=name, **shown)  # type: ignore[arg-type]


def reserve(due: Sequence[ClassProgress]) -> float:
    return confirmation_reserve(due, classes=2)


standings = st.lists(
    st.builds(
        ClassProgress,
        name=st.text("abc", min_size=3, max_size=9),
        gain=st.floats(0, 50),
        gap=st.floats(0, 50),
        seconds=st.floats(1, 300),
        tried=st.booleans(),
        new=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda s: s.name,
)


def test_with_nothing_due_the_report_is_kept_time_for() -> None:
    assert reserve([]) == pytest.approx(REPORT)


def test_on_a_slow_machine_the_report_takes_longer_and_confirmations_as_measured() -> None:
    slow = confirmation_reserve([standing()], classes=2, slowness=3.0)
    assert slow == pytest.approx(3 * REPORT + 1.15 * CONFIRM)


def test_the_report_takes_no_more_than_its_share_of_the_budget() -> None:
    """Or a very slow machine would try nothing."""
    told = confirmation_reserve([standing()], classes=2, slowness=9.0, budget=50.0)
    assert told == pytest.approx(0.6 * 50.0 + 1.15 * CONFIRM)
    assert confirmation_reserve([], classes=2, budget=50.0) == pytest.approx(REPORT)


def images(**facts: float | None) -> int:
    """Of a baseline of the demo: 270 s, of which its start took 15, and ten classes."""
    shown = {"left": 255.0, "spent": 0.0, "reserve": 55.0, "classes": 10} | facts
    return baseline_images(100, **shown)  # type: ignore[arg-type]


def test_a_baseline_is_whole_where_all_of_them_leave_half_of_the_time() -> None:
    assert images(seconds=None) == 100  # nothing is measured yet
    assert images(seconds=0.0) == 100
    assert images(seconds=0.028) == images(seconds=0.1) == 100
    assert images(seconds=0.101) < 100
    # The last one is as large as those before it.
    assert images(seconds=0.1, left=165.0, spent=90.0) == 100
    assert images(left=8 * 3600.0, reserve=3600.0, seconds=8.0) == 100


def test_else_it_is_small_and_never_of_fewer_images_than_a_gap_needs() -> None:
    assert images(seconds=0.15) == 33  # 10 x 33 x 0.15 s are a quarter of 200 s
    assert images(seconds=0.28) == FEWEST_BASELINE > MIN_IMAGES
    assert images(seconds=0.084, left=50.0) == FEWEST_BASELINE  # it is late already


@given(st.floats(1e-4, 1e4), st.floats(-1e3, 1e5), st.floats(0, 1e4), st.integers(1, 1000))
def test_what_is_above_the_fewest_takes_no_more_than_its_share(
    seconds: float, left: float, reserve: float, classes: int
) -> None:
    size = images(left=left, reserve=reserve, seconds=seconds, classes=classes)
    assert FEWEST_BASELINE <= size <= 100
    if size > FEWEST_BASELINE:
        share = 0.5 if size == 100 else 0.25
        assert size * seconds * classes <= share * (left - reserve) * (1 + 1e-9)


def test_a_confirmation_may_take_a_little_longer_than_trials_told() -> None:
    assert reserve([standing("frog")]) == pytest.approx(REPORT + 1.15 * CONFIRM)
    assert reserve([standing("frog"), standing("ship")]) == pytest.approx(REPORT + 2.3 * CONFIRM)


def test_of_classes_that_nothing_was_tried_for_one_may_be_picked_next() -> None:
    untried = [standing(name, tried=False, new=False) for name in ("cat", "dog", "cow")]
    assert reserve(untried) == reserve(untried[:1]) == reserve([standing()])
    slow = standing("cow", tried=False, new=False, seconds=3 * CONFIRM)
    assert reserve([*untried[:2], slow]) == reserve([slow]) > 2 * reserve(untried)


@given(standings)
def test_time_kept_back_is_enough_for_all_confirmations(due: list[ClassProgress]) -> None:
    needed = sum(s.seconds for s in due if s.tried)
    assert reserve(due) >= REPORT + needed - 1e-6


def test_what_is_nearly_closed_is_confirmed_first_and_what_has_nothing_new_last() -> None:
    due = [
        standing("told to go on", new=False, gap=0.1),
        standing("far", gap=9.0),
        standing("near", gap=0.2),
        standing("untried", tried=False, new=False),
    ]
    order = [s.name for s in sorted(due, key=lambda s: s.turn)]
    assert order == ["near", "far", "told to go on", "untried"]


def test_what_there_is_to_gain_decides_and_the_gap_only_where_that_is_equal() -> None:
    held = [
        standing("far", gain=0.0, gap=9.0),
        standing("worth it", gain=2.0, gap=0.1),
        standing("near", gain=0.0, gap=-0.2),
    ]
    order = [s.name for s in sorted(held, key=lambda s: s.turn)]
    assert order == ["near", "far", "worth it"]
    for_one, for_two = (1.5 * reserve(held[:n]) for n in (1, 2))
    assert reopen_candidates(held, [], left=for_one, reserve=reserve) == ["worth it"]
    assert reopen_candidates(held, [], left=for_two, reserve=reserve) == ["worth it", "far"]


def test_the_worst_are_taken_up_and_one_that_does_not_fit_keeps_no_other_out() -> None:
    worst, slow, mild = (
        standing("a", gap=9),
        standing("b", gap=5, seconds=3 * CONFIRM),
        standing("c"),
    )
    held = [mild, slow, worst]
    all_of_them = 1.5 * reserve(held)
    assert reopen_candidates(held, [], left=all_of_them, reserve=reserve) == ["a", "b", "c"]
    for_two_sure = 1.5 * reserve([worst, mild])
    assert reopen_candidates(held, [], left=for_two_sure, reserve=reserve) == ["a", "c"]
    # What is due anyhow comes before.
    assert reopen_candidates(held, [standing("d")], left=for_two_sure, reserve=reserve) == ["a"]
    assert reopen_candidates(held, [], left=1.4 * reserve([mild]), reserve=reserve) == []


@given(standings, standings, st.floats(0, 2000))
def test_what_is_taken_up_leaves_half_as_much_to_search_in(
    held: list[ClassProgress], due: list[ClassProgress], left: float
) -> None:
    names = reopen_candidates(held, due, left=left, reserve=reserve)
    chosen = [s for s in held if s.name in names]
    if chosen:
        assert left >= 1.5 * reserve([*due, *chosen]) - 1e-6
