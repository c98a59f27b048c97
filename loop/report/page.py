"""The report: one page that says what the gap was, what it is now, and how sure we are.

`gapclose report`, `audit` and `tune` call it at their end. It reads the run folder only, writes
RUN/report.html as one file that needs no network, and imports nothing that a config names.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from gapclose.analysis.distances import CAVEAT
from gapclose.analysis.unseen import replaced
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.storage_url import masked
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.report import text as report_text
from gapclose.loop.report.charts import Scale, chart_data
from gapclose.loop.report.class_sections import ClassSections
from gapclose.loop.report.contents import MIXTURES
from gapclose.loop.report.findings import largest, left_out, repeat_word, warnings
from gapclose.loop.report.generators import run_generators
from gapclose.loop.report.panel import panel_sentence
from gapclose.loop.report.projections import (
    Verdicts,
    open_run,
    read_state,
    read_trials,
    read_verdicts,
)
from gapclose.loop.report.text import effect_sort_key, first_sentence, in_short, was_tuned
from gapclose.loop.report.thumbnails import Samples
from gapclose.loop.report.worth import read_worth
from gapclose.loop.report.worth_advice import next_steps
from gapclose.loop.report.worth_section import worth_section
from gapclose.loop.report.worth_text import PROBLEMS, worth_sentence
from gapclose.loop.run.events import StopReason
from gapclose.loop.run.files import write_text
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.photo_groups import PhotoGroup, read_group
from gapclose.loop.run.shapes import EnvironmentFile

__all__ = ["write_report"]

log = logging.getLogger(__name__)

Row = Mapping[str, Any]

_LIMITS: Final = (
    StopReason.OUT_OF_BUDGET,
    StopReason.TOO_LITTLE_TIME,
    StopReason.LIMIT,
    StopReason.SEEDS_SPENT,
)
_FEW_CLASSES: Final = 12  # up to here every class is unfolded and gets full sheets
_SHOWN_OUTLIERS: Final = 12
_SHOWN_FILES: Final = 200  # lines of a fold
_SHOWN_COPIES: Final = 20  # names in a line


def write_report(run: Path, *, trust: bool = False) -> Path:
    """Write RUN/report.html from what the run folder holds, whole or not at all.

    Args:
        run: A run folder in which something was measured; trials, mixtures, samples and the map
            are shown where they are there.
        trust: Show the images that a run from elsewhere names outside of its folder.

    Returns:
        The page's path.

    Raises:
        ConfigError: If there is no run, or nothing in it was measured yet.
    """
    folder = open_run(run, verdicts=False)  # they are read below, which compares them
    page = _template().render(_content(folder, trust=trust))
    path = folder.path / "report.html"
    write_text(path, page)
    return path


def _photo_groups(run: RunDir, mixtures: Mapping[str, Any]) -> dict[str, PhotoGroup]:
    """Read the photo groups that mixtures name; one that is gone is left out."""
    found = {}
    for mixture in mixtures.values():
        for item in mixture.get("recipes", ()):
            digest = item["recipe"].get("draw", {}).get("photos")
            if digest is not None and digest not in found:
                with contextlib.suppress(RunDamagedError, ValueError):
                    found[digest] = read_group(run, digest)
    return found


def _content(run: RunDir, *, trust: bool) -> dict[str, Any]:
    verdicts = read_verdicts(run)
    gap = verdicts.gap
    config = _without_password(run.config())
    trials = read_trials(run)
    rows = sorted(gap["classes"], key=effect_sort_key, reverse=True)
    tuned = was_tuned(rows)
    samples = Samples.read(run, trust=trust)
    scale = Scale.of(rows)
    sections = ClassSections(
        gap=gap,
        mixtures=verdicts.files.get(MIXTURES, {}).get("classes", {}),
        trials=trials,
        samples=samples,
        scale=scale,
        is_tuned=tuned,
        is_full=len(rows) <= _FEW_CLASSES,
        groups=_photo_groups(run, verdicts.files.get(MIXTURES, {}).get("classes", {})),
    )
    state = read_state(run)
    sentence = first_sentence(
        rows, tuned=tuned, tried=_tried(gap, trials), skipped=len(gap["skipped"])
    )
    sentence = " ".join(filter(None, (sentence, panel_sentence(rows, tuned=tuned))))
    return {
        "title": run.path.name,
        **_said_of_worth(run, verdicts, sentence),
        "tuned": tuned,
        "gap": gap,
        "panel": gap.get("judges") or [],
        "classes": [sections.section(number, row) for number, row in enumerate(rows)],
        "has_recall": any(row.get("recall_shortfall") is not None for row in rows),
        "warnings": [*warnings(gap), *_withheld(samples)],
        "left_out": left_out(gap),
        "folds": _folds(gap),
        "scale": scale,
        "floor": scale.at(1.0),
        "config": config.to_dict(),
        "generators": run_generators(gap, config),
        "config_text": config.to_yaml(),
        "state": state,
        "stopped": in_short(gap.get("stopped") or {}) or state.get("stopped_because"),
        "cost": _cost(trials, state),
        "failures": [t for t in trials if t.get("state") == "fail"],
        "environment": _environment(run),
        "map": samples.has_map,
        "outliers": samples.outliers(_SHOWN_OUTLIERS),
        "n_real": sum(row["side"] == "real" for row in samples.rows),
        "n_outliers": sum(bool(row.get("outlier")) for row in samples.rows),
        "thinned": samples.thinned,
        "data": _seen(chart_data(rows, trials, samples)),
        "caveat": CAVEAT,
        "plotly": _plotly(),
    }


def _said_of_worth(run: RunDir, verdicts: Verdicts, sentence: str) -> dict[str, Any]:
    """Say first what the images are worth, where it was validated, and then what the gap is."""
    worth, problem = read_worth(run, verdicts)
    known = worth if problem is None else None
    headline = None if known is None else worth_sentence(known)
    return {
        "headline": headline or sentence,
        "lead": sentence if headline else None,
        "next_steps": [] if known is None else next_steps(known),
        "problem": None if problem is None else PROBLEMS[problem],
        "worth": None if worth is None else worth_section(worth),
    }


def _tried(gap: Row, trials: Sequence[Row]) -> bool:
    """Return whether a run came as far as whole recipes, or ended before its limits."""
    out = any(why in _LIMITS for why in (gap.get("stop_reasons") or {}).values())
    return not out or any(
        trial.get("stage") in ("given", "parameters", "screen", "joint") for trial in trials
    )


def _withheld(samples: Samples) -> list[str]:
    if not (n := samples.n_withheld):
        return []
    whose = "One image lies" if n == 1 else f"{n} images lie"
    return [
        f"{whose} outside of the run folder, which was made elsewhere or has been edited: "
        "not shown. If you trust whoever made it, `gapclose report RUN --trust` shows all."
    ]


def _without_password(config: RunConfig) -> RunConfig:
    if config.storage is None:
        return config
    return config.model_copy(update={"storage": masked(config.storage)})


def _cost(trials: Sequence[Row], state: Row) -> dict[str, Any]:
    images: dict[str, int] = {}
    for trial in trials:
        images[trial["class"]] = max(images.get(trial["class"], 0), trial.get("images_total") or 0)
    return {
        # The state counts the images of confirmations too; a run of an older version has none.
        "images": state.get("images") or sum(images.values()),
        "trials": len(trials),
        "seconds": state.get("seconds_used"),
        "budget": state.get("budget_seconds"),
        "invalid": sum(trial.get("invalid") or 0 for trial in trials),
    }


def _environment(run: RunDir) -> list[tuple[str, str]]:
    """Return names and versions; none where they are lost, for nothing else depends on them."""
    try:
        return _flat(run.read_json("environment.json", EnvironmentFile))
    except (FileNotFoundError, RunDamagedError):
        return []


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Flatten nested keys to (name, text) pairs for a list of versions; a run's mark is none."""
    if isinstance(value, Mapping):
        keys = [k for k in value if not (name == "" and k in ("schema", "origin"))]
        prefix = "" if name == "packages" else f"{name}."
        return [
            pair
            for key in keys
            for pair in _flat(value[key], f"{prefix}{key}" if name else str(key))
        ]
    return [] if value is None else [(name, str(value))]


