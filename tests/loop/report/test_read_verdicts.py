"""What a run's verdicts are, to whoever reads them: its journal says it, where there is one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from make_run import make_run
from rig import here

from gapclose.loop.errors import ConfigError, RunDamagedError
from gapclose.loop.exporting.mixtures import mixtures_of
from gapclose.loop.exporting.plan import class_plans
from gapclose.loop.report import projections
from gapclose.loop.report.contents import GAP, MIXTURES, STATE, mixture_key
from gapclose.loop.report.page import write_report
from gapclose.loop.report.projections import open_run, read_gap, read_verdicts
from gapclose.loop.report.run_view import Run
from gapclose.loop.report.status import read_status
from gapclose.loop.report.summary import Summary
from gapclose.loop.run.events import RunFinished, SessionStarted, Stopped, StopReason
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import Journal
from gapclose.loop.run.lock import lock

GOLDEN = Path(__file__).parents[2] / "golden"
ENDED = "tune.trials or tune.images reached"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A tuned run that has ended: its frogs are not confirmed."""
    with zipfile.ZipFile(GOLDEN / "run-with-journal.zip") as packed:
        packed.extractall(tmp_path / "run")
    return RunDir(tmp_path / "run")


def falsify(run: RunDir) -> None:
    """Both files say of other verdicts than the journal; as after a kill between the two."""
    gap, mixtures = run.read_json(GAP), run.read_json(MIXTURES)
    gap["classes"][0] |= {"confirmed": True, "closed": True, "ratio": 0.123, "q_value": 0.9}
    mixtures["classes"]["frog"]["recipes"] = mixtures["classes"]["frog"]["recipes"][:1]
    run.write_json(GAP, gap)
    run.write_json(MIXTURES, mixtures)


def resumed(run: RunDir) -> None:
    """A session that was interrupted at once."""
    event = SessionStarted(classes=("frog",))
    Journal(run.journal_path).append(event, used=read_status(run.path).seconds_used + 1.0)


def unmeasured(run: RunDir) -> None:
    """A run of which nothing is judged, beside the gap.json and the mixtures of another."""
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b'"verdicts_reached"' not in line]
    run.journal_path.write_bytes(b"".join(kept[:-1]))


def test_a_session_that_goes_on_and_is_interrupted_takes_nothing_from_the_report(
    run: RunDir,
) -> None:
    before = run.read_json(GAP)
    assert len(before["clusters"]) == 3
    assert before["classes"][0]["shares"]
    resumed(run)
    open_run(run.path)
    after = run.read_json(GAP)
    assert after == before | {
        "stopped": {"frog": "interrupted; gapclose tune goes on"},
        "stop_reasons": {"frog": "interrupted"},
    }
    text = write_report(run.path).read_text()
    assert text.count("Groups that stand apart") == 1
    assert "Where the weight lies" in text


def test_while_somebody_holds_the_run_every_reader_says_what_the_journal_does(
    run: RunDir, tmp_path: Path
) -> None:
    gap, mixtures = run.read_json(GAP), run.read_json(MIXTURES)
    honest = write_report(run.path).read_text()
    falsify(run)
    wrong = run.read_json(GAP)
    with lock(run):
        opened = Run.open(run.path)
        assert (opened.gap, opened.mixtures) == (gap, mixtures)
        assert read_gap(run) == gap
        assert Summary.of(run.path, tmp_path / "page").gap == gap
        assert write_report(run.path).read_text() == honest
        assert [plan.confirmed for plan in class_plans(run, only_confirmed=False)] == [False]
        [frog] = read_status(run.path).classes
        assert (frog.confirmed, frog.verdict) == (False, "open")
        assert run.read_json(GAP) == wrong  # whoever holds it writes it
    open_run(run.path)
    assert (run.read_json(GAP), run.read_json(MIXTURES)) == (gap, mixtures)


def test_a_status_needs_no_gap_json_and_says_the_same(run: RunDir) -> None:
    row = run.read_json(GAP)["classes"][0]
    before = read_status(run.path)
    [frog] = before.classes
    told = ("gap", "ratio", "floor_p95", "closed", "confirmed")
    assert {key: getattr(frog, key) for key in told} == {key: row[key] for key in told}
    falsify(run)
    with patch.object(projections, "gap_json", side_effect=AssertionError("waits for scipy")):
        assert read_status(run.path) == before
        (run.path / GAP).write_text("{")
        (run.path / STATE).unlink()
        with lock(run):
            assert read_status(run.path).classes == before.classes


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "torn": lambda text: text[: len(text) // 2],
    "empty": lambda _: b"",
    "no object": lambda _: b"[]",
    "an object of nothing": lambda _: b"{}",
    "no UTF-8": lambda _: b"\xff\xfe",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [GAP, MIXTURES])
