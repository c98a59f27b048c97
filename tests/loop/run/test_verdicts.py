from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from histories import as_read, evaluated, mixture, opened, row
from hypothesis import given
from hypothesis import strategies as st

from gapclose.analysis.attributes import AttributeGap
from gapclose.analysis.class_gap import ClassGap
from gapclose.analysis.criteria import CRITERIA, Criterion, confirmed, guard_objections
from gapclose.loop.run.events import (
    Event,
    FoldEvaluated,
    RunStarted,
    SessionStarted,
    read_event,
)
from gapclose.loop.run.shapes import mixture_key
from gapclose.loop.run.state import apply, fold
from gapclose.loop.run.verdicts import judge, judged_rows, verdicts_of

CLOSED = {"gap": 0.01, "ratio": 0.1, "effect": 0.01, "p_value": 0.6}
JUDGE = {"gap": 0.2, "floor_p95": 0.1, "ratio": 2.0, "effect": 0.3, "q_value": None}
p_values = st.floats(0, 1, allow_subnormal=False)


def q_values(p: list[float]) -> list[float]:
    """As Benjamini and Hochberg define them: the least level that rejects a hypothesis."""
    ranked = sorted(p)
    return [
        min(1.0, *(ranked[k] * len(p) / (k + 1) for k in range(len(p)) if ranked[k] >= its))
        for its in p
    ]


def word(name: str, p: float) -> AttributeGap:
    figures = {"real": 0.4, "synthetic": 0.2, "real_corrected": 0.5, "synthetic_corrected": 0.1}
    return AttributeGap(
        group="color", word=name, standard_error=0.05, p_value=p, q_value=p, **figures
    )


def evaluations(**rows: ClassGap) -> dict[str, FoldEvaluated]:
    return {name: evaluated(name, after=after.to_json()) for name, after in rows.items()}


# ------------------------------------------------------------------------------- together


@given(st.lists(st.tuples(p_values, p_values), min_size=1, max_size=8))
def test_q_values_are_of_all_classes_that_were_evaluated(pairs: list[tuple[float, float]]) -> None:
    told = {
        f"c{n}": evaluated(
            f"c{n}",
            before=row(f"c{n}", p_value=before).to_json(),
            after=row(f"c{n}", p_value=after).to_json(),
        )
        for n, (before, after) in enumerate(pairs)
    }
    found = judge(told)
    assert [*found] == [gap.name for gap in found.values()] == [*told]
    befores, afters = zip(*pairs, strict=True)
    assert [gap.q_value for gap in found.values()] == pytest.approx(q_values([*afters]))
    assert [gap.before.q_value for gap in found.values()] == pytest.approx(q_values([*befores]))  # type: ignore[union-attr]
    for gap in found.values():
        assert gap.q_value is not None
        assert (gap.closed is False) == (gap.q_value <= 0.05)
        assert gap.before is not None
        assert gap.before.before is None


def test_a_class_alone_is_open_and_among_others_it_cannot_be_told_apart() -> None:
    alone = judge(evaluations(frog=row("frog", p_value=0.04)))
    assert (alone["frog"].q_value, alone["frog"].closed) == (0.04, False)
    many = {f"c{n}": row(f"c{n}", **CLOSED) for n in range(3)}
    found = judge(evaluations(frog=row("frog", p_value=0.04), **many))
    assert (found["frog"].q_value, found["frog"].closed) == (pytest.approx(0.16), True)


@given(st.lists(st.one_of(st.none(), p_values), min_size=1, max_size=6))
def test_the_judges_q_values_are_a_family_of_their_own(p: list[float | None]) -> None:
    rows = {
        f"c{n}": row(f"c{n}", judge=None if its is None else JUDGE | {"p_value": its})
        for n, its in enumerate(p)
    }
    found = [gap.judge for gap in judge(evaluations(**rows)).values()]
    assert [told is None for told in found] == [its is None for its in p]
    expected = q_values([its for its in p if its is not None]) if any_number(p) else []
    assert [told["q_value"] for told in found if told is not None] == pytest.approx(expected)


def any_number(p: list[float | None]) -> bool:
    return any(its is not None for its in p)


def test_the_words_q_values_are_of_all_classes_and_the_most_telling_stand_first() -> None:
    frog = row("frog", attributes=(word("gray", 0.01), word("green", 0.9)))
    ship = row("ship", attributes=(word("red", 0.9), word("blue", 0.02)))
    found = judge(evaluations(frog=frog, ship=ship, cat=row("cat")))
    assert found["cat"].attributes is None
    words = {
        its.word: its.q_value
        for gap in (found["frog"], found["ship"])
        for its in gap.attributes or ()
    }
    assert words == pytest.approx({"gray": 0.04, "green": 0.9, "blue": 0.04, "red": 0.9})
    assert [its.word for its in found["ship"].attributes or ()] == ["blue", "red"]


