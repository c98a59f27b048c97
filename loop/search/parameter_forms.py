"""Forms: how one parameter's distribution is fitted, as numbers without bounds.

`parameter_fit` moves these numbers. Each form knows the values that images had, and says of any
place of its numbers how likely those were and how near to them its values lie; with slopes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from gapclose.generators.distributions import Categorical, Distribution, TruncatedNormal
from gapclose.generators.values import Value

__all__ = ["BOUND", "Choices", "Form", "Range", "form_of"]

Floats = NDArray[np.float64]

BOUND: Final = 5.0
"""Of the numbers, either way: logits, which hardly matter beyond."""

_NARROWEST: Final = 0.02  # standard deviation, of a range's width
_WIDEST: Final = 0.6
_ALIKE: Final = 0.25  # of a range's width: images so far apart are about two thirds alike
_ALIKE_COUNTS: Final = 0.4
_GRID: Final = (np.arange(48) + 0.5) / 48
_LEAST_SHARE: Final = 1e-12


class Range:
    """A truncated normal over a range, by the logits of its mean and standard deviation."""

    size: Final = 2

    def __init__(
        self, name: str, even: TruncatedNormal, values: Sequence[Mapping[str, Value]]
    ) -> None:
        """Take the values of (n,) images, one range's width for 1."""
        self.name, self._even = name, even
        # Of whole numbers it is no narrower than one of them: there a density is none.
        first = even.place_of(even.low + 0.5) if even.whole else 0.0
        self._narrowest = max(_NARROWEST, first)
        self._x = np.array([even.place_of(float(its[name])) for its in values])
        self._near_grid = _bell(self._x[:, None] - _GRID)

    def start(self, its: Distribution) -> Floats:
        """Return the numbers of a distribution over this range."""
        assert isinstance(its, TruncatedNormal), "a range was fitted as such"
        mean, sd = its.in_range
        return np.array([_logit(mean), _logit((sd - self._narrowest) / _WIDEST)])

    def distribution(self, place: Floats) -> Distribution:
        """Return the distribution of some numbers."""
        mean, grown = _sigmoid(place)
        return self._even.with_normal(float(mean), float(self._narrowest + _WIDEST * grown))

    def log_drawn(self, its: Distribution) -> Floats:
        """Return (n,) log densities of the values under a distribution over this range."""
        assert isinstance(its, TruncatedNormal), "a range was drawn from as such"
        if its.mean is None:
            return np.zeros(len(self._x))
        mean, sd = its.in_range
        mass = max(float(ndtr((1.0 - mean) / sd) - ndtr(-mean / sd)), 1e-300)
        z = (self._x - mean) / sd
        return np.asarray(-0.5 * z**2 - np.log(sd * mass) - 0.5 * np.log(2.0 * np.pi))

    def log_density(self, place: Floats) -> tuple[Floats, Floats]:
        """Return (n,) log densities of the values, and (n, 2) their slopes."""
        mean, sd, by_place = self._moments(place)
        low, high = -mean / sd, (1.0 - mean) / sd
        mass = max(float(ndtr(high) - ndtr(low)), 1e-300)
        z = (self._x - mean) / sd
        at_low, at_high = (np.exp(-0.5 * end**2) / np.sqrt(2.0 * np.pi) for end in (low, high))
        by_mean = (z - (at_low - at_high) / mass) / sd
        by_sd = (z**2 - 1.0 - (low * at_low - high * at_high) / mass) / sd
        density = -0.5 * z**2 - np.log(sd * mass) - 0.5 * np.log(2.0 * np.pi)
        return density, np.stack([by_mean, by_sd], axis=1) * by_place

    def alike(self) -> Floats:
        """Return (n, n) how alike the values of two images are, at most 1."""
        return _bell(self._x[:, None] - self._x)

    def expected(self, place: Floats) -> tuple[Floats, Floats]:
        """Return (n,) how alike values of the distribution are to each image's, and slopes."""
        mean, sd, by_place = self._moments(place)
        z = (_GRID - mean) / sd
        shares = np.exp(-0.5 * (z**2 - (z**2).min()))
        shares /= shares.sum()
        scores = np.stack([z / sd, z**2 / sd])
        slopes = shares * (scores - (scores @ shares)[:, None])
        return self._near_grid @ shares, (self._near_grid @ slopes.T) * by_place

    def _moments(self, place: Floats) -> tuple[float, float, Floats]:
        """Return the mean, the standard deviation, and (2,) their slopes."""
        mean, grown = _sigmoid(place)
        slopes = np.array([mean * (1.0 - mean), _WIDEST * grown * (1.0 - grown)])
        return float(mean), float(self._narrowest + _WIDEST * grown), slopes


