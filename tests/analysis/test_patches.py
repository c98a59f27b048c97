from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis.patches import PatchFeatures
from gapclose.analysis.recall_shortfall import recall_shortfalls

Images = list[NDArray[np.uint8]]


def stripes(n: int, *, upright: bool, seed: int, side: int = 32) -> Images:
    """Noisy stripes of any phase and colour."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        wave = np.sin(np.arange(side) * 2 * np.pi / 6 + rng.uniform(0, 6))
        field = np.tile(wave, (side, 1)) if upright else np.tile(wave[:, None], (1, side))
        image = 128 + 60 * field[..., None] * rng.uniform(0.5, 1, 3) + rng.normal(0, 8, 3)
        found.append(np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8))
    return found


REAL = {"along": stripes(40, upright=True, seed=0), "across": stripes(40, upright=False, seed=1)}


@pytest.fixture(scope="module")
def features() -> PatchFeatures:
    return PatchFeatures.fit([image for images in REAL.values() for image in images])


def test_rows_are_of_length_1_and_finite(features: PatchFeatures) -> None:
    rows = features.embed(REAL["along"])
    assert rows.shape == (40, 1024)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(40), abs=1e-5)


def test_an_image_has_its_row_whatever_is_embedded_beside_it(features: PatchFeatures) -> None:
    rows = features.embed(REAL["along"])
    assert features.embed(REAL["along"][3:4])[0] == pytest.approx(rows[3], abs=1e-5)


def test_the_same_images_give_the_same_filters() -> None:
    one, other = (PatchFeatures.fit(REAL["along"]) for _ in range(2))
    assert np.array_equal(one.embed(REAL["across"]), other.embed(REAL["across"]))
    assert not np.array_equal(one.filters, PatchFeatures.fit(REAL["along"], seed=1).filters)


def test_what_is_made_of_a_class_in_anothers_manner_falls_short(features: PatchFeatures) -> None:
    """Half of the images of one class look like the other's."""
    real = {name: features.embed(images) for name, images in REAL.items()}
    good = {
        "along": features.embed(stripes(40, upright=True, seed=2)),
        "across": features.embed(stripes(40, upright=False, seed=3)),
    }
    found = recall_shortfalls(real=real, synthetic=good)
    assert [abs(its.value) < 0.05 for its in found.values()] == [True, True]
    wrong = {**good, "across": good["along"][::-1]}
    found = recall_shortfalls(real=real, synthetic=wrong)
    assert found["across"].value + found["along"].value > 0.4


def test_images_of_any_size_and_of_one_colour_have_rows(features: PatchFeatures) -> None:
    flat = np.full((64, 48, 3), 90, dtype=np.uint8)
    tiny = np.zeros((5, 9, 3), dtype=np.uint8)
    assert np.isfinite(features.embed([flat, tiny])).all()
    assert np.isfinite(PatchFeatures.fit([flat, flat]).embed([flat])).all()
