"""End to end: the shipped config, its Stable Diffusion and its encoders, on two classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import here

from gapclose.generators.checkpoint import POND
from gapclose.loop.report.run_view import Run


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The shipped config on two classes and a few trials."""
    if not (POND / "model_index.json").is_file():
        pytest.skip("the pond's Stable Diffusion is not trained")
    out = tmp_path_factory.mktemp("shipped") / "run"
    sets = ["tune.trials=3", "tune.budget=null"]  # on a busy machine the shipped budget runs out
    sets += ["classes=[frog, ship]", "confirm.images=24", "real.per_class=200"]
    words = [word for key in sets for word in ("--set", key)]
    code, err = here("tune", "pond", "--out", out, *words)
    assert code == 0, err
    return Run.open(out)


@pytest.mark.slow
def test_the_shipped_config_finds_the_green_frogs(shipped: Run) -> None:
    assert {row["stage"] for row in shipped.trials} == {"baseline", "joint"}
    rows = {row["name"]: row for row in shipped.gap["classes"]}
    assert set(rows) == {"frog", "ship"}
    frog = rows["frog"]
    assert frog["before"]["closed"] is False
    assert frog["judge"]["gap"] is not None
    green = next(w for w in frog["before"]["attributes"] if w["word"] == "green")
    assert green["synthetic"] > 0.9
    assert "frog" in shipped.report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_shipped_config_is_exported(shipped: Run, tmp_path: Path) -> None:
    code, err = here("export", shipped.path, tmp_path / "data", "--per-class", 5)
    assert code == 0, err
    assert len(list((tmp_path / "data").rglob("*.png"))) == 10
