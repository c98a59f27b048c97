"""Files of a run with JSON of another shape: readers show them, or refuse them in one line."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image
from rich.console import Console

from gapclose.loop.errors import OUR_ERRORS
from gapclose.loop.exporting.mixtures import mixtures_of
from gapclose.loop.exporting.plan import class_plans
from gapclose.loop.report import page, thumbnails
from gapclose.loop.report.page import write_report
from gapclose.loop.report.status import read_status, render_status
from gapclose.loop.report.summary import Summary
from gapclose.loop.run.folder import RunDir

GOLDEN: Final = Path(__file__).parents[2] / "golden"
CASES: Final = 40  # of some thousand that there are of each file
GONE: Final = object()
WRONG: Final = (None, "x", "../../x", "\x1b[31m", -1, 1, 1.5, 1e300, 10**30, True, [], [1], ["x"])
WRONG_OBJECTS: Final = ({}, {"a": 1}, [{}], [[]], "\ud800", GONE)

Place = tuple[str | int, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every place in JSON; of lists, in the first two items."""
    yield at
    if isinstance(value, dict):
        for key, below in value.items():
            yield from places(below, (*at, key))
    elif isinstance(value, list):
        for number, below in enumerate(value[:2]):
            yield from places(below, (*at, number))


def changed(value: Any, at: Place, new: object) -> Any:
    """The same JSON with something else in one place."""
    if not at:
        return new
    value = copy.deepcopy(value)
    parent = functools.reduce(lambda below, key: below[key], at[:-1], value)
    if new is GONE:
        del parent[at[-1]]
    else:
        parent[at[-1]] = new
    return value


def read(run: Path) -> None:
    """All that only reads a run, each for itself."""

    def shown() -> None:
        console = Console(file=io.StringIO())
        console.print(render_status(read_status(run)))
        json.dumps(read_status(run).to_json())

    def summed_up() -> None:
        Summary.of(run, run / "report.html").print(Console(file=io.StringIO()))

    readers = (
        shown,
        summed_up,
        lambda: write_report(run),
        lambda: mixtures_of(run).to_yaml(),
        lambda: class_plans(RunDir(run), only_confirmed=False),
    )
    for reader in readers:
        with contextlib.suppress(*OUR_ERRORS):
            reader()


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without what takes their time: the chart library, the template and the images."""
    monkeypatch.setattr(page, "_plotly", str)
    monkeypatch.setattr(page, "_template", functools.cache(page._template))
    small = Image.new("RGB", (4, 4))
    monkeypatch.setattr(thumbnails, "read_thumbnail", lambda path, edge=0: small)
    monkeypatch.setattr(thumbnails, "to_uri", lambda image, quality=None: "data:,")


@pytest.mark.slow
@pytest.mark.usefixtures("_plain")
@pytest.mark.parametrize(
    ("golden", "name", "line"),
    [
        ("run-without-journal", "gap.json", None),
        ("run-without-journal", "mixtures.json", None),
        ("run-without-journal", "state.json", None),
        ("run-without-journal", "trials.jsonl", 0),
        ("run-without-journal", "samples.jsonl", -2),
        *(("run-with-journal", "journal.jsonl", number) for number in (2, 4, 5, 16, 17, 18, 20)),
    ],
)
def test_json_of_another_shape(golden: str, name: str, line: int | None, tmp_path: Path) -> None:
    with zipfile.ZipFile(GOLDEN / f"{golden}.zip") as packed:
        packed.extractall(tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    text = (tmp_path / name).read_text()
    lines = [text] if line is None else text.splitlines()
    value = json.loads(lines[line or 0])
    cases = [(at, new) for at in places(value) for new in (*WRONG, *WRONG_OBJECTS)]
    cases = [(at, new) for at, new in cases if at or new is not GONE]
    for at, new in random.Random(f"{name} {line}").sample(cases, CASES):
        for path, data in kept.items():
            path.write_bytes(data)
        wrong = json.dumps(changed(value, at, new))
        said = [*lines]
        said[line or 0] = wrong
        (tmp_path / name).write_text("\n".join([*said, ""]))
        try:
            read(tmp_path)
        except Exception as error:
            error.add_note(f"{name}, {at}: {new!r}")
            raise
