"""Distributions: values that differ from image to image, each by its seed alone."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import kstest, truncnorm

from gapclose.generators.base import generate_all
from gapclose.generators.distributions import (
    Categorical,
    Distribution,
    TruncatedNormal,
    distribution_of,
    quantile_of,
)
from gapclose.generators.images import ImageBatch
from gapclose.generators.parameters import Parameters
from gapclose.generators.recipe import Draw

LIGHT = TruncatedNormal(low=0, high=180, mean=85, sd=20)


@st.composite
def ranges(draw: st.DrawFn) -> TruncatedNormal:
    whole, log = draw(st.booleans()), draw(st.booleans())
    least = 1 if log else -1000
    low = draw(st.integers(least, 1000))
    high = draw(st.integers(low + 1, 2000))
    found = TruncatedNormal(low=low, high=high, log=log, whole=whole)
    if draw(st.booleans()):
        return found
    return found.with_normal(draw(st.floats(0, 1)), draw(st.floats(0.01, 2)))


pairs = st.tuples(st.text(max_size=5), st.floats(0.01, 1))
choices = st.lists(pairs, min_size=1, max_size=5, unique_by=lambda pair: pair[0]).map(
    lambda its: Categorical(choices=tuple(c for c, _ in its), shares=tuple(s for _, s in its))
)


@given(ranges() | choices, st.floats(0, 1, exclude_max=True))
def test_every_value_may_be_chosen_and_json_gives_the_same(
    own: Distribution, place: float
) -> None:
    value = own.at(place)
    if isinstance(own, TruncatedNormal):
        assert own.low <= float(value) <= own.high
        assert isinstance(value, int if own.whole else float)
        assert own.at(0.0) <= value <= own.at(1.0)
    else:
        assert value in own.choices
    again = distribution_of(json.loads(json.dumps(own.to_json())))
    assert again == own
    assert again.at(place) == value
    shares = [share for _, share in own.values()]
    assert math.fsum(shares) == pytest.approx(1.0, abs=1e-3)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=12).filter(lambda its: sum(its) > 0.01))
@example([4.0, 1.0, 1.0])
@example([1e3, *([0.07] * 11)])
@example([1.0] * 12)
def test_shares_are_what_they_were_when_they_are_read_back(shares: list[float]) -> None:
    own = Categorical(choices=tuple(range(len(shares))), shares=tuple(shares))
    assert math.fsum(own.shares) == pytest.approx(1.0, abs=1e-12)
    assert Categorical(choices=own.choices, shares=own.shares) == own
    draw = Draw(prompt="x", parameters={"m": own})
    assert Draw.from_json(json.loads(json.dumps(draw.to_json()))) == draw
    for share, given_ in zip(own.shares, shares, strict=True):
        assert share == pytest.approx(given_ / sum(shares), abs=1.1e-4)


@pytest.mark.parametrize("own", [LIGHT, TruncatedNormal(low=0, high=180, mean=175, sd=40)])
def test_numbers_are_those_of_scipy(own: TruncatedNormal) -> None:
    assert own.mean is not None
    assert own.sd is not None
    ends = (own.low - own.mean) / own.sd, (own.high - own.mean) / own.sd
    known = truncnorm(*ends, loc=own.mean, scale=own.sd)
    for place in (0.001, 0.2, 0.5, 0.9, 0.999):
        assert own.at(place) == pytest.approx(known.ppf(place), abs=1e-6)
    assert own.moments() == pytest.approx((known.mean(), known.std()), rel=0.01)
    values = [own.at(quantile_of("light", seed)) for seed in range(2000)]
    assert kstest(values, known.cdf).pvalue > 0.001


def test_whole_numbers_and_choices_have_their_shares() -> None:
    places = [quantile_of("count", seed) for seed in range(6000)]
    even = TruncatedNormal(low=1, high=3, whole=True)
    counts = np.bincount([int(even.at(place)) for place in places])
    assert counts[1:] == pytest.approx(2000, abs=150)
    few = Categorical(choices=("a", "b", "c"), shares=(3, 1, 0))
    chosen = [few.at(place) for place in [*places, 1.0]]
    assert chosen.count("a") == pytest.approx(4500, abs=150)
    assert "c" not in chosen
    tens = TruncatedNormal(low=1, high=100, log=True)
    assert tens.at(0.5) == pytest.approx(10.0)


def test_what_is_fitted_in_a_range_is_what_it_says() -> None:
    narrow = TruncatedNormal(low=100.004, high=100.03, log=True)
    assert narrow.low <= (narrow.with_normal(0.0, 0.1).mean or 0.0) <= narrow.high
    wide = TruncatedNormal(low=1, high=100, log=True).with_normal(0.5, 0.1)
    assert wide.mean == pytest.approx(10.0, abs=0.01)
    assert wide.in_range == pytest.approx((0.5, 0.1), abs=0.001)
    assert LIGHT.in_range == pytest.approx((85 / 180, 20 / 180))
    assert LIGHT.place_of(90.0) == 0.5
    assert LIGHT.value_of(0.5) == 90.0


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({}, "got nothing"),
        ({"low": 1}, "expected {low:"),
        ({"low": 1, "high": 2, "mode": 3}, "expected {low:"),
        ({"low": 2, "high": 1}, "low 2 must be below high 1"),
        ({"low": 0, "high": 1, "log": True}, "above 0 with log"),
        ({"low": 0.5, "high": 2, "int": True}, "whole numbers with int"),
        ({"low": 0, "high": 1, "mean": 0.5}, "both, or neither"),
        ({"low": 0, "high": 1, "mean": 2, "sd": 1}, "mean 2 must be in 0 to 1"),
        ({"low": 0, "high": 1, "mean": 0.5, "sd": 0}, "sd must be above 0"),
        ({"low": "a", "high": 1}, "low must be a number"),
        ({"low": 0, "high": math.inf}, "high must be a finite number"),
        ({"low": 0, "high": 1, "log": 1}, "true or false"),
        ({"choices": []}, "one or more"),
        ({"choices": ["a", "a"]}, "all different"),
        ({"choices": "ab"}, "must be lists"),
        ({"choices": ["a", "b"], "shares": [1]}, "one for each choice"),
        ({"choices": ["a", "b"], "shares": [0, 0]}, "numbers of 0 and more"),
        ({"choices": ["a", "b"], "shares": [1, "x"]}, "numbers of 0 and more"),
        ({"choices": ["a", "b"], "shares": [1, -1]}, "numbers of 0 and more"),
        ({"choices": ["a", "b"], "shares": [10**400, 1]}, "numbers of 0 and more"),
        ({"choices": ["a", 1]}, "of one kind"),
        ({"choices": [True, 2]}, "of one kind"),
        ({"low": 0, "high": 5e-324}, "too narrow"),
        ({"low": 1, "high": 1 + 1e-12}, "too narrow"),
        ({"low": 1e-266, "high": 1, "log": True}, "too narrow"),
        ({"low": 0, "high": 1.7e308}, "reaches beyond"),
    ],
)
def test_what_is_no_distribution_is_one_line(said: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("{", r"\{")) as told:
        Parameters({"light": said})
    assert str(told.value).startswith("light: ")
    assert len(str(told.value).splitlines()) == 1


DRAW = Draw(prompt="a ball", cls="ball", parameters={"light": LIGHT, "count": 2})


def test_a_draw_of_one_image_has_values_and_those_of_other_seeds_differ() -> None:
    assert DRAW.varies
    own = [DRAW.of_seed(seed) for seed in range(50)]
    assert not any(draw.varies for draw in own)
    assert len({draw.fingerprint() for draw in own}) == 50
    assert all(draw.parameters["count"] == 2 for draw in own)
    assert own[3] == DRAW.of_seed(3)
    assert Draw.from_json(json.loads(json.dumps(DRAW.to_json()))) == DRAW
    plain = Draw(prompt="a ball", parameters={"count": 2})
    assert plain.of_seed(3) == plain
    # Two parameters of a seed have nothing to do with each other.
    light, power = (np.array([quantile_of(n, s) for s in range(2000)]) for n in ("light", "power"))
    assert abs(np.corrcoef(light, power)[0, 1]) < 0.08


class Sees:
    """A generator that notes what it is given; its images say which light they had."""

    id, revision, license, source_type = "test:sees", None, None, "digitalCreation"

    def __init__(self) -> None:
        self.given: list[tuple[Draw, tuple[int, ...]]] = []

    def generate(self, draw: Draw, seeds: Any) -> ImageBatch:
        self.given.append((draw, tuple(seeds)))
        light = int(float(str(draw.parameters["light"])))
        images = tuple(np.full((2, 2, 3), [light, 0, seed], np.uint8) for seed in seeds)
        marks = tuple("odd" if seed % 2 else "even" for seed in seeds)
        return ImageBatch(images=images, seeds=tuple(seeds), invalid=marks)


def test_a_generator_is_given_values_only() -> None:
    generator = Sees()
    plain = Draw(prompt="a ball", parameters={"light": 9.0})
    one, other = generate_all(generator, [(DRAW, [4, 7, 1]), (plain, [7, 8])])
    assert [seeds for _, seeds in generator.given] == [(4,), (7,), (1,), (7, 8)]
    assert not any(draw.varies for draw, _ in generator.given)
    assert one.seeds == (4, 7, 1)
    assert one.invalid == ("even", "odd", "odd")
    for image, seed in zip(one.images, one.seeds, strict=True):
        assert image[0, 0, 0] == int(float(str(DRAW.of_seed(seed).parameters["light"])))
    assert other.seeds == (7, 8)
    with pytest.raises(ValueError, match="twice"):
        generate_all(generator, [(DRAW, [4, 4])])