def test_images_unlike_the_other_side_are_named_of_open_classes_alone() -> None:
    witness = {"real": ["a.png"], "synthetic": ["b.png"]}
    rows = {
        "frog": row("frog", witness=witness),
        "ship": row("ship", witness=witness, **CLOSED),
        "cat": row("cat", witness=witness, **CLOSED | {"n_real": 40}),
    }
    found = judge(evaluations(**rows))
    assert [gap.closed for gap in found.values()] == [False, True, None]
    assert [gap.witness for gap in found.values()] == [witness, None, None]


def test_nothing_evaluated_is_nothing_judged() -> None:
    assert judge({}) == {}


# ------------------------------------------------------------------------------- verdicts


def test_the_verdicts_are_of_every_class_that_was_evaluated_in_the_runs_order() -> None:
    names = ("frog", "ship", "cat")
    state = fold([RunStarted(run="a"), SessionStarted(classes=names)])
    assert verdicts_of(state).verdicts == {}
    closed = row("frog", **CLOSED, judge=JUDGE | {"p_value": 0.5})
    for event in (
        opened("cat", 2),
        evaluated("cat", 2, after=row("cat", n_synthetic=40, **CLOSED).to_json()),
        opened("frog", 1),
        evaluated("frog", 1, after=closed.to_json()),
    ):
        state = apply(state, event)
    told = verdicts_of(state)
    assert [*told.verdicts] == ["frog", "cat"]
    assert told.verdicts["frog"].model_dump() == {
        "fold": 1,
        "gap": 0.01,
        "ratio": 0.1,
        "floor_p95": 0.1,
        "effect": 0.01,
        "q_value": 0.6,
        "closed": True,
        "confirmed": True,
        "objections": (),
        "recall": None,
        "mixture": mixture_key(mixture("mixed")),
    }
    cat = told.verdicts["cat"]
    assert (cat.fold, cat.closed, cat.confirmed) == (2, None, False)
    assert as_read(told) == told
    # With their verdicts known, they are judged again with what comes: q-values are of all.
    state = apply(state, told)
    state = fold([opened("ship"), evaluated("ship", after=row("ship").to_json())], state)
    again = verdicts_of(state).verdicts
    assert [*again] == ["frog", "ship", "cat"]
    assert [again[name].closed for name in again] == [True, False, None]
    # q-values now are of three: 0.001 x 3 / 1, and the larger ones of two of three.
    assert again["ship"].q_value == pytest.approx(0.003)
    assert again["frog"].q_value == pytest.approx(0.6)


def test_an_evaluation_says_the_same_once_it_was_written_and_read() -> None:
    told = evaluations(
        frog=row("frog", p_value=1 / 3, judge=JUDGE | {"p_value": 0.1 + 0.2}), ship=row("ship")
    )
    read = {name: as_read(event) for name, event in told.items()}
    assert judge(read) == judge(told)  # type: ignore[arg-type]


# -------------------------------------------------------------------------- rows of gap.json


def finite() -> st.SearchStrategy[float]:
    return st.floats(allow_nan=False, allow_infinity=False)


def maybe(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), of)


figures = st.dictionaries(st.text(max_size=5), finite(), max_size=3)
words = st.builds(
    AttributeGap,
    group=st.text(max_size=5),
    word=st.text(max_size=5),
    **{name: finite() for name in ("real_corrected", "synthetic_corrected", "standard_error")},
    **{name: st.floats(0, 1) for name in ("real", "synthetic", "p_value", "q_value")},
)
counts = st.integers(0, 10**6)
plain_rows = st.builds(
    ClassGap,
    name=st.text(max_size=8),
    n_real=counts,
    n_synthetic=counts,
    gap=finite(),
    floor_p95=finite(),
    ratio=maybe(finite()),
    effect=maybe(finite()),
    detectable=maybe(finite()),
    p_value=p_values,
    q_value=maybe(p_values),
    closed=maybe(st.booleans()),
    confirmed=maybe(st.booleans()),
    auc=maybe(finite()),
    vendi_ratio=maybe(finite()),
    duplicates=maybe(counts),
    invalid=counts,
    judge=maybe(st.dictionaries(st.text(max_size=5), maybe(finite()), max_size=3)),
    attributes=maybe(st.lists(words, max_size=3).map(tuple)),
    repeats=maybe(st.dictionaries(st.sampled_from(["real", "synthetic"]), counts)),
    stored=maybe(st.dictionaries(st.text(max_size=5), st.lists(st.text(max_size=3)), max_size=2)),
    witness=maybe(st.dictionaries(st.text(max_size=5), st.lists(st.text(max_size=9)), max_size=2)),
    guards=maybe(figures),
    spectrum=maybe(st.dictionaries(st.text(max_size=5), st.lists(finite()), max_size=2)),
    standard_error=maybe(finite()),
    objections=st.lists(st.text(max_size=9), max_size=3).map(tuple),
)
rows = st.builds(lambda own, before: replace(own, before=before), plain_rows, maybe(plain_rows))


