"""Tags: from the App to the export, and what happens where the App's database is not there."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from pathlib import Path

import pytest
from apart import MONGOD, run_apart
from make_run import make_run

from gapclose.loop.app.names import dataset_name
from gapclose.loop.app.refresh import refresh_tags
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.export import export
from gapclose.loop.run.tags import read_tags, tagged_dataset, tagged_images, write_tags

TAG = """
import json, sys
from pathlib import Path
from gapclose.loop.app.viewer import build_dataset
from fiftyone import ViewField
dataset = build_dataset(Path(sys.argv[1]))
view = dataset.match(ViewField("stage") == "tuned").limit(5)
view.tag_samples("reject")
print(json.dumps({"paths": view.values("filepath")}))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("fiftyone_alone")
@pytest.mark.skipif(not MONGOD.is_file(), reason="FiftyOne's mongod is not installed")
def test_what_is_rejected_in_the_app_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"generator": {"kind": "make_run:Renderer"}}
    run = make_run(tmp_path / "run", classes=("frog",), per_class=12, config=config)

    def exported(name: str) -> dict[str, int]:
        out = export(run.path, tmp_path / name, per_class=20, trust=True)
        rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
        return {row["file_name"]: row["seed"] for row in rows}

    before = exported("before")
    rejected = run_apart(TAG, str(run.path), database=tmp_path / "db")["paths"]
    monkeypatch.setenv("FIFTYONE_DATABASE_DIR", str(tmp_path / "db"))
    after = exported("after")
    assert len(rejected) == 5
    gone = {before[name] for name in before if before[name] not in after.values()}
    assert gone == {int(Path(path).stem) for path in rejected}
    assert len(set(after.values())) == len(before) == 20


def test_without_a_database_the_file_is_used_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2)
    tags = {"a.png": ["reject"], "b.png": ["gap", "reject"], "c.png": []}
    write_tags(run, tags, dataset=dataset_name(run.path))
    # A fiftyone without a mongod: the real one is not imported.
    (tmp_path / "site" / "fiftyone").mkdir(parents=True)
    (tmp_path / "site" / "fiftyone" / "__init__.py").write_text("raise AssertionError")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *sys.path]))
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    monkeypatch.setenv("FIFTYONE_CONFIG_PATH", str(tmp_path / "none.json"))
    with caplog.at_level(logging.WARNING):
        refresh_tags(run)
    assert tagged_images(run, "reject") == {"a.png", "b.png"}
    assert tagged_images(run, "gap") == {"b.png"}
    (record,) = caplog.records
    assert "mongod is missing" in record.message
    assert "used as it stands" in record.message


def test_a_run_that_no_app_has_shown_asks_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a process was started"))
    refresh_tags(run)
    assert tagged_images(run, "reject") == set()
    for other in (None, "gapclose-of-another-run"):  # by hand, or in a run from elsewhere
        write_tags(run, {"a.png": ["reject"]}, dataset=other)
        refresh_tags(run)
    assert tagged_images(run, "reject") == {"a.png"}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2)
    shutil.copy(run.path / "gap.json", run.path / "tags.json")
    with pytest.raises(RunDamagedError, match=r"tags\.json: is no list"):
        read_tags(run)
    (run.path / "tags.json").write_text("[]")
    for read in (read_tags, tagged_dataset):
        with pytest.raises(RunDamagedError, match=r"tags\.json: is no list"):
            read(run)
