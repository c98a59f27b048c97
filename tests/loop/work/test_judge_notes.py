"""What is said of judges before they judge: one family, and what they see of the photos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pond_config import pond_config
from sphere import unit

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.embedding import make_embedder
from gapclose.analysis.neighbor_recall import neighbor_accuracy
from gapclose.generators.pond.renderer import CLASSES, real_photos
from gapclose.loop.work.judge_notes import PHOTOS, SIGHT, judge_notes

ROOT = Path(__file__).parents[3]
SHARED = Path(os.environ.get("GAPCLOSE_SHARED", ROOT.parent / "shared"))
RESNET = SHARED / "encoders" / "cifar-resnet56.onnx"
N = 60


def apart(seed: int) -> dict[str, Any]:
    """Two classes that are told."""
    rows = unit(100, seed=seed) * 0.1
    rows[:50, 0] += 1.0
    rows[50:, 1] += 1.0
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {"frog": rows[:50], "ship": rows[50:]}


def mixed(seed: int) -> dict[str, Any]:
    """Two classes that are one."""
    return {"frog": unit(50, seed=seed), "ship": unit(50, seed=seed + 1)}


def test_a_judge_that_tells_no_classes_is_named_with_its_figures() -> None:
    config = pond_config(judge=["onnx:/good.onnx", "onnx:/poor.onnx"])
    rows = {"pond": apart(1), "onnx:/good.onnx": apart(2), "onnx:/poor.onnx": mixed(3)}
    (said,) = judge_notes(config, rows)
    poor = neighbor_accuracy(rows["onnx:/poor.onnx"])
    assert said == (
        "the judge onnx:/poor.onnx hardly tells the classes of the real photos apart (by nearest "
        f"neighbours {poor:.0%} right; by chance 50%, with the embedder 100%): that it sees no "
        "gap says little; put one that was trained on such photos in its place"
    )


def test_of_one_class_and_without_a_judge_there_is_nothing_to_say() -> None:
    config = pond_config(judge="onnx:/poor.onnx")
    one = {"pond": {"frog": unit(50, seed=1)}, "onnx:/poor.onnx": {"frog": unit(50, seed=2)}}
    assert judge_notes(config, one) == []
    assert judge_notes(pond_config(), {"pond": mixed(1)}) == []


def test_a_judge_of_the_embedders_family_is_named() -> None:
    judges = ["open_clip:ViT-B-16-SigLIP2/webli", "transformers:facebook/dinov2-large"]
    rows = {"pond": apart(1), judges[0]: apart(2), judges[1]: apart(3)}
    (said,) = judge_notes(pond_config(judge=judges), rows)
    assert said == (
        "the judge open_clip:ViT-B-16-SigLIP2/webli and the embedder pond are of one family "
        "(trained to match images with texts): what fools one is likely to fool the other; "
        "`gapclose doctor` names others"
    )


def skill(encoder: str, photos: dict[str, list[Any]], n: int) -> float:
    embedder = make_embedder(encoder, device="cpu")
    rows = {name: embedder.embed(images[:n]) for name, images in photos.items()}
    chance = 1 / len(rows)
    return (neighbor_accuracy(rows, most=PHOTOS) - chance) / (1 - chance)


@pytest.fixture(scope="module")
def pond() -> dict[str, list[Any]]:
    return {name: [p for _, p in real_photos(name, range(N))] for name in CLASSES}


def test_the_ponds_judge_knows_the_pond_even_by_few_photos(pond: dict[str, list[Any]]) -> None:
    assert skill("pond-judge", pond, 20) > SIGHT + 0.05
    assert skill("pond-judge", pond, N) > SIGHT + 0.2


@pytest.mark.skipif(not RESNET.is_file(), reason="the shared photos are absent")
def test_the_ponds_judge_knows_nothing_of_photos_and_a_resnet_does() -> None:
    folders = sorted((SHARED / "data" / "cifar10" / "train").iterdir())
    photos = {
        folder.name: [read_rgb(path) for path in sorted(folder.iterdir())[:N]]
        for folder in folders
        if folder.is_dir()
    }
    assert skill("pond-judge", photos, N) < SIGHT - 0.03
    assert skill("pond-judge", photos, 20) < SIGHT - 0.1
    assert skill(f"onnx:{RESNET}", photos, N) > 0.8
