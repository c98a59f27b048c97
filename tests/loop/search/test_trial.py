"""Trials as values: what is written down is what is read, and a mixture's sample is one."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import modes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapclose.analysis.gap import mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.trial import Images, Mixture

SPACE = modes.make_space()
RECIPES = tuple(SPACE.recipe({"color": word}) for word in modes.WORDS)


@given(st.lists(st.integers(0, 3), max_size=20))
def test_images_are_shared_out_by_job(jobs: list[int]) -> None:
    rows = np.arange(len(jobs), dtype=np.float32)[:, None]
    numbers = range(len(jobs))
    images = Images(
        embeddings=rows,
        recipes=tuple(jobs),
        seeds=tuple(100 + i for i in numbers),
        copied=frozenset({101}),
        sources=tuple(200 + i for i in numbers),
    )
    found = [images.of_job(job) for job in range(5)]
    assert len(found[4]) == 0
    for job, mine in enumerate(found):
        assert mine.recipes == (job,) * len(mine)
        assert [seed - 100 for seed in mine.seeds] == [i for i in numbers if jobs[i] == job]
        assert mine.embeddings[:, 0].tolist() == [seed - 100 for seed in mine.seeds]
        assert mine.sources == tuple(100 + seed for seed in mine.seeds)
        assert mine.copied == images.copied
    assert replace(images, sources=()).of_job(0).sources == ()
    both = found[0].with_more(found[1])
    assert both.seeds == found[0].seeds + found[1].seeds
    assert both.sources == found[0].sources + found[1].sources
    assert len(both.embeddings) == len(both)


@pytest.mark.parametrize("gap", [0.25, -0.01, math.nan])
def test_mixtures_survive_json(gap: float) -> None:
    mixture = Mixture(recipes=RECIPES[:3], weights=(0.6, 0.399, 0.001), gap_tune=gap)
    text = json.dumps(mixture.to_json(), allow_nan=False)
    read = Mixture.from_json(json.loads(text))
    assert (read.recipes, read.weights) == (mixture.recipes, mixture.weights)
    assert read.gap_tune == gap or (math.isnan(gap) and math.isnan(read.gap_tune))
    assert json.loads(text)["effective"] == pytest.approx(1 / (0.36 + 0.399**2 + 1e-6))


@given(
    st.lists(st.floats(0.01, 1), min_size=1, max_size=5),
    st.integers(1, 300),
    st.integers(0, 10**6),
)
def test_each_seed_is_drawn_once(weights: list[float], n: int, first: int) -> None:
    mixture = Mixture(recipes=RECIPES[: len(weights)], weights=tuple(weights), gap_tune=0.0)
    jobs = mixture.jobs(range(first, first + n))
    assert jobs == mixture.jobs(range(first, first + n))
    assert [s for _, seeds in jobs for s in seeds] == list(range(first, first + n))
    assert all(seeds for _, seeds in jobs)  # nobody is asked for no image


def test_recipes_are_drawn_by_their_weights() -> None:
    mixture = Mixture(recipes=RECIPES[:3], weights=(0.6, 0.399, 0.001), gap_tune=0.25)
    counts = {recipe: len(seeds) for recipe, seeds in mixture.jobs(range(10_000))}
    for recipe, weight in zip(mixture.recipes, mixture.weights, strict=True):
        assert abs(counts[recipe] - 10_000 * weight) < 4 * np.sqrt(10_000 * weight)


def test_fresh_images_of_a_perfect_mixture_show_no_gap_in_the_mean() -> None:
    # In exact shares they would scatter less than a sample, and the gap be below 0.
    share = 1 / len(modes.WORDS)
    mixture = Mixture(recipes=RECIPES, weights=(share,) * len(RECIPES), gap_tune=0.0)
    even = dict.fromkeys(modes.WORDS, share)
    kernel = Kernel.fit(modes.mixed(even, 200, np.random.default_rng(0)))
    gaps = []
    for number in range(100):
        real = modes.sampled(even, 50, np.random.default_rng(number))
        drawn = modes.drawn_anew(mixture, 50, first=50 * number)
        gaps.append(mmd2(real=real, synthetic=drawn, kernel=kernel))
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / np.sqrt(len(gaps))
