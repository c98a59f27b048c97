from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pond_config import pond_config

from gapclose.analysis.attributes import DEFAULT_WORDS
from gapclose.analysis.embedding import TextEmbedder
from gapclose.loop.search.space import Space
from gapclose.loop.validation.word_groups import read_groups, word_groups


def groups(attributes: dict[str, Any] | None = None, name: str = "frog", **space: Any) -> Any:
    return word_groups(Space.of(pond_config(space=space), name), attributes or {})


def test_the_slots_of_the_prompts_are_the_groups() -> None:
    found = groups(
        prompt=["a {class}", "a photo of a {color} {class}{place}"],
        slots={
            "color": ["", "green", "orange"],
            "place": ["", " on grass", " in water"],
            "mood": ["", "sad"],
        },
    )
    assert found == {
        "color": ("a photo of a green frog", "a photo of an orange frog"),
        "place": ("a photo of a frog on grass", "a photo of a frog in water"),
    }, "one word alone is no group, and a slot that no prompt has is none either"


def test_a_template_of_its_own_says_a_slot_most_plainly() -> None:
    found = groups(
        prompt=["a {size} {color} {class}", "a {color} {class}"],
        slots={"color": ["green", "red"], "size": ["big", "small"]},
    )
    assert found["color"] == ("a green frog", "a red frog")


def test_attributes_are_groups_too_and_come_before_a_slot() -> None:
    slots = {"color": ["", "green", "brown"]}
    asked = {"color": ["pink", "grey"], "weather": ["in rain", "in fog"]}
    found = groups(asked, prompt="{color} {class}", slots=slots)
    assert found == {
        "color": ("a photo of a pink frog", "a photo of a grey frog"),
        "weather": ("a photo of a frog, in rain", "a photo of a frog, in fog"),
    }


def test_where_there_are_no_words_colours_and_backgrounds_are_read() -> None:
    found = groups(name="tree_frog")
    assert {*found} == {"color", "background"}
    assert len(found["color"]) == len(DEFAULT_WORDS["color"])
    assert "a photo of a tree frog on grass" in found["background"]


class Letters:
    """A text side in which a sentence lies on the axis of its first letter."""

    id, width = "letters", 26

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        raise NotImplementedError

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        words = [text.removeprefix("a photo of a ").split()[0] for text in texts]
        return np.eye(26, dtype=np.float32)[[ord(word[0]) - ord("a") for word in words]]


def test_each_photo_is_named_by_the_sentence_that_fits_it_best() -> None:
    text: TextEmbedder = Letters()
    rows = text.embed_text(["red", "green", "red"]) + 0.1
    sentences = {"color": ("a photo of a green frog", "a photo of a red frog")}
    assert read_groups(rows, text, sentences) == {"color": ["red frog", "green frog", "red frog"]}
