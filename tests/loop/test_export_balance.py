"""Exports of what real photos lack, and for a purpose: exact counts, photos beside, refusals."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torchvision
from make_run import make_run
from PIL import Image
from pond_config import pond_config
from typer.testing import CliRunner

from gapclose.analysis.embedding import make_embedder
from gapclose.generators.pond.renderer import write_real
from gapclose.loop.cli import app
from gapclose.loop.errors import ConfigError
from gapclose.loop.export import export
from gapclose.loop.exporting import orders
from gapclose.loop.exporting.real_photos import read_real
from gapclose.loop.exporting.tempering import Tempering
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.search.prior import word_hits
from gapclose.loop.search.space import Space
from gapclose.loop.work.real_data import cut_test

CODE = {"kind": "make_run:Renderer"}
FROGS, TRUCKS = 30, 12  # real photos


def metadata(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]


def counts(out: Path) -> Counter[tuple[str, str]]:
    """Images by class and side."""
    return Counter((row["label"], row.get("side", "synthetic")) for row in metadata(out))


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
        datasets.disable_progress_bars()
        yield
        datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A tuned run, frogs confirmed, with fewer real trucks than frogs."""
    path = tmp_path_factory.mktemp("balance") / "run"
    made = make_run(path, classes=("frog", "truck"), per_class=FROGS, config={"generator": CODE})
    for photo in sorted((real_of(made) / "truck").glob("*.png"))[TRUCKS:]:
        photo.unlink()
    first = real_of(made) / "truck" / "00000.png"
    shutil.copy(first, first.with_name("copy.png"))  # counts once
    first.with_name("torn.png").write_bytes(first.read_bytes()[:60])  # does not count
    return made


def real_of(run: RunDir) -> Path:
    return run.path.parent / "run-real"


@pytest.fixture(scope="module")
def beside(run: RunDir) -> Path:
    """Filled up to 40, with copies of the real photos."""
    out = run.path.parent / "beside"
    return export(run.path, out, per_class=40, balance=True, with_real="copy", trust=True)


def test_classes_are_filled_up_to_the_largest(run: RunDir, tmp_path: Path) -> None:
    out = export(run.path, tmp_path / "out", balance=True, trust=True)
    assert counts(out) == {("truck", "synthetic"): FROGS - TRUCKS}
    assert [path.name for path in out.iterdir() if path.is_dir()] == ["truck"]
    card = (out / "README.md").read_text()
    assert "| class | real | synthetic | together | recipes | ratio | confirmed |" in card
    assert f"| frog | {FROGS} | 0 | {FROGS} |" in card
    assert f"| truck | {TRUCKS} | {FROGS - TRUCKS} | {FROGS} |" in card
    data = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["train"]
    assert data.features["label"].names == torchvision.datasets.ImageFolder(str(out)).classes
    assert len(data) == FROGS - TRUCKS


def test_real_photos_lie_beside_and_are_marked(beside: Path, run: RunDir) -> None:
    assert counts(beside) == {
        ("frog", "real"): FROGS,
        ("frog", "synthetic"): 40 - FROGS,
        ("truck", "real"): TRUCKS,
        ("truck", "synthetic"): 40 - TRUCKS,
    }
    originals = {
        hashlib.sha256(path.read_bytes()).hexdigest() for path in real_of(run).glob("*/*.png")
    }
    for row in metadata(beside):
        path = beside / row["file_name"]
        if row["side"] == "real":
            assert path.name.startswith("real-")
            assert row["content"] == hashlib.sha256(path.read_bytes()).hexdigest()
            assert row["content"] in originals
            assert row["license"] == "unknown"
            assert "confirmed" not in row
        else:
            assert row["license"] == "apache-2.0"
            assert row["recipe"]
    card = (beside / "README.md").read_text()
    assert "Beside them lie real photos" in card
    assert "\nlicense:" not in card


@pytest.mark.parametrize("by_card", [True, False])
def test_datasets_reads_both_sides(beside: Path, tmp_path: Path, *, by_card: bool) -> None:
    words = {"path": str(beside)} if by_card else {"path": "imagefolder", "data_dir": str(beside)}
    data = datasets.load_dataset(**words, cache_dir=str(tmp_path / "cache"))["train"]
    assert Counter(data["side"]) == {"real": FROGS + TRUCKS, "synthetic": 80 - FROGS - TRUCKS}
    for row in data:
        assert (row["recipe"] is None or row["recipe"]["draw"] is None) == (row["side"] == "real")
        assert row["image"].size == (32, 32)


def test_torchvision_reads_both_sides(beside: Path) -> None:
    data = torchvision.datasets.ImageFolder(str(beside))
    assert data.classes == ["frog", "truck"]
    assert Counter(label for _, label in data.samples) == {0: 40, 1: 40}


