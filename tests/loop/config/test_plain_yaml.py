"""What YAML is read as, and what is refused in one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapclose.loop.config.hints import shown
from gapclose.loop.config.plain_yaml import dump_yaml, parse_yaml
from gapclose.loop.errors import ConfigError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing", None),
        ("a: 08", {"a": 8}),
        ("a: off", {"a": "off"}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: 1e-3", {"a": 1e-3}),
        ("a: !!str 5", {"a": "5"}),
        ("a: !!float 5", {"a": 5.0}),
        ("a: !!null ''", {"a": None}),
        ("a: &w [b, c]\nd: *w", {"a": ["b", "c"], "d": ["b", "c"]}),
        ('a: "\\ud83d\\udc38"', {"a": "\U0001f438"}),  # as JSON writes a frog
        ("<<: {a: 1}", {"<<": {"a": 1}}),
    ],
)
def test_values(text: str, value: object) -> None:
    assert parse_yaml(text, where="c.yaml") == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 5000, "nested too deeply"),
        ("- " * 3000 + "a", "nested too deeply"),
        (BOMB, "line 7: .* aliases make it far longer"),
        ("a: &t " + "x" * 900_000 + "\nb: [*t, *t, *t, *t, *t]", "aliases make it far longer"),
        ("&b [*b]", "an alias of a node that contains it"),
        ("a: &b {c: *b}", "line 1: .* an alias of a node that contains it"),
        ("a: 1\nb: !!float abc", "line 2: .* no !!float"),
        ("a: !!int abc", "no !!int"),
        ("a: !!bool abc", "no !!bool"),
        ("a: !!timestamp 2001-99-99", "no !!timestamp"),
        ("a: !!binary aGk=", "no !!binary"),
        ("!!map frog", "no !!map"),
        ("!!str [a]", "no !!str"),
        ("a: !!set {b}", "no !!set"),
        ("a: !frog b", "no !frog"),
        ("a: !!python/object/apply:os.system [id]", "no !!python"),
        ("? [a]\n: b", "a key must be one word"),
        ("a: 1\na: 2", "stands here twice"),
        ("a: " + "1" * 5000, "too many digits"),
        ('a: "\\udc38\\ud83d"', "half a character"),
        ('a: "\\ud800"', "half a character"),
        ("a\n---\nb", "another document"),
        ("b: 1\na: \x1b[31m", r"line 2: .* cannot be seen \(U\+001B\)"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as told:
        parse_yaml(text, where="c.yaml")
    assert str(told.value).startswith("c.yaml")
    assert len(str(told.value).splitlines()) == 1
    assert len(str(told.value)) < 300


def test_a_value_is_shown_short() -> None:
    assert len(shown(["word"] * 1000)) == 80


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text(max_size=20),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(min_size=1), PLAIN, min_size=1, max_size=4))
def test_what_is_written_is_read_back(value: dict[str, object]) -> None:
    assert parse_yaml(dump_yaml(value), where="c.yaml") == value
