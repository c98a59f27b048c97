from __future__ import annotations

from typing import Any

import pytest

from gapclose.loop.schedule.cost_model import PROBE_SECONDS, CostModel, probe


def make_costs() -> CostModel:
    return CostModel(trial_images=8, baseline_images=100, look_images=200)


def row(cls: str, stage: str, seconds: float, **more: Any) -> dict[str, Any]:
    rest = {"number": 9, "state": "complete", "seeds": [*range(100 if stage == "baseline" else 8)]}
    return {"class": cls, "stage": stage, "seconds": seconds} | rest | more


def test_before_anything_is_measured_a_trial_is_taken_for_a_second() -> None:
    assert make_costs().trial() == 1.0


def test_until_whole_recipes_were_tried_baselines_tell() -> None:
    pace = make_costs()
    pace.note_trial(row("frog", "baseline", 50.0, number=0))
    pace.note_trial(row("frog", "baseline", 9999.0, number=0, state="fail"))
    pace.note_trial(row("frog", "settings", 0.01))  # a camera on images that were there
    assert pace.trial() == pace.trial("ship") == 4.0
    assert pace.look("ship") == 100.0


def test_a_class_goes_by_its_own_latest_trials_and_else_by_all() -> None:
    pace = make_costs()
    for seconds in [100.0] * 60 + [2.0] * 50:
        pace.note_trial(row("frog", "joint", seconds))
    for _ in range(40):
        pace.note_trial(row("ship", "joint", 6.0))
    pace.note_trial(row("ship", "joint", 9999.0, state="fail"))
    assert (pace.trial("frog"), pace.trial("ship")) == (2.0, 6.0)
    assert pace.trial("cat") == pace.trial() == 2.0  # the median of all of them


def test_a_look_takes_what_looks_took_and_before_that_what_its_larger_batches_would() -> None:
    pace = make_costs()
    pace.note_trial(row("frog", "baseline", 50.0, number=0))  # 0.5 s an image
    pace.note_trial(row("frog", "settings", 8.0, number=1))  # 1 s an image in small batches
    pace.note_trial(row("frog", "settings", 0.1, number=2))  # a camera on images that were there
    pace.note_trial(row("frog", "joint", 16.0))  # these draw at twice that
    assert pace.look("frog") == pytest.approx(200 * 2.0 * 0.5)
    pace.note_look("frog", 9.0, images=20)  # the others were read back
    pace.note_look("frog", 7.0, images=100)
    pace.note_look("frog", 17.0, images=300)  # its baseline was drawn as well
    assert pace.look("frog") == pace.look("ship") == 12.0


def test_a_class_of_more_steps_takes_longer_to_be_looked_at_than_those_before_it() -> None:
    pace = make_costs()
    for cls, seconds in (("frog", 16.0), ("ship", 40.0), ("cat", 8.0)):
        pace.note_trial(row(cls, "joint", seconds))
    assert (pace.look("frog"), pace.look("ship")) == (400.0, 1000.0)
    pace.note_look("frog", 300.0, images=200)
    assert (pace.look("frog"), pace.look("ship"), pace.look("cat")) == (300.0, 750.0, 300.0)


def test_reading_back_takes_no_longer_than_an_image_takes_to_be_read() -> None:
    pace = make_costs()
    pace.note_look("frog", 20.0, images=200)  # a generator that draws fast
    assert pace.reading("frog") == pytest.approx(4.0)
    for _ in range(5):
        pace.note_look("frog", 2000.0, images=200)
    assert pace.reading("frog") == pytest.approx(30.0)


def test_a_baseline_that_came_second_is_no_small_batch() -> None:
    pace = make_costs()
    pace.note_trial(row("frog", "baseline", 1.0, number=0, state="fail"))
    pace.note_trial(row("frog", "baseline", 50.0, number=1))
    pace.note_trial(row("frog", "settings", 8.0, number=2))
    assert pace.look("frog") == pytest.approx(200 * 0.5 * 0.5)


def test_baselines_of_all_sizes_tell_what_an_image_takes() -> None:
    pace = make_costs()
    assert pace.baseline_image is None
    pace.note_trial(row("frog", "baseline", 50.0, number=0))
    pace.note_trial(row("ship", "baseline", 12.0, number=0, seeds=[*range(24)]))
    pace.note_trial(row("cat", "baseline", 12.0, number=0, seeds=[*range(24)]))
    assert (pace.baseline_image, pace.trial(), pace.look("cat")) == (0.5, 4.0, 100.0)


def test_how_slow_the_machine_is_now_is_what_the_latest_probes_say() -> None:
    pace = make_costs()
    assert pace.slowness == 1.0
    for times in (9.0, 9.0, 9.0, 3.0, 3.0, 3.0, 3.0, 50.0):  # one was cut off by something
        pace.note_probe(times * PROBE_SECONDS)
    assert pace.slowness == pytest.approx(3.0)
    for _ in range(5):
        pace.note_probe(PROBE_SECONDS / 4)  # a fast machine: some of it is waiting all the same
    assert pace.slowness == 0.6
    assert probe() > 0.0
