"""Validations of whole runs: small ones of the pond, with the encoders that ship."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from make_run import make_run
from rig import command, finished, here, quick

from gapclose.analysis.errors import ClassifierError, RealDataError
from gapclose.generators.pond.renderer import write_real
from gapclose.loop.errors import ConfigError, RunBusyError, SeedsExhaustedError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.lock import lock
from gapclose.loop.run.notices import Notice, Task, TaskAdvanced, WarningRaised
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.validating import validate_folders, validate_run

CLASSES = ("frog", "ship")
SMALL: dict[str, Any] = {"per_class": 22, "seeds": 1, "draws": 2}


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.told: list[Notice] = []

    def tell(self, notice: Notice) -> None:
        self.told.append(notice)

    @property
    def warnings(self) -> list[str]:
        return [n.message for n in self.told if isinstance(n, WarningRaised)]

    def trained(self) -> int:
        return sum(isinstance(n, TaskAdvanced) and n.task is Task.TRAINING for n in self.told)


def photos(folder: Path, *, seed: int, classes: tuple[str, ...] = CLASSES, n: int = 24) -> Path:
    write_real(folder, per_class=n, seed=seed, classes=classes)
    (folder / "scenes.jsonl").unlink()  # a file that is no image is told
    return folder


@pytest.fixture(scope="module")
def test_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos that no run has seen."""
    return photos(tmp_path_factory.mktemp("unseen"), seed=3)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run that was tuned, as its files say; what generates is quick."""
    path = tmp_path_factory.mktemp("runs") / "run"
    return make_run(path, classes=CLASSES, config={"generator": {"kind": "make_run:Renderer"}})


@pytest.fixture
def run(tuned: RunDir, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(tuned.path, tmp_path / "run")
    return tmp_path / "run"


def validation(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "validation.json").read_text())
    return found


# ------------------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def validated(tuned: RunDir, test_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("validated") / "run"
    shutil.copytree(tuned.path, path)
    validate_run(path, test=test_folder, **SMALL)
    return path


def test_every_arm_of_a_run_is_scored_by_every_classifier(validated: Path) -> None:
    found = validation(validated)
    assert (found["n_test"], found["seeds"], found["draws"]) == (48, 1, 2)
    assert found["classes"] == [*CLASSES]
    assert {row["classifier"] for row in found["arms"]} == {"linear:pond-judge", "cnn"}
    n = {row["arm"]: row["n_per_class"] for row in found["arms"]}
    assert n == {
        **dict.fromkeys(("baseline", "tuned", "even", "real", "mixed"), 22),
        "few": 20,
        "few+tuned": 42,
    }
    assert {row["arm"] for row in found["reverse"]} == {"baseline", "tuned", "even"}
    assert found["shortcuts"] == [], "its gap.json, of an older version, has none"
    assert all(row.keys() >= {"real", "synthetic", "p_value"} for row in found["shortcuts"])
    assert found["mixtures"] is not None
    real = [row for row in found["arms"] if row["arm"] == "real"]
    assert all(row["accuracy"] > 0.8 for row in real), "frogs and ships are told apart"
    assert (validated / "report.html").is_file()


def test_done_again_nothing_is_trained_and_the_file_is_the_same(
    validated: Path, test_folder: Path
) -> None:
    before, listener = (validated / "validation.json").read_bytes(), Listener()
    validate_run(validated, test=test_folder, reporter=listener, **SMALL)
    assert (validated / "validation.json").read_bytes() == before
    assert listener.trained() == 0
    assert listener.warnings == []


def test_other_mixtures_train_their_arms_alone(
    validated: Path, test_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(validated, tmp_path / "run")
    rundir, listener = RunDir(tmp_path / "run"), Listener()
    mixtures = rundir.read_json("mixtures.json")
    del mixtures["classes"]["frog"]
    rundir.write_json("mixtures.json", mixtures)
    how = SMALL | {"classifiers": ["linear"], "test": test_folder}
    validate_run(rundir.path, reporter=listener, **how)
    # tuned, mixed, few+tuned; and real, which is tested on the tuned images in reverse.
    counts = [n for n in listener.told if isinstance(n, TaskAdvanced) and n.task is Task.TRAINING]
    assert (counts[0].done, counts[-1].done, counts[-1].total) == (6, 14, 14)
    assert listener.warnings == [
        "no verdict on frog yet: the baseline's images stand for the tuned ones"
    ]
    assert validation(rundir.path)["mixtures"] != validation(validated)["mixtures"]


@pytest.mark.slow
def test_killed_anywhere_the_same_command_goes_on(
    run: Path, tuned: RunDir, test_folder: Path, tmp_path: Path
) -> None:
    how = ["--test", test_folder, "--trust", "--per-class", 22, "--seeds", 1, "--draws", 2]
    how += ["--classifier", "linear"]
    unbroken = tmp_path / "unbroken"
    shutil.copytree(tuned.path, unbroken)
    # In a process like the others: this one may have other threads, which sum in another order.
    code, err = finished(command("validate", unbroken, *how))
    assert code == 0, err
    words = ["validate", run, *how]
    for place in (
        "gapclose.loop.run.images:write_images:after:3",  # a part of what is generated
        "gapclose.loop.validation.trainings:write_bytes:before:5",
        "gapclose.loop.validation.trainings:write_bytes:after:5",
        "gapclose.loop.report.page:write_report:before:1",
    ):
        code, err = finished(command(*words, KILL_AT=place))
        assert code == -9, (place, err)
    code, err = finished(command(*words))
    assert code == 0, err
    assert validation(run) == validation(unbroken)


# --------------------------------------------------------------------------------- test photos


def test_photos_of_the_run_test_nothing(run: Path, tuned: RunDir, tmp_path: Path) -> None:
    real = Path(tuned.config().real.path)  # type: ignore[union-attr]
    given = photos(tmp_path / "given", seed=5, classes=(*CLASSES, "cat"))
    shutil.copy(sorted((real / "frog").iterdir())[0], given / "frog" / "again.png")
    (given / "ship" / "torn.png").write_bytes(b"no image")
    listener = Listener()
    how = SMALL | {"draws": 1, "classifiers": ["linear"]}
    validate_run(run, test=given, reporter=listener, **how)
    assert validation(run)["n_test"] == 48
    repeated, strange, torn = listener.warnings
    assert repeated == "1 test photo is left out: the run has seen it, or a photo that it repeats"
    assert strange == "the run has no class cat: its test photos are left out"
    assert "torn.png" in torn


def test_a_part_that_was_kept_apart_is_tested_on(tmp_path: Path) -> None:
    real = tmp_path / "run-real"
    keys = {
        "real": {"path": str(real), "test_share": 0.5},
        "generator": {"kind": "make_run:Renderer"},
    }
    run = make_run(tmp_path / "run", classes=CLASSES, config=keys)
    shutil.rmtree(real)
    photos(real, seed=7, n=80)
    validate_run(run.path, **SMALL | {"draws": 1, "classifiers": ["linear"]})
    found = validation(run.path)
    assert 50 <= found["n_test"] <= 110


REFUSED = [
    ({"test": None}, ConfigError, "give their folder with --test"),
    ({"test": "real"}, ConfigError, "is the folder of the real images; give"),
    ({"test": "run"}, ConfigError, "lies in the run folder; give photos that nothing has seen"),
    ({"test": "images"}, ConfigError, "lies in the run folder; give"),
    ({"test": "linked"}, ConfigError, "lies in the run folder; give"),
    ({"test": "none"}, RealDataError, "no such folder"),
    ({"test": "few"}, RealDataError, "class ship has 3 test photos; a test needs 20"),
    ({"test": "frogs"}, RealDataError, "class ship has 0 test photos"),
    ({"classifiers": ["lenot"]}, ClassifierError, "did you mean 'lenet'"),
    ({"classifiers": ["timm:none_such"]}, ClassifierError, "none_such"),
    ({"classifiers": []}, ConfigError, "--classifier: name at least one"),
    ({"per_class": 1}, ConfigError, "--per-class: got 1, expected at least 2"),
    ({"seeds": 0}, ConfigError, "--seeds: got 0, expected at least 1"),
    ({"seeds": 99999999999}, ConfigError, "--seeds: got 99999999999, expected at most 100"),
    ({"draws": 101}, ConfigError, "--draws: got 101, expected at most 100"),
    ({"draws": 11}, SeedsExhaustedError, "a validation has 10 at most"),
]


@pytest.fixture(scope="module")
def places(
    tuned: RunDir, test_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str | None, Path | None]:
    folder = tmp_path_factory.mktemp("places")
    for name, ships in {"few": 3, "frogs": 0}.items():
        shutil.copytree(test_folder, folder / name)
        for path in sorted((folder / name / "ship").iterdir())[ships:]:
            path.unlink()
    (folder / "linked").symlink_to(tuned.path / "images")
    return {
        None: None,
        "real": Path(tuned.config().real.path),  # type: ignore[union-attr]
        "good": test_folder,
        "run": tuned.path,
        "images": tuned.path / "images",
        "linked": folder / "linked",
        **{name: folder / name for name in ("none", "few", "frogs")},
    }


@pytest.mark.parametrize(("changes", "error", "words"), REFUSED, ids=lambda x: str(x)[:40])
def test_what_a_person_can_get_wrong_is_one_line_and_writes_nothing(
    tuned: RunDir,
    places: dict[str | None, Path | None],
    changes: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    how = SMALL | {"test": "good"} | changes
    with pytest.raises(error, match=words) as caught:
        validate_run(tuned.path, **how | {"test": places[how["test"]]})
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2  # type: ignore[attr-defined]
    assert not (tuned.path / "validation.json").exists()


def test_one_class_alone_has_nothing_to_be_told_from(tmp_path: Path, test_folder: Path) -> None:
    run = make_run(tmp_path / "run", classes=("frog",))
    with pytest.raises(ConfigError, match=r"has 1 class \(frog\): a classifier has nothing to"):
        validate_run(run.path, test=test_folder)


def test_a_run_that_is_being_tuned_is_left_alone(run: Path, test_folder: Path) -> None:
    with lock(RunDir(run)), pytest.raises(RunBusyError, match="another process is using"):
        validate_run(run, test=test_folder, **SMALL)


@pytest.mark.parametrize("name", ["validation", "validation/predictions"])
def test_what_a_run_links_to_is_neither_written_nor_swept(
    run: Path, test_folder: Path, tmp_path: Path, name: str
) -> None:
    elsewhere, link = tmp_path / "elsewhere", run / name
    elsewhere.mkdir()
    (elsewhere / ".mine.tmp").write_text("mine")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(elsewhere)
    code, err = here("validate", run, "--test", test_folder, "--trust")
    assert code == 2
    assert err == f"error: {link}: is a link; move it away\n"
    assert [path.name for path in elsewhere.iterdir()] == [".mine.tmp"]


# ------------------------------------------------------------------------------------ folders


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sides")
    for seed, name in enumerate(("real", "synthetic", "test")):
        photos(folder / name, seed=seed, classes=(*CLASSES, "cat"))
    return {name: folder / name for name in ("real", "synthetic", "test")}


def test_folders_are_audited_and_validated(sides: dict[str, Path], tmp_path: Path) -> None:
    how: dict[str, Any] = {**sides, "out": tmp_path / "run", "embedder": "pond"}
    how |= SMALL | {"classifiers": ["linear"]}
    with quick():
        validate_folders(**how)
    found, listener = validation(tmp_path / "run"), Listener()
    assert {row["arm"] for row in found["arms"]} == {"synthetic", "real", "few", "few+synthetic"}
    assert found["classes"] == ["cat", *CLASSES]
    assert found["mixtures"] is None
    assert {row["classifier"] for row in found["arms"]} == {"linear:pond"}, "without a judge"
    audited = json.loads((tmp_path / "run" / "gap.json").read_bytes())
    assert found["shortcuts"] == audited["shortcuts"]
    assert {row["feature"] for row in found["shortcuts"]} >= {"noise", "color"}
    assert all(row.keys() >= {"real", "synthetic", "p_value"} for row in found["shortcuts"])
    with quick():
        validate_folders(**how, reporter=listener)
    assert listener.trained() == 0
    assert validation(tmp_path / "run") == found


def test_images_that_were_made_anew_are_audited_anew(
    sides: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(sides["synthetic"], tmp_path / "synthetic")
    how: dict[str, Any] = {**sides, "synthetic": tmp_path / "synthetic", "out": tmp_path / "run"}
    how |= SMALL | {"classifiers": ["linear"], "embedder": "pond"}
    with quick():
        validate_folders(**how)
    before = json.loads((tmp_path / "run" / "gap.json").read_bytes())["classes"]
    for cls, shown in zip(CLASSES, reversed(CLASSES), strict=True):
        shutil.rmtree(tmp_path / "synthetic" / cls)
        shutil.copytree(sides["synthetic"] / shown, tmp_path / "synthetic" / cls)
    with quick():
        validate_folders(**how)
    after = json.loads((tmp_path / "run" / "gap.json").read_bytes())["classes"]
    gaps = [{row["name"]: row["gap"] for row in rows} for rows in (before, after)]
    assert all(gaps[1][cls] > gaps[0][cls] for cls in CLASSES)


def test_the_folder_that_was_audited_is_no_test(sides: dict[str, Path], tmp_path: Path) -> None:
    how: dict[str, Any] = {**sides, "out": tmp_path / "run", "embedder": "pond"}
    with pytest.raises(RealDataError, match="no such folder"):
        validate_folders(**how | {"test": tmp_path / "none"})
    with pytest.raises(ClassifierError):
        validate_folders(**how, classifiers=["none"])
    for side in ("real", "synthetic"):
        with pytest.raises(ConfigError, match=f"is the folder of the {side} images"):
            validate_folders(**how | {"test": sides[side]})
    assert not (tmp_path / "run").exists(), "before anything is audited"


@pytest.mark.parametrize("swapped", [False, True], ids=["sound", "swapped"])
def test_a_class_that_is_short_of_real_photos_fails_where_that_is_asked_for(
    sides: dict[str, Path], tmp_path: Path, swapped: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic = tmp_path / "synthetic"
    for cls, shown in zip(CLASSES, reversed(CLASSES) if swapped else CLASSES, strict=True):
        shutil.copytree(sides["synthetic"] / shown, synthetic / cls)
    words: list[Any] = ["--real", sides["real"], "--test", sides["test"], "--synthetic", synthetic]
    words += ["--embedder", "pond", "--classifier", "linear", "--per-class", 21, "--seeds", 1]
    words += ["--draws", 1, "--out", tmp_path / "run", "--fail-on", "open"]
    code, err = here("validate", *words)
    by = "(linear:pond)"
    said = f"short of real photos: frog {by}, ship {by}\n" if swapped else ""
    assert (code, err) == (3 if swapped else 0, said)
    assert validation(tmp_path / "run")["arms"]
