"""Even points: each part of a range once, each choice as often as any other."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from pond_config import pond_config

from gapclose.loop.search.even_points import even_points
from gapclose.loop.search.space import Space


def space(parameters: dict[str, Any], **baseline: Any) -> Space:
    config = pond_config(
        generator={"kind": "mine.world:Renderer"},
        space={"parameters": parameters, "guidance_scale": [1.0, 4.0]},
        baseline={"parameters": baseline},
    )
    return Space.of(config, "frog")


def test_every_part_of_a_range_holds_one_value() -> None:
    ranges = {
        "light": [0, 90],
        "gain": {"low": 0.1, "high": 10, "log": True},
        "count": {"low": 1, "high": 4, "int": True},
        "material": ["steel", "brass"],
        "samples": 16,
    }
    points = even_points(space(ranges, light=1, gain=1, count=1, material="steel"), 40, seed=3)
    assert {len(point) for point in points} == {4}, "what is fixed, and guidance, stay out"
    light = sorted(point["parameters.light"] for point in points)
    assert [math.floor(value / 90 * 40) for value in light] == [*range(40)]
    gain = sorted(math.log10(point["parameters.gain"]) for point in points)
    assert [math.floor((value + 1) / 2 * 40) for value in gain] == [*range(40)]
    assert Counter(point["parameters.count"] for point in points) == dict.fromkeys(range(1, 5), 10)
    assert Counter(point["parameters.material"] for point in points) == {"steel": 20, "brass": 20}


def test_parameters_are_independent_and_repeatable() -> None:
    two = space({"light": [0, 1], "tilt": [0, 1]}, light=0, tilt=0)
    points = even_points(two, 500, seed=1)
    rows = np.array([[*point.values()] for point in points])
    assert abs(np.corrcoef(rows.T)[0, 1]) < 0.15
    assert even_points(two, 500, seed=1) == points
    assert even_points(two, 500, seed=2) != points


@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_space_without_parameters_has_nothing_to_say(n: int) -> None:
    assert even_points(space({}), n, seed=0) == [{}] * n
