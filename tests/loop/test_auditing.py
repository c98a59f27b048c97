"""Audits of folders on real pond photos, with the encoders that ship."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_encoder import write_random_encoder

from gapclose.analysis.errors import EmbedderError, RealDataError
from gapclose.analysis.low_level import GROUPS
from gapclose.generators.pond.renderer import real_photos, write_real
from gapclose.loop.auditing import audit, audit_config, audit_folders
from gapclose.loop.config.reading import load_config, parse_config
from gapclose.loop.errors import ConfigError
from gapclose.loop.remeasure import remeasure
from gapclose.loop.report.run_view import Run
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run

CLASSES = ("cat", "frog", "ship")
KEYS = (
    *("name", "n_real", "n_synthetic", "gap", "floor_p95", "ratio", "effect", "detectable"),
    *("p_value", "q_value", "closed", "confirmed", "auc", "precision", "recall", "density"),
    *("coverage", "vendi_ratio", "label_agreement", "spectrum_gap", "duplicates", "invalid"),
    *("judge", "attributes"),
)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two halves of one pond, but of the second half's frogs only the green ones."""
    root = tmp_path_factory.mktemp("sides")
    real, synthetic = root / "real", root / "synthetic"
    write_real(real, per_class=120, classes=CLASSES)
    write_real(synthetic, per_class=120, seed=1, classes=CLASSES)
    shutil.rmtree(synthetic / "frog")
    (synthetic / "frog").mkdir()
    photos = real_photos("frog", range(2_000_000, 2_010_000))
    greens = list(islice((photo for scene, photo in photos if scene.color == "green"), 120))
    assert len(greens) == 120
    for number, photo in enumerate(greens):
        Image.fromarray(photo).save(synthetic / "frog" / f"{number:05d}.png")
    # On one side only; too few; and three that are damaged.
    write_real(real, per_class=30, classes=("dog",))
    write_real(synthetic, per_class=30, classes=("deer",))
    for side, count in ((real, 30), (synthetic, 12)):
        write_real(side, per_class=count, seed=5, classes=("truck",))
    (synthetic / "cat" / "00001.png").write_bytes(b"nothing")
    (real / "ship" / "00002.png").write_bytes((real / "ship" / "00002.png").read_bytes()[:200])
    (real / "ship" / "00003.png").write_bytes(b"")
    return real, synthetic


@pytest.fixture(scope="module")
def audited(sides: tuple[Path, Path]) -> Run:
    real, synthetic = sides
    out = real.parent / "run"
    return audit_folders(
        real=real, synthetic=synthetic, embedder="pond", judge="pond-judge", out=out
    )


@pytest.mark.slow
def test_green_frogs_are_the_only_class_that_is_not_closed(audited: Run) -> None:
    rows = {row["name"]: row for row in audited.gap["classes"]}
    assert set(rows) == set(CLASSES)
    assert {name: row["closed"] for name, row in rows.items()} == {
        "cat": True,
        "frog": False,
        "ship": True,
    }
    assert audited.gap["classes"][0]["name"] == "frog"  # sorted by effect
    assert rows["frog"]["judge"]["q_value"] <= 0.05
    words = rows["frog"]["attributes"]
    green = next(word for word in words if word["word"] == "green")
    assert green["synthetic"] > 0.8
    assert green["real"] < 0.5
    assert green["q_value"] < 0.001


@pytest.mark.slow
def test_what_the_classes_are_told_by_is_said_of_all_together(audited: Run) -> None:
    for row in audited.gap["classes"]:
        assert row["recall_shortfall"] == row["recall_real"] - row["recall_synthetic"]
        assert row["recall_real"] > 0.9
    told = {probe["feature"]: probe for probe in audited.gap["shortcuts"]}
    assert [*told] == [*GROUPS]
    assert {name for name, probe in told.items() if probe["objection"]} <= {"color"}
    assert "shortcuts_before" not in audited.gap
    assert "recall shortfall" in audited.report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_several_judges_are_each_asked_and_named(sides: tuple[Path, Path], tmp_path: Path) -> None:
    real, synthetic = sides
    judges = ["pond-judge", write_random_encoder(tmp_path / "encoder", width=8)]
    run = audit(real=real, synthetic=synthetic, embedder="pond", judge=judges, out=tmp_path / "r")
    gap = run.gap
    assert (gap["judge"], gap["judges"]) == ("pond-judge", judges)
    assert run.config.judge == tuple(judges)
    for row in gap["classes"]:
        assert [judge["name"] for judge in row["judges"]] == judges
        assert row["judge"] in row["judges"]
        assert all(its["p_value"] <= its["adjusted"] <= its["q_value"] for its in row["judges"])
    frog = next(row for row in gap["classes"] if row["name"] == "frog")
    assert frog["judge"]["q_value"] == min(its["q_value"] for its in frog["judges"]) <= 0.05
    page = run.report.read_text(encoding="utf-8")
    assert f"judged with {', '.join(judges)}." in page
    assert page.count("sees no gap</td>") + page.count("objects</td>") == 2 * len(gap["classes"])
    assert "none of the 2 judges sees a gap." in page


