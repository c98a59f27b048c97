from __future__ import annotations

import itertools

import modes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapclose.loop.errors import SeedsExhaustedError
from gapclose.loop.search.seeds import (
    FOLD,
    FOLDS,
    POOLS,
    RUN,
    TRIAL,
    TRIALS,
    VALIDATION,
    VALIDATIONS,
    SeedBlocks,
)

MOST_TRIALS = (FOLDS - TRIALS) // TRIAL
MOST_FOLDS = (VALIDATIONS - FOLDS) // FOLD
MOST_DRAWS = (RUN - VALIDATIONS) // (POOLS * VALIDATION)

use = st.one_of(
    st.tuples(st.just("baseline"), st.just(0), st.integers(1, 5_000)),
    st.tuples(st.just("trial"), st.integers(1, MOST_TRIALS - 1), st.integers(1, TRIAL)),
    st.tuples(st.just("fold"), st.integers(0, MOST_FOLDS - 1), st.integers(1, 5_000)),
    st.tuples(st.just("pool"), st.integers(0, MOST_DRAWS * POOLS - 1), st.integers(1, 5_000)),
)


def seeds(run: int, what: tuple[str, int, int]) -> tuple[int, ...]:
    kind, number, images = what
    blocks = SeedBlocks(seed=run)
    if kind == "baseline":
        return blocks.baseline(images)
    if kind == "pool":
        draw, pool = divmod(number, POOLS)
        return blocks.validation(pool, draw, images)
    return blocks.trial(number, images) if kind == "trial" else blocks.fold(number, images)


@given(st.integers(0, 50), st.integers(0, 50), use, use)
def test_no_two_uses_share_a_seed(run: int, other: int, one: object, two: object) -> None:
    first, second = seeds(run, one), seeds(other, two)  # type: ignore[arg-type]
    assert len(first) == one[2]  # type: ignore[index]
    if (run, one[:2]) != (other, two[:2]):  # type: ignore[index]
        assert not {*first} & {*second}
    else:
        assert {*first} <= {*second} or {*second} <= {*first}


def test_exported_seeds_are_the_same_at_every_call_and_makeup_has_others() -> None:
    blocks = SeedBlocks(seed=0)
    first, again, makeup, other, run = (
        [*itertools.islice(seeds, 1000)]
        for seeds in (
            blocks.exported("frog"),
            blocks.exported("frog"),
            blocks.exported("frog", makeup=True),
            blocks.exported("toad"),
            SeedBlocks(seed=1).exported("frog"),
        )
    )
    assert first == again == [*range(first[0], first[0] + 1000)]
    assert len({*first, *makeup, *other, *run}) == 4000
    assert first[0] > RUN, "apart from all that a run of a small seed generates"
    assert makeup[0] - first[0] > 2**30, "no export is so large"


def test_a_block_that_is_too_small_is_an_error_and_no_overlap() -> None:
    blocks = SeedBlocks(seed=0)
    with pytest.raises(SeedsExhaustedError, match="a block has 1000 seeds"):
        blocks.trial(1, TRIAL + 1)
    with pytest.raises(SeedsExhaustedError, match="100001 images: a block has 100000 seeds"):
        blocks.fold(0, FOLD + 1)
    with pytest.raises(SeedsExhaustedError, match="trial 13000: a class has 13000 trials at most"):
        blocks.trial(MOST_TRIALS, 1)
    with pytest.raises(SeedsExhaustedError, match="fold 20: a class has 20 folds at most"):
        blocks.fold(MOST_FOLDS, 1)
    with pytest.raises(SeedsExhaustedError, match="draw 10: a validation has 10 at most"):
        blocks.validation(POOLS - 1, MOST_DRAWS, 1)
    with pytest.raises(SeedsExhaustedError, match="100001 images: a block has 100000 seeds"):
        blocks.validation(0, 0, VALIDATION + 1)


def test_what_a_search_proposes_is_none_of_a_folds() -> None:
    search = modes.make_search(modes.mixed({"brown": 1.0}, 40, np.random.default_rng(0)))
    proposal = modes.propose(search, settings_trials=4)
    used = {seed for _, block in proposal.jobs for seed in block}
    assert used
    blocks = SeedBlocks(seed=0)
    assert not used & {*blocks.fold(0, 200), *blocks.validation(0, 0, 200)}
