from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import modes
import numpy as np
import pytest
from histories import class_state, limits, new_class
from hypothesis import given
from hypothesis import strategies as st

from gapclose.loop.run.class_state import ClassState
from gapclose.loop.run.events import StopReason
from gapclose.loop.schedule.budget import (
    MOST_SETTINGS,
    Limits,
    batch_images,
    pick,
    settings_trials,
)
from gapclose.loop.search.phases import Ask
from gapclose.loop.search.seeds import MOST_TRIALS, TRIAL
from gapclose.loop.session import Stopwatch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def open_class(gap: float, **facts: Any) -> ClassState:
    return class_state(**{"trials": 3, "gap": gap} | facts)


def picked(
    classes: Mapping[str, ClassState], allowed: Limits | None = None, **seconds: float
) -> str | None:
    allowed = limits(classes, trials=50) if allowed is None else allowed
    return pick([*classes], classes, allowed, seconds=seconds)


def test_time_adds_up_over_sessions() -> None:
    clock = Clock()
    watch = Stopwatch(used_before=60.0, now=clock)
    clock.now += 40
    assert watch.used == 100
    assert limits("a", budget="10m").left(watch.used) == 500
    assert limits("a", trials=3).left(watch.used) == float("inf")


def test_given_mixtures_come_after_baselines_and_prioritized_prompts_and_before_all_else() -> None:
    classes = {
        "open": open_class(9.0),
        "given": open_class(0.1, given=True),
        "more": open_class(0.2, given=True),
        "asked": open_class(0.1, pending=True),
        "new": new_class(),
    }
    order = []
    while classes:
        name = picked(classes)
        assert name is not None
        order.append(name)
        del classes[name]
    assert order == ["new", "asked", "given", "more", "open"]
    assert picked({"closed": open_class(0.1, given=True, closed_from_start=True)}) is None


def test_only_time_makes_the_clock_decide() -> None:
    assert limits("a", budget="1m").by_clock
    assert not limits("a", budget="1m", trials=3).by_clock
    assert not limits("a", images=300).by_clock


def test_limits_are_per_class() -> None:
    few = limits("a", trials=3, images=200)
    assert not few.spent(class_state(trials=2, images=199))
    assert few.spent(class_state(trials=3, images=0))
    assert few.spent(class_state(trials=1, images=200))
    assert not limits("a", budget="1s").spent(class_state(trials=99, images=10**6))


def test_seeds_that_are_used_up_are_no_limit_of_the_config() -> None:
    all_seeds, most = class_state(trials=MOST_TRIALS), MOST_TRIALS
    for allowed in (limits("a", budget="1s"), limits("a", trials=most), limits("a", images=1)):
        assert allowed.limit(all_seeds) is StopReason.SEEDS_SPENT
        assert allowed.spent(all_seeds)
    assert limits("a", budget="1s").limit(class_state(trials=most - 1)) is None
    assert limits("a", trials=most - 1).limit(class_state(trials=most - 1)) is StopReason.LIMIT


def settings(
    allowed: Limits, *, used: float = 0.0, trials: int = 0, kept: float = 60.0, **ask: Any
) -> int:
    """Settings trials of a class of eight that share what time is left but what is kept back."""
    shown = {"trial_seconds": 2.0, "open_classes": 8} | ask
    time = allowed.left(used) - kept
    return settings_trials(class_state(trials=trials), allowed, time=time, **shown)


@pytest.mark.parametrize(
    ("few", "trials"),
    [
        ({"trials": 4}, 2),  # some must be left for whole recipes
        ({"trials": 9}, 4),
        ({"trials": 21}, 7),
        ({"trials": 30}, 8),
        ({"trials": 1000}, 8),
        ({"images": 100 + 8 * 21}, 7),
        ({"images": 100 + 8 * 30, "trials": 18}, 6),
        ({"images": 10}, 1),
    ],
)
def test_settings_get_a_share_of_the_trials(few: dict[str, int], trials: int) -> None:
    allowed = limits("a", **{"budget": "8h"} | few)
    for seconds, used in ((0.1, 0.1), (4.0, 4.1)):  # the clock is not asked
        ask = {"used": used, "trial_seconds": seconds, "open_classes": 3, "kept": 50.0}
        assert settings(allowed, **ask) == trials