def test_judges_are_named_once_and_are_not_the_embedder(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    real, synthetic = sides
    folders = {"real": real, "synthetic": synthetic, "embedder": "pond", "out": tmp_path / "r"}
    for judge in ("pond", ["pond-judge", "pond"]):
        with pytest.raises(ConfigError, match='audit: judge: "pond" is the embedder'):
            audit_folders(**folders, judge=judge)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='audit: judge: "pond-judge" is named twice'):
        audit_folders(**folders, judge=["pond-judge"] * 2)  # type: ignore[arg-type]
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_gap_json_has_the_keys_of_schema_1(audited: Run) -> None:
    gap = audited.gap
    assert gap["schema"] == 1
    assert (gap["embedder"], gap["judge"]) == ("pond", "pond-judge")
    assert gap["confounds"] == []
    for row in gap["classes"]:
        assert set(KEYS) <= set(row)
        assert "before" not in row
        assert set(row["judge"]) >= {"gap", "floor_p95", "ratio", "effect", "p_value", "q_value"}
        for word in row["attributes"]:
            assert set(word) >= {"group", "word", "real", "synthetic", "q_value"}
    json.dumps(gap, allow_nan=False)


@pytest.mark.slow
def test_the_clusters_are_the_frogs_that_are_too_many_and_those_that_are_missing(
    audited: Run,
) -> None:
    clusters = audited.gap["clusters"]
    assert {cluster["class"] for cluster in clusters} == {"frog"}
    assert [cluster["id"] for cluster in clusters] == list(range(len(clusters)))
    by_side = {side: [c for c in clusters if c["side"] == side] for side in ("real", "synthetic")}
    (green,) = by_side["synthetic"]
    assert (green["name"], green["stage"], green["class_share"]) == ("green frog", "baseline", 1.0)
    assert green["n_synthetic"] >= 110  # all are green; so is one real frog in twelve
    assert green["size"] == green["n_real"] + green["n_synthetic"]
    assert "brown frog" in {cluster["name"] for cluster in by_side["real"]}
    rows = RunDir.open(audited.path).samples()
    inside = [row for row in rows if green["id"] in row["clusters"]]
    assert len(inside) == green["size"]
    assert {row["class"] for row in inside} == {"frog"}
    assert set(green["samples"]) <= {row["path"] for row in inside}
    assert "Groups that stand apart" in (audited.path / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_what_was_left_out_is_named(audited: Run, sides: tuple[Path, Path]) -> None:
    real, synthetic = sides
    skipped = {row["class"]: row["why"] for row in audited.gap["skipped"]}
    assert skipped == {
        "dog": "only on the real side",
        "deer": "only on the synthetic side",
        "truck": "too few: 30 real and 12 synthetic images, 20 needed",
    }
    unreadable = {row["path"] for row in audited.gap["unreadable"]}
    assert unreadable == {
        str(synthetic / "cat" / "00001.png"),
        str(real / "ship" / "00002.png"),
        str(real / "ship" / "00003.png"),
    }
    rows = {row["name"]: row for row in audited.gap["classes"]}
    assert (rows["cat"]["n_real"], rows["cat"]["n_synthetic"]) == (120, 119)
    assert (rows["ship"]["n_real"], rows["ship"]["n_synthetic"]) == (118, 120)


@pytest.mark.slow
def test_the_run_folder_is_whole(audited: Run) -> None:
    from safetensors.numpy import load_file

    rundir = RunDir.open(audited.path)
    samples = rundir.samples()
    embeddings = load_file(rundir.embeddings_path("samples"))["embeddings"]
    xy = load_file(rundir.path / "projection.safetensors")["xy"]
    assert len(samples) == len(embeddings) == len(xy) == 120 + 119 + 240 + 118 + 120
    assert np.isfinite(xy).all()
    assert {row["side"] for row in samples} == {"real", "synthetic"}
    assert all(Path(row["path"]).is_file() for row in samples)
    assert audited.state["stage"] == "done"
    assert audited.report.stat().st_size > 10_000
    # Whoever waits for `done` finds the page.
    assert (audited.path / "state.json").stat().st_mtime_ns >= audited.report.stat().st_mtime_ns
    assert audited.trials == []


@pytest.mark.slow
def test_a_config_whose_generator_is_a_folder_is_audited_with_its_own_embedder(
    sides: tuple[Path, Path], audited: Run, tmp_path: Path
) -> None:
    config = parse_config(
        {
            "real": {"path": str(sides[0])},
            "generator": {"kind": "folder", "path": str(sides[1])},
            "embedder": "pond",
            "judge": "pond-judge",
        }
    )
    run = audit(config, real=sides[0], synthetic=sides[1], out=tmp_path / "run")
    assert (run.gap["embedder"], run.gap["judge"]) == ("pond", "pond-judge")
    (run.path / "gap.json").unlink()
    assert remeasure(run.path).gap["classes"] == audited.gap["classes"]  # by the config alone


@pytest.mark.slow
def test_two_flat_folders_are_one_class(tmp_path: Path) -> None:
    for side, seed in (("a", 0), ("b", 1)):
        write_real(tmp_path / "made", per_class=30, seed=seed, classes=("bird",))
        shutil.move(tmp_path / "made" / "bird", tmp_path / side)
    run = audit_folders(
        real=tmp_path / "a", synthetic=tmp_path / "b", embedder="pond", out=tmp_path / "run"
    )
    (row,) = run.gap["classes"]
    assert row["name"] == "all"
    assert row["closed"] in (None, False)  # 30 a side are too few to say closed
    assert row["label_agreement"] is None  # there is nothing to tell it from


def test_folders_that_cannot_be_audited_leave_nothing(tmp_path: Path) -> None:
    write_real(tmp_path / "a", per_class=25, classes=("bird", "cat"))
    write_real(tmp_path / "b", per_class=25, classes=("dog",))
    write_real(tmp_path / "c", per_class=19, classes=("bird",))
    (tmp_path / "empty").mkdir()
    cases = {
        "b": "share no class: bird, cat against dog",
        "c": "no class has 20 images on both sides",
        "empty": "no images found",
        "missing": "no such folder",
        "a": "is the folder of the real images",
    }
    for name, said in cases.items():
        with pytest.raises(RealDataError, match=said):
            audit_folders(
                real=tmp_path / "a",
                synthetic=tmp_path / name,
                embedder="pond",
                out=tmp_path / "run",
            )
    with pytest.raises(EmbedderError, match="pond"):
        audit_folders(
            real=tmp_path / "a", synthetic=tmp_path / "a", embedder="pondd", out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["journal.jsonl", "trials.jsonl"])
def test_an_audit_does_not_write_over_a_tuning_run(name: str, tmp_path: Path) -> None:
    config = load_config("pond", ["classes=[frog]"])
    run = create_run(tmp_path / "run", config)
    (run.path / name).write_text("")
    with pytest.raises(ConfigError, match="holds a tuning run"):
        audit_config(config, out=run.path)


def _is_green(path: Path) -> bool:
    """Whether most of a photo's middle is green, by hue."""
    hue, saturation, value = np.asarray(Image.open(path).convert("HSV"))[8:24, 8:24].T.astype(int)
    return bool(np.mean((hue > 50) & (hue < 121) & (saturation > 50) & (value > 40)) > 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("embedder", ["pond-judge", "onnx"])
def test_green_frogs_stand_out_of_real_photos(shared: Path, tmp_path: Path, embedder: str) -> None:
    """The case the tool started from: other photos of ten classes, but of frogs only green ones.

    The pond's judge has seen none of these photos, and frog is the only class that it finds. The
    ResNet was trained on one of the two sides (it reads 87 % of those cats, 72 % of the others):
    for it the sides differ in other classes as well, a little; frogs stand out by far.
    """
    real, synthetic = tmp_path / "real", tmp_path / "synthetic"
    for side, photos in ((real, "train"), (synthetic, "test")):
        for folder in sorted((shared / "data" / "cifar10" / photos).iterdir()):
            (side / folder.name).mkdir(parents=True)
            chosen = sorted(folder.iterdir())[:150]
            if side is synthetic and folder.name == "frog":
                chosen = [path for path in folder.iterdir() if _is_green(path)]
            for path in chosen:
                (side / folder.name / path.name).symlink_to(path)
    name = (
        f"onnx:{shared / 'encoders' / 'cifar-resnet56.onnx'}" if embedder == "onnx" else embedder
    )
    run = audit_folders(real=real, synthetic=synthetic, embedder=name, out=tmp_path / "run")
    frog, *others = run.gap["classes"]
    assert (frog["name"], frog["closed"], len(others)) == ("frog", False, 9)
    assert frog["effect"] > 5 * others[0]["effect"]
    if embedder == "pond-judge":
        assert [row["name"] for row in others if row["closed"] is not True] == []
