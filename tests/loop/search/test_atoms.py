"""Atoms: recipes with their images, and the mixture that is made of them."""

from __future__ import annotations

from dataclasses import replace

import modes
import numpy as np
import pytest

from gapclose.analysis.kernel import Kernel
from gapclose.generators.recipe import Camera
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.trial import Images, Mixture

SPACE = modes.make_space(guidance_scale=[1.0, 9.0])
LOST, WON = {"guidance_scale": 3.0}, {"guidance_scale": 5.0}


def empty() -> Atoms:
    real = modes.mixed({"brown": 0.6, "gray": 0.4}, 100, np.random.default_rng(0))
    return Atoms(AtomBank(kernel=Kernel.fit(real), real=real))


def keep(atoms: Atoms, word: str, n: int, *, first: int, guidance: float = 3.0) -> int | None:
    params = {"color": word, "guidance_scale": guidance}
    rows = modes.rows_of(word, n, np.random.default_rng(first))
    return atoms.keep(SPACE.recipe(params), modes.taken(rows, range(first, first + n)), params)


def filled() -> Atoms:
    atoms = empty()
    rows = modes.rows_of("plain", 6, np.random.default_rng(9))
    atoms.keep(SPACE.baseline, modes.taken(rows, range(6)))
    for number, word in enumerate(("brown", "gray")):
        keep(atoms, word, 20, first=100 * (number + 1))
    atoms.refit()
    return atoms


def test_images_of_one_recipe_are_one_atom() -> None:
    atoms = filled()
    assert keep(atoms, "gray", 3, first=500) == 2
    assert keep(atoms, "red", 2, first=600) == 3
    assert atoms.bank.sizes.tolist() == [6, 20, 23, 2]
    assert [recipe.draw.prompt for recipe, _ in atoms.drawn()] == [
        "a plain frog", "a brown frog", "a gray frog", "a red frog"
    ]  # fmt: skip
    assert atoms.drawn()[2][1] == (*range(200, 220), 500, 501, 502)


def test_one_image_of_a_new_recipe_is_lost_and_one_of_a_known_is_not() -> None:
    atoms = filled()
    assert keep(atoms, "red", 1, first=600) is None
    assert keep(atoms, "red", 0, first=600) is None
    assert keep(atoms, "gray", 1, first=700) == 2
    assert keep(atoms, "gray", 0, first=800) == 2
    assert len(atoms.bank) == 3


def test_a_recipe_is_tried_by_the_first_trial_that_names_it() -> None:
    atoms = empty()
    params = {"color": "brown", "guidance_scale": 3.0}
    recipe, rows = SPACE.recipe(params), modes.rows_of("brown", 4, np.random.default_rng(0))
    atoms.keep(recipe, modes.taken(rows[:2], [1, 2]))
    assert atoms.tried() == []
    atoms.keep(recipe, modes.taken(rows[2:3], [3]), params)
    atoms.keep(recipe, modes.taken(rows[3:], [4]), {"color": "brown"})
    assert atoms.tried() == [(params, 0)]


def test_before_a_fit_there_are_no_weights() -> None:
    atoms = empty()
    assert not atoms.fitted
    assert atoms.history() == []
    with pytest.raises(AssertionError, match="nothing has been fitted"):
        _ = atoms.weights


def test_a_fit_starts_from_the_last_one() -> None:
    atoms = filled()
    before = atoms.weights
    keep(atoms, "red", 4, first=600)
    assert len(before) == len(atoms.bank) - 1
    atoms.refit()
    np.testing.assert_array_equal(
        atoms.weights, atoms.bank.fit(start=np.append(before, 0.0)).tolist()
    )


def test_scores_are_those_of_what_trials_tried() -> None:
    atoms = filled()
    scores = atoms.bank.scores(atoms.weights)
    told = [(past.params["color"], past.value) for past in atoms.history()]
    assert told == [("brown", scores[1]), ("gray", scores[2])]
    assert atoms.score(2) == scores[2]
    assert atoms.gap() == atoms.bank.gap(atoms.weights)


