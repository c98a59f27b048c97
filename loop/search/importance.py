"""Importances: how much of what the trials of a class differ by is due to each parameter.

Diagnostics call it at the end of a run, for gap.json and the report. Optuna's evaluator answers,
on the scores as they stand now; nothing here steers the search.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.exceptions import ExperimentalWarning

from gapclose.loop.search.optuna_distributions import of_even
from gapclose.loop.search.optuna_record import Observation
from gapclose.loop.search.space import Space

__all__ = ["MIN_TRIALS", "importances", "parameter_importances"]

MIN_TRIALS: Final = 10
"""Of 10 the forest put what matters most first in 13 searches of 20; of fewer it guesses."""

_NO_PLACE: Final = "\0"
"""What stands for a slot that a template has no place for; no word of a config is this."""

_TREES: Final = 32  # twice as many change no share by more than a hundredth
_DEPTH: Final = 6  # of 400 trials unlimited depth takes five times as long, for the same shares


def importances(space: Space, history: Sequence[Observation]) -> dict[str, float] | None:
    """Estimate the shares of the score's variance that single parameters explain (fANOVA).

    Hutter et al. 2014, "An Efficient Approach for Assessing Hyperparameter Importance": a random
    forest is fitted to the trials, and each parameter's main effect in it is averaged over all
    others. Of six parameters, one of them with 84 % of the variance, it put that one first in 19
    of 20 searches of 20 trials and in all of 40; PED-ANOVA, which compares the best trials with
    all of them, in none: TPE repeats its best words so early that the two hardly differ. The
    shares of 40 trials are uncertain by about 0.1, and a slot of which one word alone stands out
    of a dozen gets more than its own.

    Args:
        space: Of the class.
        history: Its trials with their Frank-Wolfe scores as they stand now, lower is better. A
            slot that a trial's template has no place for is a choice of its own; trials that lack
            a setting are left out.

    Returns:
        Parameter -> share, largest first, summing to 1; parameters are the space's slots and
        settings with more than one choice. None if there are fewer than `MIN_TRIALS` trials, if
        no parameter or no score varies, or if no single parameter explains anything.
    """
    whole = [past for past in history if {*space.settings} <= past.params.keys()]
    absent = dict.fromkeys(space.words, _NO_PLACE)
    trials = [replace(past, params=absent | past.params) for past in whole]
    distributions = {
        name: _with_no_place(distribution)
        if any(past.params.get(name) == _NO_PLACE for past in trials)
        else distribution
        for name, distribution in space.distributions.items()
    }
    return _shares(distributions, trials)


def parameter_importances(
    space: Space, history: Mapping[str | None, Sequence[Observation]]
) -> dict[str, float] | None:
    """Estimate what single parameters of a generator explain, by `importances`' fANOVA.

    Args:
        space: Of the class.
        history: By generator, images whose parameters were drawn evenly, each with how unlike the
            real ones it is.

    Returns:
        Parameter, as the search calls it -> share, as `importances`; of each generator they sum
        to 1.
    """
    found: dict[str, float] = {}
    for part in space.parts:
        distributions = {part.parameter(k): of_even(its) for k, its in part.parameters.items()}
        found |= _shares(distributions, history.get(part.name, ())) or {}
    return found or None


def _shares(
    distributions: Mapping[str, BaseDistribution], trials: Sequence[Observation]
) -> dict[str, float] | None:
    varying = [name for name in distributions if len({past.params[name] for past in trials}) > 1]
    if len(trials) < MIN_TRIALS or not varying or len({past.value for past in trials}) < 2:
        return None
    linear = {name: _linear(distribution) for name, distribution in distributions.items()}
    study = optuna.create_study(direction="minimize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: _place(distributions[name], past.params[name]) for name in varying},
                distributions={name: linear[name] for name in varying},
                value=past.value,
            )
            for past in trials
        ]
    )
    explained = _main_effects(study)
    total = sum(explained.values())
    if not total > 0:
        return None
    shares = {name: explained.get(name, 0.0) / total for name in distributions}
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def _with_no_place(words: BaseDistribution) -> CategoricalDistribution:
    assert isinstance(words, CategoricalDistribution), "a slot holds words"
    return CategoricalDistribution((*words.choices, _NO_PLACE))


def _main_effects(study: optuna.Study) -> dict[str, float]:
    """Parameter -> fraction of the variance, >= 0; empty if no tree of the forest has any."""
    evaluator = optuna.importance.FanovaImportanceEvaluator(
        n_trees=_TREES, max_depth=_DEPTH, seed=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            # Not normalized by Optuna, which makes equal shares of no importance at all.
            found = optuna.importance.get_param_importances(
                study, evaluator=evaluator, normalize=False
            )
        except RuntimeError:
            return {}
    return {name: float(value) for name, value in found.items()}


def _linear(distribution: BaseDistribution) -> BaseDistribution:
    """Return the range that is sampled evenly: fANOVA averages over it, and knows no log."""
    if not getattr(distribution, "log", False):
        return distribution
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    return FloatDistribution(math.log(low), math.log(high))


def _place(distribution: BaseDistribution, value: Any) -> Any:
    """Return a value's place in the range of `_linear`."""
    return math.log(value) if getattr(distribution, "log", False) else value
