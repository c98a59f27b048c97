"""Attributes: which words set a class's synthetic images apart from its real ones.

A text encoder that shares a space with the image embeddings picks, for every image and every group
of words (color, background, light ...), the word that fits best. An audit compares the shares of
the two sides; `gap.json` lists what differs and the search space can start from it. It needs a
text encoder, and it says nothing about groups it was not given: within a group some word always
wins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from gapclose.analysis.kernel import rows
from gapclose.analysis.significance import LEVEL, benjamini_hochberg, share_variance

if TYPE_CHECKING:
    from gapclose.analysis.embedding import TextEmbedder

__all__ = [
    "DEFAULT_WORDS",
    "TEMPLATES",
    "AttributeGap",
    "adjust",
    "compare_words",
    "corrected_shares",
    "name_group",
    "prompt_for",
    "read_words",
]

DEFAULT_WORDS: dict[str, tuple[str, ...]] = {
    "color": (
        "red",
        "orange",
        "yellow",
        "green",
        "blue",
        "purple",
        "brown",
        "gray",
        "black",
        "white",
    ),
    "background": (
        "grass",
        "leaves",
        "water",
        "sand",
        "snow",
        "a road",
        "rock",
        "mud",
        "the sky",
        "a plain background",
    ),
    "setting": ("indoors", "in a city", "in the wild", "in a studio", "at sea", "in the air"),
    "viewpoint": ("the front", "the side", "behind", "above", "below"),
    "orientation": ("left", "right", "the camera", "away"),
    "distance": ("close-up", "medium-distance", "far-away"),
    "light": ("bright", "dim", "harsh", "soft", "night-time"),
    "light direction": ("the left", "the right", "above", "behind"),
    "count": ("alone", "in a pair", "in a group", "in a crowd"),
    "medium": ("photo", "drawing", "painting", "3d render", "cartoon", "toy"),
}

TEMPLATES: dict[str, str] = {
    "color": "a photo of a {word} {noun}",
    "background": "a photo of a {noun} on {word}",
    "setting": "a photo of a {noun} {word}",
    "viewpoint": "a photo of a {noun} seen from {word}",
    "orientation": "a photo of a {noun} facing {word}",
    "distance": "a {word} photo of a {noun}",
    "light": "a photo of a {noun} in {word} light",
    "light direction": "a photo of a {noun} lit from {word}",
    "count": "a photo of a {noun} {word}",
    "medium": "a {word} of a {noun}",
}
_DEFAULT_TEMPLATE = "a photo of a {noun}, {word}"
NAMING_SHARE = 0.25
NAMING_LEVEL = 0.001
NAMING_SECOND = 0.8
LOGIT_SCALE = 100.0  # CLIP's trained temperature ends at its cap (arXiv 2103.00020, 2.5)
SHIFT_STEPS = 500
SHIFT_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeGap:
    """How often a word of a group fits best, on each side of one class.

    Attributes:
        group: as "color".
        word: as "green".
        real: share of real images, in [0, 1].
        synthetic: share of synthetic images, in [0, 1].
        real_corrected: the real share less the encoder's confusions (`corrected_shares`).
        synthetic_corrected: the same of the synthetic side.
        standard_error: of the difference synthetic - real.
        p_value: two-sided, of equal shares.
        q_value: Benjamini-Hochberg over the class's words, or the run's after `adjust`.
    """

    group: str
    word: str
    real: float
    synthetic: float
    real_corrected: float
    synthetic_corrected: float
    standard_error: float
    p_value: float
    q_value: float

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AttributeGap:
        """Read what `to_json` wrote."""
        return cls(**{field.name: value[field.name] for field in fields(cls)})

    def to_json(self) -> dict[str, str | float]:
        """Return the row as gap.json holds it."""
        return {
            "group": self.group,
            "word": self.word,
            "real": self.real,
            "synthetic": self.synthetic,
            "real_corrected": self.real_corrected,
            "synthetic_corrected": self.synthetic_corrected,
            "difference": self.synthetic - self.real,
            "standard_error": self.standard_error,
            "p_value": self.p_value,
            "q_value": self.q_value,
        }


def prompt_for(group: str, word: str, noun: str) -> str:
    """Word a sentence that stands for a word: the group's, or "a photo of a NOUN, WORD"."""
    sentence = TEMPLATES.get(group, _DEFAULT_TEMPLATE).format(word=word, noun=noun)
    sentence = " ".join(sentence.split())
    return re.sub(r"\ba (?=[aeiou])", "an ", sentence, flags=re.IGNORECASE)


