"""How photos and what a camera made of generated images are stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import modes
import numpy as np
import pytest
from PIL import Image

from gapclose.analysis.confounds import describe_confounds
from gapclose.analysis.kernel import Kernel
from gapclose.generators.images import write_pngs
from gapclose.generators.recipe import Camera
from gapclose.loop.run.folder import RunDir
from gapclose.loop.search.trial import Images, Mixture
from gapclose.loop.work.holdout import Holdout
from gapclose.loop.work.real_data import ClassReference, Fold
from gapclose.loop.work.stored_formats import compare_storage, stored_as


def stored_holdout(run: RunDir, size: int, jpeg: int | None) -> Holdout:
    """Photos of 32 pixels as JPEGs of quality 80, and images of a size and a camera."""
    rng = np.random.default_rng(size)
    photos = tuple(run.path / "photos" / f"{i}.jpg" for i in range(40))
    photos[0].parent.mkdir(parents=True)
    for path in photos:
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, quality=80)
    rows = modes.mixed({"brown": 1.0}, 40, rng)
    fold = Fold(paths=photos, photos=tuple(map(str, photos)), rows=rows)
    real = ClassReference(name="frog", tune=fold, folds=(fold,), kernel=Kernel.fit(rows))
    recipe = replace(modes.make_space().baseline, camera=Camera(jpeg_quality=jpeg))
    holdout = Holdout(
        real=real,
        fold=0,
        stage="tuned",
        mixture=Mixture(recipes=(recipe,), weights=(1.0,), gap_tune=0.0),
        images=Images(embeddings=rows, recipes=(0,) * 40, seeds=tuple(range(40))),
    )
    write_pngs(
        {p: rng.integers(0, 255, (size, size, 3), dtype=np.uint8) for p in holdout.paths(run)},
        source_type="digitalCreation",
    )
    return holdout


@pytest.mark.parametrize(
    ("size", "jpeg", "differs"),
    [(64, None, ("codec", "size")), (32, None, ("codec",)), (32, 80, ()), (32, 40, ("quality",))],
)
def test_photos_and_images_that_are_stored_differently_are_named(
    tmp_path: Path, size: int, jpeg: int | None, differs: tuple[str, ...]
) -> None:
    run = RunDir(tmp_path)
    stored = stored_as([stored_holdout(run, size, jpeg)], run)
    found = compare_storage(*stored)
    assert [kept.differs for kept in found.values()] == ([differs] if differs else [])
    said = {64: "png 64x64", 32: "png 32x32" if jpeg is None else f"jpeg quality {jpeg} 32x32"}
    real = "jpeg quality 80 32x32" if differs == ("quality",) else "jpeg 32x32"
    lines = [f"synthetic: {said[size]}, real: {real}"] if differs else []
    assert describe_confounds(*stored) == lines


def test_images_that_are_lost_speak_for_nothing_and_stop_nothing(tmp_path: Path) -> None:
    """They are a confirmation's, which is not done again."""
    run = RunDir(tmp_path)
    holdout = stored_holdout(run, 64, None)
    first, second, *rest = holdout.paths(run)
    first.write_bytes(b"")
    second.unlink()
    _, synthetic = stored_as([holdout], run)
    assert synthetic["frog"].heights == (64,) * 38
    for path in (first, *rest):
        path.unlink()
    assert stored_as([holdout], run) == ({}, {})


def test_no_images_are_stored_alike(tmp_path: Path) -> None:
    assert stored_as([], RunDir(tmp_path)) == ({}, {})
    assert describe_confounds({}, {}) == []