def test_links_lead_to_the_photos(run: RunDir, tmp_path: Path) -> None:
    real, out = tmp_path / "real", tmp_path / "out"
    shutil.copytree(real_of(run), real)
    with Image.open(real / "truck" / "00001.png") as photo:
        photo.save(real / "truck" / "no suffix", "JPEG")
    (real / "truck" / "00001.png").unlink()
    export(run.path, out, per_class=3, real=real, with_real="link", trust=True)
    links = [path for path in out.rglob("real-*") if path.is_symlink()]
    assert len(links) == counts(out)["frog", "real"] + counts(out)["truck", "real"]
    assert {link.resolve() for link in links} <= {*real.glob("*/*")}
    jpeg = [link for link in links if link.resolve().name == "no suffix"]
    assert [link.suffix for link in jpeg] == [".jpg"]
    assert counts(out)["frog", "synthetic"] == 3  # nothing is balanced
    shutil.rmtree(out)
    assert (real / "frog" / "00000.png").is_file()


def test_rare_groups_are_filled_up(run: RunDir, tmp_path: Path) -> None:
    real, wanted = tmp_path / "real", 6
    write_real(real, per_class=FROGS, seed=3, classes=("frog", "ship", "truck"))
    out = export(run.path, tmp_path / "out", balance=True, per_group=wanted, real=real, trust=True)
    embedder = make_embedder("pond")
    side = read_real(run, ["frog"], embedder=embedder, reporter=SilentReporter(), folder=real)
    space = Space.of(run.config(), "frog")
    read = word_hits(
        space, "color", np.stack([side.rows[p] for p in side.paths["frog"]]), embedder
    )
    rare = {word: n for word, n in (read or {}).items() if 2 <= n < wanted}
    assert rare  # eight colours in thirty photos
    rows = [row for row in metadata(out) if row["label"] == "frog"]
    prompts = [row["recipe"]["draw"]["prompt"].split() for row in rows]
    for word, n in rare.items():
        assert n + sum(word in prompt for prompt in prompts) >= wanted
    assert not any(row["confirmed"] for row in rows)
    assert "| frog | 30 |" in (out / "README.md").read_text()


