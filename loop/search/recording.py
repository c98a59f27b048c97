"""Recording: the expensive numbers of a trial, computed once and read back on resume.

A resumed search goes the way that it went: where a kernel sum, a fit or a promise was computed,
the same number is taken from the trial's evidence, in the same order. Numbers that were noted
against other photos are of no use, and are computed anew, as those of a trial that noted none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What was computed to absorb one trial.

    Attributes:
        basis: Names the photos and the kernel that it was computed with.
        numbers: (n,) all of it, in the order that it was asked for.
    """

    basis: str
    numbers: Floats


class Recorder:
    """Where numbers are noted while a trial is absorbed, or read from if they are known."""

    def __init__(self, basis: str, known: Recording | None = None) -> None:
        """Open it.

        Args:
            basis: Of the bank.
            known: Of the same trial, when it was absorbed before.
        """
        self._basis = basis
        usable = known is not None and known.basis == basis
        self._known = known.numbers if known is not None and usable else np.zeros(0)
        self._at = 0
        self._parts: list[Floats] = []

    def numbers(self, size: int, compute: Callable[[], Floats]) -> Floats:
        """Return the next numbers: (size,), known or computed now."""
        part = self._known[self._at : self._at + size]
        if len(part) < size:
            part = compute()
        self._at += size
        self._parts.append(part)
        return part

    @property
    def recording(self) -> Recording:
        """All numbers so far."""
        return Recording(basis=self._basis, numbers=np.concatenate([np.zeros(0), *self._parts]))


class Notes:
    """What a score computes by: numbers are noted while a recorder is open, else only computed."""

    def __init__(self) -> None:
        """Begin with none open."""
        self._recorder: Recorder | None = None

    @contextmanager
    def open(self, basis: str, known: Recording | None = None) -> Iterator[Recorder]:
        """Note what is computed meanwhile; see `Recorder`."""
        self._recorder = Recorder(basis, known)
        try:
            yield self._recorder
        finally:
            self._recorder = None

    def numbers(self, size: int, compute: Callable[[], Floats]) -> Floats:
        """Return (size,) numbers, known or computed now."""
        return compute() if self._recorder is None else self._recorder.numbers(size, compute)

    def number(self, compute: Callable[[], float]) -> float:
        """Return one."""
        return float(self.numbers(1, lambda: np.array([compute()]))[0])
