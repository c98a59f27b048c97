"""What objects to a run's images as a whole, and what is to be done about it."""

from __future__ import annotations

from typing import Any

import pytest

from gapclose.loop.report.findings import findings, warnings
from gapclose.loop.report.shortcut_words import shortcut_warnings
from gapclose.loop.report.text import first_sentence

NOISE = "noise tells the classes of the synthetic images apart (frog: noisier)"
COLOR = "colour tells the classes of the synthetic images apart (frog: greener)"


def probe(feature: str, objection: str | None = None) -> dict[str, Any]:
    return {"feature": feature, "p_value": 0.01, "objection": objection}


def gap(*, tuned: bool = True, **keys: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"name": "frog", "closed": True, "confirmed": True, "ratio": 0.4}
    row |= {"effect": 0.01, "gap": 0.001, "invalid": 0}
    if tuned:
        row |= {"before": row | {"closed": False}}
    return {"classes": [row], "camera": None, "equalized": False, **keys}


def test_what_does_not_object_and_what_was_not_probed_is_not_named() -> None:
    assert shortcut_warnings(gap()) == []
    assert shortcut_warnings(gap(shortcuts=[])) == []
    fine = gap(shortcuts=[probe("noise")], shortcuts_before=[probe("noise", NOISE)])
    assert shortcut_warnings(fine) == []


def test_each_objection_is_a_sentence_and_the_remedy_stands_once() -> None:
    told = gap(
        shortcuts=[probe("noise", NOISE), probe("codec"), probe("color", COLOR)],
        shortcuts_before=[probe("noise"), probe("color", COLOR)],
    )
    noise, color = shortcut_warnings(told)
    assert noise == f"N{NOISE[1:]}."
    assert color.startswith(f"C{COLOR[1:]}; so it did before tuning. Let a run choose one camera")
    assert "space.camera" in color
    assert "gapclose validate" in color


@pytest.mark.parametrize(
    ("keys", "remedy"),
    [
        ({}, "Let a run choose one camera for all classes (space.camera)"),
        ({"camera": {"noise": 0.02}}, "a class that keeps its baseline's camera"),
        ({"tuned": False}, "Let a run choose one camera for all classes (space.camera)"),
        ({"tuned": False, "equalized": True}, "Put the images of all classes through one camera"),
    ],
)
def test_the_remedy_is_that_of_the_kind_of_run(keys: dict[str, Any], remedy: str) -> None:
    (said,) = shortcut_warnings(gap(shortcuts=[probe("noise", NOISE)], **keys))
    assert remedy in said
    assert "gapclose validate" in said


def test_console_and_page_warn_and_no_verdict_is_touched() -> None:
    told = gap(shortcuts=[probe("noise", NOISE)], notes=["A note."])
    assert warnings(told) == ["A note.", *shortcut_warnings(told)]
    assert findings(told) == warnings(told)
    without = gap()
    assert first_sentence(told["classes"], tuned=True) == first_sentence(
        without["classes"], tuned=True
    )
