"""Proposers: what a diagnosis says, and the prompts that the attribute table asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language_models

from gapclose.analysis.attributes import AttributeGap
from gapclose.analysis.errors import ProposerError
from gapclose.analysis.proposer import (
    Diagnosis,
    check_proposer,
    make_proposer,
    propose_by_attributes,
    sheet,
)


def attribute(word: str, real: float, synthetic: float, q_value: float = 0.001) -> AttributeGap:
    return AttributeGap(
        group="color",
        word=word,
        real=real,
        synthetic=synthetic,
        real_corrected=real,
        synthetic_corrected=synthetic,
        standard_error=0.05,
        p_value=q_value,
        q_value=q_value,
    )


def diagnosis(*attributes: AttributeGap, **changes: Any) -> Diagnosis:
    facts: dict[str, Any] = {
        "cls": "frog",
        "noun": "frog",
        "gap": 12.3,
        "attributes": attributes,
        "prompts": (("a photo of a frog", 0.8), ("a photo of a red frog", 0.2)),
        "real": (),
        "synthetic": (),
    }
    return Diagnosis(**facts | changes)


GREEN = attribute("green", 0.1, 0.9)
BROWN = attribute("brown", 0.6, 0.05)
ORANGE = attribute("orange", 0.2, 0.02)


def test_what_a_diagnosis_says() -> None:
    assert diagnosis(GREEN, BROWN).text.splitlines() == [
        "Synthetic images of the class frog differ from real photos of it: their distance is 12.3 "
        "times what chance makes of two sets of photos.",
        '"a photo of a green frog" fits 10% of the real photos and 90% of the synthetic images.',
        '"a photo of a brown frog" fits 60% of the real photos and 5% of the synthetic images.',
        'The prompt "a photo of a frog" makes 80% of the synthetic images.',
        'The prompt "a photo of a red frog" makes 20% of the synthetic images.',
    ]


def test_the_rule_asks_for_what_is_missing_most_first() -> None:
    assert propose_by_attributes(diagnosis(GREEN, ORANGE, BROWN)) == [
        "a photo of a brown frog",
        "a photo of an orange frog",
    ]


def test_the_rule_leaves_out_chance_and_what_was_tried() -> None:
    chance = attribute("black", 0.5, 0.4, q_value=0.2)
    assert propose_by_attributes(diagnosis(chance)) == []
    tried = diagnosis(BROWN, prompts=(("a photo of a brown frog", 0.01),))
    assert propose_by_attributes(tried) == []
    assert propose_by_attributes(diagnosis()) == []


def test_the_rule_has_few_ideas_at_a_time() -> None:
    many = [attribute(f"color{i}", 0.9 - i / 100, 0.0) for i in range(20)]
    assert propose_by_attributes(diagnosis(*many)) == [
        f"a photo of a color{i} frog" for i in range(6)
    ]


def test_a_sheet_holds_every_image_once() -> None:
    images = [np.full((8, 16, 3), 10 * (i + 1), dtype=np.uint8) for i in range(6)]
    page = sheet(images)
    assert page.shape == (256, 512, 3)
    assert [page[32, 64 + 128 * i, 0] for i in range(4)] == [10, 20, 30, 40]
    assert [page[160, 64 + 128 * i, 0] for i in range(4)] == [50, 60, 0, 0]
    assert page[100, 64, 0] == 0  # a wide image does not fill its square
    with pytest.raises(ValueError, match="no images"):
        sheet([])


OWN = """
def propose(diagnosis):
    return [f"a photo of a spotted {diagnosis.noun}"]

nothing = 3
"""


def test_a_function_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    check_proposer(f"{file}:propose")
    assert make_proposer(f"{file}:propose")(diagnosis()) == ["a photo of a spotted frog"]
    assert make_proposer("attributes") is propose_by_attributes


def test_a_language_model(tmp_path: Path) -> None:
    tiny_language_models.save_llama(tmp_path / "llama", ["1. a spotted frog\n", "2. a toad"])
    name = f"transformers:{tmp_path / 'llama'}"
    check_proposer(name)
    assert make_proposer(name, device="cpu")(diagnosis()) == ["a spotted frog", "a toad"]
    with pytest.raises(ProposerError, match="'gpu7': not on this machine"):
        make_proposer(name, device="gpu7")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("transformers:{}/gone", "gone does not exist; give the model's folder"),
        ("{}/gone.py:propose", "there is no file .*gone.py"),
        ("no_such_package.module:propose", "no module no_such_package.module"),
    ],
)
def test_what_is_not_there_is_refused_before_it_is_loaded(
    tmp_path: Path, name: str, said: str
) -> None:
    with pytest.raises(ProposerError, match=said):
        check_proposer(name.format(tmp_path))


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    with pytest.raises(ProposerError, match="has no function nothing"):
        make_proposer(f"{file}:nothing")
    file.write_text("1 / 0")
    with pytest.raises(ProposerError, match="cannot be loaded: ZeroDivisionError"):
        make_proposer(f"{file}:propose")
