"""Shortcuts between the classes of a run's images, from files as they lie there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gapclose.analysis.low_level import GROUPS
from gapclose.loop.run.folder import RunDir
from gapclose.loop.work.shortcuts import find_shortcuts

CLASSES = ("cat", "frog", "ship")


@pytest.fixture
def rundir(tmp_path: Path) -> RunDir:
    (tmp_path / "run").mkdir()
    return RunDir(tmp_path / "run")


def painted(
    folder: Path, cls: str, *, noise: float = 4.0, suffix: str = ".png", seed: int = 0, n: int = 24
) -> list[Path]:
    """Slopes under noise in grey levels, which do not show what class they are of."""
    random = np.random.default_rng([seed, CLASSES.index(cls)])
    (folder / cls).mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(n):
        image = np.linspace(90, 90 + random.uniform(20, 60), 32)[:, None, None]
        image = image + noise * random.normal(size=(32, 32, 3))
        paths.append(folder / cls / f"{number}{suffix}")
        Image.fromarray(np.rint(image).clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


def inputs(rundir: RunDir, real: dict[str, Any], synthetic: dict[str, Any]) -> Sequence[Any]:
    return [
        SimpleNamespace(
            cls=cls,
            real_paths=tuple(map(rundir.relative, real[cls])),
            synthetic_paths=tuple(map(rundir.relative, synthetic[cls])),
        )
        for cls in real
    ]


def objecting(probes: list[dict[str, Any]]) -> set[str]:
    return {probe["feature"] for probe in probes if probe["objection"]}


def test_each_stage_is_held_against_the_photos(rundir: RunDir, tmp_path: Path) -> None:
    real = {c: painted(tmp_path / "real", c) for c in CLASSES}
    alike = {c: painted(rundir.path / "images", c, seed=1) for c in CLASSES}
    noisy = alike | {"frog": painted(rundir.path / "noisy", "frog", noise=12.0, seed=1)}
    stages = {"tuned": inputs(rundir, real, alike), "baseline": inputs(rundir, real, noisy)}
    found = find_shortcuts(stages, rundir)
    assert [probe["feature"] for probe in found["tuned"]] == [*GROUPS]
    assert objecting(found["tuned"]) == set()
    assert "noise" in objecting(found["baseline"])
    (noise,) = (probe for probe in found["baseline"] if probe["feature"] == "noise")
    assert [one["class"] for one in noise["differs"]] == ["frog"]
    assert json.loads(json.dumps(found)) == found == find_shortcuts(stages, rundir)


def test_files_count_as_they_are_stored(rundir: RunDir, tmp_path: Path) -> None:
    real = {c: painted(tmp_path / "real", c) for c in CLASSES}
    stored = {c: painted(tmp_path / "other", c, suffix=".jpg", seed=1) for c in CLASSES}
    one_way = find_shortcuts({"all": inputs(rundir, real, stored)}, rundir)
    assert objecting(one_way["all"]) == set()  # a fault that all classes share
    mixed = stored | {c: painted(tmp_path / "png", c, seed=1) for c in ("cat", "ship")}
    told = find_shortcuts({"all": inputs(rundir, real, mixed)}, rundir)
    assert "codec" in objecting(told["all"])


def test_what_is_lost_or_too_little_says_nothing(rundir: RunDir, tmp_path: Path) -> None:
    real = {c: painted(tmp_path / "real", c) for c in CLASSES}
    synthetic = {c: painted(rundir.path / "images", c, seed=1) for c in CLASSES}
    for path in [*synthetic["cat"][:5], *synthetic["ship"]]:
        path.unlink()
    assert find_shortcuts({"all": inputs(rundir, real, synthetic)}, rundir) == {"all": []}
    assert find_shortcuts({"tuned": [], "baseline": []}, rundir) == {"tuned": [], "baseline": []}