def test_a_loose_limit_gives_settings_no_more_than_there_is_time_for() -> None:
    for loose in ({"trials": 1000}, {"images": 4000}):
        assert settings(limits("a", budget="5m", **loose)) == 5  # (300 - 60) / 2 / 8 / 3
    assert settings(limits("a", budget="8h", trials=21)) == 7  # the limit ends it long before
    # A class that is late, but not so late that time would end it.
    assert settings(limits("a", budget="10m", trials=21), used=300.0, trials=8) == 7


def test_by_the_clock_settings_get_a_share_of_the_time_left() -> None:
    allowed = limits("a", budget="10m")
    found = [settings(allowed, used=used, open_classes=12) for used in (0.0, 120.0, 240.0)]
    assert found == [7, 5, 4]  # (600 - 60) / 2 / 12 / 3, and never under four
    assert settings(limits("a", budget="8h"), open_classes=12) == MOST_SETTINGS


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "budget": st.floats(1, 1e5),
            "trials": st.integers(1, 2000),
            "images": st.integers(1, 10**5),
        },
    ).filter(bool),
    st.floats(-1e4, 1e5),
    st.floats(0, 1e4),
    st.integers(0, 20),
    st.integers(0, 500),
)
def test_settings_get_one_trial_at_least_and_never_more_than_half_of_a_limit(
    ends: dict[str, Any], time: float, seconds: float, classes: int, trials: int
) -> None:
    allowed = limits("a", **ends)
    wanted = settings_trials(
        class_state(trials=trials),
        allowed,
        time=time,
        trial_seconds=seconds,
        open_classes=classes,
    )
    assert 1 <= wanted <= MOST_SETTINGS
    if "trials" in ends:
        assert wanted <= max(1, ends["trials"] // 2)


def test_a_mixture_gets_the_images_that_there_is_time_for_where_time_ends_the_search() -> None:
    allowed = limits("a", budget="8h", images_per_trial=8)
    ask = {"trial_seconds": 16.0}
    assert batch_images(allowed, time=100.0, **ask) == 50  # two seconds an image
    assert batch_images(allowed, time=3.0, **ask) == 8
    assert batch_images(allowed, time=-60.0, **ask) == 8
    assert batch_images(allowed, time=10.0**9, **ask) == TRIAL  # a trial's block of seeds
    for few in ({"trials": 50}, {"images": 900}, {"trials": 50, "budget": "8h"}):
        assert batch_images(limits("a", **few), time=100.0, **ask) is None


def test_baselines_come_first_in_order_then_the_widest_gap() -> None:
    assert picked({"a": open_class(5.0), "b": new_class(), "c": new_class()}) == "b"
    classes = {"a": open_class(0.2), "b": open_class(0.6), "c": open_class(0.4)}
    assert picked(classes) == "b"
    # A class that gains nothing fades behind one that is nearer to done.
    assert picked(classes | {"b": open_class(0.6, since_gain=5)}) == "c"


def test_then_what_a_person_put_first_whatever_there_is_to_gain_elsewhere() -> None:
    first = open_class(0.0, pending=True, closed=True)
    assert picked({"a": open_class(5.0), "b": first}) == "b"
    assert picked({"a": new_class(), "b": first}) == "a"


def test_only_candidates_get_a_trial_in_their_order() -> None:
    classes = {"a": new_class(), "b": open_class(0.6), "c": open_class(0.6), "d": new_class()}
    allowed = limits(classes, trials=50)
    for names, first in ((["c", "b"], "c"), (["b", "c"], "b"), (["b", "d", "a"], "d"), ([], None)):
        assert pick(names, classes, allowed, seconds={}) == first


def test_the_gap_is_weighed_in_floors() -> None:
    classes = {"noisy": open_class(0.6), "quiet": open_class(0.1)}
    assert picked(classes, limits(classes, floors={"noisy": 0.3, "quiet": 0.01})) == "quiet"


def test_no_class_falls_behind_a_quarter_of_an_even_share() -> None:
    gaps = {"a": 0.6, "b": 0.4, "c": 0.06, "d": 0.03}
    classes = {name: open_class(gap) for name, gap in gaps.items()}
    allowed = limits(classes, trials=500)
    for _ in range(200):
        name = picked(classes, allowed)
        assert name is not None
        gaps[name] *= 0.97
        classes[name] = open_class(gaps[name], trials=classes[name].trials + 1)
    assert min(cls.trials for cls in classes.values()) >= 12
    assert classes["a"].trials > classes["d"].trials
    # A budget of a few trials a class is not spread thin.
    assert picked({"a": open_class(0.6, trials=20), "b": open_class(0.1, trials=1)}) == "a"


def test_what_was_measured_counts_as_the_gap() -> None:
    """A search that has measured its mixture believes no other figure (see `expected`)."""
    measured = open_class(0.1, baseline_gap=0.6)
    assert picked({"measured": measured, "b": open_class(0.2)}) == "b"
    assert picked({"measured": measured, "b": open_class(0.05)}) == "measured"


def test_before_that_what_its_weights_leave_counts() -> None:
    # Of two baselines as far off, the class that prompts have improved already waits.
    searches = {
        name: modes.make_search(
            modes.rows_of("brown", 60, np.random.default_rng(0)), images_per_trial=8, seed=seed
        )
        for seed, name in enumerate(("improved", "stuck"))
    }
    for name, its in searches.items():
        for word in ("brown", "gray") if name == "improved" else ("red", "gray"):
            if not its.has_baseline:
                first = its.propose(Ask(settings_trials=4))
                its.absorb(first, modes.generate(first))
            its.prioritize([{"color": word}])
            proposal = its.propose(Ask(settings_trials=4))
            its.absorb(proposal, modes.generate(proposal))
        its.since_gain = 0
    classes = {
        name: ClassState(trials=3, progress=its.progress()) for name, its in searches.items()
    }
    improved, stuck = (its.progress for its in classes.values())
    assert improved.expected < 0.3 * stuck.expected  # type: ignore[operator]
    assert improved.gap == pytest.approx(stuck.gap, rel=0.2)  # of their baselines: nothing else is
    assert picked(classes) == "stuck"


def test_what_a_confirmation_saw_counts_as_the_gap() -> None:
    hopeful = open_class(0.0, unseen_gap=0.5, reopened=True)
    assert picked({"narrow": open_class(0.2), "hopeful": hopeful}) == "hopeful"


def test_where_time_ends_the_run_a_gain_is_weighed_against_what_it_takes() -> None:
    classes = {"slow": open_class(0.3), "fast": open_class(0.2)}
    seconds = {"slow": 5.0, "fast": 2.0}
    assert picked(classes, limits(classes, budget="1h"), **seconds) == "fast"
    # No clock is read.
    assert picked(classes, limits(classes, trials=50), **seconds) == "slow"


def test_nobody_wants_a_trial() -> None:
    allowed = limits(("closed", "spent", "broken"), trials=3)
    closed = class_state(trials=1, gap=0.001, evidence=1, closed_from_start=True)
    broken = class_state(trials=2, failures=3)
    classes = {"closed": closed, "spent": open_class(0.9), "broken": broken}
    assert picked(classes, allowed) is None
    assert picked({}) is None
    for name in classes:  # each for a reason of its own
        going = class_state(trials=2)
        assert picked(classes | {name: going}, allowed) == name
