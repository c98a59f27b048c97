"""The prompt prior: how often each word of the search space is true of the real images.

`search` tries prompts in this order first. Without a text encoder every word is as likely as
another, and the first prompts tried are a screen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.embedding import Embedder, TextEmbedder
from gapclose.loop.space import Space

Shares = dict[str, dict[str, float]]
"""Slot -> word -> share, each slot summing to 1."""

DOUBT = 0.1
"""Share of every slot that is spread evenly: text encoders err, no word may be impossible."""


def word_prior(
    space: Space,
    real: NDArray[np.float32],
    embedder: Embedder,
    *,
    first: Mapping[str, str] | None = None,
) -> Shares:
    """Shares of the space's words among real images, by zero-shot classification.

    Args:
        space: Of the class.
        real: (n, d) embeddings of the class's real tune split, made by `embedder`.
        embedder: Its text side names the words; an embedder without one gives even shares.
        first: Slot -> word to put first (half of the slot's share), for what a person pointed at.
    """
    shares: Shares = {}
    for slot, words in space.words.items():
        even = 1.0 / len(words)
        named = [w for w in words if w.strip()]
        if slot in ("noun", "prompt") or len(named) < 2 or not isinstance(embedder, TextEmbedder):
            shares[slot] = dict.fromkeys(words, even)
            continue
        text = embedder.embed_text([space.prompt({slot: word}) for word in named])
        winners = np.bincount(np.argmax(real @ text.T, axis=1), minlength=len(named))
        seen = dict(zip(named, winners / winners.sum(), strict=True))
        shares[slot] = {w: (1 - DOUBT) * float(seen.get(w, 0.0)) + DOUBT * even for w in words}
    for slot, word in (first or {}).items():
        if word in shares.get(slot, {}):
            halved = {w: 0.5 * s for w, s in shares[slot].items()}
            shares[slot] = halved | {word: halved[word] + 0.5}
    return shares
