"""Timings: what an image of each of several generators takes."""

from __future__ import annotations

import pytest

from gapclose.loop.run.timings import Timings


def test_the_trial_that_a_generator_loads_its_model_in_is_no_price() -> None:
    timings = Timings().with_costs({"sd": (100, 60.0)})
    assert timings.prices() == {}
    timings = timings.with_costs({"sd": (40, 20.0), "renderer": (10, 9.0)})
    assert timings.prices() == {"sd": 0.5}
    timings = timings.with_costs({"sd": (10, 15.0)}).with_costs({"renderer": (10, 1.0)})
    assert timings.prices() == pytest.approx({"sd": 0.7, "renderer": 0.1})


def test_the_latest_trials_count() -> None:
    timings = Timings().with_costs({"sd": (1, 1.0)})
    for seconds in (9.0, *[1.0] * 50):
        timings = timings.with_costs({"sd": (1, seconds)})
    assert timings.prices() == {"sd": 1.0}
    assert Timings().with_costs({}) == Timings()