def test_classes_that_the_run_does_not_know_are_named(
    run: RunDir, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    real = tmp_path / "real"
    write_real(real, per_class=3, seed=3, classes=("ship", "truck"))
    with caplog.at_level(logging.WARNING):
        out = export(run.path, tmp_path / "out", balance=True, real=real, trust=True)
    assert "ship: not exported" in [record.message for record in caplog.records]
    assert counts(out) == {("frog", "synthetic"): 3}


def test_classes_that_are_not_confirmed_are_named_as_not_exported(
    run: RunDir, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        out = export(
            run.path, tmp_path / "out", per_class=FROGS + 2, balance=True, only_confirmed=True,
            trust=True,
        )  # fmt: skip
    assert "truck: not exported" in [record.message for record in caplog.records]
    assert counts(out) == {("frog", "synthetic"): 2}


def test_only_the_mixtures_part_of_a_tempered_class_is_confirmed(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost = "a photo of a red frog"
    chosen = Tempering(
        share=0.5, accuracies={0.0: 0.9, 0.5: 0.95}, lost={"frog": (lost,)}, images=20, photos=70
    )
    monkeypatch.setattr(orders, "choose_tempering", lambda *_, **__: chosen)
    with caplog.at_level(logging.WARNING):
        out = export(run.path, tmp_path / "out", per_class=21, purpose="scratch", trust=True)
    assert any(record.message.startswith("50 %") for record in caplog.records)
    frogs = [row for row in metadata(out) if row["label"] == "frog"]
    assert Counter(row["confirmed"] for row in frogs) == {True: 11, False: 10}
    even = [row["recipe"] for row in frogs if not row["confirmed"]]
    assert len({recipe["draw"]["prompt"] for recipe in even}) == 10
    assert lost not in {recipe["draw"]["prompt"] for recipe in even}
    assert {row["recipe"]["camera"]["noise"] for row in frogs} == {0.018}
    assert len({row["seed"] for row in frogs}) == 21
    card = (out / "README.md").read_text()
    assert "50 % of a class's images come from all its prompts evenly" in card
    assert "90.0 % at 0 %, 95.0 % at 50 %" in card
    assert "frog: without prompts whose images are not told as the class: a photo of a red" in card
    assert "| 11 of 21 |" in card
    assert not any(row["confirmed"] for row in metadata(out) if row["label"] == "truck")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_photos_that_are_counted_are_read_once(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, elsewhere: bool
) -> None:
    """Networks are tested on the run's own photos, whichever are balanced."""
    given: dict[str, Any] = {}

    def choose(*_: Any, **how: Any) -> Tempering:
        given.update(how)
        return Tempering(share=0.0, accuracies={}, lost={}, images=20, photos=70)

    monkeypatch.setattr(orders, "choose_tempering", choose)
    real = tmp_path / "real"
    write_real(real, per_class=3, seed=3, classes=("frog", "truck"))
    export(
        run.path, tmp_path / "out", per_class=FROGS, balance=True, purpose="scratch",
        real=real if elsewhere else None, trust=True,
    )  # fmt: skip
    assert given["embedder"].id == "pond"
    if elsewhere:
        assert given["side"] is None
    else:
        assert {name: len(its) for name, its in given["side"].paths.items()} == {
            "frog": FROGS,
            "truck": TRUCKS,
        }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "--per-class: give a number of images, or --balance"),
        ({"per_class": 1, "purpose": "scrach"}, "--for: unknown 'scrach'; did you mean scratch?"),
        ({"balance": True, "with_real": "lnk"}, "--with-real: unknown 'lnk'; did you mean link?"),
        ({"per_class": 1, "per_group": 5}, "--per-group: .*--balance"),
        ({"balance": True, "per_group": 0}, "--per-group: got 0"),
        ({"per_class": 1, "real": Path("x")}, "--real: names photos for --balance or --with-real"),
        ({"balance": True, "per_class": TRUCKS}, f"--balance: .*{TRUCKS} real photos or more"),
    ],
)
def test_what_is_refused(
    run: RunDir, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        export(run.path, tmp_path / "out", **arguments, trust=True)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--balance", "--for", "scrach"], "--for: unknown 'scrach'; did you mean scratch?"),
        (["--balance", "--per-class", "9", "--real", "nowhere"], "nowhere: no such folder"),
        (["--with-real", "link"], "--per-class: give a number of images, or --balance"),
        (["--per-class", "1", "--per-group", "2"], "--per-group: fills up rare groups"),
    ],
)
def test_the_command_line_says_it_in_one_line(
    run: RunDir, tmp_path: Path, options: list[str], line: str
) -> None:
    words = ["export", str(run.path), str(tmp_path / "out"), *options, "--trust", "--json"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 2
    assert line in told.stderr.splitlines()[-1]
    assert "Traceback" not in told.output
    assert [*tmp_path.iterdir()] == []


def test_an_export_into_the_real_photos_is_refused(run: RunDir) -> None:
    before = sorted(real_of(run).rglob("*"))
    with pytest.raises(ConfigError, match="lies in the folder of the real photos"):
        export(run.path, real_of(run) / "out", per_class=1, trust=True)
    assert sorted(real_of(run).rglob("*")) == before


def test_other_photos_beside_leave_the_runs_own_folder_protected(
    run: RunDir, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    write_real(other, per_class=2, seed=3, classes=("frog", "truck"))
    for folder in (real_of(run), other):
        with pytest.raises(ConfigError, match="lies in the folder of the real photos"):
            export(run.path, folder / "out", balance=True, real=other, trust=True)
        assert not (folder / "out").exists()


def test_what_is_kept_to_test_on_is_left_out_wherever_it_lies(tmp_path: Path) -> None:
    real, other = tmp_path / "run-real", tmp_path / "other"
    run = make_run(
        tmp_path / "run", classes=("frog",), per_class=40,
        config={"generator": CODE, "real": {"path": str(real), "test_share": 0.3}},
    )  # fmt: skip
    write_real(other, per_class=5, seed=3, classes=("frog",))
    for photo in sorted((real / "frog").glob("*.png"))[:20]:
        shutil.copy(photo, other / "frog" / f"copy-{photo.name}")
    kept = {path.name for path in cut_test(sorted((real / "frog").glob("*.png")), 0.3)[1]}
    embedder = make_embedder("pond")
    side = read_real(run, ["frog"], embedder=embedder, reporter=SilentReporter())
    assert 0 < len(kept) < 40
    assert {p.name for p in side.paths["frog"]}.isdisjoint(kept)
    assert len(side.paths["frog"]) == 40 - len(kept)
    side = read_real(run, ["frog"], embedder=embedder, reporter=SilentReporter(), folder=other)
    copies = {p.name for p in (other / "frog").glob("copy-*")}
    left = {p.name for p in side.paths["frog"]}
    cut = copies & {f"copy-{name}" for name in kept}
    assert cut
    assert copies - left == cut
    assert len(left - copies) == 5


def test_groups_need_a_text_encoder(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", classes=("frog",), per_class=2,
        config={"generator": CODE, "embedder": "pond-judge", "judge": "pond"},
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"--per-group: .*text encoder.*pond-judge"):
        export(run.path, tmp_path / "out", balance=True, per_group=3, trust=True)


def test_two_folders_have_nothing_to_balance(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", classes=("frog",), per_class=2, tuned=False,
        config={"generator": {"kind": "folder", "path": str(tmp_path)}},
    )  # fmt: skip
    with pytest.raises(ConfigError, match="an audit of two folders"):
        export(run.path, tmp_path / "out", balance=True)


def test_photos_that_a_run_folder_links_to_are_not_its_own(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", pond_config(real={"kind": "pond", "per_class": 40}))
    write_real(run.real_path, per_class=4, classes=("frog",))
    write_real(tmp_path / "secret", per_class=1, seed=9, classes=("frog",))
    (run.real_path / "frog" / "link.png").symlink_to(tmp_path / "secret" / "frog" / "00000.png")
    side = read_real(run, ["frog"], embedder=make_embedder("pond"), reporter=SilentReporter())
    assert len(side.paths["frog"]) == 4