class Choices:
    """Choices, or a few whole numbers, by the logits of their shares."""

    def __init__(
        self,
        name: str,
        choices: Sequence[Value],
        values: Sequence[Mapping[str, Value]],
        *,
        ordered: bool,
    ) -> None:
        """Take the values of (n,) images.

        Args:
            name: Of the parameter.
            choices: All that there are.
            values: Of each image, by parameter.
            ordered: Whether neighbours are alike, as numbers are.
        """
        self.name, self._choices, self.size = name, tuple(choices), len(choices)
        numbers = {choice: number for number, choice in enumerate(self._choices)}
        self._x = np.array([numbers[its[name]] for its in values], dtype=np.int64)
        places = np.arange(self.size) / max(self.size - 1, 1)
        near = np.exp(-0.5 * ((places[:, None] - places) / _ALIKE_COUNTS) ** 2)
        self._near = (near if ordered else np.eye(self.size))[self._x]

    def start(self, its: Distribution) -> Floats:
        """Return the numbers of a distribution over these choices."""
        logs = np.log(np.maximum(self._shares_of(its), 1e-4))
        return np.asarray(logs - logs.mean())

    def distribution(self, place: Floats) -> Distribution:
        """Return the distribution of some numbers."""
        shares = tuple(float(share) for share in _softmax(place))
        return Categorical(choices=self._choices, shares=shares)

    def log_drawn(self, its: Distribution) -> Floats:
        """Return (n,) logarithms of the choices' shares under a distribution over them."""
        return np.asarray(np.log(np.maximum(self._shares_of(its), _LEAST_SHARE))[self._x])

    def log_density(self, place: Floats) -> tuple[Floats, Floats]:
        """Return (n,) logarithms of the choices' shares, and (n, k) their slopes."""
        shares = _softmax(place)
        return np.log(shares)[self._x], np.eye(self.size)[self._x] - shares

    def alike(self) -> Floats:
        """Return (n, n) how alike the values of two images are, at most 1."""
        return np.asarray(self._near[:, self._x])

    def expected(self, place: Floats) -> tuple[Floats, Floats]:
        """Return (n,) how alike values of the distribution are to each image's, and slopes."""
        shares = _softmax(place)
        return self._near @ shares, self._near @ (np.diag(shares) - np.outer(shares, shares))

    def _shares_of(self, its: Distribution) -> Floats:
        shares = dict.fromkeys(self._choices, 0.0)
        for value, share in its.values():
            shares[value] += share
        return np.array([*shares.values()])


Form = Range | Choices


def form_of(name: str, even: Distribution, values: Sequence[Mapping[str, Value]]) -> Form:
    """Return the form of a parameter.

    Args:
        name: Of the parameter.
        even: All that may be chosen.
        values: Of each image, by parameter.
    """
    if even.counted is not None:
        ordered = isinstance(even, TruncatedNormal)
        return Choices(name, even.counted, values, ordered=ordered)
    return Range(name, even, values)


def _bell(apart: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * (apart / _ALIKE) ** 2))


def _sigmoid(place: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-place)))


def _logit(share: float) -> float:
    inside = min(max(share, 1e-3), 1.0 - 1e-3)
    return float(np.log(inside / (1.0 - inside)))


def _softmax(place: Floats) -> Floats:
    grown = np.exp(place - place.max())
    return np.asarray(grown / grown.sum())
