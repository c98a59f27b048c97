"""Exports read by others: every image comes back with its class, whatever the classes are called.

The readers are the real ones: datasets, torchvision, FiftyOne (in a process of its own: it starts
a mongod). Which class an image is of is told from its pixels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import datasets
import numpy as np
import pytest
import torchvision
from painter import class_of, confirm, painted_run
from PIL import Image

from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.doctor import find_mongod
from gapclose.loop.export import export

SETS = {
    "splits": ["dog", "test", "train"],
    "one": ["train"],
    "other splits": ["training", "validation", "valid", "val", "testing", "evaluation", "dog"],
    "split words": ["train station", "test-set", "crash_test", "val.d'isere", "Test", "2 dev"],
    "shards": ["data", "images", "train-00000-of-00001", "logs.eval", "eval", "dog"],
    "case": ["Cat", "cat", "CAT", "Stra\u00dfe", "strasse"],
    "normal form": ["caf\u00e9", "cafe\u0301", "\u212b", "\u00c5", "\ud55c", "\u1112\u1161\u11ab"],
    "windows": ["CON", "aux", "nul", "com1", "LPT1.x", "dog.", "dog ", "a:b", "what?", "a*"],
    "dots": [".", "..", ".hidden", "...", " lead", "__pycache__", "~", "-rf"],
    "slashes": ["a/b", "a\\b", "/etc", "../up", "C:\\x", "s3://b/c", "a::b", "zip://x::y"],
    "own files": ["README.md", "metadata.jsonl", "readme.MD", "state.json", "metadata.csv"],
    "files": ["photos.zip", "a.tar.gz", "x.png", "dataset_infos.json", "_unlabeled"],
    "long": ["x" * 240, "x" * 239 + "y", "\U0001f438" * 60, "\u86d9" * 80, "train " * 40],
    "glob": ["[a]", "{b}", "a**", "!x", "%74rain", "100%", "%2F"],
    "yaml": ["yes", "null", "1e3", "0o17", "1", "---", "a: b", "#x", "- a", "&a", "*a", "=", ""],
    "lines": ["a\nb", "a\u2028b", "a\x85b", "a\tb", "'", '"', "\\n", "\x00", "\x1b[1m", "<b>|"],
    "scripts": [
        "\u86d9",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u0645\u0631",
        "na\u00efve",
    ],
}
EVERY = list(dict.fromkeys(name for names in SETS.values() for name in names))
COLUMNS = ["image", "label", "text", "seed", "recipe", "recipe_fingerprint", "draw_fingerprint"]
COLUMNS += ["camera_fingerprint", "generator", "generator_revision", "digital_source_type"]
COLUMNS += ["confirmed"]
PER_CLASS = 2


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Iterator[None]:
    """What `datasets` loads here is counted nowhere, and draws no bars."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
        datasets.disable_progress_bars()
        yield
        datasets.enable_progress_bars()


@pytest.fixture(scope="module", params=SETS.values(), ids=SETS)
def classes(request: pytest.FixtureRequest) -> list[str]:
    """A set of names, one after the other."""
    return list(request.param)


