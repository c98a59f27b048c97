"""A tempering as a file: what it follows from, and that another is not believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from make_run import make_run
from painter import Painter

from gapclose.loop.exporting.plan import class_plans
from gapclose.loop.exporting.tempering import (
    TEMPERING,
    Tempering,
    keep_tempering,
    kept_tempering,
    tempering_key,
)
from gapclose.loop.run.folder import RunDir

CHOSEN = Tempering(
    share=0.25,
    accuracies={0.0: 0.991, 0.25: 0.998, 1.0: 0.996},
    lost={"frog": ("a photo of a frog on a leaf",)},
    images=200,
    photos=4000,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    path = tmp_path_factory.mktemp("tempering") / "run"
    return make_run(path, classes=("frog", "ship"), per_class=2)


def test_what_is_kept_is_read_back(run: RunDir) -> None:
    keep_tempering(run, "a", CHOSEN)
    assert kept_tempering(run, "a") == CHOSEN
    assert kept_tempering(run, "b") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": "a"}', '{"key": "a", "share": "x"}'])
def test_what_is_damaged_is_chosen_anew(run: RunDir, text: str) -> None:
    (run.path / TEMPERING).write_text(text)
    assert kept_tempering(run, "a") is None
    (run.path / TEMPERING).unlink()
    assert kept_tempering(run, "a") is None


def test_a_choice_is_of_mixtures_and_of_what_made_it(run: RunDir, tmp_path: Path) -> None:
    plans, generator = class_plans(run, only_confirmed=False), Painter()
    key = tempering_key(run, plans, generator, images=200)
    assert tempering_key(run, class_plans(run, only_confirmed=False), Painter(), images=200) == key
    first = plans[0]
    moved = replace(first, weights=(*reversed(first.weights),))
    other = make_run(tmp_path / "run", classes=("frog", "ship"), per_class=2,
                     config={"tune": {"seed": 1}})  # fmt: skip
    generator.revision = "2"
    others = [
        tempering_key(run, plans, Painter(), images=100),
        tempering_key(run, plans[:1], Painter(), images=200),
        tempering_key(run, [moved, *plans[1:]], Painter(), images=200),
        tempering_key(run, plans, generator, images=200),
        tempering_key(other, plans, Painter(), images=200),
    ]
    assert len({key, *others}) == 6