def test_a_damaged_file_is_read_from_the_journal(run: RunDir, name: str, damage: str) -> None:
    before, classes = read_verdicts(run), read_status(run.path).classes
    whole = (run.path / name).read_bytes()
    (run.path / name).write_bytes(DAMAGES[damage](whole))
    with lock(run):
        assert here("status", run.path) == (0, "")
        assert read_status(run.path).classes == classes
        assert read_verdicts(run) == before
    assert here("report", run.path) == (0, "")
    assert (run.path / name).read_bytes() == whole


@pytest.mark.parametrize("name", [GAP, STATE])
@pytest.mark.parametrize("damage", ["torn", "empty", "no object", "no UTF-8"])
def test_of_a_run_without_a_journal_a_damaged_file_is_told_in_one_line(
    tmp_path: Path, name: str, damage: str
) -> None:
    run = make_run(tmp_path / "run", classes=("frog",), per_class=4, tuned=False)
    path = run.path / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    code, err = here("status", run.path)
    assert (code, err.count("\n")) == (2, 1), err
    assert f"{name}: is damaged" in err
    with pytest.raises(RunDamagedError, match="is damaged"):
        assert Run.open(run.path).gap if name == GAP else Run.open(run.path).state


def test_a_gap_json_that_is_of_no_verdict_of_the_run_is_not_believed(run: RunDir) -> None:
    """An audit may have left it, whose default folder is the same."""
    unmeasured(run)
    left = run.read_json(GAP)
    opened = Run.open(run.path)
    for read in (
        lambda: opened.gap,
        lambda: opened.mixtures,
        lambda: read_gap(run),
        lambda: write_report(run.path),
        lambda: Summary.of(run.path, run.path),
    ):
        with pytest.raises(ConfigError, match="nothing was measured yet"):
            read()
    code, err = here("report", run.path)
    assert (code, err.count("\n")) == (2, 1), err
    assert "nothing was measured yet (no gap.json); let `gapclose tune` go on" in err
    [frog] = read_status(run.path).classes
    assert (frog.closed, frog.confirmed, frog.verdict) == (None, None, "")
    assert run.read_json(GAP) == left


def test_what_a_run_said_whose_classes_all_failed_is_not_said_of_the_session_after(
    run: RunDir,
) -> None:
    unmeasured(run)
    failed = RunFinished(stopped={"frog": Stopped(reason=StopReason.FAILURES, detail="E: none")})
    Journal(run.journal_path).append(failed, used=200.0)
    assert "E: none" in Run.open(run.path).gap["skipped"][0]["why"]
    with pytest.raises(ConfigError, match=r"no mixtures\.json"):
        assert Run.open(run.path).mixtures
    resumed(run)
    with pytest.raises(ConfigError, match=r"no gap\.json"):
        assert Run.open(run.path).gap


@pytest.mark.parametrize("name", ["gap", "mixtures"])
def test_of_a_run_that_has_only_begun_nothing_is_measured(tmp_path: Path, name: str) -> None:
    made = make_run(tmp_path / "run", classes=("frog",), per_class=4)
    for file in (GAP, MIXTURES):
        (made.path / file).unlink()
    run: Any = Run.open(made.path)
    with pytest.raises(ConfigError, match="nothing was measured yet") as told:
        getattr(run, name)
    assert f"no {name}.json" in str(told.value)


