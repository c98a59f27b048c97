from __future__ import annotations

import modes
import numpy as np
import pytest

from gapclose.analysis.embedding import make_embedder
from gapclose.generators.pond.renderer import real_photos
from gapclose.loop.config.reading import parse_config
from gapclose.loop.search.prior import DOUBT, word_prior
from gapclose.loop.search.space import Space

COLORS = ("", "red", "green", "yellow", "brown", "gray", "white", "blue", "black")


def test_shares_are_those_of_the_real_images_but_for_some_doubt() -> None:
    space = modes.make_space()
    real = modes.mixed({"brown": 0.7, "gray": 0.3}, 100, np.random.default_rng(0))
    shares = word_prior(space, real, modes.Reader())
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


def test_a_template_without_the_slot_says_nothing_of_its_words() -> None:
    real = modes.mixed({"brown": 0.7, "gray": 0.3}, 100, np.random.default_rng(0))
    of_one = word_prior(modes.make_space(), real, modes.Reader())
    space = modes.make_space(prompt=["a plain frog", "a {color} frog"])
    assert word_prior(space, real, modes.Reader())["color"] == of_one["color"]


def test_without_a_text_side_there_is_no_prior() -> None:
    real = modes.mixed({"brown": 1.0}, 20, np.random.default_rng(0))
    assert word_prior(modes.make_space(), real, modes.Blind()) == {}


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


def test_captions_of_all_photos_come_first_then_groups_by_their_photos() -> None:
    config = parse_config(
        {
            "real": {"path": "somewhere"},
            "generator": {"kind": "modes:Modes"},
            "embedder": "pond",
            "space": {
                "prompt": "a {color} frog",
                "slots": {"color": list(modes.WORDS)},
                "captions": "words",
            },
        }
    )
    photos = {"all photos": 40, "group 1": 30, "group 2": 10}
    space = Space.of(config, "frog", groups=dict.fromkeys(photos, "a" * 16))
    real = modes.mixed({"brown": 0.7, "gray": 0.3}, 100, np.random.default_rng(0))
    for embedder in (modes.Reader(), modes.Blind()):
        shares = word_prior(space, real, embedder, photos=photos)
        assert shares["photos"] == {"all photos": 0.5, "group 1": 0.375, "group 2": 0.125}
        assert shares["prompt"] == pytest.approx({"a {color} frog": 0.3, "{caption}": 0.7})
        for slot in shares.values():
            assert sum(slot.values()) == pytest.approx(1.0)
    read = word_prior(space, real, modes.Reader(), photos=photos)["color"]
    assert read["brown"] > read["gray"] > read["red"]
    assert {*shares["color"].values()} == {1 / len(modes.WORDS)}  # nobody reads them
    alone = word_prior(space, real, modes.Blind(), photos={"all photos": 40})
    assert alone["photos"] == {"all photos": 1.0}
