"""The distribution of a generator's parameters whose images are nearest to the real ones.

`parameter_stage` asks it, with all images made so far and what each was drawn from. It knows
numbers alone: no recipes, no files, no seeds.

A product of one distribution a parameter is fitted by the squared MMD of its images (Briol et al.
2019, "Statistical Inference for Generative Models with Maximum Mean Discrepancy"). Nothing new is
generated for it, and a renderer needs no gradient: the mean embedding of any candidate's images is
estimated from images that were made under other distributions, in two ways that correct each other
(doubly robust, as in Dudik, Langford and Li 2011). A kernel ridge regression predicts an image's
embedding from its parameters (Song, Fukumizu and Gretton 2013, "Kernel Embeddings of Conditional
Distributions"); what it leaves unexplained counts by importance, the density of the candidate over
that of the mixture that all images came from (Veach and Guibas 1995; Cornuet et al. 2012).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from gapclose.generators.distributions import Categorical, Distribution, TruncatedNormal
from gapclose.generators.values import Value
from gapclose.loop.search.parameter_forms import BOUND, Form, form_of

__all__ = ["Distributions", "Evidence", "Fit", "fit_distributions", "widened"]

Floats = NDArray[np.float64]
Distributions = Mapping[str, Distribution]
"""By the names of parameters."""

STARTS: Final = 5  # at random, beside the even distribution and the last fit
FEWEST: Final = 20.0  # effective images; a candidate that has fewer is a guess
PRICE: Final = 0.3  # of 1 / effective images, against the bias from minimising
_BARRIER: Final = 5.0  # what too few of them cost beside
_RIDGES: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # of the regression; one is chosen
_STEPS: Final = 150
_WIDER: Final = 1.5  # times a standard deviation
_LEAST_WIDE: Final = 0.05  # of a range's width
_MIXED_IN: Final = 0.1  # to each share
_ELSEWHERE: Final = (
    0.2  # of a range's width, or of a share: more than fits to few images differ by
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Images, and what they came of.

    Attributes:
        values: (n,) of each image, by parameter.
        drawn_from: Distributions that images were drawn from, with how many were.
        kernel: (n, n) kernel values between images, 0 where two are one or share their seed.
        near: (n,) mean kernel values of each to the real images.
    """

    values: Sequence[Mapping[str, Value]]
    drawn_from: Sequence[tuple[Distributions, int]]
    kernel: Floats
    near: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What images say of the distributions.

    Attributes:
        best: With the least estimate of its squared MMD.
        other: The best among those minima that lie elsewhere: a mirrored light, another count.
            None where all starts led to the same.
    """

    best: dict[str, Distribution]
    other: dict[str, Distribution] | None


def fit_distributions(
    even: Distributions,
    evidence: Evidence,
    *,
    last: Distributions | None = None,
    seed: int,
) -> Fit:
    """Return the product of distributions with the least estimate of its squared MMD.

    A range gets a truncated normal, choices and a few whole numbers get shares.

    Args:
        even: Of each parameter, all that may be chosen.
        evidence: At least two images.
        last: The fit before, to start from as well.
        seed: Of the random starts.
    """
    forms = [form_of(name, its, evidence.values) for name, its in even.items()]
    cost = _Cost(forms, evidence)
    rng = np.random.default_rng(seed)
    starts = [np.zeros(cost.size), *rng.normal(0.0, 1.5, (STARTS, cost.size))]
    if last is not None:
        starts.append(np.concatenate([form.start(last[form.name]) for form in forms]))
    found = [
        minimize(
            cost.at,
            np.clip(start, -BOUND, BOUND),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-BOUND, BOUND)] * cost.size,
            options={"maxiter": _STEPS},
        )
        for start in starts
    ]
    minima = [cost.distributions(its.x) for its in sorted(found, key=lambda its: float(its.fun))]
    best = minima[0]
    return Fit(best=best, other=next((its for its in minima if _lies_elsewhere(its, best)), None))


def widened(fitted: Distributions) -> dict[str, Distribution]:
    """Return distributions with more of what a fit rules out, to learn whether it errs."""
    found: dict[str, Distribution] = {}
    for name, its in fitted.items():
        if isinstance(its, Categorical):
            shares = tuple(share + _MIXED_IN for share in its.shares)
            found[name] = Categorical(choices=its.choices, shares=shares)
        else:
            mean, sd = its.in_range
            found[name] = its.with_normal(mean, max(_WIDER * sd, _LEAST_WIDE))
    return found


def _lies_elsewhere(one: Distributions, other: Distributions) -> bool:
    """Return whether two fits differ, in any parameter, by more than few images make them."""
    return max(_apart(its, other[name]) for name, its in one.items()) > _ELSEWHERE


def _apart(one: Distribution, other: Distribution) -> float:
    """Return by how much two fits of a parameter differ, of a range's width or as a share."""
    if isinstance(one, TruncatedNormal) and isinstance(other, TruncatedNormal):
        return abs(one.in_range[0] - other.in_range[0])
    shares = dict(other.values())
    return max(abs(share - shares[choice]) for choice, share in one.values())


