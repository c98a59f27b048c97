"""What embeddings whose truth is known say, class by class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import modes
import numpy as np
import pytest
from modes import Blind, Reader

from gapclose.analysis.class_gap import jointly
from gapclose.analysis.kernel import Kernel
from gapclose.loop.work.evaluation import (
    EvaluationInput,
    JudgeInput,
    evaluate,
    label_agreement_of,
    measure,
)

TRUTH = {"brown": 0.6, "gray": 0.4}
NOUNS = {"frog": "brown", "toad": "gray"}  # nouns that Reader knows
GROUPS = {"color": ["brown", "gray", "red"]}


def given(shares: dict[str, float], *, seed: int = 0, n: int = 150) -> EvaluationInput:
    rng = np.random.default_rng(seed)
    real = modes.mixed(TRUTH, n, rng)
    sides: dict[str, Any] = {"real": real, "synthetic": modes.mixed(shares, n, rng)}
    return EvaluationInput(cls="frog", noun="frog", kernel=Kernel.fit(real), **sides)


def test_classes_are_scored_in_their_order_and_named() -> None:
    good, bad = given(TRUTH), replace(given({"red": 1.0}, seed=1), cls="toad")
    gaps = evaluate([good, bad], embedder=Reader(), groups=GROUPS, nouns=NOUNS)
    assert [g.name for g in gaps] == ["frog", "toad"]
    assert [g.closed for g in gaps] == [True, False]
    assert gaps[1].effect > 10 * abs(gaps[0].effect)
    red = next(w for w in gaps[1].attributes if w.word == "red")
    assert red.synthetic > 0.9 > 0.1 > red.real
    assert all(g.judge is None for g in gaps)


def test_one_judge_of_three_can_object_to_one_class_of_many() -> None:
    """However many tests there are, there are permutations enough."""
    rng, n = np.random.default_rng(3), 40
    seen = {}
    for name, shares in (("one", TRUTH), ("two", {"red": 1.0}), ("three", TRUTH)):
        real = modes.mixed(TRUTH, n, rng)
        seen[name] = JudgeInput(
            real=real, synthetic=modes.mixed(shares, n, rng), kernel=Kernel.fit(real)
        )
    e = replace(given(TRUTH, n=n), judges=seen)
    classes = 60
    row = measure(e, embedder=Blind(), groups=GROUPS, nouns=NOUNS, classes=classes)
    assert row.judges is not None
    assert [judge["name"] for judge in row.judges] == [*seen]
    quiet = replace(row, judges=tuple(judge | {"p_value": 1.0} for judge in row.judges))
    (told, *others) = jointly([row, *[quiet] * (classes - 1)])
    assert [judge["q_value"] <= 0.05 for judge in told.judges or ()] == [False, True, False]
    assert all(judge["q_value"] == 1.0 for it in others for judge in it.judges or ())


def test_without_a_text_side_there_are_no_words() -> None:
    (gap,) = evaluate([given(TRUTH)], embedder=Blind(), groups=GROUPS, nouns=NOUNS)
    assert gap.attributes is None
    assert gap.label_agreement is None


def test_label_agreement_needs_something_to_agree_about() -> None:
    rng = np.random.default_rng(0)
    rows = modes.mixed({"brown": 0.75, "gray": 0.25}, 100, rng)
    options: dict[str, Any] = {"cls": "frog", "embedder": Reader()}
    assert label_agreement_of(rows, nouns=NOUNS, **options) == pytest.approx(0.75)
    assert label_agreement_of(rows, nouns={"frog": "brown"}, **options) is None
