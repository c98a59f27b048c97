"""Recording: numbers are computed once, and come back in the order that they were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gapclose.loop.search.recording import Floats, Recorder, Recording


def asked(recorder: Recorder, sizes: list[int], compute: Callable[[int], Floats]) -> list[Floats]:
    return [recorder.numbers(size, lambda size=size: compute(size)) for size in sizes]


def counting() -> Callable[[int], Floats]:
    rng = np.random.default_rng(0)
    return lambda size: rng.normal(size=size)


def never(_: int) -> Floats:
    raise AssertionError("it is known")


def test_what_is_noted_comes_back_to_the_bit() -> None:
    first = Recorder("photos")
    told = asked(first, [3, 1, 5], counting())
    noted = first.recording
    assert (noted.basis, noted.numbers.shape, noted.numbers.dtype) == ("photos", (9,), np.float64)
    again = Recorder("photos", noted)
    for one, other in zip(asked(again, [3, 1, 5], never), told, strict=True):
        assert one.tobytes() == other.tobytes()
    assert again.recording.numbers.tobytes() == noted.numbers.tobytes()


def test_what_lies_beyond_what_is_known_is_computed() -> None:
    known = Recording(basis="photos", numbers=np.arange(4.0))
    recorder = Recorder("photos", known)
    assert recorder.numbers(4, lambda: never(4)).tolist() == [0.0, 1.0, 2.0, 3.0]
    assert recorder.numbers(2, lambda: np.array([7.0, 8.0])).tolist() == [7.0, 8.0]
    assert recorder.recording.numbers.tolist() == [0.0, 1.0, 2.0, 3.0, 7.0, 8.0]


def test_what_was_noted_against_other_photos_is_of_no_use() -> None:
    known = Recording(basis="photos", numbers=np.arange(4.0))
    with pytest.raises(AssertionError, match="it is known"):
        Recorder("other photos", known).numbers(4, lambda: never(4))
    assert Recorder("other photos", replace(known, basis="other photos")).numbers(
        1, lambda: never(1)
    ) == [0.0]


def test_an_empty_recorder_has_no_numbers() -> None:
    assert Recorder("photos").recording.numbers.shape == (0,)