@given(rows)
def test_a_row_is_read_as_it_was_written(written: ClassGap) -> None:
    told = written.to_json()
    assert ClassGap.from_json(told) == written
    through = json.loads(json.dumps(told, allow_nan=False))
    assert ClassGap.from_json(through) == written
    assert ClassGap.from_json(through).to_json() == told


def test_what_gap_json_adds_to_a_row_is_not_its() -> None:
    told = row("frog").to_json() | {"optimism": 0.3, "shares": {"color": {}}, "importances": {}}
    assert ClassGap.from_json(told) == row("frog")


def test_what_is_not_finite_is_not_there() -> None:
    told = row("frog", ratio=math.inf, effect=math.nan).to_json()
    assert (told["ratio"], told["effect"]) == (None, None)


# ------------------------------------------------------------------------------ criteria


def closed_row(**facts: Any) -> ClassGap:
    return row("frog", **CLOSED | {"q_value": 0.6, "closed": True} | facts)


def test_a_closed_class_that_nothing_objects_to_is_confirmed() -> None:
    done = confirmed(closed_row(judge=JUDGE | {"p_value": 0.5, "q_value": 0.051}), agreement=0.9)
    assert (done.confirmed, done.objections) == (True, ())


@pytest.mark.parametrize("closed", [False, None])
def test_what_is_not_closed_is_not_confirmed_and_nothing_objects(closed: bool | None) -> None:
    bad = {"invalid": 100, "judge": JUDGE | {"q_value": 0.0}, "objections": ("of before",)}
    done = confirmed(closed_row(closed=closed, **bad), agreement=0.9)
    assert (done.confirmed, done.objections) == (False, ())


def test_the_judge_can_refuse() -> None:
    done = confirmed(closed_row(judge=JUDGE | {"q_value": 0.05}), agreement=None)
    assert done.confirmed is False
    assert done.objections == ("the judge still sees a gap (q\N{NO-BREAK SPACE}0.050)",)


def test_images_must_be_read_as_their_class_as_often_as_photos_or_nearly() -> None:
    refused = confirmed(closed_row(label_agreement=0.4), agreement=0.6)
    assert refused.objections == ("40% are read as frog, of real images 60%",)
    assert confirmed(closed_row(label_agreement=0.55), agreement=0.6).confirmed is True
    assert confirmed(closed_row(label_agreement=0.549), agreement=0.6).confirmed is False
    for own, real in ((None, 0.6), (0.1, None), (None, None)):
        assert confirmed(closed_row(label_agreement=own), agreement=real).confirmed is True


def test_at_most_a_twentieth_of_the_images_may_be_invalid() -> None:
    assert confirmed(closed_row(n_synthetic=95, invalid=5), agreement=None).confirmed is True
    refused = confirmed(closed_row(n_synthetic=94, invalid=6), agreement=None)
    assert refused.objections == ("6% of its images are invalid",)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"guards": {"precision": 0.79}}, "precision is 0.79 of that of real images"),
        ({"guards": {"recall": 0.5, "density": 0.1}}, "recall is 0.50 of that of real images"),
        ({"guards": {"coverage": 0.0}}, "coverage is 0.00 of that of real images"),
        ({"vendi_ratio": 0.75}, "diversity is 0.75 of that of real images"),
        ({"duplicates": 3}, "3 of 200 images are near-copies of real ones"),
    ],
)
def test_guards_can_refuse(facts: dict[str, Any], told: str) -> None:
    done = confirmed(closed_row(**facts), agreement=None)
    assert (done.confirmed, done.objections) == (False, (told,))


def test_guards_that_are_met_or_were_not_computed_say_nothing() -> None:
    met = {"guards": {"precision": 0.8, "recall": 0.8, "coverage": 0.8, "density": 0.0}}
    assert guard_objections(closed_row(**met, vendi_ratio=0.8, duplicates=2)) == []
    assert guard_objections(closed_row()) == []


def test_all_that_objects_is_told_the_judge_first() -> None:
    done = confirmed(
        closed_row(
            judge=JUDGE | {"q_value": 0.01},
            guards={"precision": 0.1},
            duplicates=50,
            label_agreement=0.1,
            invalid=100,
            neighbors={"recall_real": 0.9, "recall_synthetic": 0.5, "p_value": 0.001},
        ),
        agreement=0.9,
    )
    starts = (
        "the judge still",
        "precision is",
        "50 of 200",
        "10% are read",
        "33% of its",
        "its images tell 50%",
    )
    assert len(done.objections) == len(starts) == len(CRITERIA)  # of the gap, none; of guards, two
    for told, start in zip(done.objections, starts, strict=True):
        assert told.startswith(start)
    assert done.confirmed is False


