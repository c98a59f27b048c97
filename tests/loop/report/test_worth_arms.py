"""Worth arms: every arm of a validation has a name and a place."""

from __future__ import annotations

import re
from importlib import resources

from gapclose.loop.report.worth_arms import ARMS, in_order
from gapclose.loop.validation.arms import GENERATED, REAL, arms_of


def test_every_arm_that_is_trained_on_is_named() -> None:
    assert {arm.name for arm in arms_of([*GENERATED, REAL], n=200)} == {*ARMS}


def test_arms_of_a_later_version_come_last() -> None:
    assert in_order(["z", "real", "a", "tuned", "baseline"]) == [
        "baseline", "tuned", "real", "z", "a"
    ]  # fmt: skip


def test_the_page_draws_every_mark() -> None:
    page = resources.files("gapclose.loop.report").joinpath("report.html").read_text("utf-8")
    macro = page[: page.index("endmacro")]
    drawn = {*re.findall(r'"([a-z ]+)"', macro)} | {"tuned", "tuned hollow"}  # those are its else
    assert {shown.mark for shown in ARMS.values()} <= drawn
