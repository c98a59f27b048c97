"""Zero-shot: what class a text encoder reads in the images, and how sure it is.

The histogram that the first case was read from: CLIP was sure of the synthetic frogs and unsure of
the real ones. An audit and confirmation ask it. A text encoder has biases of its own, so the
agreement with the known labels of the real images stands beside every share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from gapclose.analysis.attributes import LOGIT_SCALE
from gapclose.analysis.kernel import rows

if TYPE_CHECKING:
    from gapclose.analysis.embedding import TextEmbedder

__all__ = ["BANDS", "ZeroShot", "read_labels", "zero_shot"]

BANDS = (0.3, 0.7)  # confidence: below, between, above


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShot:
    """How one class's images of one side are read.

    Attributes:
        agreement: share read as their own class.
        counts: label -> images read so, by confidence: below 0.3, to 0.7, above; the most
            frequent label first, labels that nothing was read as left out.
    """

    agreement: float
    counts: Mapping[str, tuple[int, int, int]]

    def to_json(self) -> dict[str, Any]:
        """Return it as gap.json holds it."""
        counts = {label: list(bands) for label, bands in self.counts.items()}
        return {"agreement": self.agreement, "counts": counts}


def zero_shot(
    embeddings: ArrayLike, text: TextEmbedder, *, cls: str, nouns: Mapping[str, str]
) -> ZeroShot:
    """Read images as one of the classes: softmax over "a photo of a NOUN" (arXiv 2103.00020, 3.1).

    Args:
        embeddings: (n, text.width) unit rows.
        text: the text encoder of the embedder that made them; its `logit_scale` if it has one.
        cls: the class of all of them, a key of `nouns`.
        nouns: class -> noun, of every class of the run; at least two.

    Raises:
        ValueError: fewer than two classes, two widths, no rows, or NaN.
    """
    read, sure = read_labels(embeddings, text, nouns=nouns)
    band = np.digitize(sure, BANDS)
    names = list(nouns)
    table = np.zeros((len(names), len(BANDS) + 1), dtype=np.int64)
    np.add.at(table, (read, band), 1)
    order = np.argsort(-table.sum(axis=1), kind="stable")
    return ZeroShot(
        agreement=float((read == names.index(cls)).mean()),
        counts={
            names[i]: (int(table[i, 0]), int(table[i, 1]), int(table[i, 2]))
            for i in order
            if table[i].any()
        },
    )


def read_labels(
    embeddings: ArrayLike, text: TextEmbedder, *, nouns: Mapping[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read each image as a class, and say how surely.

    Args:
        embeddings: (n, text.width) unit rows.
        text: as for `zero_shot`.
        nouns: class -> noun; at least two.

    Returns:
        (n,) places in `nouns`, and (n,) softmax probabilities of them, in (0, 1].

    Raises:
        ValueError: fewer than two classes, two widths, no rows, or NaN.
    """
    if len(nouns) < 2:
        raise ValueError("a zero-shot reading needs at least two classes to choose from")
    images = rows(embeddings)
    texts = text.embed_text([f"a photo of a {noun}" for noun in nouns.values()])
    if texts.shape[1] != images.shape[1]:
        raise ValueError(
            f"images have width {images.shape[1]}, words {texts.shape[1]}: "
            "embed both with one model"
        )
    scale = float(getattr(text, "logit_scale", LOGIT_SCALE))
    chances = softmax(scale * (images @ texts.T).astype(np.float64), axis=1)
    return chances.argmax(axis=1), chances.max(axis=1)
