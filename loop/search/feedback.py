"""Feedback: the prompts that would bring more of what a person tagged, and less of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.attributes import two_proportions
from gapclose.analysis.embedding import Embedder
from gapclose.analysis.significance import LEVEL
from gapclose.loop.config.values import template_slots
from gapclose.loop.search.prior import Shares, word_hits
from gapclose.loop.search.space import Space, shares_product

FEEDBACK_PROMPTS: Final = 4  # that a selection puts first, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a person tagged of one class.

    Attributes:
        cls: The class.
        images: How many.
        wanted: (n, d) embeddings of images that the generator should make.
        unwanted: (m, d) of images that it makes.
    """

    cls: str
    images: int
    wanted: NDArray[np.float32]
    unwanted: NDArray[np.float32]


def feedback_prompts(
    space: Space, prior: Shares, embedder: Embedder, selection: Selection
) -> list[dict[str, str]]:
    """Return the prompts that would bring more of some images, and less of others.

    In each slot the word whose share is highest above the unwanted images' is held, if chance
    does not explain it; of the prompts with all these words the likeliest come first.

    Args:
        space: Of the class.
        prior: `word_prior`.
        embedder: As for `word_prior`; without a text side there is nothing to go by.
        selection: What was tagged.

    Returns:
        At most `FEEDBACK_PROMPTS` combinations of words; none if no word tells the two apart.
    """
    n, m = len(selection.wanted), len(selection.unwanted)
    if not n or not m:
        return []
    held: dict[str, str] = {}
    for slot in space.words:
        more = word_hits(space, slot, selection.wanted, embedder)
        less = word_hits(space, slot, selection.unwanted, embedder)
        if more is None or less is None:
            continue
        word = max(more, key=lambda w: more[w] / n - less[w] / m)
        p = two_proportions(more[word], n, less[word], m)
        # Of a slot's words together: a handful of images differ by chance in most.
        if more[word] / n > less[word] / m and p * len(more) <= LEVEL:
            held[slot] = word
    if not held:
        return []
    # A template without a word's slot would not bring it.
    fitting = [
        words
        for words in space.prompts(prior, held=held)
        if held.keys() <= {*template_slots(words["prompt"])}
    ]
    shares = shares_product(prior, fitting)
    order = sorted(range(len(fitting)), key=lambda i: (-shares[i], i))
    return [fitting[i] for i in order[:FEEDBACK_PROMPTS]]