def shares(mixture: Mixture) -> dict[tuple[str, float], float]:
    return {
        (modes.word_of(recipe), recipe.draw.guidance_scale): weight
        for recipe, weight in zip(mixture.recipes, mixture.weights, strict=True)
    }


def test_the_mixture_has_the_weights_largest_first_and_no_gap() -> None:
    atoms = filled()
    mixture = atoms.mixture(SPACE, lost=LOST, won=LOST)
    assert np.isnan(mixture.gap_tune)
    assert sum(mixture.weights) == pytest.approx(1.0)
    assert [*mixture.weights] == sorted(mixture.weights, reverse=True)
    assert shares(mixture)["brown", 3.0] == pytest.approx(0.6, abs=0.1)
    weights = atoms.weight_by(lambda draw: draw.prompt)
    assert weights["a brown frog"] == pytest.approx(atoms.weights[1])
    assert sum(weights.values()) == pytest.approx(1.0)


def test_prompts_move_to_the_settings_that_won_unless_they_are_there() -> None:
    atoms = filled()
    assert {word for word, g in shares(atoms.mixture(SPACE, lost=LOST, won=WON)) if g == 5.0} == {
        "brown", "gray"
    }  # fmt: skip
    keep(atoms, "brown", 20, first=900, guidance=5.0)
    atoms.refit()
    moved = shares(atoms.mixture(SPACE, lost=LOST, won=WON))
    # Both brown recipes have images, so each has its own weight; gray has none at 5.
    assert ("gray", 5.0) in moved
    assert ("gray", 3.0) not in moved
    still = shares(atoms.mixture(SPACE, lost=LOST, won=LOST))
    assert {key: moved.get(key) for key in still if key[0] == "brown"} == {
        key: weight for key, weight in still.items() if key[0] == "brown"
    }


def test_a_sample_is_by_weight_and_of_images_that_exist() -> None:
    atoms = filled()
    sample = atoms.sample(10)
    assert sum(len(seeds) for _, seeds in sample) == 10
    drawn = dict(atoms.drawn())
    for recipe, seeds in sample:
        assert seeds == drawn[recipe][: len(seeds)]


def test_under_a_camera_all_is_as_it_was_but_the_camera() -> None:
    atoms, camera = filled(), Camera(noise=0.02)
    rows = np.concatenate([atoms.bank.rows_of(number)[0] for number in range(3)])
    jobs = [job for job, (_, seeds) in enumerate(atoms.drawn()) for _ in seeds]
    seeds = [seed for _, its in atoms.drawn() for seed in its]
    images = Images(embeddings=rows, recipes=tuple(jobs), seeds=tuple(seeds))
    moved = atoms.under(camera, images)
    assert moved.drawn() == [(replace(r, camera=camera), its) for r, its in atoms.drawn()]
    assert moved.tried() == atoms.tried()
    np.testing.assert_allclose(moved.weights, atoms.weights, atol=1e-3)
    nothing = Images(embeddings=rows[:0], recipes=(), seeds=())
    assert not empty().under(camera, nothing).fitted


def test_captions_of_all_photos_carry_the_weight_at_whichever_settings_fit() -> None:
    rng, found = np.random.default_rng(1), empty()
    found.keep(SPACE.baseline, modes.taken(modes.rows_of("plain", 60, rng), range(60)))
    draw = replace(SPACE.baseline.draw, prompt="{captions of all photos}", photos="0a" * 8)
    good = modes.mixed({"brown": 0.6, "gray": 0.4}, 40, rng)
    for guidance, rows in ((3.0, modes.rows_of("blue", 40, rng)), (5.0, good)):
        recipe = replace(SPACE.baseline, draw=replace(draw, guidance_scale=guidance))
        found.keep(recipe, modes.taken(rows, range(200, 240)))
    part = replace(SPACE.baseline, draw=replace(draw, prompt="{captions of group 1}"))
    found.keep(part, modes.taken(modes.rows_of("brown", 8, rng), range(100, 108)))
    found.refit()
    assert found.weights[0] == found.weights[3] == 0.0
    assert found.weights[2] > 0.8
