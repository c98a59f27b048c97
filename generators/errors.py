"""Errors of the generators, named by what their caller does next.

Each carries its evidence as attributes, and its message is made of them. `exit_code` is what a
command line ends with where nothing handles the error: 2 if the user's input is wrong, else 1.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ContractError",
    "GenerationError",
    "GeneratorConfigError",
    "GeneratorError",
    "MemoryOutError",
    "said",
]


_READ = 4000  # characters of an error that are looked at
_LONGEST = 300  # that are shown


class GeneratorError(Exception):
    """The root of the generators' errors."""

    exit_code: ClassVar[int] = 1


class GenerationError(GeneratorError, RuntimeError):
    """No images came out: this trial fails and the run goes on."""


class MemoryOutError(GenerationError):
    """Memory is out: the draw asks for too much of it, or others have it just now."""


class ContractError(GenerationError):
    """The generator's code is wrong: it raised what it should not, or returned no batch.

    Attributes:
        generator: Its id, or the name of its class.
        problem: What it did, and what it should do.
    """

    def __init__(self, generator: str, problem: str) -> None:
        """Keep the evidence."""
        super().__init__(generator, problem)
        self.generator = generator
        self.problem = problem

    def __str__(self) -> str:
        """One line with the generator and what it did."""
        return f"{self.generator}: {self.problem}"


class GeneratorConfigError(GeneratorError, ValueError):
    """The config asks a generator for what it cannot do: fix the config.

    Attributes:
        problem: What is wrong, and the remedy.
        key: The key of the config that says so, dotted; None where no one key does.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, problem: str, *, key: str | None = None) -> None:
        """Keep the evidence."""
        super().__init__(problem)
        self.problem = problem
        self.key = key

    def __str__(self) -> str:
        """One line with the key, the reason and the remedy."""
        return self.problem if self.key is None else f"{self.key}: {self.problem}"


def said(error: BaseException) -> str:
    """Name an error, with the first line of what it says; one of somebody's own class may fail."""
    try:
        first = next(iter(str(error)[:_READ].strip().splitlines()), "")
    except BaseException:  # noqa: BLE001 - see above; it may ask to exit
        first = "it cannot be shown"
    return f"{type(error).__name__}: {first[:_LONGEST]}"
