"""When a run by the clock ends, and what its time is used for; hours of it in seconds."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from gapclose.generators.images import write_pngs
from gapclose.generators.pond import COLORS, write_real
from gapclose.generators.recipe import Draw
from gapclose.loop.run import Run

sys.path.insert(0, str(Path(__file__).parent))
from rig import Clock, by_clock, written
from slow_pond import SlowPond

CLASSES = ("frog", "bird", "cat", "dog")
BUDGET = 4 * 3600.0  # of which baselines take 4,000 s
LOOK = 200 * 10.0  # 200 images of 10 s
SPACE = {
    "prompt": "a photo of a {color} {class}",
    "slots": {"color": ["", *COLORS]},
    "guidance_scale": [1.0, 6.0],
}


@pytest.mark.slow
def test_time_that_was_kept_back_and_not_used_is_searched_in_and_the_run_ends_in_time(
    tmp_path: Path,
) -> None:
    write_real(tmp_path / "photos", per_class=250, classes=CLASSES)
    tune = {"budget": f"{BUDGET:.0f}s", "trials": None, "images_per_trial": 8}
    changes = {"classes": [*CLASSES], "space": SPACE, "tune": tune, "confirm": {"images": 200}}
    config, out = written(tmp_path / "c.yaml", tmp_path / "photos", **changes), tmp_path / "run"
    clock = Clock()
    code, err = by_clock(clock, "tune", config, "--out", out, SLOW_POND_SECONDS="10")
    assert code == 0, err
    run = Run.open(out)
    # Nobody knew that the first mixtures would hold: time to draw their baselines was kept back.
    tried = {row["class"] for row in run.trials if row["stage"] != "baseline"}
    assert tried == {*CLASSES} == {row["name"] for row in run.gap["classes"]}
    assert BUDGET - LOOK < clock.now <= BUDGET


@pytest.mark.slow
def test_what_has_closed_is_looked_at_while_others_are_tried(tmp_path: Path) -> None:
    """Or, if it did not hold, no time would be left to search on in it."""
    photos = tmp_path / "photos"
    write_real(photos, per_class=400, classes=("frog",))
    plain = Draw(
        prompt="a photo of a truck", guidance_scale=3.0, num_inference_steps=4, scheduler="one"
    )
    drawn = SlowPond().generate(plain, range(5_000_000, 5_000_400))  # closed from the start
    write_pngs({photos / "truck" / f"{k}.png": image for k, image in enumerate(drawn.images)})
    tune = {"budget": "5200s", "trials": None, "images_per_trial": 8}
    changes = {"classes": ["frog", "truck"], "space": SPACE, "tune": tune}
    config = written(tmp_path / "c.yaml", photos, **changes, confirm={"images": 50})
    clock, events = Clock(), []

    def heard(_: object, kind: str, **facts: object) -> None:
        events.append((clock.now, kind, facts.get("cls")))

    with patch("gapclose.loop.progress.JsonReporter.event", heard):
        code, err = by_clock(
            clock, "tune", config, "--out", tmp_path / "run", SLOW_POND_SECONDS="10"
        )
    assert code == 0, err
    looked = [now for now, *what in events if what == ["class", "truck"]]
    tried = [now for now, *what in events if what == ["trial", "frog"]]
    assert 5200 / 2 <= looked[0] < tried[-1]
    assert (
        len(looked) > 1
    )  # judged again with what was looked at last: q-values are of all classes
    assert clock.now <= 5200
