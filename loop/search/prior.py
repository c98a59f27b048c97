"""The prompt prior: how often each word of the search space is true of the real images.

`search` tries prompts in this order first. Without a text encoder there is no prior, and the
search begins with a screen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.embedding import Embedder, TextEmbedder
from gapclose.loop.config.values import template_slots
from gapclose.loop.run.photo_groups import ALL_PHOTOS
from gapclose.loop.search.space import PHOTOS, Space

Shares = dict[str, dict[str, float]]
"""Slot -> word -> share, each slot summing to 1."""

DOUBT: Final = 0.1
"""Share of every slot that is spread evenly: text encoders err, no word may be impossible."""
CAPTIONED: Final = 0.7
"""Share of the templates with captions, where others are words alone: all captions come first."""
ALL: Final = 0.5
"""Share of all photos together, beside that of their groups."""


def word_prior(
    space: Space,
    real: NDArray[np.float32],
    embedder: Embedder,
    *,
    photos: Mapping[str, int] | None = None,
) -> Shares:
    """Estimate the shares of the space's words among real images by zero-shot classification.

    Args:
        space: Of the class.
        real: (n, d) embeddings of the class's real tune split, made by `embedder`.
        embedder: Its text side names the words.
        photos: How many each photo group of the space has.

    Returns:
        Shares of every slot, even where the embedder cannot separate its words; none without a
        text side, unless there are photo groups.
    """
    if not isinstance(embedder, TextEmbedder) and not photos:
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
    if photos:
        shares[PHOTOS] = _group_shares(photos)
        shares["prompt"] = _template_shares(space)
    return shares


def _group_shares(photos: Mapping[str, int]) -> dict[str, float]:
    """Share a prior out among photo groups, by their photos."""
    if len(photos) == 1:
        return dict.fromkeys(photos, 1.0)
    total = sum(n for name, n in photos.items() if name != ALL_PHOTOS)
    return {
        name: ALL if name == ALL_PHOTOS else (1 - ALL) * n / total for name, n in photos.items()
    }


def _template_shares(space: Space) -> dict[str, float]:
    """Share a prior out among templates: what a photo shows says more than words of a list."""
    templates = space.words["prompt"]
    captioned = {template for template in templates if "caption" in template_slots(template)}
    n, m = len(captioned), len(templates) - len(captioned)
    if not n or not m:
        return dict.fromkeys(templates, 1.0 / len(templates))
    return {t: CAPTIONED / n if t in captioned else (1 - CAPTIONED) / m for t in templates}


def word_hits(
    space: Space, slot: str, rows: NDArray[np.float32], embedder: Embedder
) -> dict[str, int] | None:
    """Count the images that each named word of a slot fits best; None without evidence."""
    named = [w for w in space.words[slot] if w.strip()]
    words = read_words(space, slot, rows, embedder)
    return None if words is None else {word: words.count(word) for word in named}


def read_words(
    space: Space, slot: str, rows: NDArray[np.float32], embedder: Embedder
) -> list[str] | None:
    """Return the named word of a slot that each of (n, d) images fits best.

    Returns:
        n words; None without a text side, and of a slot with fewer than two named words.
    """
    named = [w for w in space.words[slot] if w.strip()]
    if slot not in space.word_slots or len(named) < 2 or not isinstance(embedder, TextEmbedder):
        return None
    # Not every template need hold the slot, and without it all texts would be the same.
    template = next(t for t in space.words["prompt"] if slot in template_slots(t))
    text = embedder.embed_text([space.prompt({"prompt": template, slot: w}) for w in named])
    return [named[best] for best in np.argmax(rows @ text.T, axis=1).tolist()]
