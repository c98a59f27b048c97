"""The evidence: embeddings of generated images, and what a search computed of them.

It lies under RUN/embeddings, and is on disk before the event of the journal that names it, with
its digests. A session that resumes a run rebuilds from it what the journal alone does not hold;
`kept_images` makes again what is damaged. It embeds nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from gapclose.loop.errors import RunDamagedError, UnwritableError
from gapclose.loop.run.events import Digests
from gapclose.loop.run.files import read_arrays
from gapclose.loop.run.folder import RunDir
from gapclose.loop.search.recording import Recording
from gapclose.loop.search.trial import Images

Rows = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]
_Part = Literal["rows", "images", "judges"]  # of `Digests`

_RECORDING: Final = "recording-"  # and the basis that they were computed with
_RECORDED: Final = "recorded"  # digest of the recording, which is a cache and may be rewritten
_DRAWN: Final = "drawn"
_SHOWN: Final = "shown"
_JUDGE: Final = "judge"
_CACHED: Final = (_RECORDING, _RECORDED)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The embeddings of one run.

    Attributes:
        rundir: The run.
    """

    rundir: RunDir

    def trial(self, cls: str, number: int, digests: Digests | None = None) -> Images:
        """Read what a trial brought.

        Args:
            cls: The trial's class.
            number: The trial's number.
            digests: As the journal has them; without, what is there is believed.

        Raises:
            RunDamagedError: It is gone, damaged, or other than it was; so do all that read.
        """
        return self._load(_trial(cls, number), digests)

    def camera(self, cls: str, digests: Digests | None = None) -> Images:
        """Read all images of a class's bank under the run's camera."""
        return self._load(f"{cls}-camera", digests)

    def fold(self, cls: str, fold: int, stage: str, digests: Digests | None = None) -> Images:
        """Read what was evaluated on a fold; `recipes` number those of the mixture."""
        return self._load(_fold(cls, fold, stage), digests)

    def shown(
        self, cls: str, fold: int, stage: str, digests: Digests | None = None
    ) -> dict[int, int]:
        """Read the `pixel_digest` of each image of a fold after the camera, by seed.

        Returns:
            None of what an earlier version has kept.
        """
        arrays = self._columns(_fold(cls, fold, stage), digests, "images")
        if _SHOWN not in arrays:
            return {}
        return dict(zip(arrays["seeds"].tolist(), arrays[_SHOWN].tolist(), strict=True))

    def keep_trial(self, cls: str, number: int, images: Images) -> Digests:
        """Write what a trial brought."""
        return self._save(_trial(cls, number), images)

    def keep_recording(self, cls: str, number: int, images: Images, recording: Recording) -> None:
        """Rewrite a trial's recording where it is not what absorbing the trial has computed.

        It is a cache: one that cannot be written is computed again by the next session.

        Args:
            cls: The trial's class.
            number: The trial's number.
            images: As `trial` has read them.
            recording: What absorbing them has computed, or has read from their own recording.
        """
        if not _same(images.recording, recording):
            with contextlib.suppress(UnwritableError):
                self.keep_trial(cls, number, replace(images, recording=recording))

    def keep_camera(self, cls: str, images: Images) -> Digests:
        """Write a class's images under the run's camera."""
        return self._save(f"{cls}-camera", images)

    def judge_rows(
        self, cls: str, fold: int, stage: str, digests: Digests | None = None
    ) -> tuple[Rows, ...]:
        """Read the embeddings of what was evaluated on a fold, of each judge that it has.

        Returns:
            None of what cannot be read, or is other than it was.
        """
        try:
            arrays = self._arrays(_fold(cls, fold, stage), digests, "judges")
        except RunDamagedError:
            return ()
        names = takewhile(arrays.__contains__, map(_judge, count()))
        return tuple(arrays[name] for name in names)

    def keep_fold(
        self,
        cls: str,
        fold: int,
        stage: str,
        images: Images,
        judge_rows: Sequence[Rows] = (),
    ) -> Digests:
        """Write what was evaluated on a fold.

        Args:
            cls: The class.
            fold: Number of the fold.
            stage: Of the mixture.
            images: What was embedded.
            judge_rows: Each judge's embeddings of them.
        """
        more = {_judge(number): rows for number, rows in enumerate(judge_rows)}
        return self._save(_fold(cls, fold, stage), images, more)

    def _load(self, name: str, digests: Digests | None) -> Images:
        arrays = self._columns(name, digests, "rows", "images")
        return Images(
            embeddings=arrays["embeddings"],
            recipes=tuple(arrays["recipes"].tolist()),
            seeds=tuple(arrays["seeds"].tolist()),
            recording=_recording(arrays),
            drawn=tuple(arrays[_DRAWN].tolist()) if _DRAWN in arrays else (),
            shown=tuple(arrays[_SHOWN].tolist()) if _SHOWN in arrays else (),
        )

    def _columns(self, name: str, digests: Digests | None, *parts: _Part) -> Arrays:
        arrays = self._arrays(name, digests, *parts)
        try:
            _check_columns(arrays)
        except (KeyError, ValueError) as error:
            raise _damaged(self.rundir.embeddings_path(name), error) from None
        return arrays

    def _arrays(self, name: str, digests: Digests | None, *parts: _Part) -> Arrays:
        """Read all of a file, of which these parts must be what the journal names."""
        path = self.rundir.embeddings_path(name)
        try:
            arrays: Arrays = read_arrays(path)
        except FileNotFoundError as error:
            raise _damaged(path, error) from None
        if digests is not None:
            found = _digests(arrays)
            if any(getattr(found, part) != getattr(digests, part) for part in parts):
                raise _damaged(path, ValueError("it is not what the journal names"))
        return arrays

    def _save(self, name: str, images: Images, more: Arrays | None = None) -> Digests:
        arrays = _arrays_of(images) | dict(more or {})
        if images.recording is not None:
            numbers = images.recording.numbers
            arrays[_RECORDING + images.recording.basis] = numbers
            arrays[_RECORDED] = np.frombuffer(_sha256({_RECORDED: numbers}), dtype=np.uint8)
        self.rundir.write_embeddings(name, save(arrays))
        return _digests(arrays)


