"""Words: exact shares in a space built for it, tests against scipy's, and frogs of the pond."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import gapclose.analysis
from gapclose.analysis.attributes import (
    DEFAULT_WORDS,
    TEMPLATES,
    adjust,
    compare_words,
    corrected_shares,
    name_group,
    prompt_for,
    read_words,
    two_proportions,
)

POND_GROUPS = {
    "color": ("red", "green", "blue", "yellow", "brown", "gray", "white", "black"),
    "background": ("grass", "water", "sand", "snow", "road", "clay"),
}
AXES = ("green", "brown", "red", "grass", "sand")
GROUPS = {"color": ("green", "brown", "red"), "background": ("grass", "sand")}


class OneAxisPerWord:
    """A space with one axis per word: an image that holds the word lies on its axis."""

    id = "axes"
    width = len(AXES)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        raise NotImplementedError

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        table = [[float(axis in text.split()) for axis in AXES] for text in texts]
        return np.array(table, dtype=np.float32)


def images(**counts: int) -> NDArray[np.float32]:
    """Rows for `color_background=count`."""
    out = []
    for words, count in counts.items():
        row = [float(axis in words.split("_")) for axis in AXES]
        out += [row] * count
    points = np.array(out, dtype=np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_shares_are_counted_exactly() -> None:
    read = read_words(
        images(green_grass=6, brown_grass=2, brown_sand=2),
        OneAxisPerWord(),
        cls_noun="frog",
        groups=GROUPS,
    )
    assert np.bincount(read["color"], minlength=3).tolist() == [6, 4, 0]
    assert np.bincount(read["background"], minlength=2).tolist() == [8, 2]


def test_what_differs_comes_first() -> None:
    found = compare_words(
        real=images(green_grass=12, brown_grass=80, red_sand=8),
        synthetic=images(green_grass=90, green_sand=7, brown_sand=3),
        text=OneAxisPerWord(),
        noun="frog",
        groups=GROUPS,
    )
    first = found[0]
    assert (first.group, first.word) == ("color", "green")
    assert (first.real, first.synthetic) == (0.12, 0.97)
    assert first.q_value < 1e-9
    assert [row.word for row in found] == ["green", "brown", "red", "grass", "sand"]
    assert list(first.to_json())[:4] == ["group", "word", "real", "synthetic"]


def test_equal_sides_differ_in_no_word() -> None:
    side = images(green_grass=12, brown_grass=80, red_sand=8)
    found = compare_words(
        real=side, synthetic=side, text=OneAxisPerWord(), noun="frog", groups=GROUPS
    )
    assert {row.p_value for row in found} == {1.0}


def test_adjust_counts_the_words_of_the_whole_run() -> None:
    table = compare_words(
        real=images(green_grass=40, brown_grass=60),
        synthetic=images(green_grass=56, brown_grass=44),
        text=OneAxisPerWord(),
        noun="frog",
        groups={"color": ("green", "brown", "red")},
    )
    quiet = compare_words(
        real=images(green_grass=50, brown_grass=50),
        synthetic=images(green_grass=50, brown_grass=50),
        text=OneAxisPerWord(),
        noun="ship",
        groups={"color": ("green", "brown", "red")},
    )
    assert table[0].q_value < 0.05
    run = adjust([table, quiet, quiet])
    assert [len(rows) for rows in run] == [3, 3, 3]
    assert run[0][0].q_value == pytest.approx(3 * table[0].q_value)


def test_confusions_are_taken_out_of_the_shares() -> None:
    """An encoder that is calibrated but unsure: counting its best word flattens what is rare."""

    class Unsure(OneAxisPerWord):
        logit_scale = 1.0

    rng = np.random.default_rng(3)
    truth, n = np.array([0.8, 0.15, 0.05]), 6_000
    word = rng.choice(3, size=n, p=truth)
    # Gaussian evidence of width 1 about the word's axis: the softmax of x is the exact posterior.
    evidence = np.zeros((n, len(AXES)), dtype=np.float32)
    evidence[:, :3] = rng.normal(size=(n, 3))
    evidence[np.arange(n), word] += 1.5
    evidence *= 1.5
    colors = {"color": GROUPS["color"]}
    read = read_words(evidence, Unsure(), cls_noun="frog", groups=colors)["color"]
    shifted = corrected_shares(evidence, Unsure(), cls_noun="frog", groups=colors)["color"]
    for name, share in zip(GROUPS["color"], truth, strict=True):
        assert shifted[name] == pytest.approx(share, abs=0.03)
    assert (read == GROUPS["color"].index("red")).mean() > 0.05 + 0.05
    assert sum(shifted.values()) == pytest.approx(1.0)


def test_a_group_is_named_by_what_sets_it_apart() -> None:
    def named(inside: NDArray[np.float32], outside: NDArray[np.float32]) -> str:
        return name_group(
            inside=inside, outside=outside, text=OneAxisPerWord(), noun="frog", groups=GROUPS
        )

    others = images(brown_grass=60, red_grass=40)
    assert named(images(green_grass=30), others) == "green frog"
    assert named(images(green_sand=30, green_grass=4), others) == "green frog"  # and on sand
    assert named(images(brown_sand=30), others) == "frog on sand"
    assert named(images(brown_grass=18, red_grass=12), others) == "frog"  # like all others
    some = images(brown_grass=50, brown_sand=10, green_grass=10, red_grass=30)
    assert named(images(green_sand=2), some) == "frog"  # two may be chance
    assert named(images(green_sand=30), others[:0]) == "frog"


@pytest.mark.parametrize(
    ("a", "n", "b", "m"), [(3, 50, 0, 40), (1, 30, 4, 25), (0, 8, 8, 8), (2, 400, 4, 30)]
)
def test_small_counts_are_fishers(a: int, n: int, b: int, m: int) -> None:
    expected = stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue
    assert two_proportions(a, n, b, m) == pytest.approx(expected, rel=1e-6)


def test_large_counts_are_the_pooled_z() -> None:
    table = np.array([[60, 140], [90, 110]])
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert two_proportions(60, 200, 90, 200) == pytest.approx(expected, rel=1e-9)
    assert two_proportions(0, 50, 0, 60) == 1.0
    assert two_proportions(50, 50, 60, 60) == 1.0
    with pytest.raises(ValueError, match="between 0"):
        two_proportions(6, 5, 0, 5)
    with pytest.raises(ValueError, match="at least one image"):
        two_proportions(0, 0, 1, 5)


def test_equal_shares_are_rejected_at_the_level() -> None:
    random = np.random.default_rng(0)
    p_values = [
        two_proportions(int(a), 200, int(b), 150)
        for a, b in zip(
            random.binomial(200, 0.3, 2_000), random.binomial(150, 0.3, 2_000), strict=True
        )
    ]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.015)


def test_prompts_read_as_english() -> None:
    assert prompt_for("color", "green", "frog") == "a photo of a green frog"
    assert prompt_for("color", "orange", "frog") == "a photo of an orange frog"
    assert prompt_for("background", "snow", "airplane") == "a photo of an airplane on snow"
    assert prompt_for("weather", "rain", "automobile") == "a photo of an automobile, rain"
    assert set(TEMPLATES) == set(DEFAULT_WORDS)
    for group, words in DEFAULT_WORDS.items():
        prompts = {prompt_for(group, word, "frog") for word in words}
        assert len(prompts) == len(words) >= 2


def test_bad_groups_and_widths() -> None:
    side = images(green_grass=30)
    with pytest.raises(ValueError, match=r"attributes\.color: give at least two"):
        read_words(side, OneAxisPerWord(), cls_noun="frog", groups={"color": ["red"]})
    with pytest.raises(ValueError, match=r"attributes\.color"):
        read_words(side, OneAxisPerWord(), cls_noun="frog", groups={"color": ["red", "red"]})
    with pytest.raises(ValueError, match="width 3, words 5"):
        read_words(np.ones((4, 3)), OneAxisPerWord(), cls_noun="frog", groups=GROUPS)
    assert read_words(side, OneAxisPerWord(), cls_noun="frog", groups={}) == {}


@pytest.mark.slow
def test_green_frogs_of_the_pond_are_named_green() -> None:
    weights = Path(gapclose.analysis.__path__[0]) / "pond" / "clip"
    if not any(weights.glob("*.safetensors")):
        pytest.skip("the pond's CLIP is not trained yet: make pond")
    embedding = pytest.importorskip("gapclose.analysis.embedding")
    pond = pytest.importorskip("gapclose.generators.pond.renderer")
    photos = list(pond.real_photos("frog", range(1_600)))
    green = [image for scene, image in photos if scene.color == "green"][:100]
    clip = embedding.make_embedder("pond", device="cpu")
    assert isinstance(clip, embedding.TextEmbedder)
    real = [image for _, image in photos[:200]]
    found = compare_words(
        real=clip.embed(real),
        synthetic=clip.embed(green),
        text=clip,
        noun="frog",
        groups=POND_GROUPS,
    )
    assert found[0].word == "green"
    assert found[0].synthetic > 0.85
    assert found[0].q_value < 1e-6
    truth = np.mean([scene.color == "green" for scene, _ in photos[:200]])
    assert found[0].real == pytest.approx(truth, abs=0.1)
