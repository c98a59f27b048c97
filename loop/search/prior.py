"""The prompt prior: how often each word of the search space is true of the real images.

`search` tries prompts in this order first. Without a text encoder there is no prior, and the
search begins with a screen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.embedding import Embedder, TextEmbedder
from gapclose.loop.config.values import template_slots
from gapclose.loop.search.space import Space

Shares = dict[str, dict[str, float]]
"""Slot -> word -> share, each slot summing to 1."""

DOUBT = 0.1
"""Share of every slot that is spread evenly: text encoders err, no word may be impossible."""


def word_prior(space: Space, real: NDArray[np.float32], embedder: Embedder) -> Shares:
    """Estimate the shares of the space's words among real images by zero-shot classification.

    Args:
        space: Of the class.
        real: (n, d) embeddings of the class's real tune split, made by `embedder`.
        embedder: Its text side names the words.

    Returns:
        Shares of every slot, even where the embedder cannot separate its words; none without a
        text side.
    """
    if not isinstance(embedder, TextEmbedder):
        return {}
    shares: Shares = {}
    for slot, words in space.words.items():
        even = 1.0 / len(words)
        hits = word_hits(space, slot, real, embedder)
        if hits is None:
            shares[slot] = dict.fromkeys(words, even)
        else:
            n = len(real)
            shares[slot] = {w: (1 - DOUBT) * hits.get(w, 0) / n + DOUBT * even for w in words}
    return shares


def word_hits(
    space: Space, slot: str, rows: NDArray[np.float32], embedder: Embedder
) -> dict[str, int] | None:
    """Count the images that each named word of a slot fits best; None without evidence."""
    named = [w for w in space.words[slot] if w.strip()]
    if slot in ("noun", "prompt") or len(named) < 2 or not isinstance(embedder, TextEmbedder):
        return None
    # Not every template need hold the slot, and without it all texts would be the same.
    template = next(t for t in space.words["prompt"] if slot in template_slots(t))
    text = embedder.embed_text([space.prompt({"prompt": template, slot: w}) for w in named])
    winners = np.bincount(np.argmax(rows @ text.T, axis=1), minlength=len(named))
    return dict(zip(named, winners.tolist(), strict=True))