def _arrays_of(images: Images) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "embeddings": images.embeddings,
        "recipes": np.asarray(images.recipes, dtype=np.int64),
        "seeds": np.asarray(images.seeds, dtype=np.int64),
    }
    for name, digests in ((_DRAWN, images.drawn), (_SHOWN, images.shown)):
        if digests:
            arrays[name] = np.asarray(digests, dtype=np.uint64)
    return arrays


def _check_columns(arrays: Arrays) -> None:
    """Raise ValueError unless there is a row of embeddings for each recipe and seed."""
    optional = [arrays[name] for name in (_DRAWN, _SHOWN) if name in arrays]
    columns = [arrays["recipes"], arrays["seeds"], *optional]
    whole = all(its.ndim == 1 and its.dtype.kind in "iu" for its in columns)
    if arrays["embeddings"].ndim != 2 or not whole:
        raise ValueError("its columns are of another type")
    if len({len(arrays["embeddings"]), *map(len, columns)}) != 1:
        raise ValueError("its columns are of different lengths")


def digests_of(images: Images) -> Digests:
    """Return the digests that `Evidence` gives images without judges' rows."""
    return _digests(_arrays_of(images))


def _digests(arrays: Arrays) -> Digests:
    """Digest what is evidence; 8 bytes of a digest miss an accident once in 2^64."""
    rows = {name: its for name, its in arrays.items() if not name.startswith(_CACHED)}
    images = {_DRAWN: rows.pop(_DRAWN, np.empty(0, dtype=np.uint64))}
    if _SHOWN in rows:
        images[_SHOWN] = rows.pop(_SHOWN)
    judges = {name: rows.pop(name) for name in [*rows] if name.startswith(_JUDGE)}
    return Digests(
        rows=_sha256(rows)[:8].hex(),
        images=_sha256(images)[:8].hex(),
        judges=_sha256(judges)[:8].hex() if judges else None,
    )


def _sha256(arrays: Arrays) -> bytes:
    """Return the SHA-256 of arrays, by name, type, shape and bytes."""
    known = hashlib.sha256()
    for name in sorted(arrays):
        its = np.ascontiguousarray(arrays[name])
        known.update(f"{name} {its.dtype.str} {its.shape}\n".encode())
        known.update(its.tobytes())
    return known.digest()


def _recording(arrays: Arrays) -> Recording | None:
    for name, numbers in arrays.items():
        if not name.startswith(_RECORDING):
            continue
        known = arrays.get(_RECORDED)  # an earlier version noted none
        if known is None or known.tobytes() == _sha256({_RECORDED: numbers}):
            return Recording(basis=name.removeprefix(_RECORDING), numbers=numbers)
    return None


def _same(one: Recording | None, other: Recording) -> bool:
    """Return whether two recordings are equal to the bit."""
    return (
        one is not None
        and one.basis == other.basis
        and one.numbers.tobytes() == other.numbers.tobytes()
    )


def _judge(number: int) -> str:
    """Name the embeddings of a judge; the first is called as in the runs that had but one."""
    return f"{_JUDGE}-{number}" if number else _JUDGE


def _fold(cls: str, fold: int, stage: str) -> str:
    return f"{cls}-confirm-{fold}-{stage}"


def _trial(cls: str, number: int) -> str:
    return f"{cls}-{number:05d}"


def _damaged(path: Path, error: Exception) -> RunDamagedError:
    what = "is gone" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
    return RunDamagedError(path, f"{what}; restore the file from a copy, or start anew with --out")
