"""Fits of parameters: exact slopes, and what is true is found from images of something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime

from gapclose.analysis.kernel import Kernel
from gapclose.generators.distributions import (
    Categorical,
    Distribution,
    TruncatedNormal,
    quantile_of,
)
from gapclose.generators.values import Value
from gapclose.loop.search import parameter_fit
from gapclose.loop.search.parameter_fit import Evidence, fit_distributions, widened

EVEN: dict[str, Distribution] = {
    "light": TruncatedNormal(low=0, high=180),
    "power": TruncatedNormal(low=0.5, high=2, log=True),
    "metal": Categorical(choices=("steel", "brass", "tin")),
    "count": TruncatedNormal(low=1, high=4, whole=True),
    "turns": TruncatedNormal(low=0, high=360, whole=True),
}
TRUE: dict[str, Distribution] = {
    "light": TruncatedNormal(low=0, high=180, mean=110, sd=12),
    "power": TruncatedNormal(low=0.5, high=2, mean=0.7, sd=0.1, log=True),
    "metal": Categorical(choices=("steel", "brass", "tin"), shares=(0.7, 0.3, 0)),
    "count": Categorical(choices=(1, 2, 3, 4), shares=(0.4, 0.6, 0, 0)),
    "turns": TruncatedNormal(low=0, high=360, mean=40, sd=30, whole=True),
}


def values_of(own: Mapping[str, Distribution], seeds: range) -> list[dict[str, Value]]:
    return [{k: its.at(quantile_of(k, seed)) for k, its in own.items()} for seed in seeds]


def rows_of(values: list[dict[str, Value]], *, first: int) -> NDArray[np.float32]:
    """Embeddings: smooth in the numbers, apart by words, and noisy, as those of renders are."""
    rng = np.random.default_rng(first)
    found = []
    for its in values:
        places = [EVEN[k].place_of(float(its[k])) for k in ("light", "power", "turns")]  # type: ignore[union-attr]
        metal = [2.0 * (its["metal"] == name) for name in ("steel", "brass", "tin")]
        count = [float(its["count"])]
        found.append([*(3.0 * place for place in places), *metal, *count])
    noisy = np.array(found) + 0.15 * rng.normal(size=(len(found), 7))
    return noisy.astype(np.float32)


def evidence(seeds: range, *, real: NDArray[np.float32], also: Any = None) -> Evidence:
    kernel = Kernel.fit(real)
    parts = [(EVEN, seeds)] if also is None else [(EVEN, seeds), also]
    values = [its for own, its_seeds in parts for its in values_of(own, its_seeds)]
    rows = rows_of(values, first=seeds[0])
    gram = kernel.gram(rows, rows).astype(np.float64)
    np.fill_diagonal(gram, 0.0)
    return Evidence(
        values=values,
        drawn_from=[(own, len(its)) for own, its in parts],
        kernel=gram,
        near=kernel.mean_rows(rows, real),
    )


@pytest.fixture(scope="module")
def real() -> NDArray[np.float32]:
    return rows_of(values_of(TRUE, range(10_000, 10_300)), first=1)


def test_slopes_are_those_of_differences(
    real: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs: list[Any] = []

    def keep(cost: Any, start: Any, **_: Any) -> Any:
        costs.append(cost)
        raise StopIteration

    monkeypatch.setattr(parameter_fit, "minimize", keep)
    also = (widened(TRUE), range(500, 540))
    with pytest.raises(StopIteration):
        fit_distributions(EVEN, evidence(range(80), real=real, also=also), seed=0)
    rng = np.random.default_rng(0)
    for scale in (0.0, 0.5, 1.5, 2.5):
        place = rng.normal(0.0, scale, 2 + 2 + 3 + 4 + 2)
        numeric = approx_fprime(place, lambda its: costs[0](its)[0], 1e-6)
        slope = costs[0](place)[1]
        assert slope == pytest.approx(numeric, abs=1e-4 * (1 + np.abs(numeric).max()))


def test_what_is_true_is_found_from_images_of_something_else(real: NDArray[np.float32]) -> None:
    last, also = None, None
    for round_ in range(4):
        found = fit_distributions(
            EVEN, evidence(range(96), real=real, also=also), last=last, seed=round_
        ).best
        last, also = found, (widened(found), range(1000, 1000 + 48 * (round_ + 1)))
    light, power, turns = (found[name] for name in ("light", "power", "turns"))
    assert isinstance(light, TruncatedNormal)
    assert light.moments()[0] == pytest.approx(110, abs=9)
    assert light.moments()[1] < 25
    assert isinstance(power, TruncatedNormal)
    assert power.moments()[0] == pytest.approx(0.7, abs=0.06)
    assert isinstance(turns, TruncatedNormal)
    assert turns.moments()[0] == pytest.approx(47, abs=20)  # cut off at 0
    for name, known in (("metal", [0.7, 0.3, 0.0]), ("count", [0.4, 0.6, 0.0, 0.0])):
        shares = [share for _, share in found[name].values()]
        assert shares == pytest.approx(known, abs=0.12)


def test_the_same_seed_gives_the_same_fit(real: NDArray[np.float32]) -> None:
    one, two = (fit_distributions(EVEN, evidence(range(60), real=real), seed=3) for _ in "ab")
    assert one == two


def test_wider_is_wider_and_holds_every_choice() -> None:
    wide = widened(TRUE)
    for name, own in TRUE.items():
        if isinstance(own, Categorical):
            assert all(share > 0 for _, share in wide[name].values())
        else:
            assert wide[name].moments()[1] > own.moments()[1]  # type: ignore[union-attr]
    again = widened(wide)
    assert set(again) == set(EVEN)
