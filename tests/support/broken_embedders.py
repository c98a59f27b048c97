"""Embedders that each break one promise, and one that keeps them all, under the suite that ships.

tests/analysis/test_testing.py runs this file by itself: each `Test...` fails what `breaks` names.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis.testing import EmbedderContract, Make

Pixels = NDArray[np.uint8]
SIDE = 4


class Sound:
    """It keeps every promise: the pixels of a thumbnail, and the letters of a text."""

    id = "sound"
    width = 3 * SIDE**2

    def embed(self, images: Sequence[Pixels]) -> NDArray[Any]:
        rows = [self.row(image, images) for image in images]
        return np.stack(rows) if rows else np.zeros((0, self.width), np.float32)

    def row(self, image: Pixels, images: Sequence[Pixels]) -> NDArray[Any]:
        return unit(self.thumbnail(image).astype(np.float32).ravel() + 1.0)

    def thumbnail(self, image: Pixels) -> Pixels:
        return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX))

    def embed_text(self, texts: Sequence[str]) -> NDArray[Any]:
        rows = [self.text_row(text, texts) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.width), np.float32)

    def text_row(self, text: str, texts: Sequence[str]) -> NDArray[Any]:
        return unit(np.resize(np.frombuffer(text.encode(), np.uint8), self.width))


def unit(row: NDArray[Any]) -> NDArray[Any]:
    return (row / np.linalg.norm(row)).astype(np.float32)


class Contract(EmbedderContract):
    kind: ClassVar[type[Any]] = Sound
    breaks: ClassVar[set[str]] = set()

    @pytest.fixture
    def make(self) -> Make:
        return self.kind


class TestSound(Contract):
    pass


class TestNoWidth(Contract):
    breaks: ClassVar = {"it_has_what_an_embedder_has"}

    class kind(Sound):  # noqa: N801
        width: Any = "48"


class TestNoEmbedder(Contract):
    breaks: ClassVar = {"it_has_what_an_embedder_has"}
    kind: ClassVar = object


class TestRandomHead(Contract):
    """As a pooling layer that came without weights."""

    breaks: ClassVar = {"another_instance_gives_the_same_rows"}

    class kind(Sound):  # noqa: N801
        def __init__(self) -> None:
            self.head = np.random.default_rng().normal(size=self.width).astype(np.float32)

        def row(self, image: Pixels, images: Sequence[Pixels]) -> NDArray[Any]:
            return unit(super().row(image, images) * self.head)


class TestDouble(Contract):
    breaks: ClassVar = {"rows_are_float32_unit_and_as_wide_as_said"}

    class kind(Sound):  # noqa: N801
        def embed(self, images: Sequence[Pixels]) -> NDArray[Any]:
            return super().embed(images).astype(np.float64)


class TestUnscaled(Contract):
    breaks: ClassVar = {"rows_are_float32_unit_and_as_wide_as_said"}

    class kind(Sound):  # noqa: N801
        def embed(self, images: Sequence[Pixels]) -> NDArray[Any]:
            return 2.0 * super().embed(images)


class TestOtherWidth(Contract):
    breaks: ClassVar = {"rows_are_float32_unit_and_as_wide_as_said"}

    class kind(Sound):  # noqa: N801
        width = 7


class TestList(Contract):
    breaks: ClassVar = {"rows_are_float32_unit_and_as_wide_as_said"}

    class kind(Sound):  # noqa: N801
        def embed(self, images: Sequence[Pixels]) -> Any:
            return list(super().embed(images))


class TestNoImages(Contract):
    breaks: ClassVar = {"no_images_give_no_rows"}

    class kind(Sound):  # noqa: N801
        def embed(self, images: Sequence[Pixels]) -> NDArray[Any]:
            return super().embed(images) if images else np.zeros((0, 0), np.float32)


class TestOneSize(Contract):
    breaks: ClassVar = {"images_of_any_size_are_embedded"}

    class kind(Sound):  # noqa: N801
        def embed(self, images: Sequence[Pixels]) -> NDArray[Any]:
            np.stack(images or [np.zeros(0)])
            return super().embed(images)


class TestBlind(Contract):
    breaks: ClassVar = {"different_images_give_different_rows"}

    class kind(Sound):  # noqa: N801
        def row(self, image: Pixels, images: Sequence[Pixels]) -> NDArray[Any]:
            return unit(np.ones(self.width))


class TestNormalizedByBatch(Contract):
    breaks: ClassVar = {"a_row_does_not_depend_on_its_batch"}

    class kind(Sound):  # noqa: N801
        def row(self, image: Pixels, images: Sequence[Pixels]) -> NDArray[Any]:
            mean = np.mean([image.mean() for image in images])
            return unit(super().row(image, images) * 100.0 + mean)


class TestPosition(Contract):
    breaks: ClassVar = {"a_row_does_not_depend_on_the_order"}

    class kind(Sound):  # noqa: N801
        def embed(self, images: Sequence[Pixels]) -> NDArray[Any]:
            rows = super().embed(images)
            rows[1:] = rows[1:] + rows[:-1]
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class TestDropout(Contract):
    breaks: ClassVar = {"the_same_images_give_the_same_rows"}

    class kind(Sound):  # noqa: N801
        def row(self, image: Pixels, images: Sequence[Pixels]) -> NDArray[Any]:
            kept = np.random.default_rng().random(self.width) < 0.9
            return unit(super().row(image, images) * kept)


class TestInPlace(Contract):
    breaks: ClassVar = {"the_images_are_not_changed"}

    class kind(Sound):  # noqa: N801
        def row(self, image: Pixels, images: Sequence[Pixels]) -> NDArray[Any]:
            row = super().row(image, images)
            image //= 2
            return row


class TestAliased(Contract):
    breaks: ClassVar = {"resizing_is_antialiased"}

    class kind(Sound):  # noqa: N801
        def row(self, image: Pixels, images: Sequence[Pixels]) -> NDArray[Any]:
            small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            return unit(np.asarray(small).astype(np.float32).ravel() - 127.5)


class TestGlobalNumpyChanged(Contract):
    breaks: ClassVar = {"global_random_state_is_not_changed"}

    class kind(Sound):  # noqa: N801
        def embed(self, images: Sequence[Pixels]) -> NDArray[Any]:
            np.random.seed(0)  # noqa: NPY002
            return super().embed(images)


class TestGlobalRandomChanged(Contract):
    breaks: ClassVar = {"global_random_state_is_not_changed"}

    class kind(Sound):  # noqa: N801
        def embed(self, images: Sequence[Pixels]) -> NDArray[Any]:
            random.random()
            return super().embed(images)


class TestGlobalRandomRead(Contract):
    breaks: ClassVar = {"global_random_state_is_not_read"}

    class kind(Sound):  # noqa: N801
        def row(self, image: Pixels, images: Sequence[Pixels]) -> NDArray[Any]:
            noise = np.random.RandomState()
            noise.set_state(np.random.get_state())  # noqa: NPY002
            return unit(super().row(image, images) + noise.random(self.width))


class TestTextUnscaled(Contract):
    breaks: ClassVar = {"texts_are_rows_of_the_same_space"}

    class kind(Sound):  # noqa: N801
        def text_row(self, text: str, texts: Sequence[str]) -> NDArray[Any]:
            return np.float32(2.0) * super().text_row(text, texts)


class TestTextPadded(Contract):
    breaks: ClassVar = {"a_text_does_not_depend_on_its_batch"}

    class kind(Sound):  # noqa: N801
        def text_row(self, text: str, texts: Sequence[str]) -> NDArray[Any]:
            return super().text_row(text.ljust(max(map(len, texts))), texts)


class TestNoText(Contract):
    """Without a text side the tests of texts are skipped."""

    class kind:  # noqa: N801
        id, width = Sound.id, Sound.width

        def embed(self, images: Sequence[Pixels]) -> NDArray[Any]:
            return Sound().embed(images)
