"""Each criterion alone at its bound, and that a class must meet them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gapclose.analysis.class_gap import ClassGap
from gapclose.analysis.criteria import (
    CRITERIA,
    CostsNoRecall,
    Criterion,
    FewInvalid,
    GapClosed,
    GuardsPass,
    JudgeAgrees,
    LabelKept,
    confirmed,
    guard_objections,
)


def closed(**facts: Any) -> ClassGap:
    """A class of 200 images a side that meets every criterion."""
    shown: dict[str, Any] = {"n_real": 200, "n_synthetic": 200, "gap": 0.0, "floor_p95": 0.1}
    shown |= {"ratio": 0.0, "effect": 0.0, "detectable": 0.05, "p_value": 0.5, "q_value": 0.5}
    guards = {"precision": 1.0, "recall": 1.0, "density": 0.1, "coverage": 1.0}
    shown |= {"guards": guards, "vendi_ratio": 1.0, "duplicates": 0, "label_agreement": 0.9}
    return ClassGap(name="frog", **shown | {"closed": True} | facts)


def judge(q_value: float | None) -> dict[str, float | None]:
    return {"gap": 0.1, "p_value": 0.01, "q_value": q_value}


def named(name: str, q_value: float | None) -> dict[str, Any]:
    return {"name": name, **judge(q_value)}


def guards(**shares: float) -> dict[str, float]:
    return {"precision": 1.0, "recall": 1.0, "density": 1.0, "coverage": 1.0} | shares


def recalls(real: float, synthetic: float, *, p_value: float) -> dict[str, float]:
    return {"recall_real": real, "recall_synthetic": synthetic, "p_value": p_value}


# What each refuses at its bound, in words (None: without any), and what passes just beside.
CASES: list[tuple[Criterion, dict[str, Any], tuple[str, ...] | None]] = [
    (GapClosed(), {}, ()),
    (GapClosed(), {"closed": False}, None),
    (GapClosed(), {"closed": None}, None),
    (JudgeAgrees(), {"judge": None}, ()),
    (JudgeAgrees(), {"judge": judge(None)}, ()),
    (JudgeAgrees(), {"judge": judge(0.051)}, ()),
    (
        JudgeAgrees(),
        {"judge": judge(0.05)},
        ("the judge still sees a gap (q\N{NO-BREAK SPACE}0.050)",),
    ),
    (JudgeAgrees(), {"judge": judge(0.06), "judges": (named("a", 0.06), named("b", None))}, ()),
    (
        JudgeAgrees(),
        {"judge": judge(0.01), "judges": (named("a", 0.01), named("b", 0.2), named("c", 0.05))},
        (
            "the judge a still sees a gap (q\N{NO-BREAK SPACE}0.010)",
            "the judge c still sees a gap (q\N{NO-BREAK SPACE}0.050)",
        ),
    ),
    (GuardsPass(), {"guards": guards(precision=0.8, recall=0.8, coverage=0.8, density=0.0)}, ()),
    (
        GuardsPass(),
        {"guards": guards(precision=0.79)},
        ("precision is 0.79 of that of real images",),
    ),
    (GuardsPass(), {"guards": guards(recall=0.5)}, ("recall is 0.50 of that of real images",)),
    (GuardsPass(), {"guards": guards(coverage=0.0)}, ("coverage is 0.00 of that of real images",)),
    (GuardsPass(), {"vendi_ratio": 0.8}, ()),
    (GuardsPass(), {"vendi_ratio": 0.7}, ("diversity is 0.70 of that of real images",)),
    (GuardsPass(), {"duplicates": 2}, ()),
    (GuardsPass(), {"duplicates": 3}, ("3 of 200 images are near-copies of real ones",)),
    (GuardsPass(), {"guards": None, "vendi_ratio": None, "duplicates": None}, ()),
    (LabelKept(), {"label_agreement": None}, ()),
    (LabelKept(), {"label_agreement": 0.8501}, ()),
    (LabelKept(), {"label_agreement": 0.84}, ("84% are read as frog, of real images 90%",)),
    (FewInvalid(), {"invalid": 10}, ()),  # of 210
    (FewInvalid(), {"invalid": 11}, ("5% of its images are invalid",)),
    (FewInvalid(), {"invalid": 200}, ("50% of its images are invalid",)),
    (CostsNoRecall(), {"neighbors": None}, ()),
    (CostsNoRecall(), {"neighbors": recalls(0.5, 0.485, p_value=0.001)}, ()),
    (CostsNoRecall(), {"neighbors": recalls(0.9, 0.8, p_value=0.051)}, ()),
    (CostsNoRecall(), {"neighbors": recalls(0.8, 0.9, p_value=1.0)}, ()),
    (
        CostsNoRecall(),
        {"neighbors": recalls(0.9, 0.8, p_value=0.05)},
        ("its images tell 80% of unseen real ones right, other real images 90%",),
    ),
]


@pytest.mark.parametrize(("criterion", "facts", "told"), CASES)
def test_each_criterion_objects_at_its_bound(
    criterion: Criterion, facts: dict[str, Any], told: tuple[str, ...] | None
) -> None:
    row = closed(**facts)
    found = criterion.objections(row, agreement=0.9)
    assert (found if found is None else tuple(found)) == told
    # The class fails for this alone, and no other criterion has anything to say.
    done = confirmed(row, agreement=0.9)
    assert done == replace(row, confirmed=told == (), objections=told or ())


def test_every_criterion_has_a_case_that_it_refuses_and_is_asked() -> None:
    refusing = {type(criterion) for criterion, _, told in CASES if told != ()}
    assert refusing == {type(criterion) for criterion in CRITERIA}


@dataclass(frozen=True)
class Sharp:
    """One that this repository does not have."""

    def objections(self, row: ClassGap, *, agreement: float | None) -> Sequence[str] | None:
        return () if row.detectable < 0.1 else ("too few to see a gap", "of a floor")


@pytest.mark.parametrize("criteria", [(*CRITERIA, Sharp()), (Sharp(), *CRITERIA)])
def test_one_more_criterion_is_asked_as_the_others_are(criteria: tuple[Criterion, ...]) -> None:
    said = ("too few to see a gap", "of a floor")
    assert confirmed(closed(), agreement=0.9, criteria=criteria).confirmed is True
    blunt = closed(detectable=0.2)
    assert confirmed(blunt, agreement=0.9).confirmed is True
    refused = confirmed(blunt, agreement=0.9, criteria=criteria)
    assert (refused.confirmed, refused.objections) == (False, said)
    # Of an open class nothing more is told, wherever in the order its gap is asked about.
    opened = confirmed(replace(blunt, closed=False), agreement=0.9, criteria=criteria)
    assert (opened.confirmed, opened.objections) == (False, ())


def test_only_the_criteria_that_are_given_are_asked() -> None:
    row = closed(closed=False, invalid=200)
    refused = confirmed(row, agreement=None, criteria=(FewInvalid(),))
    assert refused.objections == ("50% of its images are invalid",)
    assert confirmed(row, agreement=None, criteria=(LabelKept(),)).confirmed is True


def test_without_a_text_side_for_the_photos_labels_say_nothing() -> None:
    row = closed(label_agreement=0.1)
    assert LabelKept().objections(row, agreement=None) == ()
    assert confirmed(row, agreement=None).confirmed is True
    assert confirmed(row, agreement=0.9).confirmed is False


@pytest.mark.parametrize("state", [False, None])
def test_what_is_not_closed_is_not_confirmed_whatever_the_criteria_say(state: bool | None) -> None:
    row = closed(judge=judge(0.01), objections=("of an earlier fold",))
    told = confirmed(replace(row, closed=state), agreement=None)
    assert (told.confirmed, told.objections, told.closed) == (False, (), state)


def test_all_objections_are_told_in_the_order_of_the_criteria() -> None:
    row = closed(
        judge=judge(0.001),
        guards=guards(recall=0.1, precision=0.2),
        vendi_ratio=0.3,
        duplicates=200,
        label_agreement=0.4,
        invalid=200,
    )
    told = confirmed(row, agreement=0.9).objections
    assert [words.split()[0] for words in told] == [
        *("the", "precision", "recall", "diversity", "200", "40%", "50%")
    ]
    assert list(told[1:5]) == guard_objections(row)


def test_what_objected_before_does_not_object_again() -> None:
    row = closed(objections=("of an earlier fold",), confirmed=False)
    assert confirmed(row, agreement=None).objections == ()
    assert confirmed(row, agreement=None).confirmed is True


def test_a_class_without_a_single_image_is_no_error() -> None:
    row = closed(n_synthetic=0, invalid=0)
    assert FewInvalid().objections(row, agreement=None) == ()
