"""The contract of embedders as a pytest suite, for whoever writes one.

Subclass `EmbedderContract` in a test file of your own and override its fixture `make`. gapclose's
own embedders run through the same suite. Nothing else here imports this module, or pytest.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.embedding import Embedder, TextEmbedder

try:
    import pytest
except ImportError as error:
    raise ImportError(
        "gapclose.analysis.testing is a pytest suite; install it with `pip install pytest`"
    ) from error

__all__ = ["EmbedderContract"]

Make = Callable[[], Embedder]
Pixels = NDArray[np.uint8]
Rows = NDArray[np.float32]

_ROUNDING: Final = 1e-4  # of a coordinate, between batches of another size or another order


class EmbedderContract:
    """What `gapclose.analysis.embedding.Embedder` promises, one test a promise.

    A subclass overrides `make` and, to load a model once for several tests, `embedder`:

        class TestMine(EmbedderContract):
            @pytest.fixture
            def make(self):
                return lambda: MyEmbedder(device="cpu")

    The tests of texts are skipped unless it is a `TextEmbedder` too.
    """

    @pytest.fixture
    def make(self) -> Make:
        """Return a factory of equal embedders; a subclass must override it."""
        raise NotImplementedError("override the fixture `make`: return a factory of embedders")

    @pytest.fixture
    def embedder(self, make: Make) -> Embedder:
        """Return an embedder."""
        return make()

    @pytest.fixture
    def texts(self, embedder: Embedder) -> TextEmbedder:
        """Return the embedder if it has a text side."""
        if not isinstance(embedder, TextEmbedder):
            pytest.skip("it has no text side")
        return embedder

    def test_it_has_what_an_embedder_has(self, embedder: Embedder) -> None:
        """An id of one line, a width, and `embed`."""
        assert isinstance(embedder, Embedder), (
            f"{type(embedder).__name__} lacks one of id, width, embed"
        )
        assert isinstance(embedder.id, str), f"id is {embedder.id!r}, not text"
        assert len(embedder.id.splitlines()) == 1, f"id {embedder.id!r} is not one line"
        assert isinstance(embedder.width, int), f"width is {embedder.width!r}, not an integer"
        assert embedder.width > 0, f"width is {embedder.width}"

    def test_another_instance_gives_the_same_rows(self, make: Make, embedder: Embedder) -> None:
        """Rows are cached for good: they follow from the name, not from who loaded it when."""
        images = _pictures(3)
        other = make()
        assert (other.id, other.width) == (embedder.id, embedder.width)
        _assert_close(_embed(embedder, images), _embed(other, images), "from another instance")

    def test_rows_are_float32_unit_and_as_wide_as_said(self, embedder: Embedder) -> None:
        """(n, width), each of length 1."""
        rows = _embed(embedder, _pictures(5))
        assert rows.dtype == np.float32, f"rows are {rows.dtype}, not float32"
        assert rows.shape == (5, embedder.width), f"{rows.shape} is not (5, {embedder.width})"
        lengths = np.linalg.norm(rows, axis=1)
        assert np.allclose(lengths, 1.0, atol=1e-5), f"lengths of rows are {lengths}, not 1"

    def test_no_images_give_no_rows(self, embedder: Embedder) -> None:
        """(0, width), as wide as ever."""
        assert _embed(embedder, []).shape == (0, embedder.width)

    def test_images_of_any_size_are_embedded(self, embedder: Embedder) -> None:
        """Also of different sizes and aspects in one call."""
        images = [_pictures(1, shape)[0] for shape in ((32, 32), (48, 64), (200, 100), (8, 8))]
        rows = _embed(embedder, images)
        assert rows.shape == (4, embedder.width)
        assert np.isfinite(rows).all(), "a row is not finite"

    def test_different_images_give_different_rows(self, embedder: Embedder) -> None:
        """Their distances mean something."""
        rank = np.linalg.matrix_rank(_embed(embedder, _pictures(69)))
        assert rank > min(3, embedder.width - 1), f"69 images span {rank} dimensions"

    def test_a_row_does_not_depend_on_its_batch(self, embedder: Embedder) -> None:
        """Also beyond one batch of the encoder, and beside images of other sizes."""
        images = _pictures(67) + _pictures(2, (48, 64))
        together = _embed(embedder, images)
        alone = np.concatenate([_embed(embedder, [image]) for image in images])
        _assert_close(together, alone, "embedded alone")

    def test_a_row_does_not_depend_on_the_order(self, embedder: Embedder) -> None:
        """A row belongs to its image."""
        images = _pictures(67) + _pictures(2, (48, 64))
        together = _embed(embedder, images)
        _assert_close(together, _embed(embedder, images[::-1])[::-1], "in reversed order")

    def test_the_same_images_give_the_same_rows(self, embedder: Embedder) -> None:
        """To the bit, in the same batch: a model at inference has no dropout."""
        images = _pictures(3, (40, 32))
        first, second = _embed(embedder, images), _embed(embedder, images)
        assert np.array_equal(first, second), "embedded again, a row differs"

    def test_the_images_are_not_changed(self, embedder: Embedder) -> None:
        """They are the caller's."""
        images = _pictures(3, (40, 32))
        before = [image.copy() for image in images]
        _embed(embedder, images)
        assert all(map(np.array_equal, images, before)), "an image was written to"

    def test_resizing_is_antialiased(self, embedder: Embedder) -> None:
        """A fine checkerboard of dark and light, seen from afar, is the grey between them."""
        board = np.where(np.indices((512, 512)).sum(axis=0) % 2, 240, 110).astype(np.uint8)
        fine = np.repeat(board[:, :, None], 3, axis=2)
        row, dark, between, light = _embed(
            embedder, [fine, *(np.full_like(fine, value) for value in (110, 175, 240))]
        )
        assert row @ between > 0.99, f"its cosine with grey is {row @ between:.3f}"
        # Some see no brightness.
        assert row @ between >= max(row @ dark, row @ light) - 1e-5, "grey is not the nearest"

    def test_global_random_state_is_not_changed(self, make: Make) -> None:
        """Whoever seeded random, numpy or torch finds them as they were."""
        embedder = make()  # loading may build layers at random
        with _global_seed(99):
            before = _random_states()
            _embed(embedder, _pictures(3))
            after = _random_states()
        for name, state in before.items():
            assert after[name] == state, f"the global random state of {name} was changed"

    def test_global_random_state_is_not_read(self, make: Make) -> None:
        """Rows follow from the images, whatever random, numpy or torch were seeded with."""
        with _global_seed(1):
            first = _embed(make(), _pictures(3))
        with _global_seed(2):
            second = _embed(make(), _pictures(3))
        _assert_close(first, second, "embedded with another global seed")

    def test_texts_are_rows_of_the_same_space(self, texts: TextEmbedder) -> None:
        """float32 (n, width), each of length 1, whatever the length of the text."""
        rows = texts.embed_text(["a photo of a frog", "a ship", "a photo of a frog " * 50])
        assert rows.dtype == np.float32, f"rows are {rows.dtype}, not float32"
        assert rows.shape == (3, texts.width), f"{rows.shape} is not (3, {texts.width})"
        lengths = np.linalg.norm(rows, axis=1)
        assert np.allclose(lengths, 1.0, atol=1e-5), f"lengths of rows are {lengths}, not 1"
        assert texts.embed_text([]).shape == (0, texts.width)

    def test_a_text_does_not_depend_on_its_batch(self, texts: TextEmbedder) -> None:
        """Nor on what was asked before."""
        words = ["a photo of a frog", "a ship", "a photo of a frog " * 50]
        together = texts.embed_text(words)
        alone = np.concatenate([texts.embed_text([word]) for word in words])
        _assert_close(together, alone, "a text embedded alone")


