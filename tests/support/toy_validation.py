"""A validation in miniature: images of nearly one grey, and a classifier of their mean grey.

Its pools and photos are numbers; what is read from them and trained on them is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis.downstream.classifier import Pixels, Predictor
from gapclose.loop.run.folder import RunDir
from gapclose.loop.validation.test_photos import TestPhotos
from gapclose.loop.validation.trainings import Trainings

CLASSES = ("dark", "light")
GREYS = {"dark": 60, "light": 180}
TESTED = 24  # photos of a class


def plain(grey: int, *, side: int = 4) -> Pixels:
    """Of two greys: an image of one is invalid."""
    image = np.full((side, side, 3), grey, dtype=np.uint8)
    image[0] += 12
    return image


@dataclass
class ToyPool:
    """Images of a class's grey, shifted; `made` are those that were generated.

    Attributes:
        shift: Added to every grey.
        made: Class, draw and n of what is there.
        name: Part of the key.
    """

    shift: int = 0
    made: set[tuple[str, int, int]] = field(default_factory=set)
    name: str = "toy"
    n: Mapping[str, int] = field(default_factory=dict)

    def key(self, cls: str, *, draw: int, n: int) -> str:
        return f"{self.name}/{self.shift}/{cls}/{draw}/{n}"

    def is_ready(self, cls: str, *, draw: int, n: int) -> bool:
        return (cls, draw, n) in self.made

    def images(self, cls: str, *, draw: int, n: int) -> Iterator[Pixels]:
        self.made.add((cls, draw, n))
        grey = GREYS[cls] + self.shift
        n = min(n, self.n.get(cls, n))
        return iter([plain(min(grey, 230) + draw + i % 3) for i in range(n)])


@dataclass
class MeanGrey:
    """The nearest class by mean grey; what it was trained on it remembers."""

    id: str = "mean-grey"
    seeded: bool = True
    fits: list[tuple[int, int]] = field(default_factory=list)

    def prepare(self, images: Sequence[Pixels]) -> NDArray[np.float64]:
        return np.array([[image.mean()] for image in images])

    def fit(
        self, x: NDArray[Any], labels: NDArray[np.integer], *, classes: int, seed: int
    ) -> Predictor:
        self.fits.append((len(x), seed))
        means = np.array([x[labels == label].mean() for label in range(classes)])

        def predict(rows: NDArray[Any]) -> NDArray[np.float32]:
            return -np.abs(rows - means[None]).astype(np.float32)

        return predict


def toy_test(folder: Path, *, side: int = 4, key: str = "k") -> TestPhotos:
    """Test photos as files, half of each class in a group."""
    paths = []
    for cls in CLASSES:
        for number in range(TESTED):
            path = folder / cls / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(plain(GREYS[cls], side=side)).save(path)
            paths.append(path)
    return TestPhotos(
        classes=CLASSES,
        paths=tuple(paths),
        labels=np.repeat(np.arange(2), TESTED),
        groups={"tone": tuple(f"{cls} photo" for cls in CLASSES for _ in range(TESTED))},
        key=key,
    )


def toy_trainings(folder: Path, **changes: Any) -> Trainings:
    """Trainings of a new or an old run folder."""
    arguments: dict[str, Any] = {
        "rundir": RunDir(folder / "run"),
        "pools": {
            name: ToyPool(shift=shift, name=name)
            for name, shift in (("baseline", 100), ("tuned", 5), ("even", 20), ("real", 0))
        },
        "versions": {"mean-grey": "1", "fixed": "1"},
        "per_class": 40,
    }
    test = changes.pop("test", None) or toy_test(folder / "photos")
    return Trainings(test=test, **(arguments | changes))
