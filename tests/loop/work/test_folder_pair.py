"""Two folders as they lie there: what they share, and what is told of the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gapclose.analysis.errors import RealDataError
from gapclose.generators.pond.renderer import write_real
from gapclose.loop.work.folder_pair import FolderPair


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pair")
    write_real(root / "train", per_class=20, classes=("frog", "ship", "dog"))
    write_real(root / "test", per_class=20, seed=1, classes=("frog", "ship", "cat"))
    return root


def test_classes_of_both_are_compared_and_the_others_named(folder: Path) -> None:
    pair = FolderPair.scan(real=folder / "train", synthetic=folder / "test")
    assert pair.classes == ("frog", "ship")
    assert pair.one_sided() == [
        {"class": "dog", "why": "only on the real side"},
        {"class": "cat", "why": "only on the synthetic side"},
    ]
    assert pair.storage == {}  # both are the pond's


def test_splits_of_one_data_set_are_noted_and_other_folders_are_not(folder: Path) -> None:
    (note,) = FolderPair.scan(real=folder / "train", synthetic=folder / "test").notes()
    assert note.startswith("train and test look like two splits of one data set")
    shutil.copytree(folder / "test", folder / "made")
    assert FolderPair.scan(real=folder / "train", synthetic=folder / "made").notes() == []


def test_a_folder_is_not_held_against_itself(folder: Path) -> None:
    with pytest.raises(RealDataError, match="is the folder of the real images"):
        FolderPair.scan(real=folder / "train", synthetic=folder / "test" / ".." / "train")
