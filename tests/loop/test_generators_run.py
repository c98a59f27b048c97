"""Several generators through the real command line: searched, shown, compared, exported."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import turntable
import yaml
from PIL import Image
from rig import command, finished, here
from typer.testing import CliRunner

from gapclose.loop.cli import app
from gapclose.loop.report.comparison import compare
from gapclose.loop.report.run_view import Run
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import read_journal

GENERATORS: dict[str, Any] = {
    "steel": {"kind": "half_turntables:Steel"},
    "brass": {"kind": "half_turntables:Brass"},
}
COUNT: dict[str, Any] = {"low": 1, "high": 3, "int": True}
ALIKE: dict[str, Any] = {
    "space": {"prompt": "a {class}", "parameters": {"light": [0, 180], "count": COUNT}},
    "baseline": {"prompt": "a {class}", "parameters": {"light": 10, "count": 1}},
    "embedder": "pond",
    "tune": {"budget": None, "trials": 20, "images_per_trial": 4},
    "confirm": {"images": 20},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generators") / "photos"
    turntable.write_photos(folder, per_class=80)
    return folder


def written(path: Path, photos: Path, **changes: Any) -> Path:
    data = {"real": {"path": str(photos)}, "generators": GENERATORS, **ALIKE}
    path.write_text(yaml.safe_dump(data | changes, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def run(photos: Path) -> Run:
    config = written(photos.parent / "c.yaml", photos)
    code, err = here("tune", config, "--out", photos.parent / "run")
    assert code == 0, err
    return Run.open(photos.parent / "run")


@pytest.mark.slow
def test_each_draws_with_what_it_takes_and_no_more(run: Run) -> None:
    drawn: dict[str, set[tuple[str, ...]]] = {"steel": set(), "brass": set()}
    for row in run.trials:
        for job in row["jobs"]:
            draw = job["recipe"]["draw"]
            drawn[draw["generator"]].add(tuple(sorted(draw["parameters"])))
    assert drawn == {"steel": {("count", "light")}, "brass": {("count",)}}
    assert run.trials[0]["recipe"]["draw"]["generator"] == "steel", "the first is the baseline's"
    config = RunDir(run.path).config()
    assert {*config.space.generators["brass"].parameters} == {"count"}


@pytest.mark.slow
def test_a_mixture_holds_images_of_both_and_says_what_each_is_worth(run: Run) -> None:
    rows = {row["name"]: row for row in run.gap["classes"]}
    weights = {
        name: {its["name"]: its["weight"] for its in row["generators"]["alone"]}
        for name, row in rows.items()
    }
    for name, of in weights.items():
        assert sum(of.values()) == pytest.approx(1.0)
        named = rows[name]["shares"]["mixture"]["words"]["generator"]
        assert {k: v for k, v in of.items() if v} == pytest.approx(named)
        alone = [its["gap"] for its in rows[name]["generators"]["alone"]]
        assert rows[name]["generators"]["together"] < min(alone)
    assert weights["ball"]["steel"] > weights["cube"]["steel"], "70 % and 20 % of the photos"
    described = {its["name"]: its for its in run.gap["generators"]}
    assert described["brass"]["revision"] == "2"
    assert described["steel"]["license"] == "mit"
    assert all(its["seconds_per_image"] > 0 for its in described.values())
    page = (run.path / "report.html").read_text()
    assert "What each generator comes to" in page
    assert "cc-by-nc-4.0" in page
    samples = {row["generator"] for row in RunDir(run.path).samples() if row["stage"] == "tuned"}
    assert samples == {"steel", "brass"}


@pytest.mark.slow
def test_what_each_took_is_in_the_journal(run: Run) -> None:
    events = [e for e in read_journal(RunDir(run.path).journal_path) if hasattr(e, "costs")]
    assert {name for e in events for name in e.costs or {}} == {"steel", "brass"}
    for event in events:
        assert sum(images for images, _ in (event.costs or {}).values()) == event.images


@pytest.mark.slow
def test_a_run_comes_to_the_same_again_and_goes_on(run: Run, photos: Path, tmp_path: Path) -> None:
    config = photos.parent / "c.yaml"
    words = ("tune", config, "--out", tmp_path / "again")
    death = "gapclose.loop.run.journal:Journal.append:after:17"
    assert finished(command(*words, KILL_AT=death))[0] == -signal.SIGKILL
    code, err = here(*words)
    assert code == 0, err
    again = (tmp_path / "again" / "mixtures.json").read_text()
    assert again == (run.path / "mixtures.json").read_text()
    code, err = here("tune", config, "--out", run.path, "--set", "generators.brass.size=16")
    assert (code, "generators.brass.size" in err) == (2, True), err
    other = written(tmp_path / "c.yaml", photos, generators=dict(reversed(GENERATORS.items())))
    code, err = here("tune", other, "--out", run.path)
    assert (code, "generators" in err) == (2, True), "the first draws the baseline"


@pytest.mark.slow
def test_an_image_says_which_generator_drew_it(run: Run, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "data"
    code, err = here("export", run.path, out, "--per-class", 20)
    assert code == 0, err
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert {row["generator"] for row in rows} == {"test:steel", "test:brass"}
    for row in rows:
        brass = row["recipe"]["draw"]["generator"] == "brass"
        assert row["generator"] == ("test:brass" if brass else "test:steel")
        kind = "trainedAlgorithmicMedia" if brass else "digitalCreation"
        assert row["digital_source_type"] == kind
        with Image.open(out / row["file_name"]) as image:
            assert kind in str(image.info["XML:com.adobe.xmp"])
    card = (out / "README.md").read_text()
    assert "steel: mit; it puts no limit" in card
    assert "brass: cc-by-nc-4.0" in card
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert {row["recipe"]["draw"]["generator"] for row in loaded} == {"steel", "brass"}


@pytest.mark.slow
def test_they_are_held_side_by_side(run: Run, photos: Path, tmp_path: Path) -> None:
    found = compare([run.path])
    assert [its.name for its in found.compared] == ["run", "run: steel", "run: brass"]
    both, steel, brass = found.compared
    assert {*both.ratios} == {*steel.ratios} == {*brass.ratios} == {"ball", "cube"}
    assert steel.weights is not None
    assert brass.weights is not None
    assert steel.weights["ball"] + brass.weights["ball"] == pytest.approx(1.0)
    assert (steel.license, brass.license) == ("mit", "cc-by-nc-4.0")
    assert both.license == "mit, cc-by-nc-4.0"
    said = CliRunner().invoke(app, ["compare", str(run.path)])
    assert said.exit_code == 0
    assert "run: brass" in said.output
    assert "%)" in said.output
    told = json.loads(CliRunner().invoke(app, ["compare", str(run.path), "--json"]).output)
    assert told["schema"] == 1
    assert told["compared"][1]["weights"] == pytest.approx(steel.weights)

    alone = written(
        tmp_path / "c.yaml", photos, generators={}, generator=GENERATORS["steel"],
        tune=ALIKE["tune"] | {"trials": 3},
    )  # fmt: skip
    code, err = here("tune", alone, "--out", tmp_path / "alone")
    assert code == 0, err
    two = compare([run.path, tmp_path / "alone"])
    assert [its.name for its in two.compared] == ["run", "run: steel", "run: brass", "alone"]
    assert two.compared[3].license == "mit"
    assert two.differ == ()
    code, err = here("compare", tmp_path / "alone")
    assert (code, "has one generator" in err) == (2, True), err


@pytest.mark.slow
def test_one_that_cannot_be_made_or_is_asked_too_much_is_named(
    photos: Path, tmp_path: Path
) -> None:
    def refused(**changes: Any) -> str:
        config = written(tmp_path / "c.yaml", photos, **changes)
        code, err = here("tune", config, "--out", tmp_path / "run")
        assert code == 2, err
        assert not (tmp_path / "run").exists()
        return err

    strange = {**GENERATORS, "brass": {"kind": "half_turntables:Bras"}}
    assert "generators.brass.kind" in refused(generators=strange)
    own = {"space": {**ALIKE["space"], "generators": {"brass": {"parameters": {"light": [0, 9]}}}}}
    assert "space.generators.brass.parameters.light" in refused(**own)
    asked = {"space": {**ALIKE["space"], "generators": {"brass": {"guidance_scale": [1, 5]}}}}
    assert "space.generators.brass.guidance_scale: brass takes none" in refused(**asked)
    nobody = {**ALIKE["space"], "parameters": {**ALIKE["space"]["parameters"], "fog": 3}}
    assert "space.parameters.fog: none of the generators" in refused(space=nobody)


@pytest.mark.slow
def test_generators_that_fail_or_are_of_no_use_cost_trials_and_not_the_run(
    photos: Path, tmp_path: Path
) -> None:
    several = {
        "good": {"kind": "turntable:Turntable"},
        "broken": {"kind": "half_turntables:Broken"},
        "odd": {"kind": "half_turntables:Odd"},
    }
    fixed = {"material": ["steel", "brass"], "tilt": 24.0}
    own = {"parameters": {"grain": [0.0, 30.0]}}
    begin = {"parameters": {"grain": 9.0}}
    space = {
        **ALIKE["space"],
        "parameters": {**ALIKE["space"]["parameters"], **fixed},
        "generators": {"broken": own, "odd": own},
    }
    baseline = {
        **ALIKE["baseline"],
        "parameters": {**ALIKE["baseline"]["parameters"], "material": "brass"},
        "generators": {"broken": begin, "odd": begin},
    }
    config = written(
        tmp_path / "c.yaml", photos, generators=several, space=space, baseline=baseline
    )
    code, err = here("tune", config, "--out", tmp_path / "run")
    assert code == 0, err
    run = Run.open(tmp_path / "run")
    for row in run.gap["classes"]:
        weights = {its["name"]: its["weight"] for its in row["generators"]["alone"]}
        assert weights["broken"] == 0.0
        assert weights["good"] > 0.8
        broken = next(its for its in row["generators"]["alone"] if its["name"] == "broken")
        assert (broken["images"], broken["gap"], broken["mixture"]) == (0, None, None)
    failed = [row for row in run.trials if row["state"] == "fail"]
    assert {row["recipe"]["draw"]["generator"] for row in failed} == {"broken"}
    assert len(run.trials) - len(failed) > 20, "the others go on"
    found = compare([run.path])
    assert found.compared[2].name == "run: broken"
    assert found.compared[0].license == "Apache-2.0, unknown"
    code, err = here("export", run.path, tmp_path / "data", "--per-class", 4)
    assert code == 0, err
    card = (tmp_path / "data" / "README.md").read_text()
    assert "broken: unknown: look it up" in card
