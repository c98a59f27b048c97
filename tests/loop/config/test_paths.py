"""What a person writes for a file is read as a shell would."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapclose.loop.config.paths import expanded, resolved
from gapclose.loop.errors import ConfigError


def test_what_no_shell_would_expand_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for kept in ("cash$", "a$1", "100 $", "x/~/y", "$(ls)", "${a b}", "owner/name"):
        assert expanded(kept) == kept
    monkeypatch.delenv("cash", raising=False)
    (tmp_path / "a$cash").mkdir()  # a folder of that very name is one
    assert expanded("a$cash") == "a$cash"
    with pytest.raises(ConfigError, match=r"b\$cash: the environment variable cash is not set"):
        expanded("b$cash")


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("a\0b", "holds a NUL character"),
        ("x" * 256, "a name has at most 255 bytes"),
        ("ok/" + "é" * 128 + "/ok", "a name has at most 255 bytes"),
        ("/".join(["x" * 200] * 30), "a path 4,095"),
    ],
)
def test_what_no_file_can_be_called_is_refused(path: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as told:
        expanded(path)
    assert len(str(told.value)) < 300
    assert expanded("x" * 255) == "x" * 255


def test_a_variable_may_not_hold_it_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONG", "x" * 256)
    with pytest.raises(ConfigError, match="a name has at most 255 bytes"):
        expanded("$LONG/data")


def test_links_are_followed_as_far_as_they_lead(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "self").symlink_to("self")
    assert resolved(tmp_path / "link") == (tmp_path / "folder").resolve()
    assert resolved(tmp_path / "self").name == "self"


def test_a_user_who_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="~nobody-at-all/x: there is no user ~nobody-at-all"):
        expanded("~nobody-at-all/x")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody-at-all").mkdir()  # a folder of that very name is one
    assert expanded("~nobody-at-all") == "~nobody-at-all"
