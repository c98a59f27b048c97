"""The summary of a validation: what the console prints once it is done.

It reads the run folder only; the sentence is the report's first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gapclose.analysis.unseen import one_line
from gapclose.loop.errors import ConfigError
from gapclose.loop.report.projections import read_verdicts
from gapclose.loop.report.text import interval, percent
from gapclose.loop.report.validation_file import ArmScore, ValidationFile, read_validation
from gapclose.loop.report.worth import Worth, believed
from gapclose.loop.report.worth_arms import in_order
from gapclose.loop.report.worth_text import worth_sentence
from gapclose.loop.run.folder import RunDir

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["WorthSummary", "short_classes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorthSummary:
    """What came out of a validation.

    Attributes:
        file: As validation.json.
        worth: What can be believed of it; None where it is of other classes.
        page: The report.
    """

    file: ValidationFile
    worth: Worth | None
    page: Path

    @classmethod
    def of(cls, run: Path, page: Path) -> WorthSummary:
        """Read it from the run folder.

        Raises:
            ConfigError: There is no run, or it was not validated.
            RunDamagedError: validation.json is damaged, or the verdicts cannot be read.
        """
        rundir = RunDir.open(run)
        file = read_validation(rundir)
        if file is None:
            raise ConfigError("was not validated; `gapclose validate` does it", where=rundir.path)
        return cls(file=file, worth=believed(file, read_verdicts(rundir))[0], page=page)

    def print(self, console: Console) -> None:
        """Print the table, what it says in a sentence, and where the report lies."""
        console.print(self._table())
        said = [] if self.worth is None else [worth_sentence(self.worth)]
        for line in [*said, f"report: {self.page}"]:
            console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        """Lay out the arms, a row each, and the classifiers, a column each."""
        from rich.table import Table
        from rich.text import Text

        classifiers = [*dict.fromkeys(row.classifier for row in self.file.arms)]
        cells = {(row.arm, row.classifier): row for row in self.file.arms}
        arms = dict.fromkeys(row.arm for row in self.file.arms)
        table = Table(box=None, pad_edge=False)
        table.add_column("trained on")
        table.add_column("images", justify="right")
        for name in classifiers:
            table.add_column(Text(one_line(name)), justify="right")
        for arm in in_order(arms):
            of_arm = [cells[arm, name] for name in classifiers]
            images = {str(row.n_per_class) for row in of_arm}
            table.add_row(Text(one_line(arm)), "/".join(sorted(images)), *map(_accuracy, of_arm))
        return table


def short_classes(file: ValidationFile) -> Mapping[str, tuple[str, ...]]:
    """Return the classes whose recall falls short of real photos', and who says so.

    Args:
        file: As validation.json; of its arms the primary one counts.

    Returns:
        Class -> the classifiers whose shortfall holds over all classes (Holm).
    """
    by: dict[str, list[str]] = {row.cls: [] for row in file.shortfalls}
    for row in file.shortfalls:
        if row.arm == file.primary and row.is_sure:
            by[row.cls].append(row.classifier)
    return {cls: tuple(names) for cls, names in by.items() if names}


def _accuracy(row: ArmScore) -> str:
    """Format an accuracy with its interval: "88.5 % (87.9-89.1)"."""
    return f"{percent(row.accuracy, 1)} ({interval(row.low, row.high)})"
