"""Whatever an embedder of somebody's own returns, raises or does is told in one line."""

from __future__ import annotations

import copy
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis.checked import CheckedTextEmbedder, checked, try_out
from gapclose.analysis.embedding import TextEmbedder, make_embedder
from gapclose.analysis.errors import EmbedderError

WIDTH = 6
UNSAID = "class Unsaid(Exception):\n    def __str__(self): raise SystemExit"
OWN = """
import numpy as np
class Own:
    id, width = "own", 4
    def __init__(self, *, device):
        pass
    def embed(self, images):
        {}
"""


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("there is nothing to say")


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def rows_of(images: Sequence[NDArray[np.uint8]]) -> NDArray[Any]:
    means = np.stack([i.reshape(-1, 3).astype(np.float32).mean(axis=0) for i in images])
    rows = np.concatenate([means, 255 - means], axis=1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Own:
    """An embedder that does what it is told with the rows that it should return."""

    id: Any = "own"
    width: Any = WIDTH
    logit_scale = 7.0

    def __init__(self, does: Callable[[NDArray[Any]], Any] = lambda rows: rows) -> None:
        self.does = does
        self.calls = 0

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        self.calls += 1
        return self.does(rows_of(images))


class OwnWithWords(Own):
    def embed_text(self, texts: Sequence[str]) -> Any:
        return self.does(np.eye(len(texts), WIDTH))


def raises(error: BaseException) -> Callable[[NDArray[Any]], Any]:
    def does(rows: NDArray[Any]) -> Any:
        raise error

    return does


BREACHES: dict[str, tuple[Callable[[NDArray[Any]], Any], str]] = {
    "None": (lambda rows: None, "got None"),
    "one row short": (lambda rows: rows[:-1], "got 1x6 for 2 "),
    "one row more": (lambda rows: np.concatenate([rows, rows[:1]]), "got 3x6 for 2 "),
    "another width": (lambda rows: rows[:, :-1], "got 2x5 for 2 "),
    "one number": (lambda rows: np.float32(1), "got one number for 2 "),
    "a generator": (lambda rows: (row for row in rows), "got generator of object"),
    "rows of two widths": (lambda rows: [rows[0], rows[1][:3]], "raised ValueError"),
    "words": (lambda rows: rows.astype(str), "got ndarray of <U"),
    "twice as long": (lambda rows: 2 * rows, "got a row of length 2"),
    "an end": (raises(SystemExit(0)), "raised SystemExit: 0 (test_checked.py, line "),
    "an error": (raises(ValueError("a\nb")), "raised ValueError: a (test_checked.py, line "),
    "an error that cannot be shown": (raises(UnspeakableError()), "raised UnspeakableError: it"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_of_the_contract_is_told_in_a_line(breach: str) -> None:
    does, says = BREACHES[breach]
    embedder = checked(OwnWithWords(does))
    assert isinstance(embedder, CheckedTextEmbedder)
    for ask in (
        lambda: embedder.embed([picture(1), picture(2)]),
        lambda: embedder.embed_text(["a frog", "a ship"]),
        lambda: try_out(OwnWithWords(does), name="own.py:Own"),
    ):
        with pytest.raises(EmbedderError) as told:
            ask()
        assert says in str(told.value)
        assert len(str(told.value).splitlines()) == 1
        assert told.value.exit_code == 2


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), EmbedderError("its own")])
def test_what_is_no_breach_is_let_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as told:
        checked(Own(raises(error))).embed([picture(1)])
    assert told.value is error


def test_one_row_for_many_different_images_is_refused() -> None:
    embedder = checked(Own(lambda rows: np.repeat(rows[:1], len(rows), axis=0)))
    with pytest.raises(EmbedderError, match="one row for 8 different images"):
        embedder.embed([picture(seed) for seed in range(8)])
    assert len(embedder.embed([picture(seed) for seed in range(7)])) == 7
    assert len(embedder.embed([picture(1)] * 8)) == 8


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_an_image_without_features_is_left_to_the_caller(value: float) -> None:
    def does(rows: NDArray[Any]) -> NDArray[Any]:
        rows[1] = 0.0
        rows[1, 2] = value
        return rows

    images = [picture(seed) for seed in range(3)]
    rows = checked(Own(does)).embed(images)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(rows).all(axis=1), [False, True, False])
    np.testing.assert_allclose(rows[::2], rows_of(images)[::2], atol=1e-6)


