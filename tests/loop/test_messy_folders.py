"""Audits of folders as people have them: copies, blanks, other codecs, strangers in the folder.

Each class of one audit has a fault of its own. Its photos are the pond's, and pieces of the two
that scikit-learn ships.
"""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

from gapclose.analysis.embedding import make_embedder
from gapclose.analysis.errors import EmbedderError
from gapclose.analysis.two_sample import permutation_p_value
from gapclose.generators.pond.renderer import real_photos
from gapclose.loop.auditing import audit_folders
from gapclose.loop.report.findings import findings
from gapclose.loop.report.run_view import Run
from gapclose.loop.report.status import read_status
from gapclose.loop.run.folder import RunDir

Pixels = NDArray[np.uint8]
SIDES = ("real", "synthetic")


def scenes(cls: str, n: int, *, first: int) -> list[Pixels]:
    return [image for _, image in real_photos(cls, range(first, first + n))]


def put(folder: Path, images: Sequence[Pixels], suffix: str = "png", **how: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    start = len(list(folder.iterdir()))
    for number, image in enumerate(images, start=start):
        Image.fromarray(image).save(folder / f"{number:04}.{suffix}", **how)


def pieces() -> list[Pixels]:
    """A hundred and twenty pieces of two photos, in random order."""
    photos = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    cut = [
        photo[y : y + 64, x : x + 64]
        for photo in photos
        for y in range(0, 384, 64)
        for x in range(0, 640, 64)
    ]
    return [cut[i] for i in np.random.default_rng(0).permutation(len(cut))]


def crops(images: Sequence[Pixels], each: int) -> list[Pixels]:
    rng = np.random.default_rng(0)
    return [
        image[y : y + 56, x : x + 56] for image in images for y, x in rng.integers(0, 9, (each, 2))
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("messy")
    # sixty photos, each of them four times
    put(root / "real" / "copies", 4 * scenes("cat", 60, first=0))
    put(root / "synthetic" / "copies", scenes("cat", 240, first=1_000))
    # thirty photos, each of them in eight crops
    put(root / "real" / "crops", crops(pieces()[:30], 8))
    put(root / "synthetic" / "crops", crops(pieces()[30:], 1))
    # blanks on both sides
    black = [np.zeros((32, 32, 3), dtype=np.uint8)]
    put(root / "real" / "blanks", [*scenes("dog", 112, first=0), *8 * black])
    put(root / "synthetic" / "blanks", [*scenes("dog", 112, first=1_000), *18 * black])
    # compressed by one side only
    put(root / "real" / "jpegs", scenes("cat", 150, first=0), "jpg", quality=95)
    put(root / "synthetic" / "jpegs", scenes("cat", 150, first=1_000), "jpg", quality=30)
    # stored small and compressed, in one class
    small = [
        np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BOX))
        for image in scenes("bird", 150, first=1_000)
    ]
    put(root / "real" / "small", scenes("bird", 150, first=0))
    put(root / "synthetic" / "small", small, "jpg", quality=35)
    # what is no image, or of no class
    put(root / "real", scenes("frog", 120, first=0))
    (root / "real" / "copies" / "notes.txt").write_text("words")
    (root / "real" / "copies" / os.fsdecode(b"caf\xe9.txt")).write_text(
        "in a name that is no text"
    )
    (root / "synthetic" / "jpegs" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    return root


@pytest.fixture(scope="module")
def audited(folders: Path) -> Run:
    return audit_folders(
        real=folders / "real",
        synthetic=folders / "synthetic",
        embedder="pond",
        out=folders / "run",
    )


@pytest.fixture
def rows(audited: Run) -> dict[str, Any]:
    return {row["name"]: row for row in audited.gap["classes"]}


def told(audited: Run, word: str) -> str:
    """The one finding that has a word."""
    (line,) = [line for line in findings(audited.gap) if word in line]
    return line


@pytest.mark.slow
def test_copies_count_once(audited: Run, rows: dict[str, Any], folders: Path) -> None:
    row = rows["copies"]
    assert (row["n_real"], row["n_synthetic"]) == (60, 240)
    assert row["repeats"] == {"real": 180, "synthetic": 0}
    assert row["q_value"] > 0.05
    assert row["closed"] is None, "sixty photos call nothing closed"
    # Taken for 240 photos they would make a gap.
    embedder = make_embedder("pond")
    naive = permutation_p_value(
        real=np.repeat(embedder.embed(scenes("cat", 60, first=0)), 4, axis=0),
        synthetic=embedder.embed(scenes("cat", 240, first=1_000)),
    )
    assert naive < 0.01
    groups = [r for r in audited.gap["repeats"] if r["class"] == "copies"]
    assert [(r["kind"], len(r["copies"])) for r in groups] == 60 * [("exact", 3)]
    assert "real images are exact copies of others; each of the" in told(audited, "exact copies")


@pytest.mark.slow
def test_crops_of_one_photo_count_once(audited: Run, rows: dict[str, Any]) -> None:
    row = rows["crops"]
    assert 30 <= row["n_real"] <= 40, "some pieces are of plain sky"
    assert row["q_value"] > 0.05
    groups = [r for r in audited.gap["repeats"] if r["class"] == "crops"]
    assert "near" in {r["kind"] for r in groups}
    assert {r["side"] for r in groups if not r["counted"]} == {"real"}


@pytest.mark.slow
def test_blank_images_are_counted_and_not_scored(audited: Run, rows: dict[str, Any]) -> None:
    row = rows["blanks"]
    assert (row["n_real"], row["n_synthetic"]) == (112, 112)
    assert (row["invalid_real"], row["invalid"]) == (8, 18)
    assert row["closed"] is True
    named = [r for r in audited.gap["invalid_images"] if r["class"] == "blanks"]
    assert len(named) == 26
    assert {r["why"] for r in named} == {"one colour"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cls", "differs", "form"),
    [
        ("jpegs", ["quality"], "JPEG quality 30 4:2:0"),
        ("small", ["codec", "size"], "16x16, JPEG quality 35 4:2:0"),
    ],
)
def test_a_class_that_is_stored_differently_is_put_through_one_form(
    audited: Run, rows: dict[str, Any], cls: str, differs: list[str], form: str
) -> None:
    stored = rows[cls]["stored"]
    assert (stored["differs"], stored["form"]) == (differs, form)
    assert stored["ratio_as_stored"] > 3
    assert stored["ratio_in_one_form"] == pytest.approx(rows[cls]["ratio"], abs=0.3)
    assert stored["ratio_in_one_form"] < 1.3
    assert rows[cls]["closed"] is True
    assert any(line.startswith(f"{cls}: synthetic: jpeg") for line in audited.gap["confounds"])
    assert rows["blanks"]["stored"] is None


@pytest.mark.slow
def test_nothing_vanishes_without_a_count(audited: Run) -> None:
    gap = audited.gap
    assert gap["n_other_files"] == {"real": 122, "synthetic": 0}
    whys = [row["why"] for row in gap["other_files"]]
    assert whys.count("an image beside the class folders, not in one") == 120
    assert whys.count("not an image in a supported format") == 2
    assert r"caf\udce9.txt" in [Path(row["path"]).name for row in gap["other_files"]]
    (broken,) = gap["unreadable"]
    assert (Path(broken["path"]).name, broken["side"]) == ("broken.jpg", "synthetic")
    assert "120 real files were left out" in told(audited, "beside the class folders")


@pytest.mark.slow
def test_status_says_what_the_audit_said(audited: Run) -> None:
    words = {row.name: row.verdict for row in read_status(audited.path).classes}
    assert words["blanks"] == "no gap"
    assert words["copies"] == "too few to tell"
    assert words["jpegs"] == "no gap"


class OddEmbedder:
    """The mean colour of each image; NaN, or one point, where a test says so.

    Attributes:
        constant: All images are one point.
        blind_to: Images with this pixel in a corner are one point.
        nan_every: So often a row is NaN.
    """

    id, width = "gapclose_odd.mean:OddEmbedder", 4
    constant = False
    blind_to: tuple[int, int, int] | None = None
    nan_every = 0

    def __init__(self, *, device: str = "auto") -> None:
        self.seen = 0

    def embed(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        out = np.ones((len(images), 4), dtype=np.float32)
        if not self.constant:
            out[:, :3] = [image.mean(axis=(0, 1)) / 255 for image in images]
        for i in range(len(images)):
            self.seen += 1
            if tuple(images[i][0, 0]) == self.blind_to:
                out[i] = 1.0
            if self.nan_every and self.seen % self.nan_every == 0:
                out[i] = np.nan
        return out / np.linalg.norm(out, axis=1, keepdims=True)


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[OddEmbedder]:
    """An embedder of one's own, found where a config would name it, with a cache of its own."""
    monkeypatch.setenv("GAPCLOSE_CACHE", str(tmp_path / "cache"))
    package = tmp_path / "code" / "gapclose_odd"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "mean.py").write_text("# the class is put here by the test")
    monkeypatch.syspath_prepend(package.parent)
    fresh = type("OddEmbedder", (OddEmbedder,), {})
    module = types.ModuleType("gapclose_odd.mean")
    module.OddEmbedder = fresh  # type: ignore[attr-defined]
    module.__spec__ = importlib.util.spec_from_file_location(
        "gapclose_odd.mean", package / "mean.py"
    )
    monkeypatch.setitem(sys.modules, "gapclose_odd.mean", module)
    return fresh


def audit_oddly(tmp_path: Path) -> Run:
    for number, side in enumerate(SIDES):
        put(tmp_path / side / "frog", scenes("frog", 130, first=1_000 * number))
    return audit_folders(
        real=tmp_path / "real",
        synthetic=tmp_path / "synthetic",
        embedder=OddEmbedder.id,
        out=tmp_path / "run",
    )


def test_an_embedder_that_tells_no_image_from_another_is_refused(
    tmp_path: Path, odd: type[OddEmbedder]
) -> None:
    odd.constant = True
    with pytest.raises(EmbedderError, match="gives one row for two different pictures"):
        audit_oddly(tmp_path)


def test_features_that_are_all_alike_tell_nothing(tmp_path: Path, odd: type[OddEmbedder]) -> None:
    odd.blind_to = (1, 2, 3)
    for number, side in enumerate(SIDES):
        # Beside others in their batches: of nothing else the embedder would be refused.
        put(tmp_path / side / "bird", scenes("bird", 130, first=1_000 * number))
        frogs = scenes("frog", 20, first=1_000 * number)
        for image in frogs:
            image[0, 0] = odd.blind_to
        put(tmp_path / side / "frog", frogs)
    run = audit_folders(
        real=tmp_path / "real",
        synthetic=tmp_path / "synthetic",
        embedder=OddEmbedder.id,
        out=tmp_path / "run",
    )
    (row,) = (row for row in run.gap["classes"] if row["name"] == "frog")
    assert (row["closed"], row["effect"], row["p_value"]) == (None, None, 1.0)
    (said,) = (cls for cls in read_status(run.path).classes if cls.name == "frog")
    assert said.verdict == "cannot be told"
    assert "cannot be told" in (run.path / "report.html").read_text("utf-8")


def test_one_image_without_features_is_named(tmp_path: Path, odd: type[OddEmbedder]) -> None:
    odd.nan_every = 200
    run = audit_oddly(tmp_path)
    (row,) = run.gap["classes"]
    assert row["n_real"] + row["n_synthetic"] == 259
    assert row["invalid"] + row["invalid_real"] == 1
    (named,) = run.gap["invalid_images"]
    assert "non-finite" in named["why"]
    assert Path(named["path"]).is_file()


def test_what_is_most_unlike_is_shown_without_words(
    tmp_path: Path, odd: type[OddEmbedder]
) -> None:
    rng = np.random.default_rng(0)
    pink = np.array([220, 20, 160])
    wrong = [(pink + rng.integers(0, 30, (32, 32, 3))).astype(np.uint8) for _ in range(25)]
    put(tmp_path / "synthetic" / "frog", wrong)
    run = audit_oddly(tmp_path)
    (row,) = run.gap["classes"]
    assert (row["closed"], row["attributes"]) == (False, None), "this encoder knows no words"
    shown = [Path(path).name for path in row["witness"]["synthetic"]]
    assert len(shown) == 12
    assert all(name < "0025" for name in shown), "the pink ones"
    samples = RunDir.open(run.path).samples()
    scores = {sample["path"]: sample["witness"] for sample in samples}
    assert set(row["witness"]["synthetic"]) <= set(scores)
    assert all(isinstance(score, float) for score in scores.values())
    assert "Most unlike" in (run.path / "report.html").read_text("utf-8")


def test_two_splits_of_one_set_are_said_to_be_so(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "test")):
        put(tmp_path / split / "frog", scenes("frog", 30, first=1_000 * number))
    run = audit_folders(
        real=tmp_path / "train",
        synthetic=tmp_path / "test",
        embedder="pond-judge",
        out=tmp_path / "run",
    )
    (note,) = run.gap["notes"]
    assert note.startswith("train and test look like two splits of one data set")


def test_an_image_in_two_files_is_one_even_if_recompressed(tmp_path: Path) -> None:
    images = scenes("frog", 40, first=0)
    put(tmp_path / "real" / "frog", images)
    for number, image in enumerate(images[:10]):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG", compress_level=0)
        (tmp_path / "real" / "frog" / f"other-{number}.png").write_bytes(stream.getvalue())
    put(tmp_path / "synthetic" / "frog", scenes("frog", 40, first=1_000))
    shutil.copy(
        tmp_path / "synthetic" / "frog" / "0000.png", tmp_path / "synthetic" / "frog" / "x.png"
    )
    run = audit_folders(
        real=tmp_path / "real",
        synthetic=tmp_path / "synthetic",
        embedder="pond-judge",
        out=tmp_path / "run",
    )
    (row,) = run.gap["classes"]
    assert row["repeats"] == {"real": 10, "synthetic": 1}
    assert (row["n_real"], row["n_synthetic"]) == (40, 40)
