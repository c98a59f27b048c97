from __future__ import annotations

from typing import Any

import modes
import numpy as np
import pytest

from gapclose.loop.config.schema import TuneConfig
from gapclose.loop.schedule.budget import MOST_SETTINGS, Budget
from gapclose.loop.search.class_search import ClassSearch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make_budget(used_before: float = 0.0, **limits: Any) -> tuple[Budget, Clock]:
    clock = Clock()
    config = TuneConfig.model_validate({"budget": None} | limits)
    return Budget(limits=config, used_before=used_before, now=clock), clock


def search(**state: Any) -> ClassSearch:
    made = modes.make_search(
        modes.mixed({"brown": 1.0}, 40, np.random.default_rng(0)), images_per_trial=8
    )
    for name, value in state.items():
        setattr(made, name, value)
    return made


def open_class(gap: float, **state: Any) -> ClassSearch:
    return search(
        number=3, baseline_gap=gap, best_gap=gap, floor=0.01, baseline_floor=0.01, **state
    )


def test_time_adds_up_over_sessions() -> None:
    budget, clock = make_budget(budget="10m", used_before=60.0)
    clock.now += 40
    assert budget.used == 100
    assert budget.left == 500
    assert make_budget(trials=3)[0].left == float("inf")


def test_only_time_makes_the_clock_decide() -> None:
    assert make_budget(budget="1m")[0].by_clock
    assert not make_budget(budget="1m", trials=3)[0].by_clock
    assert not make_budget(images=300)[0].by_clock


def test_limits_are_per_class() -> None:
    budget, _ = make_budget(trials=3, images=200)
    assert not budget.spent(search(number=2, images=199))
    assert budget.spent(search(number=3, images=0))
    assert budget.spent(search(number=1, images=200))
    assert not make_budget(budget="1s")[0].spent(search(number=99, images=10**6))


@pytest.mark.parametrize(
    ("limits", "trials"),
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
def test_settings_get_a_share_of_the_trials(limits: dict[str, int], trials: int) -> None:
    budget, clock = make_budget(**{"budget": "8h"} | limits)
    for seconds in (0.1, 4.0):  # the clock is not asked
        clock.now += seconds
        wanted = budget.settings_trials(
            search(), trial_seconds=seconds, open_classes=3, reserve=50.0
        )
        assert wanted == trials


def test_a_loose_limit_gives_settings_no_more_than_there_is_time_for() -> None:
    ask: dict[str, Any] = {"trial_seconds": 2.0, "open_classes": 8, "reserve": 60.0}
    for loose in ({"trials": 1000}, {"images": 4000}):
        budget, _ = make_budget(budget="5m", **loose)
        assert budget.settings_trials(search(), **ask) == 5  # (300 - 60) / 2 / 8 / 3
    budget, _ = make_budget(budget="8h", trials=21)
    assert budget.settings_trials(search(), **ask) == 7  # the limit ends it long before
    budget, clock = make_budget(budget="10m", trials=21)
    clock.now += 300  # a class that is late, but not so late that time would end it
    assert budget.settings_trials(search(number=8), **ask) == 7


def test_by_the_clock_settings_get_a_share_of_the_time_left() -> None:
    budget, clock = make_budget(budget="10m")
    ask: dict[str, Any] = {"trial_seconds": 2.0, "open_classes": 12, "reserve": 60.0}
    found = []
    for _ in range(3):
        found.append(budget.settings_trials(search(), **ask))
        clock.now += 120
    assert found == [7, 5, 4]  # (600 - 60) / 2 / 12 / 3, and never under four
    few, _ = make_budget(budget="8h")
    assert few.settings_trials(search(), **ask) == MOST_SETTINGS


def test_baselines_come_first_in_order_then_the_widest_gap() -> None:
    budget, _ = make_budget(trials=50)
    assert budget.pick({"a": open_class(5.0), "b": search(), "c": search()}) == "b"
    classes = {"a": open_class(0.2), "b": open_class(0.6), "c": open_class(0.4)}
    assert budget.pick(classes) == "b"
    # A class that gains nothing fades behind one that is nearer to done.
    classes["b"].since_gain = 5
    assert budget.pick(classes) == "c"


def test_the_gap_is_weighed_in_floors() -> None:
    noisy = open_class(0.6)
    noisy.floor = 0.3
    budget, _ = make_budget(trials=50)
    assert budget.pick({"noisy": noisy, "quiet": open_class(0.1)}) == "quiet"


def test_no_class_falls_behind_a_quarter_of_an_even_share() -> None:
    budget, _ = make_budget(trials=500)
    classes = {
        name: open_class(gap) for name, gap in {"a": 0.6, "b": 0.4, "c": 0.06, "d": 0.03}.items()
    }
    for _ in range(200):
        name = budget.pick(classes)
        assert name is not None
        classes[name].number += 1
        classes[name].baseline_gap *= 0.97
    assert min(search.number for search in classes.values()) >= 12
    assert classes["a"].number > classes["d"].number
    # A budget of a few trials a class is not spread thin.
    few = {"a": open_class(0.6), "b": open_class(0.1)}
    few["a"].number, few["b"].number = 20, 1
    assert budget.pick(few) == "a"


def test_what_was_measured_counts_as_the_gap() -> None:
    budget, _ = make_budget(trials=50)
    measured = open_class(0.6, measured_gap=0.1)
    assert budget.pick({"measured": measured, "b": open_class(0.2)}) == "b"
    assert budget.pick({"measured": measured, "b": open_class(0.05)}) == "measured"


def test_before_that_what_its_weights_leave_counts() -> None:
    # Of two baselines as far off, the class that prompts have mended already waits.
    mended, stuck = (
        modes.make_search(
            modes.rows_of("brown", 60, np.random.default_rng(0)), images_per_trial=8, seed=seed
        )
        for seed in range(2)
    )
    for its in (mended, stuck):
        for word in ("brown", "gray") if its is mended else ("red", "gray"):
            if not its.has_baseline:
                first = its.propose(settings_trials=4)
                its.absorb(first, modes.generate(first))
            its.prioritize([{"color": word}])
            proposal = its.propose(settings_trials=4)
            its.absorb(proposal, modes.generate(proposal))
        its.since_gain = 0
    budget, _ = make_budget(trials=50)
    assert mended.expected < 0.3 * stuck.expected
    assert budget.pick({"mended": mended, "stuck": stuck}) == "stuck"


def test_what_a_confirmation_saw_counts_as_the_gap() -> None:
    budget, _ = make_budget(trials=50)
    hopeful = open_class(0.0, unseen_gap=0.5, reopened=True)
    assert budget.pick({"narrow": open_class(0.2), "hopeful": hopeful}) == "hopeful"


def test_where_time_ends_the_run_a_gain_is_weighed_against_what_it_takes() -> None:
    classes = {"slow": open_class(0.3), "fast": open_class(0.2)}
    seconds = {"slow": 5.0, "fast": 2.0}
    assert make_budget(budget="1h")[0].pick(classes, seconds=seconds) == "fast"
    assert make_budget(trials=50)[0].pick(classes, seconds=seconds) == "slow"  # no clock is read


def test_nobody_wants_a_trial() -> None:
    budget, _ = make_budget(trials=3)
    closed = search(number=1, baseline_gap=0.001, floor=0.01, baseline_floor=0.01)
    spent = open_class(0.9)
    broken = search(number=2, failures=3)
    assert budget.pick({"closed": closed, "spent": spent, "broken": broken}) is None
    assert budget.pick({}) is None
