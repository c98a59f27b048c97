"""Whatever a generator of somebody's own returns, raises or does, it costs a trial and no more."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gapclose.generators.base import generate_all, generate_from, try_out
from gapclose.generators.errors import ContractError, GeneratorConfigError
from gapclose.generators.images import ONE_COLOUR, ImageBatch
from gapclose.generators.recipe import Draw

FROG = Draw(prompt="a frog", strength=0.5)


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("there is nothing to say")


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def batch(of: Sequence[int], **changes: Any) -> ImageBatch:
    facts: dict[str, Any] = {
        "images": tuple(picture(seed) for seed in of),
        "seeds": tuple(of),
        "invalid": (None,) * len(of),
    }
    return ImageBatch(**facts | changes)


@dataclass
class Own:
    """A generator that does what it is told, by each of the three ways that there are."""

    does: Callable[[Draw, Any], Any]
    id: str = "own"
    revision: str | None = None
    license: str | None = None
    source_type: str = "digitalCreation"
    asked: list[Any] = field(default_factory=list)

    def generate(self, draw: Draw, seeds: Sequence[int]) -> Any:
        return self.does(draw, seeds)

    def generate_from(self, jobs: Sequence[Any]) -> list[Any]:
        return [self.does(draw, seeds) for draw, seeds, _ in jobs]


class Batching(Own):
    def generate_all(self, jobs: Sequence[Any]) -> list[Any]:
        return [self.does(draw, seeds) for draw, seeds in jobs]


def by_one(does: Callable[[Draw, Any], Any], seeds: Any = (1, 2)) -> list[ImageBatch]:
    return generate_all(Own(does), [(FROG, seeds)])


def by_batches(does: Callable[[Draw, Any], Any], seeds: Any = (1, 2)) -> list[ImageBatch]:
    return generate_all(Batching(does), [(FROG, seeds)])


def from_sources(does: Callable[[Draw, Any], Any], seeds: Any = (1, 2)) -> list[ImageBatch]:
    return generate_from(Own(does), [(FROG, seeds, [picture(0)] * len(seeds))])


WAYS = pytest.mark.parametrize("way", [by_one, by_batches, from_sources])


def raises(error: BaseException) -> Callable[[Draw, Any], Any]:
    def does(draw: Draw, seeds: Any) -> Any:
        raise error

    return does


BREACHES: dict[str, tuple[Callable[[Draw, Any], Any], str]] = {
    "None": (lambda draw, seeds: None, "got None"),
    "a list": (lambda draw, seeds: [picture(s) for s in seeds], "got a list of 2 ndarray"),
    "a generator object": (lambda draw, seeds: (picture(s) for s in seeds), "got generator"),
    "too few": (lambda draw, seeds: batch(seeds[:1]), "1 images for 2 seeds"),
    "other seeds": (lambda draw, seeds: batch((7, 8)), "seeds 7, 8 for 1, 2"),
    "seeds of another type": (
        lambda draw, seeds: batch(seeds, seeds=("1", "2")),
        "seeds '1', '2' for 1, 2",
    ),
    "another order": (lambda draw, seeds: batch(seeds[::-1]), "seeds 2, 1 for 1, 2"),
    "floats": (
        lambda draw, seeds: batch(seeds, images=(picture(1) / 255,) * 2),
        "raised ValueError: not a uint8 RGB image: float64",
    ),
    "gray": (lambda draw, seeds: batch(seeds, images=(picture(1)[..., 0],) * 2), "uint8 RGB"),
    "no pixels": (lambda draw, seeds: batch(seeds, images=(picture(1)[:0],) * 2), "without"),
    "too many pixels": (
        lambda draw, seeds: batch(seeds, images=(np.zeros((30_000, 3_000, 3), np.uint8),) * 2),
        "an image of 3000 x 30000 pixels; 89,478,485 are the most",
    ),
    "marks that are none": (
        lambda draw, seeds: batch(seeds, invalid=(False, False)),
        "marks False, False",
    ),
    "an end": (raises(SystemExit(0)), "generate raised SystemExit: 0 (test_base.py, line "),
    "another end": (raises(GeneratorExit()), "generate raised GeneratorExit"),
    "an error that cannot be shown": (raises(UnspeakableError()), "generate raised Unspeakable"),
    "a file that is not there": (raises(FileNotFoundError(2, "gone")), "raised FileNotFoundError"),
}


@WAYS
@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_of_the_contract_is_told_in_a_line(
    breach: str, way: Callable[..., list[ImageBatch]]
) -> None:
    does, says = BREACHES[breach]
    with pytest.raises(ContractError) as told:
        way(does)
    assert says in str(told.value)
    assert str(told.value).startswith("own: ")
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_at_the_first_try_is_the_configs(breach: str) -> None:
    does, _ = BREACHES[breach]
    # The one image of seed 0 is in every order, and has no second one that may lack.
    if breach in ("too few", "another order"):
        return
    with pytest.raises(GeneratorConfigError, match=r"^generator.kind: own: "):
        try_out(Own(does), FROG)


@WAYS
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        KeyboardInterrupt(),
        *(
            OSError(number, os.strerror(number))
            for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE)
        ),
    ],
    ids=str,
)
def test_what_is_not_the_generators_fault_is_let_through(
    error: BaseException, way: Callable[..., list[ImageBatch]]
) -> None:
    with pytest.raises(type(error)) as told:
        way(raises(error))
    assert told.value is error


@WAYS
@pytest.mark.parametrize("fails", [False, True])
def test_the_process_is_as_before(
    way: Callable[..., list[ImageBatch]],
    fails: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    def does(draw: Draw, seeds: Any) -> Any:
        os.chdir("/")
        np.seterr(all="raise")
        sys.stdout = sys.stderr = io.StringIO()
        return None if fails else batch(seeds)

    before = (sys.stdout, sys.stderr, np.geterr())
    if fails:
        with pytest.raises(ContractError):
            way(does)
    else:
        way(does)
    assert Path.cwd() == tmp_path
    assert (sys.stdout, sys.stderr, np.geterr()) == before


@WAYS
def test_arrays_that_are_used_again_or_write_protected_change_nothing(
    way: Callable[..., list[ImageBatch]],
) -> None:
    canvas = np.zeros((8, 8, 3), np.uint8)

    def does(draw: Draw, seeds: Any) -> ImageBatch:
        canvas.flags.writeable = True
        canvas[:] = picture(seeds[0])
        canvas.flags.writeable = False
        return batch(seeds, images=(canvas,))

    (first,), (_,) = way(does, (1,)), way(does, (2,))
    np.testing.assert_array_equal(first.images[0], picture(1))
    assert first.images[0].flags.writeable


@WAYS
def test_draws_and_seeds_of_the_caller_stay(way: Callable[..., list[ImageBatch]]) -> None:
    seeds, draw = [2, 1], FROG.fingerprint()

    def does(its: Draw, given: Any) -> ImageBatch:
        object.__setattr__(its, "prompt", "a toad")
        made = batch(tuple(given))
        given.sort()
        return made

    (made,) = way(does, seeds)
    assert (seeds, made.seeds, FROG.fingerprint()) == ([2, 1], (2, 1), draw)


def test_images_of_one_colour_are_marked() -> None:
    (made,) = by_one(lambda draw, seeds: batch(seeds, images=(np.zeros_like(picture(1)),) * 2))
    assert made.invalid == (ONE_COLOUR, ONE_COLOUR)


def test_what_is_refused_as_too_large_could_not_be_read_back() -> None:
    """Without a warning, that is: of twice as many pixels Pillow reads nothing at all."""
    assert Image.MAX_IMAGE_PIXELS == 89_478_485
