"""A renderer's own parameters through the real command line: searched, shown, exported, given."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import turntable
import yaml
from rig import here

from gapclose.loop.report.run_view import Run
from gapclose.loop.run.folder import RunDir

PARAMETERS: dict[str, Any] = {
    "light": [0, 180],
    "material": ["steel", "brass"],
    "count": {"low": 1, "high": 3, "int": True},
    "tilt": 24.0,
}
BASELINE: dict[str, Any] = {"light": 10, "material": "brass", "count": 1, "tilt": 5.0}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("turntable") / "photos"
    turntable.write_photos(folder, per_class=80)
    return folder


def written(path: Path, photos: Path, **changes: Any) -> Path:
    data: dict[str, Any] = {
        "real": {"path": str(photos)},
        "generator": {"kind": "turntable:Turntable"},
        "embedder": "pond",
        "space": {"prompt": "a {class}", "parameters": PARAMETERS},
        "baseline": {"prompt": "a {class}", "parameters": BASELINE},
        "tune": {"budget": None, "trials": 14, "images_per_trial": 4},
        "confirm": {"images": 20},
    }
    path.write_text(yaml.safe_dump(data | changes))
    return path


@pytest.fixture(scope="module")
def run(photos: Path) -> Run:
    config = written(photos.parent / "c.yaml", photos)
    code, err = here("tune", config, "--out", photos.parent / "run")
    assert code == 0, err
    return Run.open(photos.parent / "run")


@pytest.mark.slow
def test_what_is_searched_is_what_is_drawn(run: Run) -> None:
    rows = [row for row in run.trials if row["stage"] == "parameters"]
    assert len(rows) > 6
    for row in rows:
        draw = row["recipe"]["draw"]
        assert set(draw) == {
            *("prompt", "negative_prompt", "scheduler", "size", "class", "noun", "parameters")
        }, "nothing that the renderer does not take"
        assert draw["class"] == draw["noun"] == row["class"]
        assert draw["parameters"]["tilt"] == 24.0
        assert draw["parameters"]["light"].items() >= {"low": 0.0, "high": 180.0}.items()
    drawn = {json.dumps(row["recipe"]["draw"]["parameters"], sort_keys=True) for row in rows}
    assert len(drawn) > 6
    config = RunDir(run.path).config()
    assert config.baseline.guidance_scale is None
    assert config.baseline.parameters == BASELINE


@pytest.mark.slow
def test_the_report_says_where_their_weight_lies(run: Run) -> None:
    row = next(row for row in run.gap["classes"] if row["name"] == "ball")
    shares = row["shares"]["mixture"]
    assert set(shares["numbers"]) == {"parameters.light"}
    assert set(shares["choices"]) == {"parameters.material", "parameters.count"}
    page = (run.path / "report.html").read_text()
    assert ">light</td>" in page
    assert ">material</th>" in page
    assert "guidance</th>" not in page
    samples = [row for row in RunDir(run.path).samples() if row["side"] == "synthetic"]
    assert all({*row["parameters"]} == {*PARAMETERS} for row in samples)


@pytest.mark.slow
def test_an_export_says_them_and_is_read_by_datasets(run: Run, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "data"
    code, err = here("export", run.path, out, "--per-class", 6)
    assert code == 0, err
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["recipe"]["draw"]["class"] == row["label"]
        assert {*row["recipe"]["draw"]["parameters"]} == {*PARAMETERS}
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    told = loaded[0]["recipe"]["draw"]["parameters"]
    assert isinstance(told["light"], float)
    assert told["material"] in ("steel", "brass")


@pytest.mark.slow
def test_a_run_goes_on_and_begins_with_what_another_found(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    mixtures = tmp_path / "mixtures.yaml"
    assert here("export", run.path, mixtures) == (0, "")
    text = mixtures.read_text()
    assert "light:" in text
    config = photos.parent / "c.yaml"
    assert here("tune", config, "--out", run.path) == (0, "")
    code, err = here("tune", config, "--out", run.path, "--set", "baseline.parameters.light=20")
    assert (code, "baseline.parameters.light" in err) == (2, True), err
    tune = ("--set", "tune.trials=2", "--set", "tune.seed=1")
    code, err = here("tune", config, "--like", mixtures, "--out", tmp_path / "next", *tune)
    assert code == 0, err
    given = [row for row in Run.open(tmp_path / "next").trials if row["stage"] == "given"]
    assert {row["class"] for row in given} == {"ball", "cube"}
    strange = tmp_path / "strange.yaml"
    strange.write_text(text.replace("light:", "lite:"))
    code, err = here("tune", config, "--like", strange, "--out", tmp_path / "none", *tune)
    assert (code, "did you mean light?" in err) == (2, True), err
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_program_comes_to_the_same_mixtures(run: Run, photos: Path, tmp_path: Path) -> None:
    here_too = Path(turntable.__file__).with_name("turntable_program.py")
    spec = {"kind": "command", "run": [sys.executable, str(here_too)]}
    config = written(tmp_path / "c.yaml", photos, generator=spec)
    out = tmp_path / "run"
    code, err = here("tune", config, "--out", out)
    assert code == 0, err
    assert (out / "mixtures.json").read_text() == (run.path / "mixtures.json").read_text()
    assert "rendering 8 images" in (out / "generator.log").read_text()
    code, err = here("export", out, tmp_path / "data", "--per-class", 2)
    assert code == 0, err
    card = (tmp_path / "data" / "README.md").read_text()
    assert "command:turntable\\_program.py" in card
    assert "digitalCreation" in card
    # Given away it needs trust, as code does.
    shutil.copytree(out, tmp_path / "given")
    export = ("export", tmp_path / "given", tmp_path / "more", "--per-class", 2)
    for words in (export, ("tune", config, "--out", tmp_path / "given")):
        (tmp_path / "given" / "environment.json").write_text('{"schema": 1}')
        code, err = here(*words)
        assert (code, "names a program to run" in err, "--trust" in err) == (2, True, True), err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"space": {"guidance_scale": [1, 5]}}, "space.guidance_scale: the generator takes none"),
        (
            {"space": {}, "baseline": {"guidance_scale": 3.0}},
            "baseline.guidance_scale: the generator takes none; leave it out",
        ),
        (
            {"space": {"parameters": {"lite": [0, 9]}}, "baseline": {"parameters": {"lite": 1}}},
            "space.parameters.lite: test:turntable takes no such parameter; did you mean light?",
        ),
        (
            {"space": {"parameters": {"light": [0, 9]}}, "baseline": {"parameters": {"light": 1}}},
            "KeyError: 'tilt'",
        ),
        (
            {
                "generator": {"kind": "turntable:Silent"},
                "space": {"parameters": PARAMETERS | {"lite": [0, 9]}},
                "baseline": {"parameters": BASELINE | {"lite": 1}},
            },
            "space.parameters.lite: changes nothing",
        ),
    ],
)
def test_what_the_renderer_does_not_take_is_refused_before_anything_is_written(
    changes: dict[str, Any], says: str, photos: Path, tmp_path: Path
) -> None:
    config = written(tmp_path / "c.yaml", photos, **changes)
    code, err = here("tune", config, "--out", tmp_path / "run")
    assert (code, says in err) == (2, True), err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()
