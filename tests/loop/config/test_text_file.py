"""What a person names as a text file is read, whatever it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapclose.loop.config.text_file import read_text
from gapclose.loop.errors import ConfigError


def test_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("wort: fröhlich\n", encoding="utf-8")
    assert read_text(tmp_path / "a.yaml") == "wort: fröhlich\n"


def test_what_is_no_text_of_a_persons_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"\xff\xfe")
    with (tmp_path / "holes.yaml").open("wb") as file:
        file.truncate(20 * 2**30)
    for name, match in (
        ("latin.yaml", "it is not UTF-8 text"),
        ("holes.yaml", "it is larger than 32 MiB"),
        ("gone.yaml", "No such file"),
    ):
        with pytest.raises(ConfigError, match=f"{name}: cannot be read: {match}"):
            read_text(tmp_path / name)
