"""The balance: new recipes while they promise more an image, within bounds."""

from __future__ import annotations

import modes
import numpy as np
import pytest

from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.balance import LEAST_SHARE, LEAST_UNTRIED, MOST_SHARE, Balance


@pytest.fixture
def atoms() -> Atoms:
    """Two recipes of thirty images each that are all that the photos show."""
    rng = np.random.default_rng(0)
    real = modes.mixed({"brown": 0.5, "gray": 0.5}, 80, rng)
    found, space = Atoms(AtomBank(kernel=Kernel.fit(real), real=real)), modes.make_space()
    for number, word in enumerate(("brown", "gray")):
        seeds = range(100 * number, 100 * number + 30)
        found.keep(space.recipe({"color": word}), modes.taken(modes.rows_of(word, 30, rng), seeds))
    found.refit()
    return found


def told(explored: int, exploited: int, promise: float | None = 0.0) -> Balance:
    balance = Balance()
    if explored:
        balance.note_recipe(explored, promise)
    if exploited:
        balance.note_mixture(exploited)
    return balance


def test_the_mixture_is_measured_before_anything_new(atoms: Atoms) -> None:
    ask = {"atoms": atoms, "gap": 1.0, "images_per_trial": 8, "untried": False}
    assert not told(0, 0).explores(**ask)  # type: ignore[arg-type]
    assert told(0, 40).explores(**ask)  # type: ignore[arg-type]
    assert not told(8, 0).explores(**ask)  # type: ignore[arg-type]


@pytest.mark.parametrize("untried", [False, True])
@pytest.mark.parametrize("promise", [-1.0, 1.0])
def test_neither_gets_less_than_its_share(atoms: Atoms, untried: bool, promise: float) -> None:
    least = LEAST_UNTRIED if untried else LEAST_SHARE
    for share, wanted in ((least - 0.02, True), (least + MOST_SHARE + 0.02, False)):
        explored = round(1000 * share)
        balance = told(explored, 1000 - explored, promise)
        assert balance.explores(atoms, 1.0, 8, untried=untried) is wanted


def test_between_the_bounds_whichever_gains_more_an_image(atoms: Atoms) -> None:
    flattered = 0.12  # of 60 images: 0.002 an image
    gap = atoms.gap() + flattered
    for promise, wanted in ((0.018, True), (0.014, False), (-1.0, False)):
        assert told(250, 750, promise).explores(atoms, gap, 8, untried=False) is wanted
    # Too few images to promise anything promise nothing.
    assert not told(250, 750, None).explores(atoms, gap, 8, untried=False)
    assert not told(250, 750, 0.0).explores(atoms, atoms.gap() - 1.0, 8, untried=False)


def test_only_the_last_recipes_are_remembered(atoms: Atoms) -> None:
    balance = told(100, 750, 100.0)
    for _ in range(8):
        balance.note_recipe(18, 0.0)
    assert not balance.explores(atoms, atoms.gap() + 0.12, 8, untried=False)
