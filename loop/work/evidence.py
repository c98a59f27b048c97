"""The evidence: embeddings of generated images, and what a search computed of them.

It lies under RUN/embeddings, and is on disk before the event of the journal that names it.
A session that resumes a run rebuilds from it what the journal alone does not hold.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from gapclose.loop.errors import RunDamagedError, UnwritableError
from gapclose.loop.run.files import write_bytes
from gapclose.loop.run.folder import RunDir
from gapclose.loop.search.recording import Recording
from gapclose.loop.search.trial import Images

Rows = NDArray[np.float32]

_RECORDING: Final = "recording-"  # and the basis that they were computed with


@dataclass(frozen=True, slots=True)
class Evidence:
    """The embeddings of one run.

    Attributes:
        rundir: The run.
    """

    rundir: RunDir

    def trial(self, cls: str, number: int) -> Images:
        """Read what a trial brought."""
        return self._load(_trial(cls, number))

    def camera(self, cls: str) -> Images:
        """Read all images of a class's bank under the run's camera."""
        return self._load(f"{cls}-camera")

    def fold(self, cls: str, fold: int, stage: str) -> Images:
        """Read what was evaluated on a fold; `recipes` number those of the mixture."""
        return self._load(_fold(cls, fold, stage))

    def keep_trial(self, cls: str, number: int, images: Images) -> None:
        """Write what a trial brought."""
        self._save(_trial(cls, number), images)

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

    def keep_camera(self, cls: str, images: Images) -> None:
        """Write a class's images under the run's camera."""
        self._save(f"{cls}-camera", images)

    def judge_rows(self, cls: str, fold: int, stage: str) -> tuple[Rows, ...]:
        """Read the embeddings of what was evaluated on a fold, of each judge that it has."""
        try:
            arrays = load_file(self.rundir.embeddings_path(_fold(cls, fold, stage)))
        except (OSError, SafetensorError):
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
    ) -> None:
        """Write what was evaluated on a fold, and each judge's embeddings of it."""
        judged = {_judge(number): rows for number, rows in enumerate(judge_rows)}
        self._save(_fold(cls, fold, stage), images, judged)

    def _load(self, name: str) -> Images:
        path = self.rundir.embeddings_path(name)
        try:
            arrays = load_file(path)
            return Images(
                embeddings=arrays["embeddings"],
                recipes=tuple(arrays["recipes"].tolist()),
                seeds=tuple(arrays["seeds"].tolist()),
                recording=_recording(arrays),
            )
        except (OSError, KeyError, SafetensorError) as error:
            raise _damaged(path, error) from None

    def _save(self, name: str, images: Images, more: Mapping[str, Rows] | None = None) -> None:
        arrays: dict[str, Any] = {
            **(more or {}),
            "embeddings": images.embeddings,
            "recipes": np.asarray(images.recipes, dtype=np.int64),
            "seeds": np.asarray(images.seeds, dtype=np.int64),
        }
        if images.recording is not None:
            arrays[_RECORDING + images.recording.basis] = images.recording.numbers
        write_bytes(self.rundir.embeddings_path(name), save(arrays))


def _recording(arrays: Mapping[str, Any]) -> Recording | None:
    for name, numbers in arrays.items():
        if name.startswith(_RECORDING):
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
    return f"judge-{number}" if number else "judge"


def _fold(cls: str, fold: int, stage: str) -> str:
    return f"{cls}-confirm-{fold}-{stage}"


def _trial(cls: str, number: int) -> str:
    return f"{cls}-{number:05d}"


def _damaged(path: Path, error: Exception) -> RunDamagedError:
    what = "is gone" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
    return RunDamagedError(path, f"{what}; restore the file from a copy, or start anew with --out")
