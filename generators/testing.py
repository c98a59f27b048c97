"""The contract of generators as a pytest suite, for whoever writes one.

Subclass `GeneratorContract` in a test file of your own and override its fixture `make`; likewise
`SourcedGeneratorContract` for a generator that takes source pictures. gapclose's own generators
run through the same suites. Nothing else here imports this module, or pytest.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from gapclose.generators.base import Generator, SourcedJob, generate_all, generate_from
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.images import SOURCE_TYPES, ImageBatch, Pixels
from gapclose.generators.recipe import Draw

try:
    import pytest
except ImportError as error:
    raise ImportError(
        "gapclose.generators.testing is a pytest suite; install it with `pip install pytest`"
    ) from error

__all__ = ["GeneratorContract", "SourcedGeneratorContract"]

Make = Callable[[], Generator]


class GeneratorContract:
    """What `gapclose.generators.base.Generator` promises, one test a promise.

    A subclass overrides `make`, and where the generator needs it `draws`, `refused` or, to load a
    model once for several tests, `generator`:

        class TestMine(GeneratorContract):
            @pytest.fixture
            def make(self):
                return lambda: MyGenerator(size=64)
    """

    @pytest.fixture
    def make(self) -> Make:
        """Return a factory of equal generators; a subclass must override it."""
        raise NotImplementedError("override the fixture `make`: return a factory of generators")

    @pytest.fixture
    def generator(self, make: Make) -> Generator:
        """Return a generator."""
        return make()

    @pytest.fixture
    def draws(self) -> Sequence[Draw]:
        """Return draws that the generator takes, two or more that differ."""
        return [
            Draw(prompt="a photo of a frog", num_inference_steps=3),
            Draw(prompt="a photo of a brown frog on snow", num_inference_steps=3),
        ]

    @pytest.fixture
    def refused(self) -> Sequence[Draw]:
        """Return draws that ask for what the generator cannot do, if there are any."""
        return []

    def test_it_has_what_a_generator_has(self, generator: Generator) -> None:
        """Names, licence, kind of source and `generate` are there, of the right types."""
        assert isinstance(generator, Generator), (
            f"{type(generator).__name__} lacks one of id, revision, license, source_type, generate"
        )
        assert isinstance(generator.id, str), f"id is {generator.id!r}, not text"
        assert generator.id.strip() == generator.id, f"id {generator.id!r} has space around it"
        assert len(generator.id.splitlines()) == 1, f"id {generator.id!r} is not one line"
        for name in ("revision", "license"):
            value = getattr(generator, name)
            assert value is None or isinstance(value, str), f"{name} is {value!r}; text or None"
        assert generator.source_type in SOURCE_TYPES, (
            f"source_type is {generator.source_type!r}; one of {', '.join(SOURCE_TYPES)}"
        )

    def test_its_identity_is_stable(
        self, make: Make, generator: Generator, draws: Sequence[Draw]
    ) -> None:
        """Equal generators have one identity, and work does not change it."""
        before = _identity(generator)
        assert _identity(make()) == before, "another instance has another identity"
        _generate(generator, draws[0], [0])
        assert _identity(generator) == before, "generating changed its identity"

    def test_it_returns_one_uint8_rgb_image_per_seed(
        self, generator: Generator, draws: Sequence[Draw]
    ) -> None:
        """Images are uint8 (h, w, 3) in [0, 255], as many as seeds."""
        batch = _generate(generator, draws[0], [3, 7, 1])
        assert batch.seeds == (3, 7, 1), f"seeds are {batch.seeds}, not (3, 7, 1)"
        assert len(batch.images) == len(batch.invalid) == 3, "not three images and three marks"
        for image in batch.images:
            assert isinstance(image, np.ndarray), f"an image is a {type(image).__name__}"
            assert image.dtype == np.uint8, f"an image is {image.dtype}, not uint8"
            assert image.ndim == 3, f"an image has the shape {image.shape}, not (h, w, 3)"
            assert image.shape[2] == 3, f"an image has the shape {image.shape}, not (h, w, 3)"
            assert image.size, "an image has no pixels"
        valid = batch.valid().images
        assert not valid or max(int(image.max()) for image in valid) > 1, (
            "no pixel is above 1: were images in [0, 1] cast to uint8?"
        )

    def test_marks_are_words_or_none(self, generator: Generator, draws: Sequence[Draw]) -> None:
        """What must not be scored is marked by a word, not raised."""
        for why in _generate(generator, draws[0], range(3)).invalid:
            assert why is None or (isinstance(why, str) and why), f"{why!r} is no mark"

    def test_no_seeds_give_no_images(self, generator: Generator, draws: Sequence[Draw]) -> None:
        """An empty batch is no error."""
        assert len(_generate(generator, draws[0], [])) == 0

    def test_numpy_seeds_are_seeds(self, generator: Generator, draws: Sequence[Draw]) -> None:
        """Integers of numpy serve as seeds, and come back as plain ones."""
        seeds: Any = np.arange(2)
        batch = _generate(generator, draws[0], seeds)
        assert [type(seed) for seed in batch.seeds] == [int, int], "seeds are not plain integers"
        assert batch.seeds == (0, 1)

    @pytest.mark.parametrize("seeds", [[-1], [2**63], [1.0], ["1"], [True], [None], [4, 4]])
    def test_bad_seeds_are_refused(
        self, generator: Generator, draws: Sequence[Draw], seeds: list[int]
    ) -> None:
        """Seeds that are no distinct integers in [0, 2**63) raise a ValueError that says so."""
        with pytest.raises(ValueError, match="seed"):
            generator.generate(draws[0], seeds)

    def test_different_seeds_give_different_images(
        self, generator: Generator, draws: Sequence[Draw]
    ) -> None:
        """A seed is what tells two images of a draw apart."""
        one, other = _generate(generator, draws[0], [3, 7]).images
        assert not np.array_equal(one, other), "seeds 3 and 7 give the same pixels"

    def test_the_same_seeds_give_the_same_pixels(
        self, make: Make, generator: Generator, draws: Sequence[Draw]
    ) -> None:
        """To the bit, in a batch of the same size, also from another instance."""
        for draw in draws:
            first = _generate(generator, draw, range(5))
            again = _generate(generator, draw, range(5))
            _assert_within(0, first.images, again.images, "generated again")
            other = _generate(make(), draw, range(5))
            _assert_within(0, first.images, other.images, "generated by another instance")

    def test_another_batch_size_is_within_one_level(
        self, generator: Generator, draws: Sequence[Draw]
    ) -> None:
        """An image does not depend on what else is in its batch."""
        for draw in draws:
            together = _generate(generator, draw, range(6))
            alone = [_generate(generator, draw, [seed]).images[0] for seed in range(6)]
            _assert_within(1, together.images, alone, "generated alone")

    def test_the_order_of_seeds_does_not_matter(
        self, generator: Generator, draws: Sequence[Draw]
    ) -> None:
        """An image belongs to its seed, wherever in the batch that is."""
        forward = _generate(generator, draws[0], [3, 7, 1])
        backward = _generate(generator, draws[0], [1, 7, 3])
        _assert_within(1, forward.images, backward.images[::-1], "with its seeds reversed")

    def test_draws_do_not_leak_into_each_other(
        self, generator: Generator, draws: Sequence[Draw]
    ) -> None:
        """What was generated before changes nothing."""
        first = [_generate(generator, draw, [1, 2]).images for draw in draws]
        for draw, images in reversed(list(zip(draws, first, strict=True))):
            again = _generate(generator, draw, [1, 2]).images
            _assert_within(0, images, again, "generated after another draw")

    def test_several_draws_at_once_are_each_as_alone(
        self, generator: Generator, draws: Sequence[Draw]
    ) -> None:
        """`generate_all` gives what `generate` gives."""
        jobs = [(draws[0], [4, 1]), (draws[1], [1, 2, 3]), (draws[0], []), (draws[-1], [0, 6])]
        for (draw, seeds), batch in zip(jobs, generate_all(generator, jobs), strict=True):
            (alone,) = generate_all(generator, [(draw, seeds)])
            assert batch.seeds == alone.seeds
            assert batch.invalid == alone.invalid, "marks differ from those of a draw alone"
            _assert_within(1, alone.images, batch.images, "generated beside other draws")

    def test_global_random_state_is_not_changed(self, make: Make, draws: Sequence[Draw]) -> None:
        """Whoever seeded random, numpy or torch finds them as they were."""
        with _global_seed(99):
            before = _random_states()
            _generate(make(), draws[0], range(3))
            after = _random_states()
        for name, state in before.items():
            assert after[name] == state, f"the global random state of {name} was changed"

    def test_global_random_state_is_not_read(self, make: Make, draws: Sequence[Draw]) -> None:
        """Pixels follow from draw and seed, whatever random, numpy or torch were seeded with."""
        with _global_seed(1):
            first = _generate(make(), draws[0], range(3)).images
        with _global_seed(2):
            second = _generate(make(), draws[0], range(3)).images
        _assert_within(0, first, second, "generated with another global seed")

    def test_a_draw_that_it_cannot_do_is_refused(
        self, generator: Generator, refused: Sequence[Draw]
    ) -> None:
        """In one line, as a GeneratorConfigError: the config is wrong, and no trial can help."""
        if not refused:
            pytest.skip("the fixture `refused` names no draws")
        for draw in refused:
            with pytest.raises(GeneratorConfigError) as caught:
                generator.generate(draw, [0])
            assert len(str(caught.value).splitlines()) == 1, "the refusal is not one line"

    def test_a_refused_draw_changes_nothing(
        self, generator: Generator, draws: Sequence[Draw], refused: Sequence[Draw]
    ) -> None:
        """The next draw gives what it gave before."""
        first = _generate(generator, draws[0], [1, 2]).images
        for draw in refused:
            with pytest.raises(GeneratorConfigError):
                generator.generate(draw, [0])
        again = _generate(generator, replace(draws[0]), [1, 2]).images
        _assert_within(0, first, again, "generated after a refusal")


class SourcedGeneratorContract:
    """What `gapclose.generators.base.SourcedGenerator` promises besides, one test a promise.

    A subclass overrides `make`, and where the generator needs it `draw`, `sources` or `near`.
    """

    @pytest.fixture
    def make(self) -> Make:
        """Return a factory of equal generators; a subclass must override it."""
        raise NotImplementedError("override the fixture `make`: return a factory of generators")

    @pytest.fixture
    def generator(self, make: Make) -> Generator:
        """Return a generator."""
        return make()

    @pytest.fixture
    def draw(self) -> Draw:
        """Return a draw that starts from a source."""
        return Draw(
            prompt="a photo of a frog", guidance_scale=1.0, num_inference_steps=5, strength=0.6
        )

    @pytest.fixture
    def sources(self) -> Sequence[Pixels]:
        """Return five pictures that differ, not all of one size."""
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (5, 3, 3, 3), dtype=np.uint8)
        sides = [(32, 32), (48, 32), (32, 40), (64, 64), (32, 32)]
        return [
            np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
            for picture, size in zip(coarse, sides, strict=True)
        ]

    @pytest.fixture
    def near(self) -> float | None:
        """Return how near an image of strength 0.1 is to its source; None if nobody knows.

        The mean absolute difference of pixels, in levels of 255.
        """
        return 12.0

    def test_it_returns_one_image_per_seed_in_their_order(
        self, generator: Generator, draw: Draw, sources: Sequence[Pixels]
    ) -> None:
        """A batch per job, an image per seed, and none for no seeds."""
        other = replace(draw, prompt="a photo of a ship")
        jobs: list[SourcedJob] = [
            (draw, [7, 1, 3], sources[:3]),
            (draw, [], []),
            (other, [1], sources[:1]),
        ]
        batches = generate_from(generator, jobs)
        assert [batch.seeds for batch in batches] == [(7, 1, 3), (), (1,)], "other seeds came back"
        sizes = {image.shape for batch in batches for image in batch.images}
        assert len(sizes) == 1, f"the size of a source is that of its image: {sizes}"

    def test_the_same_seed_and_source_give_the_same_pixels(
        self, make: Make, generator: Generator, draw: Draw, sources: Sequence[Pixels]
    ) -> None:
        """To the bit, in a batch of the same size, also from another instance."""
        first = _from(generator, draw, range(5), sources)
        _assert_within(0, first, _from(generator, draw, range(5), sources), "generated again")
        other = _from(make(), draw, range(5), sources)
        _assert_within(0, first, other, "generated by another instance")

    def test_an_image_follows_from_its_own_seed_and_source(
        self, generator: Generator, draw: Draw, sources: Sequence[Pixels]
    ) -> None:
        """Wherever in a batch it is, beside whatever other prompts and sources."""
        together = _from(generator, draw, range(5), sources)
        alone = [_from(generator, draw, [s], [source])[0] for s, source in enumerate(sources)]
        _assert_within(1, together, alone, "generated alone")
        backward = _from(generator, draw, [4, 3, 2, 1, 0], sources[::-1])
        _assert_within(1, together, backward[::-1], "in reverse order")
        other = replace(draw, prompt="a photo of a ship")
        beside = generate_from(generator, [(other, [9], sources[:1]), (draw, range(5), sources)])
        _assert_within(1, together, beside[1].images, "beside another prompt")

    def test_seed_and_source_each_matter(
        self, generator: Generator, draw: Draw, sources: Sequence[Pixels]
    ) -> None:
        """Another seed is another image of a source, another source another one of a seed."""
        base, reseeded = _from(generator, draw, [1, 2], [sources[0], sources[0]])
        (other,) = _from(generator, draw, [1], [sources[4]])
        assert not np.array_equal(base, reseeded), "seeds 1 and 2 give the same pixels"
        assert not np.array_equal(base, other), "two sources give the same pixels"

    def test_a_source_is_left_as_it_is(
        self, generator: Generator, draw: Draw, sources: Sequence[Pixels]
    ) -> None:
        """Whoever gave the picture finds it unchanged."""
        before = [source.copy() for source in sources]
        given = [np.array(source) for source in sources]
        _from(generator, draw, range(5), given)
        _assert_within(0, before, given, "after generating")

    def test_strength_is_how_much_of_a_source_is_replaced(
        self, generator: Generator, draw: Draw, sources: Sequence[Pixels], near: float | None
    ) -> None:
        """At 0.1 an image is nearly its source; at 1.0 it is at least twice as far from it."""
        if near is None:
            pytest.skip("the fixture `near` is None")
        square = [source for source in sources if source.shape[0] == source.shape[1]]
        apart = {}
        for strength in (0.1, 1.0):
            images = _from(generator, replace(draw, strength=strength), range(len(square)), square)
            size = (images[0].shape[1], images[0].shape[0])
            small = [Image.fromarray(s).resize(size, Image.Resampling.LANCZOS) for s in square]
            apart[strength] = float(
                np.mean(
                    [np.abs(np.asarray(s, float) - i) for s, i in zip(small, images, strict=True)]
                )
            )
        assert apart[0.1] <= near, f"at 0.1 an image is {apart[0.1]:.1f}/255 from its source"
        assert apart[1.0] >= 2 * apart[0.1], f"at 0.1 and 1.0 images are as far: {apart}"

    def test_global_random_state_is_neither_read_nor_changed(
        self, make: Make, draw: Draw, sources: Sequence[Pixels]
    ) -> None:
        """Whoever seeded random, numpy or torch finds them as they were, and no other pixels."""
        images = []
        for seed in (1, 2):
            with _global_seed(seed):
                before = _random_states()
                images.append(_from(make(), draw, [0, 1], sources[:2]))
                after = _random_states()
            for name, state in before.items():
                assert after[name] == state, f"the global random state of {name} was changed"
        first, second = images
        _assert_within(0, first, second, "generated with another global seed")

    def test_a_draw_without_its_source_is_refused(self, generator: Generator, draw: Draw) -> None:
        """In one line, as a GeneratorConfigError, and not drawn from text alone."""
        with pytest.raises(GeneratorConfigError) as caught:
            generate_all(generator, [(draw, [0])])
        assert len(str(caught.value).splitlines()) == 1, "the refusal is not one line"

    def test_one_source_per_seed(
        self, generator: Generator, draw: Draw, sources: Sequence[Pixels]
    ) -> None:
        """Anything else is a ValueError."""
        own: Any = generator
        with pytest.raises(ValueError, match="source"):
            own.generate_from([(draw, [0, 1], sources[:1])])


def _from(
    generator: Generator, draw: Draw, seeds: Sequence[int], sources: Sequence[Pixels]
) -> tuple[Pixels, ...]:
    (batch,) = generate_from(generator, [(draw, seeds, sources)])
    return batch.images


def _identity(generator: Generator) -> tuple[str | None, ...]:
    return generator.id, generator.revision, generator.license, generator.source_type


def _generate(generator: Generator, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
    batch = generator.generate(draw, seeds)
    assert isinstance(batch, ImageBatch), f"generate returned a {type(batch).__name__}"
    return batch


def _assert_within(
    levels: int, expected: Sequence[Pixels], images: Sequence[Pixels], how: str
) -> None:
    """Assert that images are of one shape and differ by at most so many levels of 255."""
    for one, other in zip(expected, images, strict=True):
        assert one.shape == other.shape, f"{how}, an image is {other.shape}, not {one.shape}"
        apart = int(np.abs(one.astype(int) - other).max())
        assert apart <= levels, f"{how}, a pixel differs by {apart}/255; at most {levels}/255"


def _random_states() -> dict[str, Any]:
    """Return the global states, comparable; torch's where it is loaded."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  it is what is watched
    states: dict[str, Any] = {
        "random": random.getstate(),
        "numpy": (kind, np.asarray(keys).tobytes(), *rest),
    }
    if (torch := sys.modules.get("torch")) is not None:
        states["torch"] = torch.get_rng_state().numpy().tobytes()
        if torch.cuda.is_initialized():
            cuda = torch.cuda.get_rng_state_all()
            states["torch.cuda"] = [state.numpy().tobytes() for state in cuda]
    return states


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed random, numpy and torch, and put their states back afterwards."""
    torch = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch_state = None if torch is None else torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if torch is not None:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(torch_state)
