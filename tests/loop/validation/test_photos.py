"""Which photos may test: none that the run has seen, nor one that repeats such a photo."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pond_config import pond_config

from gapclose.analysis.errors import RealDataError
from gapclose.analysis.image_folder import scan
from gapclose.generators.pond.renderer import write_real
from gapclose.loop.config.sources import PondReal
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.validation import photos as module
from gapclose.loop.validation.photos import Photos, rendered_test
from gapclose.loop.validation.test_photos import TestPhotos
from gapclose.loop.work.sides import photo_id


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Sixty cats of a run, and thirty others."""
    write_real(tmp_path / "real", per_class=60, classes=("cat",))
    write_real(tmp_path / "test", per_class=30, seed=1, classes=("cat",))
    return tmp_path / "real", tmp_path / "test"


def read(
    real: Path, given: Path | None = None, *, seen: Sequence[str] = (), **keys: Any
) -> Photos:
    return Photos.read(
        scan(real),
        None if given is None else scan(given),
        ("cat",),
        config=pond_config(real={"path": str(real)} | keys),
        seen=seen,
        loaded={},
        reporter=SilentReporter(),
    )


def names(paths: Mapping[str, Sequence[Path]]) -> set[str]:
    return {path.name for path in paths["cat"]}


def lit(path: Path, to: Path) -> None:
    """Save the same photo a little brighter: another file, a near copy."""
    image = np.clip(np.asarray(Image.open(path)) * 0.9 + 8, 0, 255).astype(np.uint8)
    Image.fromarray(image).save(to)


def test_given_photos_test_and_the_runs_own_train(folders: tuple[Path, Path]) -> None:
    real, test = folders
    photos = read(real, test)
    assert {*photos.real["cat"]} == {*(real / "cat").iterdir()}
    assert {*photos.test["cat"]} == {*(test / "cat").iterdir()}
    assert photos.repeated == 0


def test_a_photo_of_the_run_tests_nothing_nor_does_a_near_copy_of_one(
    folders: tuple[Path, Path],
) -> None:
    real, test = folders
    known = sorted((real / "cat").iterdir())
    for number, path in enumerate(known[:5]):
        shutil.copy(path, test / "cat" / f"exact-{number}.png")
    for number, path in enumerate(known[5:12]):
        lit(path, test / "cat" / f"near-{number}.png")
    photos = read(real, test)
    assert not {name for name in names(photos.test) if "-" in name}
    assert len(photos.test["cat"]) == 30
    assert len(photos.real["cat"]) == 60, "the run's own are what is kept"
    assert photos.repeated == 12


def test_a_group_of_the_run_is_none_of_the_given_photos(folders: tuple[Path, Path]) -> None:
    real, test = folders
    for folder in (real, test):
        first, second, *_ = sorted((folder / "cat").iterdir())
        rows = [f'{{"file_name": "{path.name}", "group": "1"}}' for path in (first, second)]
        (folder / "cat" / "metadata.jsonl").write_text("\n".join(rows))
    photos = read(real, test)
    assert (len(photos.real["cat"]), len(photos.test["cat"])) == (59, 29)
    assert photos.repeated == 0


def test_what_cannot_be_read_is_told_of_the_given_photos_alone(
    folders: tuple[Path, Path],
) -> None:
    for number, folder in enumerate(folders):
        (folder / "cat" / f"torn-{number}.png").write_bytes(b"no image")
    photos, given = read(*folders), scan(folders[1])
    assert len(photos.side.unreadable) == 2
    (row,) = photos.tested(given).unreadable
    assert row["path"].endswith("torn-1.png")


def test_the_test_part_is_cut_off_and_never_trained_on(folders: tuple[Path, Path]) -> None:
    real, test = folders
    photos = read(real, test_share=0.4)
    assert names(photos.test) | names(photos.real) == names({"cat": [*(real / "cat").iterdir()]})
    assert not names(photos.test) & names(photos.real)
    assert 10 <= len(photos.test["cat"]) <= 40
    # Other photos to test with change nothing of what is trained on.
    given = read(real, test, test_share=0.4)
    assert names(given.real) == names(photos.real)
    assert {*given.test["cat"]} == {*(test / "cat").iterdir()}


