"""The registry: what a config names is found, and what cannot be is refused in one line."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from gapclose.generators.base import Generator, GeneratorConfigError
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.folder import FolderGenerator
from gapclose.generators.registry import (
    check_generator,
    digest_folder,
    local_folder,
    make_generator,
    read_license,
)

OWN = """
class Own:
    id = "own:1"
    revision = None
    license = None
    source_type = "digitalCreation"

    def __init__(self, *, speed=1):
        self.speed = speed

    def check(self):
        if self.speed < 1:
            raise ValueError("too slow")

    def generate(self, draw, seeds):
        raise NotImplementedError
"""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_kinds_are_made(tiny: Path, frogs: Path) -> None:
    spec = {"kind": "diffusers", "model": str(tiny), "batch_size": 4, "size": [16, 16]}
    assert isinstance(make_generator(spec), DiffusersGenerator)
    assert isinstance(make_generator({"kind": "folder", "path": str(frogs)}), FolderGenerator)
    check_generator(spec)
    check_generator({"kind": "folder", "path": str(frogs)})


def test_a_generator_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_generator.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    own: Any = make_generator({"kind": "own_generator:Own", "speed": 3})
    assert isinstance(own, Generator)
    assert own.speed == 3
    check_generator({"kind": "own_generator:Own"})
    with pytest.raises(ValueError, match="too slow"):
        check_generator({"kind": "own_generator:Own", "speed": 0})
    with pytest.raises(GeneratorConfigError, match="did you mean 'speed'"):
        check_generator({"kind": "own_generator:Own", "sped": 0})


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, r"generator\.kind: must be"),
        ({"kind": "difusers"}, "did you mean 'diffusers'"),
        ({"kind": "no.such.module:X"}, "cannot be loaded"),
        ({"kind": "json:NoSuchClass"}, "cannot be loaded"),
        ({"kind": "diffusers"}, r"generator\.model: missing"),
        ({"kind": "folder"}, r"generator\.path: missing"),
        ({"kind": "diffusers", "model": "pond", "dtpye": "auto"}, "did you mean 'dtype'"),
        ({"kind": "diffusers", "model": "/no/such/folder"}, "neither a folder nor a hub id"),
        ({"kind": "diffusers", "model": "stable"}, "neither a folder nor a hub id"),
        ({"kind": "folder", "path": "/no/such/folder"}, "no folder /no/such/folder"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(GeneratorConfigError, match=says) as refusal:
        check_generator(spec)
    assert "\n" not in str(refusal.value)


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeneratorConfigError, match=r"no model_index\.json"):
        check_generator({"kind": "diffusers", "model": str(tmp_path)})


@pytest.mark.usefixtures("offline")
def test_an_unreachable_hub_names_the_way_round() -> None:
    with pytest.raises(GeneratorConfigError, match=r"set generator\.model to the local folder"):
        check_generator({"kind": "diffusers", "model": "CompVis/stable-diffusion-v1-4"})


@pytest.mark.usefixtures("offline")
def test_a_cached_hub_id_asks_nobody(tmp_path: Path) -> None:
    commit = "0" * 40
    repo = tmp_path / "hub" / "models--owner--name"
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text("{}")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    check_generator({"kind": "diffusers", "model": "owner/name"})
    assert DiffusersGenerator("owner/name").revision == commit


def test_a_folder_of_that_name_wins_over_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_folder("owner/name") is None
    Path("owner/name").mkdir(parents=True)
    assert local_folder("owner/name") == Path("owner/name")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nlicense: creativeml-openrail-m\n---\n", "creativeml-openrail-m"),
        ('---\ntags: [a]\nlicense: "mit"\n---\n', "mit"),
        ("---\nlicense: other\nlicense_name: flux-dev\n---\n", "flux-dev"),
        ("---\ntags: [a]\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
    ],
)
def test_the_licence_is_in_the_front_matter(
    tmp_path: Path, text: str, expected: str | None
) -> None:
    (tmp_path / "README.md").write_text(text)
    assert read_license(tmp_path / "README.md") == expected
    assert read_license(tmp_path / "none.md") is None


def test_the_digest_follows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    first = digest_folder(tmp_path)
    assert digest_folder(tmp_path) == first
    (tmp_path / "a").write_bytes(b"2")
    second = digest_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, digest_folder(tmp_path)}) == 3
