"""The summary: what a finished run says last, as a table and sentences, or as one notice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapclose.analysis.unseen import one_line
from gapclose.loop.report.findings import findings
from gapclose.loop.report.projections import Verdicts, read_state, read_verdicts
from gapclose.loop.report.status import gap_table
from gapclose.loop.report.text import verdict, was_tuned
from gapclose.loop.report.worth import read_worth
from gapclose.loop.report.worth_text import PROBLEMS, accuracy_lines
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import ClassReported, RunReported

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What came out of a run.

    Attributes:
        gap: As gap.json.
        worth: What the images are worth, a line for each classifier that was trained on them.
        stopped: Why the search ended; None of an audit.
        page: The report.
    """

    gap: Mapping[str, Any]
    worth: tuple[str, ...]
    stopped: str | None
    page: Path

    @classmethod
    def of(cls, run: Path, page: Path) -> Summary:
        """Read it from the run folder.

        Raises:
            ConfigError: There is no run, or nothing in it was measured yet.
        """
        rundir = RunDir.open(run)
        stopped = read_state(rundir).get("stopped_because")
        verdicts = read_verdicts(rundir)
        return cls(gap=verdicts.gap, worth=_worth(rundir, verdicts), stopped=stopped, page=page)

    def notice(self) -> RunReported:
        """Return the same for a reporter."""
        rows = self.gap["classes"]
        tuned = was_tuned(rows)
        figures = ClassReported.model_fields.keys() - {"verdict"}
        return RunReported(
            classes=tuple(
                ClassReported(
                    **{key: row.get(key) for key in figures}, verdict=verdict(row, tuned=tuned)
                )
                for row in rows
            ),
            findings=(*findings(self.gap), *self.worth),
            stopped=self.stopped,
            path=str(self.page),
        )

    def print(self, console: Console) -> None:
        """Print the table, then a sentence a line, then where the report lies."""
        console.print(gap_table(self.gap))
        said = [f"- {sentence}" for sentence in (*findings(self.gap), *self.worth)]
        if self.stopped:
            said.append(f"stopped: {self.stopped}")
        for line in [*said, f"report: {self.page}"]:
            console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)


def _worth(rundir: RunDir, verdicts: Verdicts) -> tuple[str, ...]:
    worth, problem = read_worth(rundir, verdicts)
    if problem is not None:
        return (PROBLEMS[problem],)
    return () if worth is None else tuple(accuracy_lines(worth.accuracies))
