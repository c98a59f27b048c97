"""What classes of coloured images cost whoever trains on them, from the files of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapclose.analysis.kernel import Kernel
from gapclose.generators.images import write_pngs
from gapclose.loop.run.folder import RunDir
from gapclose.loop.work.evaluation import EvaluationInput
from gapclose.loop.work.shortfalls import EACH, find_shortfalls

RED, BLUE = (200, 40, 40), (40, 40, 200)


def painted(run: RunDir, name: str, color: tuple[int, ...], n: int = 30) -> tuple[str, ...]:
    """Files of a colour, as rows of samples.jsonl name them."""
    rng = np.random.default_rng(len(name))
    files = {
        run.path / "images" / name / f"{i}.png": np.clip(
            np.array(color) + rng.normal(0, 20, (32, 32, 3)), 0, 255
        ).astype(np.uint8)
        for i in range(n)
    }
    write_pngs(files, source_type="digitalCreation")
    return tuple(map(run.relative, files))


def given(cls: str, real: Any, synthetic: Any) -> EvaluationInput:
    rows = np.eye(4, dtype=np.float32)
    return EvaluationInput(
        cls=cls,
        noun=cls,
        real=rows,
        synthetic=rows,
        kernel=Kernel.fit(rows),
        real_paths=real,
        synthetic_paths=synthetic,
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_each_stage_is_held_against_the_photos(run: RunDir) -> None:
    frogs, ships = painted(run, "frogs", RED), painted(run, "ships", BLUE)
    red, blue = painted(run, "red", RED), painted(run, "blue", BLUE)
    stages = {
        "tuned": [given("frog", frogs, red), given("ship", ships, blue)],
        "baseline": [given("frog", frogs, blue), given("ship", ships, blue)],
    }
    found = find_shortfalls(stages, run, seed=0)
    assert {cls: row["recall_shortfall"] for cls, row in found["tuned"].items()} == {
        "frog": 0.0,
        "ship": 0.0,
    }
    told = [row["recall_synthetic"] for row in found["baseline"].values()]
    assert sum(told) < 1.5
    assert all(row["recall_real"] == 1.0 for row in found["baseline"].values())
    assert find_shortfalls(stages, run, seed=0) == found


def test_files_that_are_gone_are_left_out(run: RunDir) -> None:
    frogs, ships = painted(run, "frogs", RED), painted(run, "ships", BLUE)
    lost = (*frogs, "images/frogs/none.png", "../outside.png")
    pairs = [given("frog", lost, frogs), given("ship", ships, ships)]
    assert find_shortfalls({"tuned": pairs}, run, seed=0)["tuned"]["frog"]["recall_real"] == 1.0


def test_a_class_without_readable_files_leaves_the_others_their_figures(run: RunDir) -> None:
    frogs, ships = painted(run, "frogs", RED), painted(run, "ships", BLUE)
    gone = tuple(f"images/gone/{i}.png" for i in range(30))
    two = [given("frog", frogs, frogs), given("ship", ships, ships)]
    found = find_shortfalls({"tuned": two}, run, seed=0)["tuned"]
    assert [*found] == ["frog", "ship"]
    for third in (given("cat", gone, frogs), given("cat", frogs, gone), given("cat", gone, gone)):
        three = find_shortfalls({"tuned": [*two, third]}, run, seed=0)["tuned"]
        assert [*three] == ["frog", "ship"]
    none = [given("frog", gone, frogs), given("ship", gone, ships)]
    assert find_shortfalls({"tuned": none, "baseline": none}, run, seed=0) == {
        "tuned": {},
        "baseline": {},
    }


def test_one_class_is_told_from_none(run: RunDir) -> None:
    frogs = painted(run, "frogs", RED)
    assert find_shortfalls({"tuned": [given("frog", frogs, frogs)]}, run, seed=0) == {"tuned": {}}
    assert find_shortfalls({"tuned": []}, run, seed=0) == {"tuned": {}}


def test_of_many_files_some_are_read_from_the_first_to_the_last(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gapclose.loop.work import shortfalls

    asked: list[Path] = []

    def read(path: Path) -> Any:
        asked.append(path)
        return np.zeros((32, 32, 3), dtype=np.uint8)

    monkeypatch.setattr(shortfalls, "read_rgb", read)
    many = tuple(f"images/x/{i}.png" for i in range(3 * EACH))
    few = many[:25]
    find_shortfalls({"tuned": [given("a", many, few), given("b", few, few)]}, run, seed=0)
    numbers = [int(path.stem) for path in asked[:EACH]]
    assert numbers == [3 * i for i in range(EACH)]