def test_what_keeps_the_contract_passes_as_it_is() -> None:
    images = [picture(seed) for seed in range(3)]
    for does in (
        lambda rows: rows,
        lambda rows: rows.astype(np.float16),
        lambda rows: rows.astype(np.float64),
        lambda rows: rows.tolist(),
    ):
        rows = try_out(OwnWithWords(does), name="own").embed(images)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, rows_of(images), atol=1e-3)
    own = OwnWithWords()
    embedder = checked(own)
    assert (embedder.id, embedder.width, embedder.logit_scale) == ("own", WIDTH, 7.0)
    assert isinstance(embedder, TextEmbedder)
    assert not isinstance(checked(Own()), TextEmbedder)
    assert not hasattr(checked(Own()), "embed_text")
    assert embedder.embed([]).shape == (0, WIDTH)
    assert own.calls == 0


def test_a_copy_is_checked_as_the_embedder_is() -> None:
    embedder = checked(OwnWithWords())
    again = copy.copy(embedder)
    assert isinstance(again, TextEmbedder)
    assert (again.id, again.width, again.logit_scale) == ("own", WIDTH, 7.0)
    rows = again.embed([picture(1)])
    np.testing.assert_array_equal(rows, embedder.embed([picture(1)]))


def test_an_array_that_is_used_again_changes_no_row() -> None:
    canvas = np.zeros((1, WIDTH), np.float32)

    def does(rows: NDArray[Any]) -> NDArray[Any]:
        canvas[:] = rows
        return canvas

    embedder = checked(Own(does))
    first, _ = embedder.embed([picture(1)]), embedder.embed([picture(2)])
    np.testing.assert_allclose(first, rows_of([picture(1)]), atol=1e-6)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", "got None"),
        ("return np.zeros((len(images), 4))", "rows of zeros"),
        ("return np.full((len(images), 4), np.nan)", "rows of zeros, or of what is no number"),
        ("return np.full((len(images), 4), 0.5)", "one row for two different pictures"),
        ("return np.full((len(images), 5), 0.5)", "got 2x5 for 2 images"),
        ("raise SystemExit(0)", "embed raised SystemExit: 0 (own.py, line 8)"),
    ],
)
def test_one_of_somebodys_own_is_tried_out_when_it_is_made(
    body: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN.format(body))
    name = f"{tmp_path / 'own.py'}:Own"
    with pytest.raises(EmbedderError) as told:
        make_embedder(name)
    assert says in str(told.value)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise SystemExit(0)", "cannot be loaded: SystemExit: 0"),
        ("class Own:\n    def __init__(self, device): raise SystemExit(0)", "cannot be loaded: S"),
        ("raise ValueError('x' * 10_000)", f"cannot be loaded: ValueError: {'x' * 300}"),
        (f"{UNSAID}\nraise Unsaid", "cannot be loaded: Unsaid: it cannot be shown"),
        ("Own = 7", "has no class Own"),
        ("class Own:\n    def __init__(self, device): pass", "has no id; an embedder has id"),
        (OWN.format("pass").replace('"own", 4', '"own", "4"'), "its width is '4'"),
        (OWN.format("pass").replace('"own", 4', "7, 4"), "its id is 7"),
    ],
)
def test_what_is_no_embedder_is_told_when_it_is_made(code: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(code)
    with pytest.raises(EmbedderError) as told:
        make_embedder(f"{tmp_path / 'own.py'}:Own")
    assert says in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert len(str(told.value)) < 500 + len(str(tmp_path))


def test_the_process_is_as_before() -> None:
    def does(rows: NDArray[Any]) -> NDArray[Any]:
        np.seterr(all="raise")
        sys.stdout = sys.stderr = io.StringIO()
        return rows

    before = (sys.stdout, sys.stderr, np.geterr())
    assert checked(Own(does)).embed([picture(0), picture(1)]).shape == (2, WIDTH)
    assert (sys.stdout, sys.stderr, np.geterr()) == before
