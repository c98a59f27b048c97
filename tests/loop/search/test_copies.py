"""Copies: a strength at which pictures are copied speaks against all lower ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.search.copies import Copies
from gapclose.loop.search.trial import Images, Mixture, Proposal


def noted(*seen: tuple[float | None, int, int]) -> Copies:
    """After trials of (strength, images, copies)."""
    copies, seed = Copies(), 0
    for strength, n, copied in seen:
        recipe = Recipe(draw=Draw(prompt="a frog", strength=strength), camera=Camera())
        seeds = tuple(range(seed, seed + n))
        seed += n
        images = Images(
            embeddings=np.zeros((n, 2), np.float32),
            recipes=(0,) * n,
            seeds=seeds,
            copied=frozenset(seeds[:copied]),
        )
        proposal = Proposal(number=0, stage="joint", params={}, jobs=((recipe, seeds),))
        copies.note(proposal, images)
    return copies


def test_what_is_lower_copies_too_and_what_is_higher_need_not() -> None:
    copies = noted((0.2, 8, 8), (0.5, 8, 3), (0.8, 8, 0))
    strengths = (0.1, 0.2, 0.4, 0.5, 0.8, 0.9)
    assert [copies.at(s) for s in strengths] == [True, True, True, True, False, False]
    assert not copies.at(0.51), "nothing was seen there, nor above"
    assert copies.least() == 0.8


def test_before_anything_is_seen_nothing_copies() -> None:
    assert not noted().at(0.1)
    assert not noted((0.1, 40, 0)).at(0.1)
    assert noted().least() == 1.0


def test_images_without_a_picture_copy_none() -> None:
    copies = noted((None, 8, 8), (0.2, 8, 8))
    assert not copies.at(None)
    assert copies.least() == 1.0


def test_what_may_be_chance_is_no_copying() -> None:
    assert not noted((0.8, 200, 1)).at(0.8)
    assert not noted((0.8, 200, 3)).at(0.8)
    assert noted((0.8, 200, 6)).at(0.8)
    assert not noted((0.8, 16, 1)).at(0.8)
    assert noted((0.8, 16, 2)).at(0.8)
    # Images at a higher strength do not excuse those at a lower one.
    assert noted((0.8, 8, 2), (0.9, 400, 0)).at(0.8)
    # Those at a lower one, of which none is a copy, do.
    assert not noted((0.8, 8, 2), (0.7, 400, 0)).at(0.8)
    # Copies at higher ones speak against lower ones.
    assert noted((0.8, 8, 1), (0.9, 8, 1)).at(0.8)
    assert not noted((0.8, 8, 1), (0.9, 8, 1)).at(0.9)


@given(
    st.lists(
        st.tuples(st.floats(0.05, 1.0), st.integers(1, 40), st.integers(0, 40)),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_is_seen_copying_ends_at_one_strength(
    seen: list[tuple[float, int, int]],
) -> None:
    copies = noted(*((s, n, min(n, c)) for s, n, c in seen))
    told = [copies.at(float(s)) for s in np.linspace(0.01, 1.0, 60)]
    assert told == sorted(told, reverse=True)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_trials_add_up(strength: float) -> None:
    assert not noted((strength, 100, 3)).at(strength)
    assert noted((strength, 100, 3), (strength, 100, 3)).at(strength)


def test_a_mixture_with_one_copying_recipe_copies() -> None:
    copies = noted((0.2, 8, 8), (0.8, 8, 0))

    def mixture(*strengths: float | None) -> Mixture:
        recipes = tuple(
            Recipe(draw=Draw(prompt="a frog", strength=s), camera=Camera()) for s in strengths
        )
        return Mixture(recipes=recipes, weights=(1 / len(recipes),) * len(recipes), gap_tune=0.0)

    assert copies.in_mixture(mixture(0.8, 0.1))
    assert not copies.in_mixture(mixture(0.8, None))
    assert not copies.in_mixture(None)
