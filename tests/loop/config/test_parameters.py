"""A generator's own parameters, as a person writes them and as they are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pond_config import pond_config

from gapclose.loop.config.parameters import ParameterChoices, ParameterRange
from gapclose.loop.config.plain_yaml import parse_yaml
from gapclose.loop.config.reading import parse_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.errors import ConfigError

BASELINE = "{light: 10, material: brass, count: 1, gain: 1.0, samples: 64}"


def read(parameters: str, baseline: str = BASELINE, own: str = "{}") -> RunConfig:
    text = f"{{space: {{parameters: {parameters}, class_parameters: {own}}}}}"
    data = parse_yaml(text, where="config") | parse_yaml(
        f"{{baseline: {{parameters: {baseline}}}}}", where="config"
    )
    return pond_config(generator={"kind": "mine.world:Renderer"}, **data)


def test_every_form_is_read_and_written_back() -> None:
    config = read(
        "{light: [0, 90], material: [steel, brass], count: {low: 1, high: 4, int: true}, "
        "gain: {low: 0.1, high: 10, log: true}, samples: 16, two: {choices: [1, 2]}, "
        "three: [1, 2, 4], glass: [true, false]}",
        "{light: 10, material: brass, count: 1, gain: 1, two: 1, three: 8, glass: true}",
    )
    assert config.space.parameters == {
        "light": ParameterRange(low=0.0, high=90.0),
        "material": ParameterChoices(choices=("steel", "brass")),
        "count": ParameterRange(low=1, high=4, int=True),  # type: ignore[call-arg]
        "gain": ParameterRange(low=0.1, high=10.0, log=True),
        "samples": ParameterChoices(choices=(16,)),
        "two": ParameterChoices(choices=(1, 2)),
        "three": ParameterChoices(choices=(1, 2, 4)),
        "glass": ParameterChoices(choices=(True, False)),
    }
    plain = config.to_dict()["space"]["parameters"]
    assert plain == {
        "light": [0.0, 90.0],
        "material": ["steel", "brass"],
        "count": {"low": 1, "high": 4, "int": True},
        "gain": {"low": 0.1, "high": 10.0, "log": True},
        "samples": 16,
        "two": {"choices": [1, 2]},
        "three": [1, 2, 4],
        "glass": [True, False],
    }
    again = parse_config(parse_yaml(config.to_yaml(), where="config"))
    assert again == config


def test_a_class_has_parameters_of_its_own_and_lacks_others() -> None:
    own = "{frog: {light: [20, 40], legs: {low: 2, high: 4, int: true}}, ship: {light: null}}"
    space = read("{light: [0, 90]}", "{light: 10, legs: 4}", own).space
    assert space.parameters_of("bird") == {"light": ParameterRange(low=0.0, high=90.0)}
    assert space.parameters_of("frog") == {
        "light": ParameterRange(low=20.0, high=40.0),
        "legs": ParameterRange(low=2, high=4, int=True),  # type: ignore[call-arg]
    }
    assert space.parameters_of("ship") == {}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ("{light: [90, 0]}", "space.parameters.light: got 90 to 0; the lower number comes first"),
        ("{light: {low: 1, hi: 5}}", "space.parameters.light.hi is no key here; did you mean hig"),
        ("{light: {low: 0, high: 5, log: true}}", "log: true needs numbers above 0"),
        ("{count: {low: 1.5, high: 5, int: true}}", "int: true needs whole numbers"),
        ("{count: {low: 1, high: 5, int: 1}}", "count.int: got 1, expected true or false"),
        ("{light: null}", "space.parameters.light: got nothing, expected a value, a list of"),
        ("{light: []}", "space.parameters.light: got [], expected more values"),
        ("{light: [[1], [2]]}", "light: a choice must be a finite number, a word, true or false"),
        ("{material: [steel, steel]}", 'got "steel" twice'),
        ("{count: [1, 1.0, 2]}", "got 1 twice"),
        ("{light: [1, auto]}", "mixes numbers and words"),
        ("{light: 99999999999999999999}", "must be a finite number"),
        ("{light: '\\x07'}".replace("'", '"'), "cannot be seen (U+0007)"),
        ("{'a.b': 1}", "'a.b' is no name of a parameter"),
        ("{7: 1}", "'7' is no name of a parameter"),
        ("[1]", "space.parameters: got [1], expected keys and values"),
    ],
)
def test_what_is_no_parameter_is_one_line(parameters: str, says: str) -> None:
    with pytest.raises(ConfigError) as told:
        read(parameters)
    assert says in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("parameters", "baseline", "says"),
    [
        ("{light: [0, 90]}", "{}", "baseline.parameters: light is missing; say what the obvious"),
        ("{light: [0, 90]}", "{light: bright}", "baseline.parameters.light: got"),
        ("{count: {low: 1, high: 5, int: true}}", "{count: 1.5}", "expected a whole number"),
        ("{material: [steel, brass]}", "{material: 3}", "expected one of words"),
        ("{}", "{light: [1]}", "baseline.parameters.light"),
        ("{}", "{light: null}", "baseline.parameters.light"),
    ],
)
def test_trial_0_says_what_it_has(parameters: str, baseline: str, says: str) -> None:
    with pytest.raises(ConfigError) as told:
        read(parameters, baseline)
    assert says in str(told.value)


def test_one_name_is_of_one_kind_in_all_classes() -> None:
    with pytest.raises(ConfigError, match=r"space\.class_parameters\.frog\.light: got words"):
        read("{light: 5}", "{}", "{frog: {light: dim}}")


def test_only_classes_of_the_photos_have_their_own() -> None:
    config = read("{}", "{}", "{frogg: {light: 5}}")
    with pytest.raises(ConfigError, match="did you mean frog") as told:
        config.select_classes(("frog", "ship"))
    assert told.value.key == "space.class_parameters"


def test_any_key_of_a_parameter_may_be_overridden() -> None:
    data: dict[str, Any] = {"light": [0, 90]}
    assert pond_config(
        generator={"kind": "a:B"},
        space={"parameters": data},
        baseline={"parameters": {"light": 45}},
    ).space.parameters["light"] == ParameterRange(low=0.0, high=90.0)
