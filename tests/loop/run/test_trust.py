"""Code that a run from elsewhere names is neither imported nor found."""

from __future__ import annotations

import sys
from pathlib import Path

import platformdirs
import pytest
from pond_config import pond_config

from gapclose.loop.config.reading import load_config
from gapclose.loop.errors import ConfigError
from gapclose.loop.run.files import write_text
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.trust import ShownFiles, check_trust, made_here


def test_a_run_from_elsewhere_is_told_from_ones_own(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made_here(run)
    original = run.config_path.read_text()
    write_text(run.config_path, pond_config(generator={"kind": "evil.mod:Gen"}).to_yaml())
    assert not made_here(run)
    write_text(run.config_path, original)
    assert made_here(run)
    monkeypatch.setenv("GAPCLOSE_CACHE", str(tmp_path / "cleared"))
    assert made_here(run)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "someone else"))
    assert not made_here(run)


def test_a_mark_of_a_version_that_kept_its_secret_in_the_cache_still_counts(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    key = Path(platformdirs.user_config_dir("gapclose")) / "origin.key"
    (cache / "origin.key").write_bytes(key.read_bytes())
    monkeypatch.setenv("GAPCLOSE_CACHE", str(cache))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "new"))
    assert made_here(run)


def test_storage_may_change_on_resume_but_not_by_another_hand(run: RunDir, tmp_path: Path) -> None:
    mine = pond_config(storage=f"sqlite:///{tmp_path}/mine.db")
    create_run(run.path, mine)
    assert made_here(run)
    check_trust(run, mine, trust=False)
    evil = pond_config(storage=f"sqlite:///{tmp_path}/evil.db")
    write_text(run.config_path, evil.to_yaml())
    assert not made_here(run)
    with pytest.raises(ConfigError, match="made elsewhere and names a database"):
        check_trust(run, evil, trust=False)
    check_trust(run, mine, trust=False)  # named by this user now
    check_trust(run, evil, trust=True)


def test_a_config_is_ones_own_wherever_its_change_is_cut_off(run: RunDir) -> None:
    before, after = run.config(), pond_config(storage="sqlite:///after.db")
    create_run(run.path, after)
    write_text(run.config_path, before.to_yaml())  # as if the mark had been written alone
    assert made_here(run)


@pytest.mark.parametrize("mark", [None, 3, "", "x" * 64, "\u00e9" * 64, ["a"]])
def test_no_mark_is_not_ones_own(run: RunDir, mark: object) -> None:
    run.write_json("environment.json", {"schema": 1, "origin": mark})
    assert not made_here(run)
    run.write_json("environment.json", [mark])
    assert not made_here(run)


def test_a_run_shows_its_own_files_and_what_its_maker_has_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, private = tmp_path / "photos", tmp_path / "private"
    for folder in (photos, private):
        (folder / "frog").mkdir(parents=True)
        (folder / "frog" / "a.png").touch()
    config = pond_config(real={"path": str(photos)})
    run = create_run(tmp_path / "r", config)
    own = run.image_path("frog", "ab", 1)
    own.parent.mkdir(parents=True)
    own.touch()
    inside = run.relative(own)
    outside = [
        str(private / "frog" / "a.png"),
        str(photos / ".." / "private" / "frog" / "a.png"),
        "../private/frog/a.png",
        "images/../../private/frog/a.png",
        "/etc/hostname",
        "a\0b",
        3,
        None,
    ]
    shown = ShownFiles.of(run)
    assert shown.find(inside) == own
    assert shown.find(str(photos / "frog" / "a.png")) == photos / "frog" / "a.png"
    assert [name for name in outside if shown.find(name)] == []
    (run.path / "images" / "frog" / "link.png").symlink_to(private / "frog" / "a.png")
    assert shown.find("images/frog/link.png") is None
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "someone else"))
    elsewhere = ShownFiles.of(run)
    assert elsewhere.find(inside) == own
    assert elsewhere.find(str(photos / "frog" / "a.png")) is None
    trusted = ShownFiles.of(run, trust=True)
    assert trusted.find(str(photos / "frog" / "a.png")) == photos / "frog" / "a.png"


@pytest.mark.parametrize("name", ["./world.py:Renderer", "world:Renderer"])
def test_code_from_elsewhere_is_neither_run_nor_found_without_trust(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way it is spelt, and also if it is only its folder that was changed."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    mine, evil = tmp_path / "mine", tmp_path / "evil"
    mine.mkdir()
    evil.mkdir()
    (mine / "world.py").touch()
    (mine / "c.yaml").write_text(
        f"real: {{path: x}}\ngenerator: {{kind: '{name}'}}\nembedder: pond\n"
    )
    config = load_config(mine / "c.yaml")
    run = create_run(tmp_path / "r", config)
    check_trust(run, run.config(), trust=False)
    found = str(mine) in sys.path
    assert found == (name == "world:Renderer")
    text = run.config_path.read_text()
    assert str(mine) in text
    run.config_path.write_text(text.replace(str(mine), str(evil)))
    with pytest.raises(ConfigError, match="made elsewhere and names code to import"):
        check_trust(run, run.config(), trust=False)
    assert str(evil) not in sys.path
    check_trust(run, run.config(), trust=True)
    assert (str(evil) in sys.path) == found
