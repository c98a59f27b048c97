"""The prompt prior: how often each word of the search space is true of the real images.

`search` tries prompts in this order first. Without a text encoder there is no prior, and the
search begins with a screen. What a person tagged in the App comes before.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.attributes import two_proportions
from gapclose.analysis.embedding import Embedder, TextEmbedder
from gapclose.loop.space import Space, shares_product

Shares = dict[str, dict[str, float]]
"""Slot -> word -> share, each slot summing to 1."""

DOUBT = 0.1
"""Share of every slot that is spread evenly: text encoders err, no word may be impossible."""


POINTED_PROMPTS: Final = 4
"""Prompts that a selection of a person's puts first, at most."""

_LEVEL: Final = 0.05  # of a slot's words together: a handful of images differ by chance in most


def word_prior(space: Space, real: NDArray[np.float32], embedder: Embedder) -> Shares:
    """Shares of the space's words among real images, by zero-shot classification.

    Args:
        space: Of the class.
        real: (n, d) embeddings of the class's real tune split, made by `embedder`.
        embedder: Its text side names the words.

    Returns:
        Shares of every slot, even where nothing tells the words apart; none without a text side.
    """
    if not isinstance(embedder, TextEmbedder):
        return {}
    shares: Shares = {}
    for slot, words in space.words.items():
        even = 1.0 / len(words)
        hits = _hits(space, slot, real, embedder)
        if hits is None:
            shares[slot] = dict.fromkeys(words, even)
        else:
            n = len(real)
            shares[slot] = {w: (1 - DOUBT) * hits.get(w, 0) / n + DOUBT * even for w in words}
    return shares


def pointed_prompts(
    space: Space,
    prior: Shares,
    embedder: Embedder,
    *,
    wanted: NDArray[np.float32],
    unwanted: NDArray[np.float32],
) -> list[dict[str, str]]:
    """The prompts that would bring more of some images, and less of others.

    In each slot the word whose share is highest above the unwanted images' is held, if chance
    does not explain it; of the prompts with all these words the likeliest come first.

    Args:
        space: Of the class.
        prior: `word_prior`.
        embedder: As for `word_prior`; without a text side there is nothing to go by.
        wanted: (n, d) embeddings of images that the generator should make.
        unwanted: (m, d) of images that it makes.

    Returns:
        At most `POINTED_PROMPTS` combinations of words; none if no word tells the two apart.
    """
    held: dict[str, str] = {}
    for slot in space.words:
        more, less = (_hits(space, slot, rows, embedder) for rows in (wanted, unwanted))
        if more is None or less is None:
            continue
        word = max(more, key=lambda w: more[w] / len(wanted) - less[w] / len(unwanted))
        p = two_proportions(more[word], len(wanted), less[word], len(unwanted))
        if more[word] / len(wanted) > less[word] / len(unwanted) and p * len(more) <= _LEVEL:
            held[slot] = word
    if not held:
        return []
    fitting = [w for w in space.prompts() if all(w[slot] == word for slot, word in held.items())]
    shares = shares_product(prior, fitting)
    order = sorted(range(len(fitting)), key=lambda i: (-shares[i], i))
    return [fitting[i] for i in order[:POINTED_PROMPTS]]


def _hits(
    space: Space, slot: str, rows: NDArray[np.float32], embedder: Embedder
) -> dict[str, int] | None:
    """How many images each named word of a slot fits best; None where nothing tells."""
    named = [w for w in space.words[slot] if w.strip()]
    if slot in ("noun", "prompt") or len(named) < 2 or not isinstance(embedder, TextEmbedder):
        return None
    text = embedder.embed_text([space.prompt({slot: word}) for word in named])
    winners = np.bincount(np.argmax(rows @ text.T, axis=1), minlength=len(named))
    return dict(zip(named, winners.tolist(), strict=True))
