"""Source copies: an image that is made from a picture, and shows the photo again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from painter import Painter
from PIL import Image

from gapclose.analysis.kernel import Kernel
from gapclose.analysis.repeats import likeness_of_others, thumbnail
from gapclose.generators.camera import apply_camera
from gapclose.generators.conditioning import FromPhotos
from gapclose.generators.images import Pixels
from gapclose.generators.pond.renderer import real_photos
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.work.real_data import ClassReference, Fold
from gapclose.loop.work.source_copies import SourceCopies

N = 60
FROGS = [photo for _, photo in real_photos("frog", range(N))]
OTHERS = [photo for _, photo in real_photos("frog", range(500, 500 + N))]


class Shelf:
    """A group whose photo is that of the seed."""

    def pick(self, group: str, seed: int) -> str:
        return str(seed)

    def caption(self, group: str, photo: str) -> None:
        return None

    def pixels(self, group: str, photo: str) -> Pixels:
        return FROGS[int(photo)]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> SourceCopies:
    folder = tmp_path_factory.mktemp("photos")
    paths = tuple(folder / f"{i}.png" for i in range(N))
    for path, photo in zip(paths, FROGS, strict=True):
        Image.fromarray(photo).save(path)
    rows = np.eye(N, dtype=np.float32)
    tune = Fold(paths=paths, photos=tuple(map(str, range(N))), rows=rows)
    reference = ClassReference(name="frog", tune=tune, folds=(tune,), kernel=Kernel.fit(rows))
    generator = FromPhotos(Painter(), Shelf())
    return SourceCopies(generator=generator, real={"frog": reference})


def of(copies: SourceCopies, images: list[Pixels], **draw: object) -> Mapping[int, str]:
    given = {"photos": "group", "strength": 0.5} | draw
    recipe = Recipe(draw=Draw(prompt="a frog", **given), camera=Camera())  # type: ignore[arg-type]
    return copies.of("frog", images, [(recipe, seed) for seed in range(len(images))])


def test_photos_themselves_are_found_whatever_the_camera_did(copies: SourceCopies) -> None:
    every = {seed: str(seed) for seed in range(N)}
    assert of(copies, FROGS) == every
    noisy = [apply_camera(Camera(noise=0.02), f, seed=i) for i, f in enumerate(FROGS)]
    assert len(of(copies, noisy)) >= 0.9 * N
    grey = [apply_camera(Camera(saturation=0.0), f, seed=i) for i, f in enumerate(FROGS)]
    assert len(of(copies, grey)) >= 0.9 * N


def test_other_photos_of_the_class_are_no_copies(copies: SourceCopies) -> None:
    assert of(copies, OTHERS) == {}


def test_what_is_made_without_a_picture_is_not_looked_at(copies: SourceCopies) -> None:
    assert of(copies, FROGS, strength=None) == {}  # captions alone
    assert of(copies, FROGS, photos=None, strength=None) == {}
    alone = SourceCopies(generator=Painter(), real=copies.real)
    assert of(alone, FROGS) == {}


def test_a_photo_that_has_gone_does_not_tell_how_alike_others_are(
    copies: SourceCopies, tmp_path: Path
) -> None:
    before = copies.real["frog"].tune
    gone = Fold(
        paths=(tmp_path / "gone.png", *before.paths[1:]),
        photos=before.photos,
        rows=before.rows,
    )
    kernel = Kernel.fit(before.rows)
    reference = ClassReference(name="frog", tune=gone, folds=(gone,), kernel=kernel)
    again = SourceCopies(generator=copies.generator, real={"frog": reference})
    assert len(of(again, FROGS)) == N


def test_how_alike_different_photos_are() -> None:
    shown = np.stack([thumbnail(photo) for photo in FROGS])
    limit = likeness_of_others(shown)
    assert 0.7 <= limit < 0.97
    assert likeness_of_others(np.stack([thumbnail(photo) for photo in OTHERS])) == pytest.approx(
        limit, abs=0.03
    )
    # Noise has nothing in common; then a fixed likeness tells.
    noise = np.random.default_rng(0).normal(128, 40, (30, 32, 32)).astype(np.float32)
    assert likeness_of_others(noise) == 0.7
