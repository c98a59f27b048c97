"""Every classifier of the table keeps the Protocol's promises; wrong names are refused."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gapclose.analysis.downstream.classifier import (
    CLASSIFIERS,
    SIDES,
    Classifier,
    Pixels,
    check_classifier,
    choose_side,
    make_classifier,
)
from gapclose.analysis.downstream.scratch import ScratchClassifier
from gapclose.analysis.embedding import unit_rows
from gapclose.analysis.errors import ClassifierError

NAMES = ("cnn", "lenet", "linear", "vgg16", "timm:test_resnet", "timm:test_vit")
LABELS = np.arange(12) % 2


class Colours:
    """An embedder of nine numbers: the mean colours of an image's three bands."""

    id = "colours"
    width = 9

    def embed(self, images: list[Pixels]) -> NDArray[np.float32]:
        bands = [np.array_split(image, 3) for image in images]
        rows = [[part.mean(axis=(0, 1)) for part in of_image] for of_image in bands]
        return unit_rows(np.reshape(rows, (len(images), 9)) + 1.0)


def pictures(n: int, *, seed: int = 0, side: int = 32) -> list[Pixels]:
    """Blocks of random colours; the odd ones are darker at the top."""
    blocks = np.random.default_rng(seed).integers(60, 256, (n, 4, 4, 3), dtype=np.uint8)
    blocks[1::2, :2] //= 3
    return [np.kron(b, np.ones((side // 4, side // 4, 1), np.uint8)) for b in blocks]


def make(name: str) -> Classifier:
    """A classifier that trains for one epoch."""
    if name.startswith("timm") and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    made = make_classifier(name, embedder=Colours(), device="cpu")
    return replace(made, epochs=1) if isinstance(made, ScratchClassifier) else made


@pytest.fixture(scope="module", params=NAMES)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    return make(request.param)


def test_the_whole_table_is_tested() -> None:
    assert {name.partition(":")[0] for name in NAMES} == {*CLASSIFIERS}


def test_it_is_a_classifier_named_as_in_the_report(
    classifier: Classifier, request: pytest.FixtureRequest
) -> None:
    assert isinstance(classifier, Classifier)
    name = request.node.callspec.params["classifier"]
    assert classifier.id == {"linear": "linear:colours"}.get(name, name)


def test_images_of_any_sizes_become_rows_that_do_not_depend_on_each_other(
    classifier: Classifier,
) -> None:
    shapes = ((32, 32), (48, 64), (200, 100), (8, 8))
    images = [np.full((*shape, 3), 90, np.uint8) for shape in shapes]
    images[1][:20] = 200
    kept = [image.copy() for image in images]
    together = classifier.prepare(images)
    assert len(together) == 4
    assert all(map(np.array_equal, images, kept))
    alone = np.concatenate([classifier.prepare([image]) for image in images])
    np.testing.assert_array_equal(together, alone)


def test_it_predicts_probabilities_also_of_a_class_without_images(classifier: Classifier) -> None:
    x = classifier.prepare(pictures(12))
    found = classifier.fit(x, 2 * LABELS, classes=4, seed=0)(x[:5])
    assert found.dtype == np.float32
    assert found.shape == (5, 4)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)
    assert (found >= 0).all()


def test_the_same_seed_gives_the_same_bits_and_no_global_state_matters(
    classifier: Classifier,
) -> None:
    x, unseen = classifier.prepare(pictures(12)), classifier.prepare(pictures(6, seed=1))
    found = []
    with torch.random.fork_rng():
        for outside in (1, 2):
            random.seed(outside)
            np.random.seed(outside)  # noqa: NPY002
            torch.manual_seed(outside)
            before = (random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state())  # noqa: NPY002
            found.append(classifier.fit(x, LABELS, classes=2, seed=5)(unseen))
            after = (random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state())  # noqa: NPY002
            assert before[:2] == after[:2]
            assert torch.equal(before[2], after[2])
    np.testing.assert_array_equal(*found)
    other = classifier.fit(x, LABELS, classes=2, seed=6)(unseen)
    assert np.array_equal(other, found[0]) == classifier.id.startswith("linear")


def test_an_image_left_over_by_the_batches_is_trained_on(classifier: Classifier) -> None:
    if classifier.id == "vgg16":
        pytest.skip("its maps are never 1x1 in front of a normalization; 65 images take seconds")
    x = classifier.prepare(pictures(65))
    assert classifier.fit(x, np.arange(65) % 2, classes=2, seed=0)(x).shape == (65, 2)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2], [0, -1, 1], [[0, 1, 1]]])
def test_labels_that_do_not_fit_are_refused(classifier: Classifier, labels: list[int]) -> None:
    with pytest.raises(ValueError, match="labels"):
        classifier.fit(classifier.prepare(pictures(3)), np.array(labels), classes=2, seed=0)


def test_one_image_is_refused(classifier: Classifier) -> None:
    with pytest.raises(ValueError, match="1 images"):
        classifier.fit(classifier.prepare(pictures(1)), np.array([0]), classes=2, seed=0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cnnn", "classifier 'cnnn': unknown; did you mean 'cnn'? Known: cnn, linear, lenet"),
        ("Linear:pond", "unknown; did you mean 'linear'?"),
        ("cnn:large", "takes no model; write cnn"),
        ("timm", "names no model; write timm:resnet18"),
        ("timm:resnet19", "timm has no such model; did you mean timm:resnet18?"),
        ("timm:hf-hub:someone/model", "timm has no such model"),
    ],
)
def test_a_wrong_name_is_told_in_one_line(name: str, said: str) -> None:
    for refuse in (check_classifier, make_classifier):
        with pytest.raises(ClassifierError) as told:
            refuse(name)
        assert said in str(told.value)
        assert "\n" not in str(told.value)


def test_a_right_name_passes() -> None:
    for name in NAMES:
        check_classifier(name)


def test_a_probe_without_an_embedder_is_refused() -> None:
    with pytest.raises(ClassifierError, match="'linear': needs an embedder"):
        make_classifier("linear")


def test_a_model_that_takes_no_such_images_is_refused() -> None:
    with pytest.raises(ClassifierError, match="cannot be trained on images of 40 pixels"):
        make_classifier("timm:test_vit", side=40)


def test_without_timm_its_models_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ClassifierError, match="'timm:resnet18': timm is not installed; pip"):
        check_classifier("timm:resnet18")


def test_asking_which_there_are_imports_no_network_library() -> None:
    code = (
        "import sys; from gapclose.analysis.downstream import classifier as c;"
        "c.check_classifier('vgg16');"
        "print([m for m in ('torch', 'timm', 'torchvision', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("shapes", "side"),
    [
        ([(32, 32), (512, 512)], 32),
        ([(50, 640)], 48),
        ([(256, 256), (64, 70)], 64),
        ([(20, 300)], SIDES[0]),
        ([], SIDES[0]),
    ],
)
def test_no_image_is_enlarged_that_need_not_be(shapes: list[tuple[int, int]], side: int) -> None:
    assert choose_side(np.zeros((*shape, 3), np.uint8) for shape in shapes) == side
