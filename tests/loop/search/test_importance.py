"""What mattered: Optuna's importances on a history whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optuna
import pytest

from gapclose.generators.distributions import quantile_of
from gapclose.loop.config.reading import parse_config
from gapclose.loop.search.importance import MIN_TRIALS, importances, parameter_importances
from gapclose.loop.search.optuna_record import Observation
from gapclose.loop.search.space import Space

COLORS = {"": 0.3, "brown": 0.0, "tan": 0.2, "green": 1.0, "gray": 0.4}


def space(**changes: Any) -> Space:
    varied: dict[str, Any] = {
        "prompt": "a {color} frog{place}",
        "slots": {"color": list(COLORS), "place": ["", " on grass", " on water"]},
        "guidance_scale": [1.0, 10.0],
        "num_inference_steps": [6, 50],
    }
    data = {
        "real": {"path": "somewhere"},
        "generator": {"kind": "diffusers", "model": "pond"},
        "embedder": "pond",
        "space": varied | changes,
    }
    return Space.of(parse_config(data), "frog")


def history(n: int, score: Callable[[dict[str, Any]], float], of: Space) -> list[Observation]:
    """Trials at random."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    asked = [dict(study.ask(of.distributions).params) for _ in range(n)]
    return [Observation(params=params, value=score(params)) for params in asked]


def test_one_parameter_that_decides_alone_has_it_all() -> None:
    s = space()
    found = importances(s, history(30, lambda p: COLORS[p["color"]], s))
    assert found is not None
    assert next(iter(found)) == "color"
    assert found["color"] > 0.95
    assert set(found) == {"color", "place", "guidance_scale", "num_inference_steps"}


def test_shares_are_those_of_the_variance() -> None:
    """Two words and a log uniform scale, each with half of the variance."""
    s = space(slots={"color": ["", "green"], "place": ["", " on grass"]})
    slope = math.sqrt(12) / math.log(10)  # a uniform of length L has a variance of L^2 / 12

    def score(params: dict[str, Any]) -> float:
        return 2.0 * (params["color"] == "green") + slope * math.log(params["guidance_scale"])

    found = importances(s, history(200, score, s))
    assert found is not None
    assert math.fsum(found.values()) == pytest.approx(1.0)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found["color"] == pytest.approx(0.5, abs=0.06)
    assert found["guidance_scale"] == pytest.approx(0.5, abs=0.06)


def test_the_same_history_says_the_same() -> None:
    s = space()
    past = history(12, lambda p: COLORS[p["color"]] + p["guidance_scale"] / 20, s)
    assert importances(s, past) == importances(s, past)


def test_what_never_varied_has_no_share() -> None:
    s = space()
    past = history(20, lambda p: COLORS[p["color"]], s)
    held = [Observation(params=p.params | {"num_inference_steps": 8}, value=p.value) for p in past]
    found = importances(s, held)
    assert found is not None
    assert found["num_inference_steps"] == 0.0


def test_of_too_little_nothing_is_said() -> None:
    s = space()
    past = history(MIN_TRIALS, lambda p: COLORS[p["color"]], s)
    assert importances(s, past) is not None
    assert importances(s, past[1:]) is None
    assert importances(s, []) is None
    # A trial that lacks a parameter tells nothing of it.
    assert importances(s, [Observation(params={}, value=0.5), *past[1:]]) is None


def test_where_nothing_varies_nothing_is_said() -> None:
    s = space()
    assert importances(s, history(20, lambda p: 0.5, s)) is None
    same = history(1, lambda p: 0.5, s)[0].params
    assert importances(s, [Observation(params=same, value=i / 20) for i in range(20)]) is None
    none = space(prompt="a frog", slots={}, guidance_scale=[], num_inference_steps=[])
    assert importances(none, [Observation(params={}, value=i / 20) for i in range(20)]) is None


def test_a_slot_that_a_template_has_no_place_for_is_a_choice_of_its_own() -> None:
    """Captions, of which one group decides, beside words that decide nothing."""
    data = {
        "real": {"path": "somewhere"},
        "generator": {"kind": "diffusers", "model": "pond"},
        "embedder": "pond",
        "space": {
            "prompt": ["a {color} frog", "{caption}"],
            "slots": {"color": list(COLORS)},
            "captions": "words",
            "guidance_scale": [1.0, 10.0],
        },
    }
    groups = {f"group {number}": f"{number:016x}" for number in range(4)}
    s = Space.of(parse_config(data), "frog", groups=groups)
    past = [
        Observation(params=s.used(trial.params), value=trial.value)
        for trial in history(
            60, lambda p: float(p["prompt"] == "{caption}" and p["photos"] == "group 2"), s
        )
    ]
    assert not any({"color", "photos"} <= trial.params.keys() for trial in past)
    found = importances(s, past)
    assert found is not None
    assert next(iter(found)) == "photos"
    assert found["guidance_scale"] < 0.1


def test_what_parameters_explain_is_read_from_images_that_were_drawn_evenly() -> None:
    own = {
        "light": [0, 90],
        "power": {"low": 0.5, "high": 8, "log": True},
        "count": {"low": 1, "high": 4, "int": True},
        "metal": ["steel", "brass"],
    }
    data = {
        "real": {"path": "somewhere"},
        "generator": {"kind": "mine:Renderer"},
        "embedder": "pond",
        "space": {"parameters": own},
        "baseline": {"parameters": {"light": 1, "power": 1, "count": 1, "metal": "steel"}},
    }
    s = Space.of(parse_config(data), "frog")
    drawn = [
        {name: its.at(quantile_of(name, seed)) for name, its in s.parts[0].parameters.items()}
        for seed in range(96)
    ]
    seen = [
        Observation(
            params={f"parameters.{name}": value for name, value in its.items()},
            value=float(its["light"]) / 90 + 2.0 * (its["metal"] == "brass"),
        )
        for its in drawn
    ]
    found = parameter_importances(s, {None: seen})
    assert found is not None
    assert [*found][:2] == ["parameters.metal", "parameters.light"]
    assert found["parameters.metal"] == pytest.approx(1.0 / (1.0 + 1 / 12), abs=0.06)
    assert set(found) == {f"parameters.{name}" for name in own}
    assert parameter_importances(s, {None: seen[:5]}) is None
