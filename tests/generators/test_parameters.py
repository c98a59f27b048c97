"""Parameters: a generator's own knobs, checked, immutable, and told apart as JSON tells them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapclose.generators.parameters import MOST, Parameters
from gapclose.generators.recipe import Draw

values = (
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)


@given(st.dictionaries(names, values, max_size=5))
def test_they_survive_json_in_any_order(plain: dict[str, Any]) -> None:
    parameters = Parameters(plain)
    again = Parameters(dict(reversed(json.loads(json.dumps(dict(parameters))).items())))
    assert again == parameters == plain
    assert hash(again) == hash(parameters)
    assert [*again] == sorted(plain)


@given(st.dictionaries(names, values, max_size=3), st.dictionaries(names, values, max_size=3))
def test_they_are_equal_exactly_when_their_draws_have_one_fingerprint(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    draws = [Draw(prompt="a", parameters=its) for its in (one, two)]
    assert (draws[0] == draws[1]) == (draws[0].fingerprint() == draws[1].fingerprint())
    assert (Parameters(one) == Parameters(two)) == (draws[0] == draws[1])


def test_what_programs_tell_apart_is_told_apart() -> None:
    kinds: list[dict[str, Any]] = [{"n": 1}, {"n": 1.0}, {"n": True}, {"n": "1"}, {}]
    assert len({Parameters(kind) for kind in kinds}) == len(kinds)
    assert Parameters({"n": -0.0}) == Parameters({"n": 0.0})
    assert Parameters({"n": 1}) != {"n": 1.0}
    assert Parameters({"n": 1}) != [("n", 1)]


def test_they_are_copied_and_cannot_be_changed() -> None:
    given = {"light": 45.0}
    draw = Draw(prompt="a", parameters=given)
    given["light"] = 0.0
    assert draw.parameters["light"] == 45.0
    with pytest.raises(TypeError):
        draw.parameters["light"] = 0.0  # type: ignore[index]


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"a b": 1}, "no name of a parameter"),
        ({"1a": 1}, "no name of a parameter"),
        ({"a.b": 1}, "no name of a parameter"),
        ({"\N{LATIN SMALL LETTER A WITH DIAERESIS}": 1}, "no name of a parameter"),
        ({"a" * (MOST + 1): 1}, "no name of a parameter"),
        ({7: 1}, "no name of a parameter"),
        ({"a": None}, "a must be"),
        ({"a": [1]}, "a must be"),
        ({"a": math.nan}, "a must be"),
        ({"a": math.inf}, "a must be"),
        ({"a": 2**53 + 1}, "a must be"),
        ({"a": "x" * 1001}, "1000 are the most"),
        ({f"a{i}": 1 for i in range(MOST + 1)}, "at most 64"),
    ],
)
def test_what_no_program_is_given_is_refused(plain: dict[Any, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as told:
        Draw(prompt="a", parameters=plain)
    assert len(str(told.value)) < 200
