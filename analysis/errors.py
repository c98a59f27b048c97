"""Errors of the analysis, named by what their caller does next.

Each carries its evidence as attributes, and its message is made of them. `exit_code` is what a
command line ends with where nothing handles the error: 2 if the user's input is wrong, else 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

__all__ = [
    "AnalysisError",
    "CaptionerError",
    "ClassifierError",
    "EmbedderError",
    "InvalidImageError",
    "ProposerError",
    "RealDataError",
    "ShardGoneError",
    "TooFewError",
    "TrainingDataError",
    "UnreadableImageError",
    "said",
]

_READ = 4000  # characters of somebody's error that are looked at
_LONGEST = 300  # that are shown


class AnalysisError(Exception):
    """The root of the analysis' errors."""

    exit_code: ClassVar[int] = 1


class RealDataError(AnalysisError, ValueError):
    """A folder of images cannot be used: fix the folder.

    Attributes:
        problem: What is wrong with it, and the remedy.
        path: The folder, or the file in it; None where it is not one alone.
        line: Of the file, from 1.
        cls: The class whose images are to blame.
    """

    exit_code: ClassVar[int] = 2

    def __init__(
        self,
        problem: str,
        *,
        path: Path | str | None = None,
        line: int | None = None,
        cls: str | None = None,
    ) -> None:
        """Keep the evidence."""
        super().__init__(problem)
        self.problem = problem
        self.path = path
        self.line = line
        self.cls = cls

    def __str__(self) -> str:
        """One line: where, what, and the remedy."""
        line = "" if self.line is None else f", line {self.line}"
        places = [f"{self.path}{line}"] if self.path is not None else []
        places += [f"class {self.cls}"] if self.cls is not None else []
        return ": ".join([*places, self.problem])


class TooFewError(AnalysisError, ValueError):
    """A side of a class has too few images to be scored: add images, or skip the class.

    Attributes:
        cls: The class.
        side: "real" or "synthetic".
        n: Images that it has there.
        needed: Images that it needs.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, cls: str, side: str, n: int, needed: int) -> None:
        """Keep the evidence."""
        super().__init__(cls, side, n, needed)
        self.cls = cls
        self.side = side
        self.n = n
        self.needed = needed

    def __str__(self) -> str:
        """One line with the class, its numbers and the remedy."""
        return (
            f"class {self.cls}: too few, {self.n} {self.side} images where {self.needed} are "
            "needed; add images"
        )


class _NamedError(AnalysisError, ValueError):
    """What a person named is wrong: fix the name, or what it needs.

    Attributes:
        what: It names.
        problem: What is wrong, and the remedy.
        name: As it was named; None where no one of them is to blame.
    """

    exit_code: ClassVar[int] = 2
    what: ClassVar[str]

    def __init__(self, problem: str, *, name: str | None = None) -> None:
        """Keep the evidence."""
        super().__init__(problem)
        self.problem = problem
        self.name = name

    def __str__(self) -> str:
        """One line with the name, the reason and the remedy."""
        return self.problem if self.name is None else f"{self.what} {self.name!r}: {self.problem}"


class EmbedderError(_NamedError):
    """The name or the files of an embedder are wrong: fix them."""

    what: ClassVar[str] = "embedder"


class CaptionerError(_NamedError):
    """The name or the files of a captioner are wrong, or it does not run here: fix them."""

    what: ClassVar[str] = "captioner"


class ProposerError(_NamedError):
    """The name or the files of a proposer are wrong, or it does not run here: fix them."""

    what: ClassVar[str] = "proposer"


class ClassifierError(_NamedError):
    """The name of a classifier is wrong, or what it needs is missing: fix it, or install it."""

    what: ClassVar[str] = "classifier"


class UnreadableImageError(AnalysisError, ValueError):
    """One file is no image that can be read; it is listed and skipped.

    Attributes:
        path: The file.
        why: The reason, in a few words and without the path.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, path: Path, why: str) -> None:
        """Keep the evidence."""
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        """One line with the file and the reason."""
        return f"{self.path}: {self.why}"


class InvalidImageError(UnreadableImageError):
    """One file can be read and shows nothing: it is counted, listed and never scored."""


class ShardGoneError(AnalysisError):
    """A shard that was indexed is no longer there, or no longer whole: index the folder anew."""


class TrainingDataError(AnalysisError, ValueError):
    """The folder holds nothing to train on: fix the folder.

    Attributes:
        path: The folder or file.
        problem: What is wrong with it, and the remedy.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, path: Path, problem: str) -> None:
        """Keep the evidence."""
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        """One line with the place and the reason."""
        return f"{self.path}: {self.problem}"


def said(error: BaseException) -> str:
    """Name an error, with the first line of what it says; one of somebody's own class may fail."""
    try:
        first = next(iter(str(error)[:_READ].strip().splitlines()), "")
    except BaseException:  # noqa: BLE001 - see above; it may ask to exit
        first = "it cannot be shown"
    return f"{type(error).__name__}: {first[:_LONGEST]}"
