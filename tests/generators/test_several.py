"""Several generators as one: each draw reaches the one that it names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from gapclose.generators.base import drawing, generate_all, generate_from
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.images import ImageBatch
from gapclose.generators.recipe import Draw
from gapclose.generators.several import SeveralGenerators, Spent, spent_by


class Plain:
    """Draws its own shade, and the seed beside it."""

    revision: str | None = None
    license: str | None = "mit"
    source_type = "digitalCreation"

    def __init__(self, name: str, shade: int) -> None:
        self.id, self._shade = name, shade
        self.asked: list[list[Draw]] = []
        self.closed = False

    def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
        self.asked.append([draw for draw, _ in jobs])
        return [self._batch(seeds) for _, seeds in jobs]

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        return self.generate_all([(draw, seeds)])[0]

    def close(self) -> None:
        self.closed = True

    def _batch(self, seeds: Sequence[int]) -> ImageBatch:
        rows = np.zeros((2, 2, 3), np.uint8) + self._shade
        images = []
        for seed in seeds:
            image = rows.copy()
            image[0, 0] = seed % 200
            images.append(image)
        return ImageBatch(images=tuple(images), seeds=tuple(seeds), invalid=(None,) * len(seeds))


class Drawn(Plain):
    """A model, with a revision."""

    revision = "abc"
    license = None
    source_type = "trainedAlgorithmicMedia"


def both() -> tuple[SeveralGenerators, Plain, Plain]:
    one, other = Plain("render", 210), Drawn("paint", 240)
    ticks = itertools.count()
    return SeveralGenerators({"a": one, "b": other}, now=lambda: float(next(ticks))), one, other


def draw(generator: str | None, prompt: str = "x") -> Draw:
    return Draw(prompt=prompt, generator=generator)


def test_each_draw_is_drawn_by_the_generator_that_it_names_in_the_order_of_the_jobs() -> None:
    several, one, other = both()
    jobs = [(draw("b", "1"), [1, 2]), (draw("a", "2"), [3]), (draw("b", "3"), [4])]
    batches = generate_all(several, jobs)
    shades = [[int(image[1, 1, 0]) for image in batch.images] for batch in batches]
    assert shades == [[240, 240], [210], [240]]
    assert [batch.seeds for batch in batches] == [(1, 2), (3,), (4,)]
    assert len(one.asked) == len(other.asked) == 1, "each is asked once, so it may batch"
    assert other.asked[0] == [Draw(prompt="1"), Draw(prompt="3")], "its name is none of its own"


def test_a_generator_is_the_same_alone() -> None:
    several, one, _ = both()
    (among,) = generate_all(several, [(draw("a"), [5])])
    (alone,) = generate_all(one, [(Draw(prompt="x"), [5])])
    assert np.array_equal(among.images[0], alone.images[0])


def test_what_each_has_drawn_is_counted() -> None:
    several, _, _ = both()
    assert spent_by(several) == {"a": Spent(), "b": Spent()}
    generate_all(several, [(draw("b"), [1, 2, 3])])
    before = spent_by(several)
    assert before == {"a": Spent(), "b": Spent(3, 1.0)}
    generate_all(several, [(draw("b"), [4]), (draw("a"), [5])])
    after = spent_by(several)
    assert (after["b"] - before["b"]).pair == (1, 1.0)
    assert after["a"].pair == (1, 1.0)
    assert spent_by(Plain("alone", 1)) == {}


@pytest.mark.parametrize("name", [None, "c"])
def test_a_draw_that_names_none_of_them_is_refused(name: str | None) -> None:
    several, one, _ = both()
    with pytest.raises(GeneratorConfigError, match="there are a, b"):
        generate_all(several, [(draw("a"), [1]), (draw(name), [2])])
    assert not one.asked, "nothing is drawn for a job that cannot be done"


def test_they_are_named_together_and_each_alone_draws_a_draw() -> None:
    several, one, other = both()
    assert several.id == "a render, b paint"
    assert several.revision == "b abc"
    assert several.license == "a mit, b unknown"
    assert several.source_type == "trainedAlgorithmicMedia"
    assert SeveralGenerators({"a": one, "c": one}).source_type == "digitalCreation"
    assert drawing(several, draw("a")) is one
    assert drawing(several, draw("b")).source_type == "trainedAlgorithmicMedia"
    assert drawing(one, draw(None)) is one
    assert [*several] == ["a", "b"]
    assert several.named("b") is other


def test_all_are_ended() -> None:
    several, one, other = both()
    several.close()
    assert (one.closed, other.closed) == (True, True)


def test_one_that_fails_is_the_one_that_is_named() -> None:
    class Broken(Plain):
        def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
            raise GenerationError("no more film")

    several = SeveralGenerators({"a": Plain("fine", 210), "b": Broken("broken", 1)})
    with pytest.raises(GenerationError, match="no more film"):
        generate_all(several, [(draw("a"), [1]), (draw("b"), [2])])
    started = Draw(prompt="x", generator="a", strength=0.5)
    with pytest.raises(GeneratorConfigError, match="takes no pictures"):
        generate_from(several, [(started, [1], [np.zeros((2, 2, 3), np.uint8)])])