def read_words(
    embeddings: ArrayLike,
    text: TextEmbedder,
    *,
    cls_noun: str,
    groups: Mapping[str, Sequence[str]],
) -> dict[str, NDArray[np.int64]]:
    """Find the word of each group that fits each image best: (n,) indices into its words.

    Args:
        embeddings: (n, text.width) unit rows, from the embedder whose text side `text` is.
        text: the text encoder.
        cls_noun: what the class is called, as "frog".
        groups: words by group; a group has at least two.

    Raises:
        ValueError: a group with fewer than two words or a word twice, two widths, or NaN.
    """
    fits = _similarities(embeddings, text, cls_noun=cls_noun, groups=groups)
    return {group: similarity.argmax(axis=1) for group, similarity in fits.items()}


def corrected_shares(
    embeddings: ArrayLike,
    text: TextEmbedder,
    *,
    cls_noun: str,
    groups: Mapping[str, Sequence[str]] = DEFAULT_WORDS,
) -> dict[str, dict[str, float]]:
    """Correct shares of words for the encoder's own errors in reading them.

    Counting the best word adds the encoder's confusions to the rare words. Here every image
    votes with its softmax over the words, the votes are weighed by the shares, and the shares are
    the mean votes, until nothing moves: expectation maximization for label shift (Saerens et al.
    2002, doi 10.1162/089976602753284446, eq. 2.9), from even shares. As good as the encoder is
    calibrated.

    Args:
        embeddings: (n, text.width) unit rows, from the embedder whose text side `text` is.
        text: the text encoder; its `logit_scale` if it has one.
        cls_noun: what the class is called.
        groups: words by group.

    Raises:
        ValueError: as `read_words`.
    """
    scale = float(getattr(text, "logit_scale", LOGIT_SCALE))
    out: dict[str, dict[str, float]] = {}
    fits = _similarities(embeddings, text, cls_noun=cls_noun, groups=groups)
    for group, similarity in fits.items():
        votes = softmax(scale * similarity.astype(np.float64), axis=1)
        shares = np.full(votes.shape[1], 1.0 / votes.shape[1])
        for _ in range(SHIFT_STEPS):
            weighed = votes * shares
            weighed /= weighed.sum(axis=1, keepdims=True)
            before, shares = shares, weighed.mean(axis=0)
            if np.abs(shares - before).max() < SHIFT_TOLERANCE:
                break
        out[group] = dict(zip(groups[group], map(float, shares), strict=True))
    return out


def _similarities(
    embeddings: ArrayLike,
    text: TextEmbedder,
    *,
    cls_noun: str,
    groups: Mapping[str, Sequence[str]],
) -> dict[str, NDArray[np.float32]]:
    """Compute the cosines (n, words) of every image with every word of each group."""
    images = rows(embeddings)
    prompts: list[str] = []
    for group, words in groups.items():
        if len(words) < 2 or len(set(words)) < len(words):
            raise ValueError(
                f"attributes.{group}: give at least two different words, not {list(words)}"
            )
        prompts += [prompt_for(group, word, cls_noun) for word in words]
    if not prompts:
        return {}
    sentences = rows(text.embed_text(prompts), "text")
    if sentences.shape[1] != images.shape[1]:
        raise ValueError(
            f"images have width {images.shape[1]}, words {sentences.shape[1]}: "
            "embed both with one model"
        )
    similarity = images @ sentences.T
    out: dict[str, NDArray[np.float32]] = {}
    start = 0
    for group, words in groups.items():
        out[group] = similarity[:, start : start + len(words)]
        start += len(words)
    return out


def name_group(
    *,
    inside: ArrayLike,
    outside: ArrayLike,
    text: TextEmbedder,
    noun: str,
    groups: Mapping[str, Sequence[str]] = DEFAULT_WORDS,
) -> str:
    """Name some images of a class by the words that set them apart: "green frog".

    Of the words whose share differs most from the class's other images (4/5 of the largest
    difference or more), the one of the first group: groups go from the plainest to see to the
    faintest. A word must fit more than half of the images, its share be higher than outside by a
    quarter of all, and not by chance (p <= 0.001). Where no word is so, the noun.

    Args:
        inside: (n, text.width) the images to name.
        outside: (m, text.width) the other images of the class; may be empty.
        text: the text encoder of the embedder that made both.
        noun: what the class is called.
        groups: words by group.

    Raises:
        ValueError: as `read_words`.
    """
    if len(np.asarray(outside)) == 0:
        return noun
    ours = read_words(inside, text, cls_noun=noun, groups=groups)
    others = read_words(outside, text, cls_noun=noun, groups=groups)
    telling: list[tuple[float, str, str]] = []
    for group, words in groups.items():
        n, m = len(ours[group]), len(others[group])
        for i, word in enumerate(words):
            hits, elsewhere = int((ours[group] == i).sum()), int((others[group] == i).sum())
            more = hits / n - elsewhere / m
            by_chance = two_proportions(elsewhere, m, hits, n)
            if hits > n / 2 and more > NAMING_SHARE and by_chance <= NAMING_LEVEL:
                telling.append((more, group, word))
    if not telling:
        return noun
    best = max(more for more, _, _ in telling)
    group, word = next((g, w) for more, g, w in telling if more >= NAMING_SECOND * best)
    sentence = prompt_for(group, word, noun).removeprefix("a photo of ")
    return sentence.removeprefix("an ").removeprefix("a ")


