"""Run folders that earlier versions made: they can be looked at, exported and opened, for good.

Each was tuned on frogs of the pond: six trials, one confirmation that failed. One by the last
version that kept no journal, one by the first that kept trials in flight in one. Their report.html
is left out; it is made anew.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from apart import MONGOD, run_apart
from rig import here

from gapclose.loop.exporting.mixtures import read_given
from gapclose.loop.report.status import read_status

GOLDEN = Path(__file__).parents[1] / "golden"

SCRIPT = """
import json, sys
from gapclose.loop.app.viewer import build_dataset
dataset = build_dataset(sys.argv[1])
print(json.dumps({"n": len(dataset), "sides": dataset.count_values("side")}))
"""


def unpacked(name: str, folder: Path) -> Path:
    with zipfile.ZipFile(GOLDEN / f"{name}.zip") as packed:
        packed.extractall(folder / "run")
    return folder / "run"


@pytest.fixture(params=["run-without-journal", "run-with-journal"])
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return unpacked(request.param, tmp_path)


def contents(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}


def test_its_report_is_made_anew_from_its_own_numbers(golden: Path) -> None:
    before = contents(golden)
    code, err = here("report", golden)
    assert (code, err) == (0, "")
    page = (golden / "report.html").read_text()
    assert "frog" in page
    assert page.count("data:image/") > 20  # thumbnails
    after = contents(golden)
    assert {name for name in before if before[name] != after[name]} == set()
    assert {*after} - {*before} <= {"report.html", "lock"}


def test_its_status_is_told(golden: Path) -> None:
    assert here("status", golden)[0] == 0
    [frog] = read_status(golden).to_json()["classes"]
    assert (frog["name"], frog["trials"], frog["confirmed"]) == ("frog", 6, False)


@pytest.mark.slow
def test_its_mixture_is_exported_with_its_verdict(golden: Path, tmp_path: Path) -> None:
    code, err = here("export", golden, tmp_path / "data", "--per-class", "6")
    assert code == 0, err
    rows = [
        json.loads(line)
        for line in (tmp_path / "data" / "metadata.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 6
    assert {row["confirmed"] for row in rows} == {False}
    frog = json.loads((golden / "mixtures.json").read_text())["classes"]["frog"]
    kept = {recipe["fingerprint"] for recipe in frog["recipes"]}
    assert {row["recipe_fingerprint"] for row in rows} <= kept


def test_its_mixture_may_be_given_to_another_run(golden: Path) -> None:
    rows = read_given(golden).mixtures["frog"]
    said = json.loads((golden / "mixtures.json").read_text())["classes"]["frog"]["recipes"]
    assert sum(row["weight"] for row in rows) == pytest.approx(1.0)
    for row, its in zip(rows, said, strict=True):
        draw = its["recipe"]["draw"]
        assert row["weight"] == pytest.approx(its["weight"], abs=1e-3)
        assert (row["prompt"], row["guidance_scale"]) == (draw["prompt"], draw["guidance_scale"])


def test_tuning_one_without_a_journal_is_refused_in_one_line(tmp_path: Path) -> None:
    golden = unpacked("run-without-journal", tmp_path)
    before = contents(golden)
    code, err = here("tune", golden / "config.yaml", "--out", golden)
    assert (code, err.count("\n")) == (2, 1), err
    assert "tuned by an earlier version, which kept no journal" in err
    assert contents(golden) == before


@pytest.mark.slow
def test_one_with_a_journal_goes_on_and_finds_that_no_photos_are_left(tmp_path: Path) -> None:
    golden = unpacked("run-with-journal", tmp_path)
    before = contents(golden)
    code, err = here("tune", golden / "config.yaml", "--out", golden, "--set", "tune.trials=9")
    assert code == 0, err
    after = contents(golden)
    assert after["journal.jsonl"].startswith(before["journal.jsonl"])
    assert json.loads(after["gap.json"])["stop_reasons"] == {"frog": "no_photos_left"}
    kept = {name for name in before if name.startswith(("images/", "mixtures", "trials"))}
    assert {name for name in kept if before[name] != after[name]} == set()


@pytest.mark.slow
@pytest.mark.usefixtures("fiftyone_alone")
@pytest.mark.skipif(not MONGOD.is_file(), reason="FiftyOne's mongod is not installed")
def test_the_app_opens_it(golden: Path, tmp_path: Path) -> None:
    said = run_apart(SCRIPT, str(golden), database=tmp_path / "db")
    assert said["n"] == sum(said["sides"].values()) == len(samples_of(golden))
    assert set(said["sides"]) == {"real", "synthetic"}


def samples_of(run: Path) -> list[str]:
    return (run / "samples.jsonl").read_text().splitlines()
