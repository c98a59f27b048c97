"""Each generator alone: its best mixture, and its gap on images that were not fitted to."""

from __future__ import annotations

import math

import modes
import numpy as np
import pytest

from gapclose.analysis.kernel import Kernel
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.each_alone import each_alone, together
from gapclose.loop.search.trial import Images


def filled(*, images: int = 40) -> Atoms:
    """Real images are red and blue; one generator draws red and brown, another blue and gray."""
    rng = np.random.default_rng(0)
    real = modes.mixed({"red": 0.5, "blue": 0.5}, 300, rng)
    atoms = Atoms(AtomBank(Kernel.fit(real), real))
    seed = 0
    for generator, colours in (("one", ("red", "brown")), ("other", ("blue", "gray"))):
        for colour in colours:
            recipe = Recipe(draw=Draw(prompt=colour, generator=generator), camera=Camera())
            rows = modes.mixed({colour: 1.0}, images, rng)
            seeds = tuple(range(seed, seed + images))
            seed += images
            its = Images(embeddings=rows, recipes=(0,) * images, seeds=seeds)
            atoms.keep(recipe, its)
    atoms.refit()
    return atoms


def test_both_together_are_better_than_each_and_none_flatters_itself() -> None:
    atoms = filled()
    alone = each_alone(atoms, ["one", "other"])
    both = together(atoms)
    assert both < 0.1 * min(its.mixture.gap_tune for its in alone.values())
    assert both >= atoms.gap() - 1e-3
    for name, colour in (("one", "red"), ("other", "blue")):
        mixture = alone[name].mixture
        assert {its.draw.generator for its in mixture.recipes} == {name}
        assert mixture.recipes[0].draw.prompt == colour
        assert sum(mixture.weights) == pytest.approx(1.0)
        assert alone[name].images == 80


def test_one_that_has_drawn_nothing_is_left_out_and_too_few_images_say_nothing() -> None:
    assert {*each_alone(filled(), ["one", "third"])} == {"one"}
    few = filled(images=3)
    assert each_alone(few, ["one"]) == {}
    assert math.isnan(together(few))
