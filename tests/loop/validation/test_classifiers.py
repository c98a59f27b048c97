from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pond_config import pond_config
from sphere import unit
from toy_validation import CLASSES, ToyPool, toy_test

from gapclose.analysis.embedding import identity
from gapclose.generators.images import Pixels
from gapclose.loop.validation.classifiers import make_classifiers


class Eye:
    """An embedder that is named as asked."""

    width = 4

    def __init__(self, name: str) -> None:
        self.id = name

    def embed(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        return unit(len(images), 4)


class Large(ToyPool):
    """Images of 50 x 70 pixels, but for one class."""

    other: tuple[str, int] = ("", 0)

    def images(self, cls: str, *, draw: int, n: int) -> Iterator[Pixels]:
        name, side = self.other
        size = (side, side, 3) if cls == name else (50, 70, 3)
        return iter([np.zeros(size, dtype=np.uint8)] * n)


def made(
    folder: Path, *names: str, judge: str | None = None, other: tuple[str, int] = ("", 0)
) -> dict[str, str]:
    pool = Large()
    pool.other = other
    classifiers, versions = make_classifiers(
        names,
        {"tuned": Large(), "real": pool},
        toy_test(folder, side=64),
        per_class=5,
        config=pond_config(judge=judge),
        loaded={name: Eye(name) for name in ("pond", "pond-judge")},
    )
    assert [one.id for one in classifiers] == [*versions]
    return versions


def test_networks_train_at_a_size_that_no_image_is_enlarged_for(tmp_path: Path) -> None:
    assert made(tmp_path, "cnn", "lenet") == {"cnn": "48 pixels", "lenet": "48 pixels"}


@pytest.mark.parametrize("cls", CLASSES)
def test_of_every_class_some_images_are_looked_at(tmp_path: Path, cls: str) -> None:
    assert made(tmp_path, "cnn", other=(cls, 40)) == {"cnn": "32 pixels"}
    assert made(tmp_path, "cnn", other=(cls, 60)) == {"cnn": "48 pixels"}


def test_the_probe_sees_through_the_judge_or_the_embedder_without_one(tmp_path: Path) -> None:
    judged = made(tmp_path, "linear", judge="pond-judge")
    assert judged == {"linear:pond-judge": identity("pond-judge")}
    assert made(tmp_path, "linear") == {"linear:pond": identity("pond")}
