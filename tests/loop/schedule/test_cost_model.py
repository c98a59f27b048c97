from __future__ import annotations

from typing import Any

import pytest
from histories import proposed

from gapclose.loop.run.timings import Timings
from gapclose.loop.schedule.cost_model import PROBE_SECONDS, CostModel, probe


def costs(timings: Timings | None = None) -> CostModel:
    timings = Timings() if timings is None else timings
    return CostModel(timings=timings, trial_images=8, confirm_images=200)


def noted(*rows: tuple[str, str, float]) -> Timings:
    """Of trials that succeeded: class, stage and seconds."""
    timings = Timings()
    for row in rows:
        timings = also(timings, *row)
    return timings


def also(timings: Timings, cls: str, stage: str, seconds: float, **more: Any) -> Timings:
    rest = {"images": 100 if stage == "baseline" else 8, "done": True} | more
    trial = proposed(cls, stage=stage, images=rest["images"])
    return timings.with_trial(trial, seconds, done=rest["done"])


def test_before_anything_is_measured_a_trial_is_taken_for_a_second() -> None:
    assert costs().trial() == costs().trial("frog") == 1.0


def test_until_whole_recipes_were_tried_baselines_tell() -> None:
    timings = noted(("frog", "baseline", 50.0))
    timings = also(timings, "frog", "baseline", 9999.0, done=False)
    timings = also(timings, "frog", "settings", 0.01)  # a camera on images that were there
    cost_model = costs(timings)
    assert cost_model.trial() == cost_model.trial("ship") == 4.0
    assert cost_model.confirmation("ship") == 100.0


def test_a_class_goes_by_its_own_latest_trials_and_else_by_all() -> None:
    timings = Timings()
    for seconds in [100.0] * 60 + [2.0] * 50:
        timings = also(timings, "frog", "joint", seconds)
    for _ in range(40):
        timings = also(timings, "ship", "joint", 6.0)
    timings = also(timings, "ship", "joint", 9999.0, done=False)
    cost_model = costs(timings)
    assert (cost_model.trial("frog"), cost_model.trial("ship")) == (2.0, 6.0)
    assert cost_model.trial("cat") == cost_model.trial() == 2.0  # the median of all of them


def test_a_confirmation_takes_what_others_took_and_before_that_what_larger_batches_would() -> None:
    timings = noted(
        ("frog", "baseline", 50.0),  # 0.5 s an image
        ("frog", "settings", 8.0),  # 1 s an image in small batches
        ("frog", "settings", 0.1),  # a camera on images that were there
        ("frog", "joint", 16.0),  # these draw at twice that
    )
    assert costs(timings).confirmation("frog") == pytest.approx(200 * 2.0 * 0.5)
    timings = timings.with_evaluation("frog", 9.0, 20)  # the others were read back
    assert costs(timings).confirmation("frog") == pytest.approx(200 * 2.0 * 0.5)
    timings = timings.with_evaluation("frog", 7.0, 100)
    timings = timings.with_evaluation("frog", 17.0, 300)  # its baseline was drawn as well
    cost_model = costs(timings)
    assert cost_model.confirmation("frog") == cost_model.confirmation("ship") == 12.0


def test_a_confirmation_goes_by_the_latest_five_that_generated_their_images() -> None:
    timings = noted(("frog", "joint", 4.0))
    for seconds in (999.0, 999.0, 10.0, 10.0, 10.0, 10.0, 10.0):
        timings = timings.with_evaluation("frog", seconds, 200)
    for _ in range(6):
        timings = timings.with_evaluation("frog", 0.1, 0)
    assert costs(timings).confirmation("frog") == 10.0


def test_larger_batches_are_never_taken_to_be_slower() -> None:
    timings = noted(("frog", "baseline", 200.0), ("frog", "joint", 8.0))  # 2 s, and 1 s an image
    assert costs(timings).confirmation("frog") == 200.0


def test_a_class_of_more_steps_takes_longer_to_be_confirmed_than_those_before_it() -> None:
    timings = noted(("frog", "joint", 16.0), ("ship", "joint", 40.0), ("cat", "joint", 8.0))
    cost_model = costs(timings)
    assert (cost_model.confirmation("frog"), cost_model.confirmation("ship")) == (400.0, 1000.0)
    cost_model = costs(timings.with_evaluation("frog", 300.0, 200))
    told = [cost_model.confirmation(name) for name in ("frog", "ship", "cat", "dog")]
    assert told == [300.0, 750.0, 300.0, 300.0]


def test_a_baseline_that_came_second_is_no_small_batch() -> None:
    timings = also(Timings(), "frog", "baseline", 1.0, done=False)
    timings = also(timings, "frog", "baseline", 50.0)
    timings = also(timings, "frog", "settings", 8.0)
    assert costs(timings).confirmation("frog") == pytest.approx(200 * 0.5 * 0.5)


def test_baselines_of_all_sizes_tell_what_an_image_takes() -> None:
    assert costs().baseline_image is None
    timings = noted(("frog", "baseline", 50.0))
    for cls in ("ship", "cat"):
        timings = also(timings, cls, "baseline", 12.0, images=24)
    cost_model = costs(timings)
    assert cost_model.baseline_image == 0.5
    assert (cost_model.trial(), cost_model.confirmation("cat")) == (4.0, 100.0)


def test_how_slow_the_machine_is_now_is_what_the_latest_probes_say() -> None:
    assert costs().slowness == 1.0
    timings = Timings()
    for times in (9.0, 9.0, 9.0, 3.0, 3.0, 3.0, 3.0, 50.0):  # one was cut off by something
        timings = timings.with_probe(times * PROBE_SECONDS)
    assert costs(timings).slowness == pytest.approx(3.0)
    for _ in range(5):
        # A fast machine: some of it is waiting all the same.
        timings = timings.with_probe(PROBE_SECONDS / 4)
    assert costs(timings).slowness == 0.6
    assert probe() > 0.0
