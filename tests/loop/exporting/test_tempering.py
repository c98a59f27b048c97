"""A tempering as a file: what it follows from, and that another is not believed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from gapclose.loop.search.space import Space

CHOSEN = Tempering(
    share=0.25,
    accuracies={0.0: 0.991, 0.25: 0.998, 0.5: 1.0, 0.75: 0.996, 1.0: 0.0},
    lost={},
    images=200,
    photos=4000,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    path = tmp_path_factory.mktemp("tempering") / "run"
    return make_run(path, classes=("frog", "ship"), per_class=2)


def kept(run: RunDir, key: str = "a") -> Tempering | None:
    return kept_tempering(run, key, class_plans(run, only_confirmed=False))


def prompts(run: RunDir, cls: str) -> tuple[str, ...]:
    space = Space.of(run.config(), cls)
    return tuple(map(space.prompt, space.prompts()))


def test_what_is_kept_is_read_back(run: RunDir) -> None:
    for chosen in (CHOSEN, replace(CHOSEN, share=0.0, lost={"frog": prompts(run, "frog")[:2]})):
        keep_tempering(run, "a", chosen)
        assert kept(run) == chosen
        assert kept(run, "b") is None


SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"share": value} for value in (5, -1, 0.3, math.nan, math.inf, None, "0.25", True)),
        *({"images": value} for value in (0, -1, math.inf, 1e300, 10**12, "200", None)),
        *({"photos": value} for value in (0, math.nan, 10**12)),
        *({"lost": value} for value in ("abc", None, [], {"frog": [1]}, {"frog": "abc"})),
        *({"lost": {name: ["a prompt of nobody"]}} for name in ("frog", "toad")),
        {"lost": {"toad": []}},
        *({"accuracies": value} for value in ([], None, "abc", {"0": 0.5})),
        *(
            {"accuracies": [{"share": share, "accuracy": value} for share in SHARES]}
            for value in (math.nan, math.inf, 1e300, -0.1, None, "1")
        ),
        *(
            {"accuracies": [{"share": share, "accuracy": 0.5} for share in shares]}
            for shares in (SHARES[:4], (*SHARES, 2.0), (math.nan, *SHARES[1:]), (0.0,) * 5)
        ),
    ],
)
def test_what_cannot_have_been_measured_is_not_believed(
    run: RunDir, wrong: dict[str, Any]
) -> None:
    text = json.dumps({"schema": 1, "key": "a"} | CHOSEN.to_json() | wrong)
    (run.path / TEMPERING).write_text(text)
    assert kept(run) is None


def test_prompts_of_another_class_are_not_believed(run: RunDir) -> None:
    keep_tempering(run, "a", replace(CHOSEN, lost={"frog": prompts(run, "ship")[:1]}))
    assert kept(run) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": "a"}', '{"key": "a", "share": "x"}'])
def test_what_is_damaged_is_chosen_anew(run: RunDir, text: str) -> None:
    (run.path / TEMPERING).write_text(text)
    assert kept(run) is None
    (run.path / TEMPERING).unlink()
    assert kept(run) is None


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
