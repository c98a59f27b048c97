"""What the report says of several judges, and that one judge reads as before."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from gapclose.loop.report.findings import findings
from gapclose.loop.report.panel import agreement, panel_rows, panel_sentence
from gapclose.loop.report.status import gap_table
from gapclose.loop.report.text import meaning


def row(name: str, *q_values: float | None, **facts: Any) -> dict[str, Any]:
    judges = [
        {"name": f"judge {i}", "ratio": 2.0 + i, "p_value": q, "adjusted": q, "q_value": q}
        for i, q in enumerate(q_values)
    ]
    shown = {"name": name, "closed": True, "confirmed": True, "ratio": 0.5, "effect": 0.01}
    return shown | ({"judges": judges, "judge": judges[0]} if judges else {}) | facts


def test_the_headline_says_how_many_judges_confirm_how_much() -> None:
    rows = [row("a", 0.2, 0.9, 0.5), row("b", 0.05, 0.9, 0.5, confirmed=False), row("c", 1, 1, 1)]
    agreed = "In 2 of 3 classes none of the 3 judges sees a gap"
    assert panel_sentence(rows, tuned=True) == f"{agreed}; 2 are confirmed."
    assert panel_sentence(rows, tuned=False) == f"{agreed}."
    # A guard objects, though the judges agree.
    rows[0]["confirmed"] = False
    assert panel_sentence(rows, tuned=True) == f"{agreed}; 1 is confirmed."


@pytest.mark.parametrize(
    ("q_values", "sentence"),
    [
        ((0.2, 0.3), "Both judges see no gap."),
        ((0.2, 0.3, 0.4), "All 3 judges see no gap."),
        ((0.2, 0.01), "1 of 2 judges sees one."),
        ((0.2, 0.01, 0.02), "2 of 3 judges see one."),
        ((None, 0.051), "Both judges see no gap."),
        ((), ""),
    ],
)
def test_of_one_class(q_values: tuple[float, ...], sentence: str) -> None:
    assert panel_sentence([row("a", *q_values)], tuned=True) == sentence
    assert panel_sentence([], tuned=True) == ""


def test_the_rows_of_a_class_name_each_judge_and_what_it_saw_before() -> None:
    it = row("a", 0.2, 0.04, before=row("a", 0.001, 0.9))
    it["before"]["judges"][0]["ratio"] = 31.0
    assert agreement(it) == agreement(it["before"]) == "1 of 2"
    found = panel_rows(it)
    assert [(judge["name"], judge["was"], judge["agrees"]) for judge in found] == [
        ("judge 0", 31.0, True),
        ("judge 1", 3.0, False),
    ]
    assert panel_rows(row("a")) == []
    assert agreement(row("a")) == ""


def test_a_judge_that_sees_nothing_at_all_does_not_agree() -> None:
    it = row("a", 1.0, 1.0)
    it["judges"][1]["effect"] = None  # every image has the same features
    assert agreement(it) == "1 of 2"


def printed(gap: dict[str, Any]) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(gap_table(gap))
    return captured.get()


def test_the_table_counts_a_panel_and_gives_one_judge_its_ratio() -> None:
    several = {"classes": [row("a", 0.2, 0.04, q_value=0.5)]}
    assert "judges agree" in printed(several)
    assert "1 of 2" in printed(several)
    single = {"classes": [row("a", q_value=0.5, judge={"ratio": 7.25, "q_value": 0.3})]}
    assert "judges" not in printed(single)
    assert "7.2" in printed(single)


def test_what_is_found_and_what_a_verdict_means_speak_of_the_panel() -> None:
    several = {"classes": [row("a", 0.2, 0.3, before=row("a", 0.01, 0.2, closed=False))]}
    assert findings(several) == ["Both judges see no gap."]
    assert meaning(several["classes"][0], tuned=True).endswith("; every judge agrees")
    single = {"classes": [row("a", before=row("a", closed=False))]}
    assert findings(single) == []
    assert meaning(single["classes"][0], tuned=True).endswith("; the judge agrees")
    none = row("a", judge=None)
    assert meaning(none, tuned=True).endswith("; no judge was asked")
    refused = row("a", 0.01, 0.2, confirmed=False)
    assert "but a judge or a guard objects" in meaning(refused, tuned=True)