def _folds(gap: Row) -> list[dict[str, Any]]:
    """List the files that sentences only count: a title, some lines, and how many are left."""
    found = (
        ("unreadable {}", "file", _reasons(gap.get("unreadable"))),
        ("{} left out", "file", _reasons(gap.get("other_files"))),
        ("{} never scored", "image", _reasons(gap.get("invalid_images"))),
        ("{} of repeats", "group", [_members(g) for g in largest(gap.get("repeats") or ())]),
    )
    return [
        {
            "title": f"{len(lines)} {title.format(noun if len(lines) == 1 else f'{noun}s')}",
            "lines": lines[:_SHOWN_FILES],
            "more": max(0, len(lines) - _SHOWN_FILES),
        }
        for title, noun, lines in found
        if lines
    ]


def _reasons(files: Sequence[Row] | None) -> list[str]:
    return [f"{file['path']}: {file['why']}" for file in files or ()]


def _members(group: Row) -> str:
    """Name a group of repeats, in full where a line has room."""
    copies = group["copies"][:_SHOWN_COPIES]
    rest = len(group["copies"]) - len(copies)
    names = ", ".join([group["kept"], *copies])
    more = f" and {rest} more" if rest else ""
    return f"{group['class']}, {group['side']}, {repeat_word(group)}: {names}{more}"


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
    )
    # Keys come by `|get`: a dot would find a dict's method before a key of the same name.
    environment.filters["get"] = lambda mapping, key, default=None: mapping.get(key, default)
    environment.filters["prose"] = _prose
    of_numbers = ("chance", "count", "effect", "number", "percent", "ratio", "seconds", "signed")
    for name in (*of_numbers, "setting"):
        environment.filters[name] = getattr(report_text, name)
    text = (
        resources.files("gapclose.loop.report").joinpath("report.html").read_text(encoding="utf-8")
    )
    return environment.from_string(text)


def _seen(value: Any) -> Any:
    """Have every text of a run seen as it is: a class or a file may be called anything."""
    if type(value) is str:  # markup is of our own making
        return replaced(value)
    if isinstance(value, dict):
        return {key: _seen(below) for key, below in value.items()}
    if isinstance(value, list) and not all(isinstance(below, int | float) for below in value):
        return [_seen(below) for below in value]
    return value


def _prose(text: str) -> Any:
    """Escape a sentence; what stands in backquotes is code, and no line ends before a unit."""
    import markupsafe

    text = replaced(text)
    escaped = str(markupsafe.escape(text.replace("\N{THIN SPACE}", "\N{NARROW NO-BREAK SPACE}")))
    return markupsafe.Markup(re.sub("`([^`]+)`", r"<code>\1</code>", escaped))


@functools.cache
def _plotly() -> str:
    """Return plotly.js, its closing tags escaped: one would end the page's script early."""
    try:
        from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]
    except ImportError as error:  # a page without charts still says what was found
        log.warning("the charts are left out: plotly cannot be imported (%s)", error)
        return ""

    return str(get_plotlyjs()).replace("</script", "<\\/script")