def test_every_criterion_objects_alone() -> None:
    """None can be taken away without a class being confirmed that should not be."""
    bad = (
        closed_row(closed=False),
        closed_row(judge=JUDGE | {"q_value": 0.01}),
        closed_row(vendi_ratio=0.1),
        closed_row(label_agreement=0.1),
        closed_row(invalid=100),
        closed_row(neighbors={"recall_real": 0.9, "recall_synthetic": 0.5, "p_value": 0.001}),
    )
    for n, its in enumerate(bad):
        done = [confirmed(its, agreement=0.9, criteria=(alone,)) for alone in CRITERIA]
        objecting = [its.confirmed is False for its in done]
        assert objecting == [n == m for m in range(len(CRITERIA))]


class NoShip:
    """One more criterion: whatever it is like, no ship is confirmed."""

    def objections(self, row: ClassGap, *, agreement: float | None) -> Sequence[str] | None:
        return ("it is a ship",) if row.name == "ship" else ()


def test_one_more_criterion_judges_without_another_line() -> None:
    told = evaluations(**{name: row(name, **CLOSED) for name in ("frog", "ship")})
    more: tuple[Criterion, ...] = (*CRITERIA, NoShip())
    assert all(gap.confirmed for gap in judge(told).values())
    found = judge(told, criteria=more)
    assert found["frog"] == judge(told)["frog"]
    assert (found["ship"].confirmed, found["ship"].objections) == (False, ("it is a ship",))
    events: list[Event] = [SessionStarted(classes=(*told,))]
    for name, its in told.items():
        events += [opened(name), its]
    state = fold(events)
    reached = {name: its.confirmed for name, its in verdicts_of(state).verdicts.items()}
    assert reached == {"frog": True, "ship": True}
    under = {
        name: its.confirmed for name, its in verdicts_of(state, criteria=more).verdicts.items()
    }
    assert under == {"frog": True, "ship": False}


def recorded(*events: Event) -> dict[str, tuple[bool | None, tuple[str, ...]]]:
    rows = judged_rows(fold(events))
    return {name: (its.confirmed, its.objections) for name, its in rows.items()}


def test_the_rows_of_gap_json_say_what_the_journal_does_whatever_the_criteria_were() -> None:
    bad = row("cat", **CLOSED, invalid=100)
    told = evaluations(frog=row("frog", **CLOSED), ship=row("ship", **CLOSED), cat=bad)
    events: list[Event] = [SessionStarted(classes=("cat", "frog", "ship", "new"))]
    for name, its in told.items():
        events += [opened(name), its]
    assert judged_rows(fold(events)) == {}
    usual, strict = verdicts_of(fold(events)), verdicts_of(fold(events), criteria=(NoShip(),))
    ours = {"cat": (False, ("33% of its images are invalid",)), "frog": (True, ())}
    assert recorded(*events, as_read(usual)) == ours | {"ship": (True, ())}
    theirs = {"cat": (True, ()), "frog": (True, ()), "ship": (False, ("it is a ship",))}
    assert recorded(*events, as_read(strict)) == theirs
    rows = judged_rows(fold([*events, usual]))
    assert [*rows] == ["cat", "frog", "ship"]
    assert rows == judge({name: told[name] for name in rows})


def test_a_verdict_that_does_not_say_what_objected_is_told_as_we_judge_now() -> None:
    told = evaluations(frog=row("frog", **CLOSED), cat=row("cat", **CLOSED, invalid=100))
    events: list[Event] = [SessionStarted(classes=(*told,))]
    for name, its in told.items():
        events += [opened(name), its]
    reached = verdicts_of(fold(events))
    line = json.loads(reached.model_dump_json())
    for its in line["verdicts"].values():
        del its["objections"]
    old = read_event(json.dumps(line))
    known = {"frog": (True, ()), "cat": (False, ("33% of its images are invalid",))}
    assert recorded(*events, old) == known
    for its in line["verdicts"].values():
        its["confirmed"] = not its["confirmed"]
    turned = {"frog": (False, ()), "cat": (True, ())}
    assert recorded(*events, read_event(json.dumps(line))) == turned


def test_one_that_is_judged_among_others_is_confirmed_by_what_all_say() -> None:
    """Alone its judge would refuse; over all classes its q-value does not."""
    others = {f"c{n}": row(f"c{n}", **CLOSED, judge=JUDGE | {"p_value": 0.9}) for n in range(3)}
    frog = row("frog", **CLOSED, judge=JUDGE | {"p_value": 0.04})
    assert judge(evaluations(frog=frog))["frog"].confirmed is False
    found = judge(evaluations(frog=frog, **others))
    assert all(gap.confirmed for gap in found.values())
