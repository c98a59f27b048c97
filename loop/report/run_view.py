"""A run as Python and notebooks see it: one folder, opened for reading.

`tune` and `audit` return it. It reads the run folder only, and where there is a journal it says
what the journal does. Projections that are lost or outdated are written anew, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gapclose.loop.config.schema import RunConfig
from gapclose.loop.report.projections import (
    open_run,
    read_gap,
    read_state,
    read_trials,
    read_verdicts,
)
from gapclose.loop.run.folder import RunDir


@dataclass(frozen=True, slots=True)
class Run:
    """What a run folder holds.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """Open a run folder.

        Raises:
            ConfigError: It is none.
        """
        return cls(open_run(path).path)

    @property
    def config(self) -> RunConfig:
        """The config it was made by."""
        return RunDir(self.path).config()

    @property
    def gap(self) -> dict[str, Any]:
        """`gap.json`, schema 1.

        Raises:
            ConfigError: Nothing was measured yet.
        """
        return read_gap(RunDir(self.path))

    @property
    def mixtures(self) -> dict[str, Any]:
        """`mixtures.json`: per class, recipes and weights.

        Raises:
            ConfigError: No class has a verdict yet.
        """
        return read_verdicts(RunDir(self.path)).mixtures

    @property
    def trials(self) -> list[dict[str, Any]]:
        """`trials.jsonl`, a line each."""
        return read_trials(RunDir(self.path))

    @property
    def state(self) -> dict[str, Any]:
        """`state.json`: where the run stands."""
        return read_state(RunDir(self.path))

    @property
    def report(self) -> Path:
        """`report.html`."""
        return self.path / "report.html"
