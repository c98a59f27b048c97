"""Code that a run from elsewhere names is neither imported nor found."""

from __future__ import annotations

import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pond_config import pond_config

from gapclose.loop.config.reading import load_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.errors import ConfigError
from gapclose.loop.run.files import write_text
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.trust import ShownFiles, check_trust, made_here, origin


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


KEPT = "gapclose/origin.key"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has no secret yet; HOME/config and HOME/cache are where it may lie."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("GAPCLOSE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def secret(path: Path, key: bytes = bytes(32), mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(key)
    path.chmod(mode)
    return path


def test_a_secret_that_an_earlier_version_kept_in_the_cache_is_moved_out_of_it(home: Path) -> None:
    old = secret(home / "cache" / "origin.key")
    before = create_run(home / "before", pond_config())
    assert (home / "config" / KEPT).read_bytes() == bytes(32)
    assert stat.S_IMODE((home / "config" / KEPT).stat().st_mode) == 0o600
    old.unlink()  # the cache is cleared
    after = create_run(home / "after", pond_config())
    assert made_here(before)
    assert made_here(after)


def test_where_there_is_no_home_the_secret_lies_in_the_cache(home: Path) -> None:
    (home / "config").touch()  # a file: no folder can be made there
    run = create_run(home / "run", pond_config())
    assert (home / "cache" / "origin.key").is_file()
    assert made_here(run)


@pytest.mark.parametrize(
    ("key", "mode"), [(b"", 0o600), (bytes(31), 0o600), (bytes(33), 0o600), (bytes(32), 0o644)]
)
def test_a_secret_that_others_may_know_marks_nothing(home: Path, key: bytes, mode: int) -> None:
    """Whoever shares a cache could sign runs for everybody."""
    run = create_run(home / "run", pond_config())
    (home / "config" / KEPT).rename(home / "cache-key")
    own = (home / "cache-key").read_bytes()
    secret(home / "cache" / "origin.key", key if len(key) != 32 else own, mode)
    assert not made_here(run)
    secret(home / "cache" / "origin.key", own)
    assert made_here(run)


def test_two_first_runs_at_once_have_one_secret(home: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        marks = {*pool.map(lambda _: origin(pond_config()), range(16))}
    assert len(marks) == 1
    assert [path.name for path in (home / "config" / "gapclose").iterdir()] == ["origin.key"]


def test_storage_may_change_on_resume_but_not_by_another_hand(run: RunDir, tmp_path: Path) -> None:
    def write_to(config: RunConfig, *, trust: bool = False) -> None:
        check_trust(run, config, trust=trust, writes_storage=True)

    mine = pond_config(storage=f"sqlite:///{tmp_path}/mine.db")
    write_to(mine)  # named by this user now, whatever the run says
    create_run(run.path, mine)
    write_to(mine)
    evil = pond_config(storage=f"sqlite:///{tmp_path}/evil.db")
    write_text(run.config_path, evil.to_yaml())
    with pytest.raises(ConfigError, match="made elsewhere and names a database"):
        write_to(evil)
    write_to(mine)
    write_to(evil, trust=True)
    check_trust(run, evil, trust=False)  # what only reads the run does not open it


def test_a_run_that_an_earlier_version_marked_without_its_storage_is_ones_own(
    run: RunDir, tmp_path: Path
) -> None:
    config = pond_config(storage=f"sqlite:///{tmp_path}/mine.db")
    create_run(run.path, config)
    made = run.read_json("environment.json")
    old = origin(pond_config())  # it said nothing of a storage
    run.write_json("environment.json", made | {"origin": old})
    assert made_here(run)
    create_run(run.path, config)  # as `tune --trust` does
    check_trust(run, config, trust=False, writes_storage=True)


def test_a_config_is_ones_own_wherever_its_change_is_cut_off(run: RunDir) -> None:
    before, after = run.config(), pond_config(storage="sqlite:///after.db")
    create_run(run.path, after)
    write_text(run.config_path, before.to_yaml())  # as if the mark had been written alone
    assert made_here(run)


@pytest.mark.parametrize("mark", [None, 3, "", "x" * 64, "\u00e9" * 64, ["a"], "a " * 10**6])
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
