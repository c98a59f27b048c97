"""What a person writes for a file is read as a shell would."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapclose.loop.config.paths import expanded
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
