"""The comparison of runs, and of the generators of a run, side by side.

`gapclose compare` prints it. It reads run folders only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapclose.analysis.unseen import one_line
from gapclose.generators.licenses import terms_of
from gapclose.loop.errors import ConfigError
from gapclose.loop.report.projections import open_run, read_state, read_verdicts
from gapclose.loop.report.spoken_time import spoken_seconds
from gapclose.loop.report.text import ratio
from gapclose.loop.report.worth import Worth, read_worth
from gapclose.loop.run.folder import RunDir

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["Compared", "Comparison", "compare"]

Row = Mapping[str, Any]

_ONLY = "only "


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A run, or one of the generators of a run alone.

    Attributes:
        name: What it is called.
        ratios: Gap in floors by class; of a run on unseen photos, of a generator alone on images
            of the search that it was not fitted to.
        before: Of a run, gap of the untouched recipe.
        judges: Of a run, gap in floors that its first judge sees.
        confirmed: Of a run, by class.
        weights: Of a generator, its share of the class's mixture.
        worth: Share of test photos told right by the classifier that is quoted first.
        images: Generated.
        seconds: Of a run those that it took, of a generator those of an image.
        license: As the generator's card names it.
    """

    name: str
    ratios: Mapping[str, float | None]
    before: Mapping[str, float | None] | None = None
    judges: Mapping[str, float | None] | None = None
    confirmed: Mapping[str, bool] | None = None
    weights: Mapping[str, float] | None = None
    worth: float | None = None
    images: int | None = None
    seconds: float | None = None
    license: str | None = None

    @property
    def is_run(self) -> bool:
        """Whether it is a run, not a generator of one."""
        return self.weights is None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without what is not known."""
        said = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if not self.is_run:
            said["seconds_per_image"] = said.pop("seconds")
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs side by side, each followed by its generators where it has several.

    Attributes:
        compared: In the order that they were named.
        classes: Of any of them, as they come.
        classifier: What `worth` is measured by; None where nothing was validated.
        differ: What makes the figures of two runs incomparable, in words.
    """

    compared: tuple[Compared, ...]
    classes: tuple[str, ...]
    classifier: str | None
    differ: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, schema 1."""
        return {
            "schema": 1,
            "classifier": self.classifier,
            "differ": list(self.differ),
            "compared": [its.to_json() for its in self.compared],
        }

    def show(self, console: Console) -> None:
        """Print the tables, and what they cannot be compared by."""
        console.print(self._classes())
        console.print(self._totals())
        for its in self.compared:
            if (terms := terms_of(its.license)) is not None:
                said = f"{its.name}: licence {its.license}; {terms.said}"
                console.print(one_line(said), markup=False, highlight=False, soft_wrap=True)
        for line in self.differ:
            console.print(f"not comparable: {line}", markup=False, highlight=False, soft_wrap=True)

    def _classes(self) -> Table:
        """Lay out the gaps in floors: a class a row, a run or generator a column."""
        table = _table("floors")
        for its in self.compared:
            table.add_column(_text(its.name), justify="right")
        for cls in self.classes:
            table.add_row(_text(cls), *(_cell(its, cls) for its in self.compared))
        return table

    def _totals(self) -> Table:
        """Lay out what is said of a run or generator as a whole: one a row."""
        table = _table("")
        columns = ["confirmed", "mean of judge", "images", "time", "an image", "licence"]
        if self.classifier is not None:
            columns.insert(2, f"worth ({self.classifier})")
        for name in columns:
            table.add_column(_text(name), justify="left" if name == "licence" else "right")
        for its in self.compared:
            cells = [_confirmed(its), _mean(its.judges), _count(its.images), *_time(its)]
            if self.classifier is not None:
                worth = "-" if its.worth is None else f"{100 * its.worth:.1f} %"
                cells.insert(2, worth)
            table.add_row(_text(its.name), *cells, _text(its.license or "unknown"))
        return table


def compare(paths: Sequence[Path | str]) -> Comparison:
    """Compare runs.

    Args:
        paths: Run folders, at least one; of one with several generators these are compared.

    Raises:
        ConfigError: One is no run, or nothing was measured in it.
    """
    runs = [open_run(path) for path in paths]
    names = _names([run.path for run in runs])
    gaps = [read_verdicts(run).gap for run in runs]
    worths = [_worth(run) for run in runs]
    compared = [
        its
        for run, name, gap, worth in zip(runs, names, gaps, worths, strict=True)
        for its in (_run(run, name, gap, worth), *_generators(name, gap, worth))
    ]
    if len(compared) < 2:
        several = len(runs[0].config().drawn_by) > 1
        why = (
            "says what its generators come to once it has ended; `gapclose tune` goes on with it"
            if several
            else "has one generator; name another run to compare it with"
        )
        raise ConfigError(why, where=runs[0].path)
    classes = dict.fromkeys(cls for its in compared for cls in its.ratios)
    classifiers = dict.fromkeys(worth.headline.id for worth in worths if worth is not None)
    return Comparison(
        compared=tuple(compared),
        classes=tuple(classes),
        classifier=next(iter(classifiers), None),
        differ=tuple(_differences(runs, gaps, worths, [*classifiers])),
    )


def _run(run: RunDir, name: str, gap: Row, worth: Worth | None) -> Compared:
    rows, state = gap["classes"], read_state(run)
    arm = None if worth is None else worth.headline.accuracy(worth.headline.primary)
    judged = {row["name"]: (row.get("judge") or {}).get("ratio") for row in rows}
    described = gap.get("generators") or ()
    licences = [its.get("license") or "unknown" for its in described]
    return Compared(
        name=name,
        ratios={row["name"]: row.get("ratio") for row in rows},
        before={row["name"]: (row.get("before") or {}).get("ratio") for row in rows},
        judges=judged if any(value is not None for value in judged.values()) else None,
        confirmed={row["name"]: row.get("confirmed") is True for row in rows},
        worth=arm,
        images=state.get("images"),
        seconds=state.get("seconds_used"),
        license=", ".join(dict.fromkeys(licences)) or None,
    )


def _generators(run: str, gap: Row, worth: Worth | None) -> list[Compared]:
    """Return each of several generators alone; none of one."""
    found = []
    for its in gap.get("generators") or ():
        if its["name"] is None:
            continue
        own: dict[str, Row] = {}
        ratios: dict[str, float | None] = {}
        for row in gap["classes"]:
            several = row.get("generators") or {"alone": ()}
            for alone in several["alone"]:
                if alone["name"] == its["name"]:
                    own[row["name"]] = alone
                    ratios[row["name"]] = _over(alone.get("gap"), row.get("floor_p95"))
        arm = None if worth is None else worth.headline.accuracy(_ONLY + its["name"])
        found.append(
            Compared(
                name=f"{run}: {its['name']}",
                ratios=ratios,
                weights={cls: alone["weight"] for cls, alone in own.items()},
                worth=arm,
                images=sum(alone["images"] for alone in own.values()),
                seconds=its.get("seconds_per_image"),
                license=its.get("license"),
            )
        )
    return found


def _over(gap: float | None, floor: float | None) -> float | None:
    return None if gap is None or not floor else gap / floor


def _worth(run: RunDir) -> Worth | None:
    worth, problem = read_worth(run)
    return worth if problem is None else None


def _differences(
    runs: Sequence[RunDir],
    gaps: Sequence[Row],
    worths: Sequence[Worth | None],
    classifiers: Sequence[str],
) -> list[str]:
    """Say by what figures of two runs cannot be held against each other."""
    sizes = [
        (worth.n_test, worth.headline.scores[worth.headline.primary].n_per_class)
        for worth in worths
        if worth is not None
    ]
    reals = [run.config().real.model_dump(mode="json") for run in runs]
    told = (
        ("their embedders differ", [gap["embedder"] for gap in gaps]),
        ("their judges differ", [gap.get("judges") or gap["judge"] for gap in gaps]),
        ("their real photos differ", reals),
        ("they were validated by different classifiers", classifiers[:2]),
        ("they were validated on other photos, or with other numbers of images", sizes),
    )
    return [said for said, values in told if any(value != values[0] for value in values[1:])]


def _names(paths: Sequence[Path]) -> list[str]:
    """Name runs by their folders, and by as much of the path as tells them apart."""
    parts = [path.resolve().parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = [Path(*its[-depth:]).as_posix() for its in parts]
        if len({*names}) == len({*parts}):
            return names
    return [str(path) for path in paths]


def _text(said: str) -> Text:
    """Return text that no name of a class or licence can mark up."""
    from rich.text import Text

    return Text(one_line(said))


def _table(first: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    return table


def _cell(its: Compared, cls: str) -> str:
    """Say a class's gap: before and after of a run, of a generator with its weight in brackets."""
    if cls not in its.ratios:
        return "-"
    now = ratio(its.ratios[cls])
    if its.weights is not None:
        return f"{now} ({its.weights[cls]:.0%})"
    before = (its.before or {}).get(cls)
    was = "" if before is None else f"{ratio(before)} \N{RIGHTWARDS ARROW} "
    return f"{was}{now}{' confirmed' if (its.confirmed or {}).get(cls) else ''}"


def _confirmed(its: Compared) -> str:
    return "" if its.confirmed is None else f"{sum(its.confirmed.values())}/{len(its.confirmed)}"


def _mean(judges: Mapping[str, float | None] | None) -> str:
    known = [value for value in (judges or {}).values() if value is not None]
    return ratio(sum(known) / len(known)) if known else ""


def _count(images: int | None) -> str:
    return "" if images is None else f"{images:,}"


def _time(its: Compared) -> tuple[str, str]:
    """Say the time of a run, and the seconds of an image."""
    if its.seconds is None:
        return "", ""
    if not its.is_run:
        return "", f"{its.seconds:.3g} s"
    each = f"{its.seconds / its.images:.3g} s" if its.images else ""
    return spoken_seconds(its.seconds), each