class _Cost:
    """The estimate of a candidate's squared MMD, but for a constant, with what chance costs."""

    def __init__(self, forms: Sequence[Form], evidence: Evidence) -> None:
        self._forms, self._near = forms, evidence.near
        self.size = sum(form.size for form in forms)
        self._ends = np.cumsum([form.size for form in forms])[:-1]
        self._log_drawn = _log_drawn(forms, evidence)
        self._predicted, others = _regression(forms, evidence.kernel)
        self._unexplained = np.eye(len(others)) - others.T
        # An image is no pair with itself: what the others predict of it stands in its place.
        alike = np.einsum("ij,ij->i", others, evidence.kernel)
        self._kernel = evidence.kernel + np.diag(np.clip(alike, 0.0, 1.0))

    def parts(self, place: Floats) -> list[Floats]:
        """Return the numbers of each form."""
        return np.split(place, self._ends)

    def distributions(self, place: Floats) -> dict[str, Distribution]:
        """Return those of some numbers."""
        parts = zip(self._forms, self.parts(place), strict=True)
        return {form.name: form.distribution(part) for form, part in parts}

    def at(self, place: Floats) -> tuple[float, Floats]:
        """Return the cost of a candidate, and its slopes."""
        parts = self.parts(place)
        both = zip(self._forms, parts, strict=True)
        densities, expected = zip(
            *((form.log_density(part), form.expected(part)) for form, part in both), strict=True
        )
        log_weights = sum(density for density, _ in densities) - self._log_drawn
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        factors = [1.0 + near for near, _ in expected]
        near = np.prod(factors, axis=0)
        # What each image counts: by the regression, and for what that leaves unexplained of it.
        counts = self._predicted @ near + 1.0 / len(near) + self._unexplained @ weights
        among = self._kernel @ counts
        cost = float(counts @ among - 2.0 * counts @ self._near)
        by_counts = 2.0 * (among - self._near)
        chance, by_weights = _chance(weights)
        by_weights += self._unexplained.T @ by_counts
        by_near = self._predicted.T @ by_counts * near
        # Through the weights, which sum to 1.
        pull = weights * (by_weights - float(weights @ by_weights))
        slopes = [
            pull @ by_density + (by_near / factor) @ by_expected
            for (_, by_density), (_, by_expected), factor in zip(
                densities, expected, factors, strict=True
            )
        ]
        return cost + chance, np.concatenate(slopes)


def _chance(weights: Floats) -> tuple[float, Floats]:
    """Return what few effective images cost, and its slopes."""
    squares = float(weights @ weights)  # 1 / effective images
    cost, slopes = PRICE * squares, 2.0 * PRICE * weights
    if (excess := FEWEST * squares - 1.0) > 0.0:
        cost += _BARRIER * excess**2
        slopes = slopes + 4.0 * _BARRIER * excess * FEWEST * weights
    return cost, slopes


def _regression(forms: Sequence[Form], kernel: Floats) -> tuple[Floats, Floats]:
    """Regress embeddings on parameters, by a ridge that predicts left-out images best.

    Images are alike as a product of 1 + their likeness in each parameter has it: main effects and
    interactions (Wahba et al. 1995, smoothing spline ANOVA).

    Returns:
        (n, n) from likeness to what each image counts in a prediction, beside 1 / n; and (n, n)
        rows that sum to 1, what the others count in the prediction of each image.
    """
    n = len(kernel)
    alike = np.prod([1.0 + form.alike() for form in forms], axis=0)
    scale = float(alike.trace() / n)
    values, vectors = np.linalg.eigh(alike / scale)
    centre = np.eye(n) - 1.0 / n
    centred = centre @ (kernel + np.eye(n)) @ centre
    tried = []
    for ridge in _RIDGES:
        smoothed = (vectors * (values / (values + ridge))) @ vectors.T
        left = np.maximum(1.0 - smoothed.diagonal(), 1e-3)
        rest = np.eye(n) - smoothed
        error = float((np.einsum("ij,ji->i", rest @ centred, rest) / left**2).mean())
        tried.append((error, ridge, smoothed / left[:, None]))
    _, ridge, others = min(tried, key=lambda its: its[0])
    np.fill_diagonal(others, 0.0)
    others += (1.0 - others.sum(axis=1, keepdims=True)) / (n - 1)
    np.fill_diagonal(others, 0.0)
    predicted = centre @ (vectors / (values + ridge)) @ vectors.T / scale
    return predicted, others


def _log_drawn(forms: Sequence[Form], evidence: Evidence) -> Floats:
    """Return (n,) log densities of the mixture that the images were drawn from."""
    total = sum(count for _, count in evidence.drawn_from)
    logs = [
        np.log(count / total) + sum(form.log_drawn(its[form.name]) for form in forms)
        for its, count in evidence.drawn_from
    ]
    return np.asarray(np.logaddexp.reduce(logs))
