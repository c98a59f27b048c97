"""Charts: the course of a gap has a bounded number of points, from the first trial to the last."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from gapclose.loop.report.charts import chart_data
from gapclose.loop.report.thumbnails import Samples
from gapclose.loop.run.folder import RunDir


@pytest.mark.parametrize("n", [1, 999, 1_000, 1_001, 10_000])
def test_a_course_has_a_bounded_number_of_points(n: int, tmp_path: Any) -> None:
    trials = [
        {
            "class": "frog",
            "state": "complete",
            "stage": "mixture",
            "images_total": 8 * (i + 1),
            "gap": 0.01 * (i + 1) / n,
            "mixture_gap": None if i % 3 else 0.012345 / (i + 1),
        }
        for i in range(n)
    ]
    row = {"name": "frog", "floor_p95": 0.001, "ratio": 1.5}
    data = chart_data([row], trials, Samples.read(RunDir(tmp_path)))
    course = data["classes"][0]["course"]
    drawn = course["images"]
    assert len(drawn) == min(n, 1_000)
    assert (drawn[0], drawn[-1]) == (8, 8 * n)
    steps = {b - a for a, b in pairwise(drawn)}
    assert max(steps, default=8) - min(steps, default=8) <= 8
    for key, of in (("own", "gap"), ("mixture", "mixture_gap")):
        wanted = [trials[images // 8 - 1][of] for images in drawn]
        assert course[key] == [None if v is None else round(v / 0.001, 4) for v in wanted]
    assert len(json.dumps(data)) < 60_000
