"""Zero-shot readings in a space where every answer can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis.zeroshot import zero_shot

NOUNS = {"frog": "frog", "ship": "ship", "cat": "cat"}


class Axes:
    """One axis per class; cosines of 1 and 0, so that confidence is a known softmax."""

    id = "axes"
    width = 3
    logit_scale = 2.0

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        raise NotImplementedError

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        assert texts[0] == "a photo of a frog"
        return np.eye(3, dtype=np.float32)[: len(texts)]


def test_labels_and_bands_are_counted() -> None:
    # Softmax of (2, 0, 0) is 0.79 for the first; of equal cosines, 1/3; of (1.2, 1.2, 0), 0.43.
    sure = np.tile([1.0, 0.0, 0.0], (5, 1))
    unsure = np.tile([0.61, 0.6, 0.5], (2, 1))
    ship = np.tile([0.0, 1.0, 0.0], (3, 1))
    found = zero_shot(np.concatenate([sure, unsure, ship]), Axes(), cls="frog", nouns=NOUNS)
    assert found.agreement == 0.7
    assert found.counts == {"frog": (0, 2, 5), "ship": (0, 0, 3)}
    assert list(found.counts) == ["frog", "ship"]
    assert found.to_json()["counts"]["frog"] == [0, 2, 5]


def test_without_a_scale_of_its_own_it_takes_clips() -> None:
    class Plain(Axes):
        logit_scale: Any = None

        def __getattribute__(self, name: str) -> Any:
            if name == "logit_scale":
                raise AttributeError(name)
            return super().__getattribute__(name)

    found = zero_shot(np.tile([0.7, 0.6, 0.0], (4, 1)), Plain(), cls="frog", nouns=NOUNS)
    assert found.counts == {"frog": (0, 0, 4)}  # 10 logits apart


def test_bad_input_says_what() -> None:
    with pytest.raises(ValueError, match="at least two classes"):
        zero_shot(np.eye(3), Axes(), cls="frog", nouns={"frog": "frog"})
    with pytest.raises(ValueError, match="images have width 4, words 3"):
        zero_shot(np.eye(4), Axes(), cls="frog", nouns=NOUNS)
