from __future__ import annotations

from gapclose.loop.work.diagnostics import in_short


def test_classes_that_stopped_for_one_reason_are_named_together() -> None:
    assert in_short({"frog": "no gain", "cat": "the budget is out", "dog": "no gain"}) == (
        "frog, dog: no gain; cat: the budget is out"
    )
    many = {f"c{i}": "the budget is out" for i in range(7)}
    assert in_short(many) == "c0, c1, c2, c3, c4 and 2 more: the budget is out"