def test_what_an_audit_measured_is_its_file(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", classes=("frog",), per_class=4, tuned=False)
    assert {*read_verdicts(run).files} == {GAP}
    assert Run.open(run.path).gap == json.loads((run.path / GAP).read_text())


# ------------------------------------------------------------ a run whose journal is not there


@pytest.fixture
def old(tmp_path: Path) -> RunDir:
    """A tuned run of an earlier version, whose frogs are confirmed."""
    with zipfile.ZipFile(GOLDEN / "run-without-journal.zip") as packed:
        packed.extractall(tmp_path / "old")
    run = RunDir(tmp_path / "old")
    gap = run.read_json(GAP)
    confirm(gap["classes"][0])
    run.write_json(GAP, gap)
    return run


def confirm(row: dict[str, Any]) -> None:
    row |= {"confirmed": True, "closed": True, "objections": [], "q_value": 0.5}
    row["judge"] |= {"q_value": 0.5}


def confirmed(run: RunDir) -> list[bool]:
    """What each reader says of its one class."""
    [row] = read_gap(run)["classes"]
    [plan] = class_plans(run, only_confirmed=False)
    [mixture] = mixtures_of(run.path).classes.values() if run.has(MIXTURES) else [None]
    said = [row["confirmed"], plan.confirmed]
    return said if mixture is None else [*said, mixture.confirmed]


def test_a_verdict_stands_beside_its_own_mixture(old: RunDir) -> None:
    assert confirmed(old) == [True] * 3


def test_without_its_mixture_nothing_is_confirmed(old: RunDir, tmp_path: Path) -> None:
    old.remove(MIXTURES)
    assert confirmed(old) == [False] * 2
    with pytest.raises(ConfigError, match="no class is confirmed"):
        class_plans(old, only_confirmed=True)
    page = write_report(old.path).read_text()
    assert "does not hold the mixture that was confirmed" in page


def test_beside_the_mixture_of_another_run_nothing_is_confirmed(old: RunDir) -> None:
    mixtures = old.read_json(MIXTURES)
    for part in mixtures["classes"]["frog"]["recipes"]:
        part["recipe"]["draw"]["prompt"] += " at night"  # its fingerprints are left as they were
    old.write_json(MIXTURES, mixtures)
    assert confirmed(old) == [False] * 3


def test_a_verdict_names_its_mixture(run: RunDir) -> None:
    """So that a gap.json without its journal is believed for that mixture alone."""
    mixtures = run.read_json(MIXTURES)
    lines = run.journal_path.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if '"verdicts_reached"' in line)
    verdicts = json.loads(lines[place])
    verdicts["verdicts"]["frog"]["mixture"] = mixture_key(mixtures["classes"]["frog"])
    lines[place] = json.dumps(verdicts)
    run.journal_path.write_text("\n".join([*lines, ""]))
    [row] = read_gap(run)["classes"]
    assert row["mixture"] == mixture_key(mixtures["classes"]["frog"])
    gap = run.read_json(GAP)
    confirm(gap["classes"][0])
    run.remove("journal.jsonl")
    run.write_json(GAP, gap)
    assert confirmed(run) == [True] * 3
    first, second = mixtures["classes"]["frog"]["recipes"][:2]
    first["weight"], second["weight"] = second["weight"], first["weight"]
    run.write_json(MIXTURES, mixtures)
    assert confirmed(run) == [False] * 3


def test_a_status_believes_no_state_that_calls_a_class_confirmed(run: RunDir) -> None:
    state = run.read_json(STATE)
    state["classes"]["frog"] |= {"closed": True, "confirmed": True}
    run.write_json(STATE, state)
    with lock(run):
        [frog] = read_status(run.path).classes
        assert (frog.closed, frog.confirmed) == (False, False)


@pytest.mark.parametrize("spoil", ["no samples", "another share", "one recipe more"])
def test_an_old_verdict_is_of_the_shares_that_its_images_have(old: RunDir, spoil: str) -> None:
    mixtures = old.read_json(MIXTURES)
    recipes = mixtures["classes"]["frog"]["recipes"]
    if spoil == "no samples":
        old.remove("samples.jsonl")
    elif spoil == "another share":
        for part in recipes:
            part["weight"] = 0.1 / (len(recipes) - 1)
        recipes[-1]["weight"] = 0.9
    else:
        for part in recipes:
            part["weight"] /= 2
        other = recipes[0]["recipe"] | {"draw": recipes[0]["recipe"]["draw"] | {"prompt": "x"}}
        recipes.append(recipes[0] | {"recipe": other, "weight": 0.5})
    old.write_json(MIXTURES, mixtures)
    assert confirmed(old) == [False] * 3


@pytest.mark.parametrize(
    "contradicted",
    [{"closed": False}, {"closed": None}, {"q_value": 0.01}, {"judge": {"q_value": 0.01}}],
)
def test_no_verdict_stands_against_its_own_figures(
    old: RunDir, contradicted: dict[str, Any]
) -> None:
    gap = old.read_json(GAP)
    row = gap["classes"][0]
    for key, value in contradicted.items():
        row[key] = row[key] | value if isinstance(value, dict) else value
    old.write_json(GAP, gap)
    assert confirmed(old) == [False] * 3