def _embed(embedder: Embedder, images: Sequence[Pixels]) -> Rows:
    rows = embedder.embed(images)
    assert isinstance(rows, np.ndarray), f"embed returned a {type(rows).__name__}, not an array"
    return rows


def _pictures(n: int, shape: tuple[int, int] = (32, 32)) -> list[Pixels]:
    """N images (h, w, 3) of random blocks of colour, so that resizing leaves something to see."""
    height, width = shape
    blocks = np.random.default_rng(7).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    return [np.kron(b, np.ones((height // 4, width // 4, 1), np.uint8)) for b in blocks]


def _assert_close(expected: Rows, rows: Rows, how: str) -> None:
    assert rows.shape == expected.shape, f"{how}, rows are {rows.shape}, not {expected.shape}"
    apart = float(np.abs(rows - expected).max())
    assert apart <= _ROUNDING, f"{how}, a row differs by {apart:.2g}"


def _random_states() -> dict[str, Any]:
    """Return the global states, comparable; torch's where it is loaded."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  it is what is watched
    states: dict[str, Any] = {
        "random": random.getstate(),
        "numpy": (kind, np.asarray(keys).tobytes(), *rest),
    }
    if (torch := sys.modules.get("torch")) is not None:
        states["torch"] = torch.get_rng_state().numpy().tobytes()
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