@pytest.fixture(scope="module")
def out(classes: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with these classes."""
    return exported(tmp_path_factory.mktemp("export"), classes)


def exported(tmp_path: Path, classes: Sequence[str], place: str = "out") -> Path:
    run = painted_run(tmp_path / "run", classes)
    return export(run.path, tmp_path / place, per_class=PER_CLASS, trust=True)


def load(tmp_path: Path, *words: str, **options: Any) -> datasets.Dataset:
    """The one split of a data set."""
    loaded = datasets.load_dataset(*words, cache_dir=str(tmp_path / "cache"), **options)
    assert list(loaded) == ["train"]
    return loaded["train"]


def classes_by_folder(out: Path) -> dict[str, str]:
    lines = (out / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return {row["file_name"].split("/")[0]: row["label"] for row in rows}


def assert_whole(pairs: Sequence[tuple[str, Any]], classes: Sequence[str]) -> None:
    """Each pair of a class and an image agrees, and no image is missing or there twice."""
    images = [np.asarray(image.convert("RGB")) for _, image in pairs]
    assert [name for name, _ in pairs] == [class_of(image, classes) for image in images]
    assert Counter(name for name, _ in pairs) == dict.fromkeys(classes, PER_CLASS)
    assert len({image.tobytes() for image in images}) == PER_CLASS * len(classes)


def test_datasets_reads_every_class_by_the_card(
    out: Path, classes: list[str], tmp_path: Path
) -> None:
    data = load(tmp_path, str(out))
    assert isinstance(data.features["label"], datasets.ClassLabel)
    labels = data.features["label"].names
    assert sorted(labels) == sorted(classes)
    assert data.column_names == COLUMNS
    assert_whole([(labels[row["label"]], row["image"]) for row in data], classes)
    assert {row["recipe"]["draw"]["scheduler"] for row in data} == {None, "ddim"}
    assert {str(row["recipe"]["draw"]["size"]) for row in data} == {"None", "[8, 16]"}


def test_datasets_reads_every_class_as_an_image_folder(
    out: Path, classes: list[str], tmp_path: Path
) -> None:
    """`load_dataset("imagefolder")` reads no card: the label is the class's name."""
    data = load(tmp_path, "imagefolder", data_dir=str(out))
    assert data.column_names == COLUMNS
    assert_whole([(row["label"], row["image"]) for row in data], classes)


def test_torchvision_reads_every_class(out: Path, classes: list[str], tmp_path: Path) -> None:
    data = torchvision.datasets.ImageFolder(str(out))
    classes_of = classes_by_folder(out)
    assert_whole([(classes_of[data.classes[i]], image) for image, i in data], classes)
    decoded = [(classes_of[f], unquote(f)) for f in data.classes if "%~" not in f and f != "%"]
    assert [name for name, _ in decoded] == [name for _, name in decoded]
    labels = load(tmp_path, str(out)).features["label"].names
    assert [classes_of[folder] for folder in data.classes] == labels


@pytest.mark.parametrize(
    "place", ["test", "train/export", "val-1/eval", ".hidden/__x__/dev", "état"]
)
def test_where_a_data_set_lies_is_no_split(tmp_path: Path, place: str) -> None:
    names = ["dog", "Test", "train"]
    made = str(exported(tmp_path, names, place))
    data = load(tmp_path, made)
    labels = data.features["label"].names
    assert_whole([(labels[row["label"]], row["image"]) for row in data], names)
    data = load(tmp_path, "imagefolder", data_dir=made)
    assert_whole([(row["label"], row["image"]) for row in data], names)


def test_datasets_streams_every_class(tmp_path: Path) -> None:
    data = datasets.load_dataset(str(exported(tmp_path, EVERY)), streaming=True, split="train")
    labels = data.features["label"].names
    assert_whole([(labels[row["label"]], row["image"]) for row in data], EVERY)


def test_every_class_at_once(tmp_path: Path) -> None:
    made = str(exported(tmp_path, EVERY))
    data = load(tmp_path, made)
    labels = data.features["label"].names
    assert_whole([(labels[row["label"]], row["image"]) for row in data], EVERY)
    data = load(tmp_path, "imagefolder", data_dir=made)
    assert_whole([(row["label"], row["image"]) for row in data], EVERY)


def test_a_value_that_only_the_last_class_has_is_read_far_into_the_metadata(
    tmp_path: Path,
) -> None:
    run = painted_run(tmp_path / "run", ["a", "b"])
    draws = {"a": Draw(prompt="a" * 400_000), "b": Draw(prompt="b", scheduler="ddim")}
    confirm(run, {name: [Recipe(draw=draw, camera=Camera())] for name, draw in draws.items()})
    out = export(run.path, tmp_path / "out", per_class=30, trust=True)
    assert (out / "metadata.jsonl").stat().st_size > 11 << 20  # datasets infers types from 10 MiB
    for words in ({"path": str(out)}, {"path": "imagefolder", "data_dir": str(out)}):
        data = load(tmp_path, **words)
        found = Counter(row["draw"]["scheduler"] for row in data["recipe"])
        assert found == {None: 30, "ddim": 30}


SCRIPT = """
import json, sys
import fiftyone as fo
tree = fo.types.ImageClassificationDirectoryTree
data = fo.Dataset.from_dir(sys.argv[1], dataset_type=tree)
print(json.dumps(list(zip(data.values("ground_truth.label"), data.values("filepath")))))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("fiftyone_alone")
@pytest.mark.skipif(find_mongod() is None, reason="FiftyOne's mongod is not installed")
def test_fiftyone_reads_every_class(tmp_path: Path) -> None:
    made = exported(tmp_path, EVERY)
    environment = os.environ | {"FIFTYONE_DATABASE_DIR": str(tmp_path / "db")}
    environment.pop("FIFTYONE_DATABASE_URI", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(made)],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    read = json.loads(done.stdout.splitlines()[-1])
    classes_of = classes_by_folder(made)
    assert_whole([(classes_of[label], Image.open(path)) for label, path in read], EVERY)
