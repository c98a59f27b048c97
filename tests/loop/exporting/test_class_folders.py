"""Class folders: names that every file system keeps apart and no reader takes for a split."""

from __future__ import annotations

import re
import unicodedata
from fnmatch import translate
from urllib.parse import unquote

import pytest
from datasets import data_files
from hypothesis import given
from hypothesis import strategies as st

from gapclose.loop.exporting.class_folders import class_folders

ORDINARY = [
    "frog",
    "Frosch",
    "蛙",
    "🐸",
    "café",
    "a dog",
    "detrain",
    "contest",
    "Valentine",
    "v1.5",
]
ORDINARY += [
    "-",
    "[x]",
    "it's",
    "data",
    "images",
    "_x",
    "CONtrol",
    "comic",
    "nullable",
    "~",
    "O'Neil",
]
PARTS = [
    "train",
    "Test",
    "val",
    "eval",
    "dev",
    "con",
    "NUL",
    "com1",
    "lpt²",
    ".",
    " ",
    "_",
    "-",
    "1",
]
PARTS += [
    "a",
    "É",
    "e\u0301",
    "é",
    "/",
    "\\",
    ":",
    "%",
    "%74",
    "%65",
    "\n",
    "ß",
    "ss",
    "x" * 130,
    "🐸",
]

names = st.text(max_size=200) | st.lists(st.sampled_from(PARTS), max_size=5).map("".join)
SPLITS = [
    re.compile(translate(pattern.removeprefix("**/").removesuffix("/**")), re.IGNORECASE)
    for patterns in data_files.DEFAULT_PATTERNS_SPLIT_IN_DIR_NAME.values()
    for pattern in patterns
]
# From "Naming Files, Paths, and Namespaces" of Microsoft's documentation.
DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)


def as_one(name: str) -> str:
    """What a file system that ignores case and normal form makes of a name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


@given(st.lists(names, max_size=8, unique=True))
def test_no_folder_is_lost_renamed_or_read_as_a_split(classes: list[str]) -> None:
    folders = class_folders(classes)
    assert list(folders) == classes
    assert len({as_one(folder) for folder in folders.values()}) == len(classes)
    for name, folder in folders.items():
        assert folder
        assert len(folder.encode()) <= 140
        assert not re.search(r'[<>:"/\\|?*\x00-\x1f]', folder)
        assert folder == folder.strip(" ").rstrip(".")
        assert not folder.startswith((".", "__"))
        assert not DEVICE.fullmatch(folder)
        assert not any(split.fullmatch(folder) for split in SPLITS)
        assert len(folder.splitlines()) == 1
        assert unquote(folder) == name or "%~" in folder or not name
        if "%" not in folder:
            assert folder == name


@given(names)
def test_which_other_classes_there_are_matters_to_twins_only(name: str) -> None:
    alone = class_folders([name])[name]
    assert class_folders([name, "unlike any other"])[name] == alone
    if alone == name:
        assert class_folders([alone]) == {name: alone}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_class_is_its_own_folder(name: str) -> None:
    assert class_folders(ORDINARY)[name] == name


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("train", "trai%6E"),
        ("train station", "trai%6E station"),
        ("test-set", "tes%74-set"),
        ("dog_val.2", "dog_va%6C.2"),
        ("eval", "eva%6C"),
        ("CON", "CO%4E"),
        ("nul.tar", "nu%6C.tar"),
        ("a:b", "a%3Ab"),
        ("what?", "what%3F"),
        ("../frog", "%2E.%2Ffrog"),
        (".", "%2E"),
        ("dog ", "dog%20"),
        ("100%", "100%25"),
        ("__pycache__", "%5F_pycache__"),
        ("README.md", "README.m%64"),
        ("_unlabeled", "_unlabele%64"),
        ('"test', "%22tes%74"),
    ],
)
def test_what_matters_is_percent_encoded(name: str, folder: str) -> None:
    assert class_folders([name]) == {name: folder}
    assert unquote(folder) == name


def test_twins_are_told_apart_and_a_plain_one_keeps_its_name() -> None:
    classes = ["Cat", "cat", "caf\u00e9", "cafe\u0301", "Eval", "eval", "Dog"]
    assert class_folders(classes) == {
        "Cat": "%43at",
        "cat": "cat",
        "caf\u00e9": "caf%C3%A9",
        "cafe\u0301": "cafe%CC%81",
        "Eval": "%45va%6C",
        "eval": "eva%6C",
        "Dog": "Dog",
    }


def test_names_that_only_differ_far_out_stay_apart() -> None:
    one, other = class_folders(["é" * 120, "é" * 119 + "e"]).values()
    assert one[:50] == other[:50]
    assert one != other