def compare_words(
    *,
    real: ArrayLike,
    synthetic: ArrayLike,
    text: TextEmbedder,
    noun: str,
    groups: Mapping[str, Sequence[str]] = DEFAULT_WORDS,
) -> list[AttributeGap]:
    """Compare every word of every group between the sides of one class.

    Words with q <= 0.05 come first, then by the size of the difference. `q_value` is over this
    class's words; `adjust` sets it over a run's.

    Args:
        real: (n_real, text.width).
        synthetic: (n_synthetic, text.width).
        text: the text encoder of the embedder that made both.
        noun: what the class is called.
        groups: words by group.

    Raises:
        ValueError: as `read_words`.
    """
    left = read_words(rows(real, "real"), text, cls_noun=noun, groups=groups)
    right = read_words(rows(synthetic, "synthetic"), text, cls_noun=noun, groups=groups)
    shifted = [
        corrected_shares(side, text, cls_noun=noun, groups=groups) for side in (real, synthetic)
    ]
    found: list[AttributeGap] = []
    for group, words in groups.items():
        n_real, n_synthetic = len(left[group]), len(right[group])
        for i, word in enumerate(words):
            hits_real = int((left[group] == i).sum())
            hits_synthetic = int((right[group] == i).sum())
            ours, theirs = hits_real / n_real, hits_synthetic / n_synthetic
            variances = [
                share_variance(hits_real, n_real),
                share_variance(hits_synthetic, n_synthetic),
            ]
            found.append(
                AttributeGap(
                    group=group,
                    word=word,
                    real=ours,
                    synthetic=theirs,
                    real_corrected=shifted[0][group][word],
                    synthetic_corrected=shifted[1][group][word],
                    standard_error=math.sqrt(sum(variances)),
                    p_value=two_proportions(hits_real, n_real, hits_synthetic, n_synthetic),
                    q_value=1.0,
                )
            )
    return adjust([found])[0]


def adjust(classes: Sequence[Sequence[AttributeGap]]) -> list[list[AttributeGap]]:
    """Set q-values over all words of a run's classes together, and sort each table anew."""
    q_values = iter(benjamini_hochberg([row.p_value for table in classes for row in table]))
    tables = [[replace(row, q_value=next(q_values)) for row in table] for table in classes]
    return [sorted(table, key=_most_telling) for table in tables]


def two_proportions(hits_real: int, n_real: int, hits_synthetic: int, n_synthetic: int) -> float:
    """Test two shares for equality, two-sided: pooled z, or exact if a count is below 5.

    Raises:
        ValueError: no images on a side, or more hits than images.
    """
    if not (0 <= hits_real <= n_real and 0 <= hits_synthetic <= n_synthetic):
        raise ValueError("hits must lie between 0 and the number of images")
    if n_real == 0 or n_synthetic == 0:
        raise ValueError("shares need at least one image on each side")
    n, hits = n_real + n_synthetic, hits_real + hits_synthetic
    if hits in (0, n):
        return 1.0
    if min(n_real, n_synthetic) * min(hits, n - hits) / n < 5:
        return _fisher(hits_real, n_real, hits, n)
    pooled = hits / n
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n_real + 1 / n_synthetic))
    z = abs(hits_real / n_real - hits_synthetic / n_synthetic) / spread
    return math.erfc(z / math.sqrt(2))


def _fisher(hits_real: int, n_real: int, hits: int, n: int) -> float:
    """Sum the hypergeometric mass of every table at most as likely as the one seen."""

    def log_choose(a: int, b: int) -> float:
        return math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(a - b + 1)

    possible = range(max(0, hits - (n - n_real)), min(hits, n_real) + 1)
    logs = {x: log_choose(n_real, x) + log_choose(n - n_real, hits - x) for x in possible}
    # Tables of equal mass must tie; lgamma agrees to about 1e-12 here, scipy uses the same slack.
    seen = logs[hits_real] + 1e-7
    whole = log_choose(n, hits)
    return min(1.0, sum(math.exp(value - whole) for value in logs.values() if value <= seen))


def _most_telling(row: AttributeGap) -> tuple[bool, float, float, str, str]:
    return (
        row.q_value > LEVEL,
        -abs(row.real - row.synthetic),
        row.q_value,
        row.group,
        row.word,
    )
