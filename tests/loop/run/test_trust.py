"""Code that a run from elsewhere names is neither imported nor found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pond_config import pond_config

from gapclose.loop.config.reading import load_config
from gapclose.loop.errors import ConfigError
from gapclose.loop.run.files import write_text
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.trust import check_trust, made_here


def test_a_run_from_elsewhere_is_told_from_ones_own(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made_here(run)
    original = run.config_path.read_text()
    write_text(run.config_path, pond_config(generator={"kind": "evil.mod:Gen"}).to_yaml())
    assert not made_here(run)
    write_text(run.config_path, original)
    assert made_here(run)
    monkeypatch.setenv("GAPCLOSE_CACHE", str(tmp_path / "someone else"))
    assert not made_here(run)


@pytest.mark.parametrize("name", ["./world.py:Renderer", "world:Renderer"])
def test_code_from_elsewhere_is_neither_run_nor_found_without_trust(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way it is spelt, and also if it is only its folder that was changed."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "world.py").touch()
    (mine / "c.yaml").write_text(
        f"real: {{path: x}}\ngenerator: {{kind: '{name}'}}\nembedder: pond\n"
    )
    config = load_config(mine / "c.yaml")
    run = create_run(tmp_path / "r", config)
    check_trust(run, run.config(), trust=False)
    found = str(mine) in sys.path
    assert found == (name == "world:Renderer")
    evil = tmp_path / "evil"
    text = run.config_path.read_text()
    assert str(mine) in text
    run.config_path.write_text(text.replace(str(mine), str(evil)))
    with pytest.raises(ConfigError, match="made elsewhere and names code to import"):
        check_trust(run, run.config(), trust=False)
    assert str(evil) not in sys.path
    check_trust(run, run.config(), trust=True)
    assert (str(evil) in sys.path) == found