def test_of_two_copies_the_one_that_the_run_has_seen_decides(tmp_path: Path) -> None:
    real = tmp_path / "real"
    write_real(real, per_class=60, classes=("cat",))
    before = read(real, test_share=0.4)
    trained = {photo_id(before.side.digests[path]) for path in before.real["cat"]}
    for path in sorted((real / "cat").iterdir()):
        lit(path, path.with_stem(f"copy-{path.stem}"))
    after = read(real, test_share=0.4, seen=[*trained])
    assert names(before.real) <= names(after.real)
    seen = {name.removeprefix("copy-") for name in names(after.test)}
    assert not seen & names(before.real), "a copy of what was searched with tests nothing"
    assert read(real, test_share=0.4, seen=[*trained]).test == after.test


def test_photos_of_the_pond_are_rendered_once_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENDERED", 3)
    rundir, pond = RunDir(tmp_path), PondReal(kind="pond", seed=4)
    images = rendered_test(rundir, pond, ("frog", "ship"), SilentReporter())
    assert {name: len(images.of(name)) for name in images.classes} == {"frog": 3, "ship": 3}
    own = tmp_path / "own"
    write_real(own, per_class=3, seed=4, classes=("frog",))
    known = {path.read_bytes() for path in own.rglob("*.png")}
    assert not {path.read_bytes() for path in images.of("frog")} & known
    mark = tmp_path / "validation" / "test" / "scenes.jsonl"
    written = mark.stat().st_ino
    rendered_test(rundir, pond, ("frog", "ship"), SilentReporter())
    assert mark.stat().st_ino == written, "what is whole stays"


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _linked(path: Path) -> None:
    elsewhere = path.rename(path.parents[3] / path.name)
    path.symlink_to(elsewhere)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a photo is gone": lambda folder: (folder / "frog" / "00001.png").unlink(),
    "a class is gone": lambda folder: shutil.rmtree(folder / "frog"),
    "empty": _emptied,
    "a foreign photo": lambda folder: shutil.copy(
        folder / "ship" / "00000.png", folder / "frog" / "mine.png"
    ),
    "a linked photo": lambda folder: _linked(folder / "frog" / "00000.png"),
    "a linked class": lambda folder: _linked(folder / "frog"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_rendered_photos_that_are_not_whole_are_rendered_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(module, "RENDERED", 3)
    rundir, pond = RunDir(tmp_path / "run"), PondReal(kind="pond", seed=4)
    folder = rundir.path / "validation" / "test"

    def rendered() -> dict[str, bytes]:
        images = rendered_test(rundir, pond, ("frog", "ship"), SilentReporter())
        return {file.path.relative_to(folder).as_posix(): file.path.read_bytes()
                for file in images.files}  # fmt: skip

    before = rendered()
    assert len(before) == 6
    damage(folder)
    assert rendered() == before
    assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_test_photos_are_named_by_their_groups(folders: tuple[Path, Path]) -> None:
    from gapclose.analysis.embedding import make_embedder

    photos = read(*folders)
    sentences = {"cat": {"color": ("a photo of a red cat", "a photo of a gray cat")}}
    one = TestPhotos.of(photos.test, photos.side, embedder=make_embedder("pond"), groups=sentences)
    assert {*one.groups["color"]} <= {"red cat", "gray cat"}
    assert len(one.groups["color"]) == len(one.paths) == len(one.labels) == 30
    fewer = {"cat": photos.test["cat"][:25]}
    other = TestPhotos.of(
        fewer, photos.side, embedder=make_embedder("pond-judge"), groups=sentences
    )
    assert other.groups == {}, "no words without a text encoder"
    assert other.key != one.key
    with pytest.raises(RealDataError, match="class cat has 19 test photos; a test needs 20"):
        TestPhotos.of(
            {"cat": photos.test["cat"][:19]},
            photos.side,
            embedder=make_embedder("pond-judge"),
            groups=sentences,
        )
