"""A checked embedder: its rows are what the contract says, or one line says what they are.

`make_embedder` puts it round every embedder, ours and those of somebody's own, so that whoever
embeds need not look at the rows again. It mends no row: images without features are left to the
caller, as rows of NaN.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.errors import EmbedderError, said

__all__ = ["CheckedEmbedder", "CheckedTextEmbedder", "checked", "try_out"]

_UNIT: Final = 1e-3  # off a length of 1: half precision is within
_BLIND: Final = 8  # different images of one row: of fewer it may be chance
_NONE: Final = 1e-6  # the length of a row of zeros, as rounding leaves it


class CheckedEmbedder:
    """An embedder whose rows are checked; what else it has is its own.

    Attributes:
        id: As the embedder has it.
        width: Length of a row.
    """

    def __init__(self, embedder: Any) -> None:
        """Put it round an embedder."""
        self._embedder = embedder
        self.id: str = embedder.id
        self.width: int = embedder.width

    def __getattr__(self, name: str) -> Any:
        """Return what the embedder has besides, such as its `logit_scale`."""
        if name == "_embedder":  # copying and unpickling ask before there is one
            raise AttributeError(name)
        return getattr(self._embedder, name)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed any number of (h, w, 3) images, also of different sizes.

        Returns:
            (n, width), rows of length 1, or of NaN where an image has no features: its row is
            not finite, or zero throughout.

        Raises:
            EmbedderError: In one line, if it raises anything or returns anything else, or one row
                for many different images.
            MemoryError: The machine's trouble.
        """
        rows = self._rows(self._embedder.embed, images)
        first = rows[:1]
        if len(rows) >= _BLIND and (rows == first).all() and not _same(images):
            raise self._breach("embed", f"one row for {len(rows)} different images")
        return rows

    def _rows(self, method: Callable[[Any], Any], items: Sequence[Any]) -> NDArray[np.float32]:
        if not len(items):
            return np.zeros((0, self.width), dtype=np.float32)
        try:
            # What it changes for itself is put back, or our own code would be blamed for it.
            with np.errstate(), redirect_stdout(sys.stdout), redirect_stderr(sys.stderr):
                returned = method(items)
            found: NDArray[Any] = np.asarray(returned)
        except (EmbedderError, KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # sys.exit among them, which would end the run as if done
            raise EmbedderError(
                f"{method.__name__} raised {_raised(self._embedder, error)}", name=self.id
            ) from error
        if returned is None or found.dtype.kind not in "fiu":
            got = "None" if returned is None else f"{type(returned).__name__} of {found.dtype}"
            raise self._breach(method.__name__, got)
        if found.shape != (len(items), self.width):
            raise self._breach(
                method.__name__,
                f"{'x'.join(map(str, found.shape)) or 'one number'} for {len(items)} "
                f"{'texts' if isinstance(items[0], str) else 'images'}",
            )
        # A copy: it may write its next rows into the same array.
        rows = np.array(found, dtype=np.float32)
        lengths = np.linalg.norm(rows, axis=1)
        rows[~np.isfinite(lengths) | (lengths < _NONE)] = np.nan
        off = lengths[np.isfinite(rows[:, 0]) & (np.abs(lengths - 1) > _UNIT)]
        if len(off):
            raise self._breach(method.__name__, f"a row of length {off[0]:.4g}")
        return rows

    def _breach(self, method: str, got: str) -> EmbedderError:
        return EmbedderError(
            f"{method} must return one float row of length 1 and width {self.width} each; got "
            f"{got}",
            name=self.id,
        )


class CheckedTextEmbedder(CheckedEmbedder):
    """A checked embedder that puts words into the same space."""

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: (n, width), rows of length 1.

        Raises:
            EmbedderError, MemoryError: As `embed`.
        """
        return self._rows(self._embedder.embed_text, texts)


def checked(embedder: Any) -> CheckedEmbedder:
    """Put the check round an embedder, with a text side where it has one."""
    kind = CheckedTextEmbedder if hasattr(embedder, "embed_text") else CheckedEmbedder
    return kind(embedder)


def try_out(embedder: Any, *, name: str) -> CheckedEmbedder:
    """Embed two pictures, so that an embedder of somebody's own that breaks its contract is found.

    Args:
        embedder: As its class made it.
        name: It was made from.

    Returns:
        It, checked.

    Raises:
        EmbedderError: It lacks an attribute, raises, or its rows are not those of an embedder; in
            words that say what to return.
    """
    lacking = [part for part in ("id", "width", "embed") if not hasattr(embedder, part)]
    if lacking:
        raise EmbedderError(
            f"has no {lacking[0]}; an embedder has id, width and embed(images)", name=name
        )
    if not isinstance(embedder.id, str) or len(embedder.id.splitlines()) != 1:
        raise EmbedderError(f"its id is {embedder.id!r}; make it a line of text", name=name)
    width = embedder.width
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise EmbedderError(f"its width is {width!r}; make it the length of a row", name=name)
    found = checked(embedder)
    rows = found.embed(_pictures())
    if not np.isfinite(rows).all():
        raise EmbedderError("embed gives rows of zeros, or of what is no number", name=name)
    if (rows[0] == rows[1]).all():
        raise EmbedderError("embed gives one row for two different pictures", name=name)
    if isinstance(found, CheckedTextEmbedder):
        found.embed_text(["a photo of a frog", "a photo of a ship"])
    return found


def _pictures() -> list[NDArray[np.uint8]]:
    """Return a picture of random blocks, and one that darkens from side to side."""
    blocks = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    ramp = np.linspace(255, 0, 32, dtype=np.uint8)
    return [
        np.kron(blocks, np.ones((8, 8, 1), np.uint8)),
        np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (32, 32, 3))),
    ]


def _same(images: Sequence[NDArray[np.uint8]]) -> bool:
    return all(np.array_equal(image, images[0]) for image in images)


def _raised(embedder: Any, error: BaseException) -> str:
    """Say what an embedder raised, and where in its own file."""
    frames = traceback.extract_tb(error.__traceback__)
    file = getattr(sys.modules.get(type(embedder).__module__), "__file__", None)
    at = [frame for frame in frames if frame.filename == file] or frames
    return f"{said(error)} ({Path(at[-1].filename).name}, line {at[-1].lineno})"
