"""Distributions: a parameter whose value differs from image to image, each by its seed.

A draw's parameters hold them: no single light or material is what photos have. Each image's own
values follow from its seed, so that it can be made again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

from gapclose.generators.values import Value, checked_value

__all__ = ["Categorical", "Distribution", "TruncatedNormal", "distribution_of", "quantile_of"]

_GRID: Final = 400  # quantiles that moments are taken over
LARGEST: Final = 1e100
"""Numbers of a range are no larger: their squares are added."""

_FINEST: Final = 1e-9  # of the larger end: what a range is wide at least
_MOST_COUNTED: Final = 10  # whole numbers: how many objects there are, say
_PARTS: Final = 10_000  # shares are multiples of one of so many
_NARROWEST: Final = 1e-6  # standard deviation, as a share of the range
_NORMAL: Final = NormalDist()
_OF_NUMBERS: Final = ("low", "high", "mean", "sd", "log", "int")
_OF_CHOICES: Final = ("choices", "shares")


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncatedNormal:
    """Numbers of a range: normal, cut off at its ends, or without `mean` and `sd` uniform.

    Attributes:
        low: The least.
        high: The most, above `low`.
        mean: Where the density is highest, in [low, high]; its own mean where nothing is cut off.
        sd: Standard deviation before it is cut off, > 0; of the natural logarithm with `log`.
        log: Whether it is the logarithm that is normal, or uniform; then `low` is above 0.
        whole: Whether values are rounded, each whole number standing for what is nearest to it.

    Raises:
        ValueError: If a value is none of these.
    """

    low: float
    high: float
    mean: float | None = None
    sd: float | None = None
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        """Check, and write each number one way only."""
        if (self.mean is None) != (self.sd is None):
            raise ValueError("mean and sd must be given both, or neither")
        for name in ("low", "high", *(() if self.mean is None else ("mean", "sd"))):
            object.__setattr__(self, name, _number(getattr(self, name), name))
        if not (isinstance(self.log, bool) and isinstance(self.whole, bool)):
            raise ValueError("log and int must be true or false")
        self._check_ends()
        if self.mean is not None and not self.low <= self.mean <= self.high:
            raise ValueError(f"mean {self.mean:g} must be in {self.low:g} to {self.high:g}")
        if self.sd is not None and not self.sd > 0:
            raise ValueError(f"sd must be above 0, not {self.sd:g}")

    def _check_ends(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} must be above 0 with log")
        check_width(self.low, self.high, log=self.log)
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("low and high must be whole numbers with int")

    def at(self, quantile: float) -> Value:
        """Return the value below which a share of [0, 1] of the values lies."""
        if self.mean is None:
            place = quantile
        else:
            mean, sd = self.in_range
            begin, end = _NORMAL.cdf(-mean / sd), _NORMAL.cdf((1.0 - mean) / sd)
            inside = min(max(begin + quantile * (end - begin), 1e-300), 1.0 - 1e-16)
            place = min(max(mean + sd * _NORMAL.inv_cdf(inside), 0.0), 1.0)
        return self.value_of(place)

    @property
    def in_range(self) -> tuple[float, float]:
        """`mean` and `sd` where the range, or its logarithm, is [0, 1]; a uniform's are wide."""
        if self.mean is None or self.sd is None:
            return 0.5, math.inf
        _, width = self._line
        return self.place_of(self.mean), max(self.sd / width, _NARROWEST)

    def with_normal(self, mean: float, sd: float) -> TruncatedNormal:
        """Return a normal one in this range, whose `in_range` is given."""
        begin, width = self._line
        at = begin + min(max(mean, 0.0), 1.0) * width
        value = math.exp(at) if self.log else at
        value = _rounded(value, value if self.log else self.high - self.low)
        return TruncatedNormal(
            low=self.low,
            high=self.high,
            mean=min(max(value, self.low), self.high),
            sd=_rounded(max(sd, _NARROWEST) * width, max(sd, _NARROWEST) * width),
            log=self.log,
            whole=self.whole,
        )

    def place_of(self, value: float) -> float:
        """Return where a value lies, where the range, or its logarithm, is [0, 1]."""
        begin, width = self._line
        return min(max(((math.log(value) if self.log else value) - begin) / width, 0.0), 1.0)

    def value_of(self, place: float) -> Value:
        """Invert `place_of`."""
        begin, width = self._line
        at = begin + place * width
        value = math.exp(at) if self.log else at
        if self.whole:
            return int(min(max(round(value), self.low), self.high))
        return min(max(value, self.low), self.high)

    @property
    def _line(self) -> tuple[float, float]:
        """Where the range begins, or its logarithm, and how wide it is."""
        edge = 0.5 if self.whole else 0.0  # each whole number has as much of it as any other
        low, high = self.low - edge, self.high + edge
        if self.log:
            low, high = math.log(low), math.log(high)
        return low, high - low

    @property
    def counted(self) -> tuple[Value, ...] | None:
        """The values whose shares are told one by one: few whole numbers; None of others."""
        if not self.whole or self.high - self.low >= _MOST_COUNTED:
            return None
        return tuple(range(int(self.low), int(self.high) + 1))

    def moments(self) -> tuple[float, float]:
        """Return the mean and the standard deviation of the values themselves."""
        values = [float(value) for value, _ in self.values()]
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
        return mean, math.sqrt(variance)

    def values(self) -> list[tuple[Value, float]]:
        """Return values that stand for all, with equal shares that sum to 1."""
        return [(self.at((i + 0.5) / _GRID), 1.0 / _GRID) for i in range(_GRID)]

    def to_json(self) -> dict[str, Any]:
        """Return it as a config has it."""
        ends: dict[str, Any] = {"low": self.low, "high": self.high}
        if self.whole:
            ends = {"low": int(self.low), "high": int(self.high), "int": True}
        if self.mean is not None:
            ends |= {"mean": self.mean, "sd": self.sd}
        return ends | ({"log": True} if self.log else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Categorical:
    """Choices, each with its share of the images.

    Attributes:
        choices: At least one, all different and of one kind.
        shares: One each, >= 0; they are scaled to sum to 1. Without any they are equal.

    Raises:
        ValueError: If a value is none of these.
    """

    choices: tuple[Value, ...]
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check, and scale."""
        choices = tuple(checked_value(choice, name="a choice") for choice in self.choices)
        if not choices or len({*choices}) < len(choices):
            raise ValueError("choices must be one or more, all different")
        if len({_kind_of(choice) for choice in choices}) > 1:
            raise ValueError("choices must be of one kind: words, numbers, or true and false")
        shares = self.shares or (1.0,) * len(choices)
        numbers = [share for share in shares if isinstance(share, int | float)]
        whole = len(numbers) == len(choices) and all(0 <= share <= LARGEST for share in numbers)
        total = math.fsum(numbers) if whole else 0.0
        if not 0 < total < math.inf:
            raise ValueError("shares must be numbers of 0 and more, one for each choice")
        object.__setattr__(self, "choices", choices)
        object.__setattr__(self, "shares", _in_parts(share / total for share in shares))

    @property
    def counted(self) -> tuple[Value, ...]:
        """The values whose shares are told one by one: all."""
        return self.choices

    def at(self, quantile: float) -> Value:
        """Return the choice at a quantile in [0, 1], in their order."""
        left = quantile * math.fsum(self.shares)
        for choice, share in zip(self.choices, self.shares, strict=True):
            left -= share
            if left < 0:
                return choice
        return [c for c, share in zip(self.choices, self.shares, strict=True) if share][-1]

    def values(self) -> list[tuple[Value, float]]:
        """Return the choices with their shares."""
        return [*zip(self.choices, self.shares, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Return it as a config has it."""
        return {"choices": [*self.choices], "shares": [*self.shares]}


Distribution = TruncatedNormal | Categorical


def check_width(low: float, high: float, *, log: bool) -> None:
    """Refuse a range whose numbers cannot be told apart, or squared.

    Raises:
        ValueError: One line.
    """
    largest = max(abs(low), abs(high))
    if largest > LARGEST:
        raise ValueError(f"{low:g} to {high:g} reaches beyond {LARGEST:g}")
    if high - low < max(_FINEST * largest, 1.0 / LARGEST) or (log and low < 1.0 / LARGEST):
        raise ValueError(f"{low:g} to {high:g} is too narrow to choose from")


def distribution_of(said: Mapping[str, Any]) -> Distribution:
    """Read a distribution as a config, or a draw's JSON, has it.

    Args:
        said: {"low":, "high":} of a uniform one, with "mean" and "sd" of a normal one, and "log"
            and "int" where they are true; or {"choices":}, with "shares" unless they are equal.

    Raises:
        ValueError: It is none.
    """
    known = _OF_CHOICES if "choices" in said else _OF_NUMBERS
    strange = [key for key in said if key not in known]
    if strange or not ({"choices"} <= said.keys() or {"low", "high"} <= said.keys()):
        raise ValueError(
            "expected {low:, high:, mean:, sd:, log:, int:} or {choices:, shares:}, got "
            f"{', '.join(map(str, said))[:100] or 'nothing'}"
        )
    if "choices" in said:
        lists = [said["choices"], said.get("shares", ())]
        if not all(isinstance(its, list | tuple) for its in lists):
            raise ValueError("choices and shares must be lists")
        return Categorical(choices=tuple(lists[0]), shares=tuple(lists[1]))
    named = {"whole" if key == "int" else key: value for key, value in said.items()}
    return TruncatedNormal(**named)


def _kind_of(value: Value) -> str:
    return "words" if isinstance(value, str) else "numbers" if type(value) is not bool else "bool"


def quantile_of(name: str, seed: int) -> float:
    """Return the quantile of a parameter that a seed's image has, evenly spread over [0, 1)."""
    digest = hashlib.sha256(f"{name}/{seed}".encode()).digest()
    return (int.from_bytes(digest[:8]) >> 11) / 2.0**53


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, not {value!r}")
    return float(checked_value(value, name=name)) + 0.0


def _in_parts(shares: Iterable[float]) -> tuple[float, ...]:
    """Round shares that sum to 1 to ten-thousandths that do, by largest remainder.

    What has been rounded stays as it is: a draw that is read back is the draw that was written.
    """
    exact = [round(share * _PARTS, 6) for share in shares]
    parts = [math.floor(share) for share in exact]
    order = sorted(range(len(exact)), key=lambda i: parts[i] - exact[i])
    for i in order[: _PARTS - sum(parts)]:
        parts[i] += 1
    return tuple(part / _PARTS for part in parts)


def _rounded(value: float, scale: float) -> float:
    """Round to what counts beside a scale, so that files are read by people, too."""
    digits = 4 - math.floor(math.log10(scale)) if scale > 0 else 4
    return round(value, digits)
