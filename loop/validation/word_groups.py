"""Word groups: what photos of a class are told apart by, and the names of their groups.

The words are those that the search has, and what the config asks for besides: a group whose recall
is low says which words are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.attributes import DEFAULT_WORDS, prompt_for
from gapclose.analysis.embedding import TextEmbedder
from gapclose.loop.config.values import template_slots
from gapclose.loop.search.space import Space

__all__ = ["WordGroups", "read_groups", "word_groups"]

WordGroups = Mapping[str, tuple[str, ...]]
"""Word group -> a sentence for each of its words, two or more: "a photo of a brown frog"."""

_USUAL: Final = ("color", "background")  # where nobody says which


def word_groups(space: Space, attributes: Mapping[str, Sequence[str]]) -> WordGroups:
    """Return the word groups of a class: the slots of its prompts, and the config's attributes.

    Args:
        space: Of the class.
        attributes: Word group -> words; they come in place of a slot of that name.

    Returns:
        Colours and backgrounds where there is neither.
    """
    noun = space.words["noun"][0]
    found = {slot: _filled(space, slot) for slot in space.word_slots}
    found |= {group: _worded(group, words, noun) for group, words in attributes.items()}
    found = {group: sentences for group, sentences in found.items() if len(sentences) > 1}
    return found or {group: _worded(group, DEFAULT_WORDS[group], noun) for group in _USUAL}


def read_groups(
    rows: NDArray[np.float32], text: TextEmbedder, groups: WordGroups
) -> dict[str, list[str]]:
    """Name the group of each photo that fits it best, in each word group.

    Args:
        rows: (n, text.width) of the photos, by the embedder whose text side `text` is.
        text: The text encoder.
        groups: Of the photos' class.

    Returns:
        Word group -> n names, as "brown frog".
    """
    found = {}
    for group, sentences in groups.items():
        best = (rows @ text.embed_text(sentences).T).argmax(axis=1)
        found[group] = [_name(sentences[i]) for i in best]
    return found


def _filled(space: Space, slot: str) -> tuple[str, ...]:
    """Fill a slot with each of its words; other slots say nothing, where they can."""
    words = [word for word in space.words[slot] if word.strip()]
    holding = [t for t in space.words["prompt"] if slot in template_slots(t)]
    template = min(holding, key=lambda t: len(template_slots(t)))
    silent = {other: "" for other, choices in space.words.items() if "" in choices}
    return tuple(space.prompt({**silent, "prompt": template, slot: word}) for word in words)


def _worded(group: str, words: Sequence[str], noun: str) -> tuple[str, ...]:
    return tuple(prompt_for(group, word, noun) for word in dict.fromkeys(words))


def _name(sentence: str) -> str:
    """Name a group by its sentence: "brown frog"."""
    return sentence.removeprefix("a photo of ").removeprefix("an ").removeprefix("a ")
