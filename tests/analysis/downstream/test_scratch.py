"""Networks from scratch learn what can be learned, of images brought to one size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gapclose.analysis.downstream.classifier import Pixels, make_classifier
from gapclose.analysis.downstream.scratch import ScratchClassifier


def stripes(n: int, *, seed: int, side: int = 32) -> tuple[list[Pixels], np.ndarray]:
    """Bars across (0) or down (1), of any phase and colours, in noise: no pixel alone tells."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = []
    for label in labels:
        wave = np.sin(np.arange(side) * 2 * np.pi / 8 + rng.uniform(0, 6.28))
        grey = np.broadcast_to(wave[:, None] if label == 0 else wave, (side, side))
        shown = 128 + 50 * grey[:, :, None] * rng.choice([-1, 1], 3)
        images.append((shown + rng.normal(0, 20, (side, side, 3))).clip(0, 255).astype(np.uint8))
    return images, labels


def network(name: str, *, side: int = 32) -> ScratchClassifier:
    made = make_classifier(name, side=side, device="cpu")
    assert isinstance(made, ScratchClassifier)
    return made


@pytest.mark.parametrize("name", ["cnn", "lenet"])
def test_it_tells_two_easy_classes(name: str) -> None:
    images, labels = stripes(64, seed=0)
    unseen, truth = stripes(100, seed=1)
    classifier = network(name)
    told = classifier.fit(classifier.prepare(images), labels, classes=2, seed=0)
    assert (told(classifier.prepare(unseen)).argmax(axis=1) == truth).mean() > 0.9


def test_labels_at_random_teach_nothing() -> None:
    images, _ = stripes(64, seed=0)
    labels = np.random.default_rng(3).integers(0, 2, 64)
    unseen, truth = stripes(200, seed=1)
    classifier = network("cnn")
    told = classifier.fit(classifier.prepare(images), labels, classes=2, seed=0)
    assert (told(classifier.prepare(unseen)).argmax(axis=1) == truth).mean() < 0.75


@pytest.mark.parametrize("side", [48, 64])
def test_it_trains_at_other_sizes(side: int) -> None:
    images, labels = stripes(8, seed=0, side=side)
    classifier = replace(network("cnn", side=side), epochs=1)
    x = classifier.prepare(images)
    assert x.shape == (8, side, side, 3)
    assert classifier.fit(x, labels, classes=2, seed=0)(x).shape == (8, 2)


def test_an_image_of_the_size_stays_as_it_is() -> None:
    images, _ = stripes(3, seed=0)
    np.testing.assert_array_equal(network("cnn").prepare(images), np.stack(images))


def test_a_larger_image_is_averaged_over_areas_and_cut_in_the_middle() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    (row,) = network("cnn").prepare([image])
    areas = image[:, 8:72].reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(row - areas).max() <= 1


def test_predictions_do_not_depend_on_what_is_predicted_beside_them() -> None:
    images, labels = stripes(16, seed=0)
    classifier = replace(network("cnn"), epochs=1)
    x = classifier.prepare(images)
    told = classifier.fit(x, labels, classes=2, seed=0)
    np.testing.assert_allclose(told(x)[3:4], told(x[3:4]), atol=1e-5)
