"""Rows of gap.json: what several say together, and that a file holds them whole."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sphere import unit

from gapclose.analysis.attributes import AttributeGap
from gapclose.analysis.class_gap import MIN_CLOSED, ClassGap, jointly, with_q
from gapclose.analysis.gap import audit_embeddings


def test_with_q_counts_every_class_of_the_run() -> None:
    alone = audit_embeddings(real=unit(100, seed=1), synthetic=unit(100, seed=2), guards=False)
    tables = with_q([replace(alone, name=str(i), p_value=p) for i, p in enumerate([0.03, 0.9])])
    assert [row.q_value for row in tables] == pytest.approx([0.06, 0.9])
    assert [row.closed for row in tables] == [True, True]
    assert with_q([replace(alone, p_value=0.03)])[0].closed is False


def test_json_has_the_contract_keys_in_order() -> None:
    keys = [
        *("name", "n_real", "n_synthetic", "gap", "floor_p95", "ratio", "effect", "detectable"),
        *("p_value", "q_value", "closed", "confirmed", "auc", "precision", "recall", "density"),
        *("coverage", "vendi_ratio", "label_agreement", "spectrum_gap", "duplicates", "invalid"),
        *("judge", "attributes"),
    ]
    row = audit_embeddings(real=unit(30, seed=1), synthetic=unit(30, seed=2), name="frog")
    assert list(row.to_json())[: len(keys)] == keys
    assert "before" not in row.to_json()
    judged = replace(row, judge=row.as_judge(), before=row, spectrum_gap=math.nan)
    out = judged.to_json()
    assert list(out["judge"]) == ["gap", "floor_p95", "ratio", "effect", "p_value", "q_value"]
    assert out["before"]["name"] == "frog"
    assert out["spectrum_gap"] is None
    assert json.loads(json.dumps(out, allow_nan=False)) == out


def test_numpy_numbers_become_plain() -> None:
    row = ClassGap(
        name="frog",
        n_real=np.int64(30),  # type: ignore[arg-type]
        n_synthetic=30,
        gap=np.float32(0.5),  # type: ignore[arg-type]
        floor_p95=0.1,
        ratio=5.0,
        effect=0.1,
        detectable=0.1,
        p_value=0.5,
    )
    out = row.to_json()
    assert type(out["n_real"]) is int
    assert type(out["gap"]) is float


def row(name: str = "frog", **facts: Any) -> ClassGap:
    """Of 200 images a side without a gap."""
    shown: dict[str, Any] = {"n_real": 200, "n_synthetic": 200, "gap": 0.0, "floor_p95": 0.1}
    shown |= {"ratio": 0.0, "effect": 0.0, "detectable": 0.05, "p_value": 0.5}
    return ClassGap(name=name, **shown | facts)


def judge_of(p_value: float | None) -> dict[str, float | None]:
    return row(p_value=0.5).as_judge() | {"p_value": p_value, "q_value": p_value}


def word(name: str, p_value: float, *, share: float = 0.5) -> AttributeGap:
    return AttributeGap(
        group="color",
        word=name,
        real=share,
        synthetic=0.1,
        real_corrected=share,
        synthetic_corrected=0.1,
        standard_error=0.01,
        p_value=p_value,
        q_value=p_value,
    )


def test_closed_asks_the_q_value_then_whether_anything_was_seen_then_how_many() -> None:
    few = MIN_CLOSED - 1
    for facts, closed in (
        ({}, True),
        ({"n_real": MIN_CLOSED, "n_synthetic": MIN_CLOSED}, True),
        ({"n_real": few}, None),
        ({"n_synthetic": few}, None),
        ({"effect": None}, None),
        ({"p_value": 0.05}, False),
        ({"p_value": 0.0501}, True),
        ({"p_value": 0.01, "n_real": 20, "effect": None}, False),
    ):
        (told,) = with_q([row(**facts)])
        assert told.closed is closed, facts


def test_gaps_judges_and_words_are_each_a_family_of_their_own() -> None:
    rows = [
        row("a", p_value=0.03, judge=judge_of(0.02), attributes=(word("red", 0.01),)),
        row("b", p_value=0.9),
        row("c", p_value=0.9, judge=judge_of(0.9), attributes=(word("blue", 0.9), word("y", 0.9))),
    ]
    told = jointly(rows)
    assert [r.name for r in told] == ["a", "b", "c"]
    assert [r.q_value for r in told] == pytest.approx([0.09, 0.9, 0.9])  # of three classes
    assert [r.closed for r in told] == [True, True, True]
    judged = [r.judge["q_value"] for r in told if r.judge is not None]
    assert judged == pytest.approx([0.04, 0.9])  # of two
    words = [[w.q_value for w in r.attributes] for r in told if r.attributes is not None]
    assert words == [pytest.approx([0.03]), pytest.approx([0.9, 0.9])]  # of three
    assert told[1].judge is None
    assert told[1].attributes is None
    # What is judged is all that changes.
    for before, after in zip(rows, told, strict=True):
        fixed = {f.name for f in fields(ClassGap)} - {"q_value", "closed", "judge", "attributes"}
        assert all(getattr(before, name) == getattr(after, name) for name in fixed)


def panel_of(**p_values: float) -> dict[str, ClassGap]:
    return {name: row(p_value=p, ratio=p) for name, p in p_values.items()}


def test_of_several_judges_the_first_stands_where_a_single_one_does() -> None:
    alone = row("a", p_value=0.5).judged_by(panel_of(one=0.3, two=0.02, three=0.04))
    assert alone.judges is not None
    assert [judge["name"] for judge in alone.judges] == ["one", "two", "three"]
    assert [judge["adjusted"] for judge in alone.judges] == pytest.approx([0.3, 0.06, 0.08])
    assert [judge["q_value"] for judge in alone.judges] == pytest.approx([0.3, 0.06, 0.08])
    assert alone.judge == alone.judges[0]
    other = row("b", p_value=0.5).judged_by(panel_of(one=0.001, two=0.9, three=0.9))
    told = jointly([alone, other])
    found = [[judge["q_value"] for judge in r.judges or ()] for r in told]
    assert found == [pytest.approx([0.3, 0.12, 0.16]), pytest.approx([0.006, 1.0, 1.0])]
    assert [r.judge["name"] for r in told if r.judge] == ["one", "one"]


def test_several_judges_are_a_key_of_their_own_and_one_is_as_before() -> None:
    one = row("a").judged_by(panel_of(only=0.02))
    assert "judges" not in one.to_json()
    assert one == row("a", judge=judge_of(0.02) | {"ratio": 0.02, "q_value": None})
    assert row("a").judged_by({}) == row("a")
    several = row("a").judged_by(panel_of(one=0.3, two=0.02))
    out = several.to_json()
    keys = ["name", "gap", "floor_p95", "ratio", "effect", "p_value", "q_value", "adjusted"]
    assert [list(judge) for judge in out["judges"]] == [keys, keys]
    assert list(out)[-1] == "judges"
    again = ClassGap.from_json(json.loads(json.dumps(out)))
    assert again == several
    assert jointly([again]) == jointly([several])


def test_only_of_a_class_that_is_open_the_most_unlike_images_are_named() -> None:
    seen = {"real": ("a.png",), "synthetic": ("b.png",)}
    rows = [
        row("open", p_value=0.001, witness=seen),
        row("closed", p_value=0.9, witness=seen),
        row("few", p_value=0.9, n_real=30, witness=seen),
        # Open as it stood alone; together it is not.
        row("alone", p_value=0.04, q_value=0.04, closed=False, witness=seen),
    ]
    assert [r.witness for r in jointly(rows)] == [seen, None, None, None]
    assert [r.closed for r in jointly(rows)] == [False, True, None, True]


def test_one_class_alone_is_judged_as_with_q_judges_it() -> None:
    assert jointly([]) == []
    alone = row(p_value=0.03, judge=judge_of(0.02))
    (told,) = jointly([alone])
    assert told == with_q([alone])[0]


def test_judging_together_twice_says_the_same() -> None:
    rows = [
        row("a", p_value=0.001, judge=judge_of(0.03), attributes=(word("red", 0.01),)),
        row("b", p_value=0.2, judge=judge_of(0.5), attributes=(word("blue", 0.4),)),
    ]
    once = jointly(rows)
    assert jointly(once) == once != rows


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(numbers, numbers, st.none() | numbers, st.booleans() | st.none(), st.booleans())
def test_a_row_is_read_back_as_it_was_written(
    gap: float, share: float, maybe: float | None, flag: bool | None, before: bool
) -> None:
    whole = row(
        gap=gap,
        ratio=maybe,
        q_value=maybe,
        closed=flag,
        judge={"gap": gap, "p_value": maybe},
        attributes=(word("red", 0.25, share=share), word("", 0.5)),
        repeats={"real": 3},
        stored={"differs": ["codec"], "gap_as_stored": maybe},
        witness={"real": ["a.png"], "synthetic": []},
        guards={"recall": share},
        spectrum={"frequency": [0.1, share]},
        objections=("one", "two"),
    )
    if before:
        whole = replace(whole, before=row("frog", gap=share, attributes=(word("x", 1.0),)))
    text = json.dumps(whole.to_json(), allow_nan=False)
    read = ClassGap.from_json(json.loads(text))
    assert read == whole
    assert json.dumps(read.to_json()) == text


def test_a_row_is_read_back_without_what_an_older_or_newer_version_has() -> None:
    told = row().to_json()
    assert ClassGap.from_json(told | {"from_the_future": 1}) == row()
    for name in ("objections", "standard_error", "reference", "attributes"):
        del told[name]
    assert ClassGap.from_json(told) == row()
    assert ClassGap.from_json(told | {"objections": None}) == row()
