"""Errors of the loop, named by what their caller does next.

Each carries its evidence as attributes, and its message is made of them. `exit_code` is what the
command line ends with where nothing handles the error: 2 if the user's input is wrong, else 1.
The generators and the analysis, which know nothing of the loop or of each other, have roots of
their own: `OUR_ERRORS` are the three.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from gapclose.analysis.errors import AnalysisError
from gapclose.generators.errors import GeneratorError

__all__ = [
    "OUR_ERRORS",
    "REMEDIES",
    "ConfigError",
    "GapcloseError",
    "MachineError",
    "RunBusyError",
    "RunDamagedError",
    "RunMismatchError",
    "RunOutdatedError",
    "SeedsExhaustedError",
    "UnwritableError",
    "ViewerError",
    "unwritable",
]


class GapcloseError(Exception):
    """The root of the loop's errors."""

    exit_code: ClassVar[int] = 1


OUR_ERRORS: Final = (GapcloseError, GeneratorError, AnalysisError)
"""The roots of all errors of ours: `except OUR_ERRORS as error` has an `error.exit_code`."""


class ConfigError(GapcloseError, ValueError):
    """The user's config, option or path is wrong: fix it.

    Attributes:
        problem: What is wrong, and the remedy.
        where: The file, folder or option that says so; None if `problem` names it.
        line: Of the file, from 1.
        key: The key of the config, dotted.
    """

    exit_code: ClassVar[int] = 2

    def __init__(
        self,
        problem: str,
        *,
        where: Path | str | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        """Keep the evidence; the key is not put into the message, for not all read alike."""
        super().__init__(problem)
        self.problem = problem
        self.where = where
        self.line = line
        self.key = key

    def __str__(self) -> str:
        """Return one line: where, what, and the remedy."""
        return _placed(self.where, self.line, self.problem)


class _RunError(GapcloseError):
    """A run folder that this command cannot go on with.

    Attributes:
        path: The run folder.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, path: Path) -> None:
        """Keep the evidence."""
        super().__init__(path)
        self.path = path


class RunBusyError(_RunError, RuntimeError):
    """Another process is writing this run folder: wait for it, or choose another folder.

    Attributes:
        path: The run folder.
        elsewhere: Whether another folder would do: of what makes the run itself.
    """

    def __init__(self, path: Path, *, elsewhere: bool = False) -> None:
        """Keep the evidence."""
        super().__init__(path)
        self.elsewhere = elsewhere

    def __str__(self) -> str:
        """Return one line with the folder and the remedy."""
        other = ", or name another folder with --out" if self.elsewhere else ""
        return f"{self.path}: another process is using this run; wait for it to end{other}"


class RunMismatchError(GapcloseError, ValueError):
    """The run folder was made by another config: choose another folder, or set the keys back.

    Attributes:
        path: The run folder.
        keys: What differs, dotted; never empty.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        """Keep the evidence."""
        super().__init__(path, tuple(keys))
        self.path = path
        self.keys = tuple(keys)

    def __str__(self) -> str:
        """Return one line with the folder, the keys and the remedy."""
        return (
            f"{self.path}: was made by another config: {', '.join(self.keys)} "
            f"{'differs' if len(self.keys) == 1 else 'differ'}; name another folder with --out"
        )


class RunOutdatedError(_RunError, ValueError):
    """The run was tuned by an earlier version, which kept no journal: start a new one."""

    def __str__(self) -> str:
        """Return one line with the folder and the remedy."""
        return (
            f"{self.path}: was tuned by an earlier version, which kept no journal; it can be "
            "looked at and exported, but not resumed: start a new run with --out"
        )


class RunDamagedError(GapcloseError, ValueError):
    """A file of the run folder cannot be read: restore it, or remove it where that is said.

    Attributes:
        path: The file.
        problem: What is wrong with it, and the remedy.
        line: Of the file, from 1.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, path: Path, problem: str, line: int | None = None) -> None:
        """Keep the evidence."""
        super().__init__(path, problem, line)
        self.path = path
        self.problem = problem
        self.line = line

    def __str__(self) -> str:
        """Return one line: where, what, and the remedy."""
        return _placed(self.path, self.line, self.problem)


class UnwritableError(GapcloseError, OSError):
    """A file of ours cannot be written: make room, then the same command goes on.

    It says nothing of a recipe, so no trial fails for it. Made as any OSError is: by errno, the
    system's words and the file.
    """

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        """Return one line with the file, the reason and the remedy."""
        remedy = REMEDIES.get(self.errno or 0, "make it writable")
        said = f"{self.filename}: cannot be written: {self.strerror}"
        return f"{said}; {remedy}, then the same command goes on"


class MachineError(GapcloseError, RuntimeError):
    """Memory is out, or a device fails: see to the machine, then the same command goes on.

    Attributes:
        problem: What is out or fails, and the remedy.
    """

    def __init__(self, problem: str) -> None:
        """Keep the evidence."""
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        """Return one line with the reason and the remedy."""
        return f"{self.problem}, then the same command goes on"


class ViewerError(GapcloseError, ValueError):
    """The App cannot open on this machine: install what the message says."""

    exit_code: ClassVar[int] = 2


class SeedsExhaustedError(GapcloseError, ValueError):
    """More images are asked for than a block has seeds: ask for fewer, or start a new run.

    Attributes:
        problem: What asks for them, and the remedy.
        most: Images, trials or folds that there are seeds for.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, problem: str, most: int) -> None:
        """Keep the evidence."""
        super().__init__(problem, most)
        self.problem = problem
        self.most = most

    def __str__(self) -> str:
        """Return one line with the reason and the remedy."""
        return self.problem


# Of what is no fault of the place that somebody chose.
REMEDIES: Final = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EIO: "look at the disk",
}


def unwritable(path: Path | str, error: OSError, remedy: str) -> ConfigError | UnwritableError:
    """Return the error for a failed first write: the place is wrong, or it has no room."""
    if error.errno in REMEDIES:
        return UnwritableError(error.errno, error.strerror, str(path))
    return ConfigError(f"cannot be written: {error.strerror}; {remedy}", where=path)


def _placed(place: Path | str | None, line: int | None, problem: str) -> str:
    if place is None:
        return problem
    return f"{place}{'' if line is None else f', line {line}'}: {problem}"
