from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis.embedding import make_embedder
from gapclose.generators.pond import real_photos
from gapclose.loop.config import parse_config
from gapclose.loop.prior import DOUBT, pointed_prompts, word_prior
from gapclose.loop.space import Space

sys.path.insert(0, str(Path(__file__).parent))
import modes

COLORS = ("", "red", "green", "yellow", "brown", "gray", "white", "blue", "black")


class Blind:
    """An embedder without a text side."""

    id = "blind"
    width = modes.WIDTH

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        raise AssertionError("the prior embeds no image")


class Reader(Blind):
    """Its texts lie where the modes of their words do."""

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rng = np.random.default_rng(0)
        words = [next(w for w in text.split() if w in modes.WORDS) for text in texts]
        return np.concatenate([modes.rows_of(w, 1, rng, spread=0.0) for w in words])


def test_shares_are_those_of_the_real_images_but_for_some_doubt() -> None:
    space = modes.make_space()
    real = modes.mixed({"brown": 0.7, "gray": 0.3}, 100, np.random.default_rng(0))
    shares = word_prior(space, real, Reader())
    even = DOUBT / len(modes.WORDS)
    assert shares["color"] == pytest.approx(
        {
            "plain": even,
            "brown": 0.9 * 0.7 + even,
            "gray": 0.9 * 0.3 + even,
            "red": even,
            "blue": even,
        }
    )
    for slot in shares.values():
        assert sum(slot.values()) == pytest.approx(1.0)
        assert min(slot.values()) > 0


def test_without_a_text_side_there_is_no_prior() -> None:
    real = modes.mixed({"brown": 1.0}, 20, np.random.default_rng(0))
    assert word_prior(modes.make_space(), real, Blind()) == {}


def test_what_is_wanted_more_of_names_the_prompts_to_try() -> None:
    space = modes.make_space()
    rng = np.random.default_rng(0)
    real = modes.mixed({"brown": 0.6, "red": 0.4}, 60, rng)
    prior = word_prior(space, real, Reader())

    def pointed(wanted: dict[str, float], unwanted: dict[str, float]) -> list[dict[str, str]]:
        rows = {"wanted": modes.mixed(wanted, 40, rng), "unwanted": modes.mixed(unwanted, 40, rng)}
        return pointed_prompts(space, prior, Reader(), **rows)

    red = pointed({"brown": 0.5, "red": 0.5}, {"brown": 1.0})
    assert [prompt["color"] for prompt in red] == ["red"]
    assert pointed({"brown": 0.5, "red": 0.5}, {"brown": 0.5, "red": 0.5}) == []
    rows = modes.mixed({"red": 1.0}, 40, rng)
    assert pointed_prompts(space, prior, Blind(), wanted=rows, unwanted=real) == []


def test_the_ponds_clip_sees_the_colours_of_real_frogs() -> None:
    config = parse_config(
        {
            "real": {"kind": "pond"},
            "generator": {"kind": "diffusers", "model": "pond"},
            "embedder": "pond",
            "space": {"prompt": "a photo of a {color} {class}", "slots": {"color": list(COLORS)}},
        }
    )
    embedder = make_embedder("pond")
    scenes, frogs = zip(*real_photos("frog", range(150)), strict=True)
    shares = word_prior(Space.of(config, "frog"), embedder.embed(list(frogs)), embedder)
    for color in ("brown", "green", "gray"):
        truth = sum(scene.color == color for scene in scenes) / len(scenes)
        assert shares["color"][color] == pytest.approx(truth, abs=0.12), shares["color"]
