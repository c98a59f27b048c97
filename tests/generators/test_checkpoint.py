"""Checkpoints: where a pipeline is, what it is called, and what it is refused for."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from huggingface_hub.errors import RemoteEntryNotFoundError

from gapclose.generators.checkpoint import digest_files, files_in, local_folder, read_license
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.hub import ask_hub
from gapclose.generators.registry import check_generator


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeneratorConfigError, match=r"no model_index\.json"):
        check_generator({"kind": "diffusers", "model": str(tmp_path)})


def test_a_single_file_that_is_a_pickle_is_told_how_to_become_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"")
    spec = {"kind": "diffusers", "model": str(tmp_path / "model.ckpt")}
    with pytest.raises(GeneratorConfigError, match=r"pickle.*from_single_file") as told:
        check_generator(spec)
    assert len(str(told.value).splitlines()) == 1


def test_weights_that_are_pickles_are_refused_with_the_way_round(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (tmp_path / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(GeneratorConfigError, match=r"are pickles \(diffusion_pytorch_model\.bin"):
        check_generator({"kind": "diffusers", "model": str(tmp_path)})


@pytest.mark.usefixtures("offline")
def test_an_unreachable_hub_names_the_way_round() -> None:
    with pytest.raises(GeneratorConfigError, match=r"set generator\.model to the local folder"):
        check_generator({"kind": "diffusers", "model": "CompVis/stable-diffusion-v1-4"})


def test_a_file_that_the_hub_has_not_is_not_taken_for_a_hub_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*_: Any, **__: Any) -> Any:
        raise RemoteEntryNotFoundError("404 Client Error", response=MagicMock())

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", answer)
    with pytest.raises(GeneratorConfigError, match=r"hub's owner/name has no file a/b\.safetens"):
        ask_hub("owner/name", "a/b.safetensors")


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

    def digest() -> str:
        return digest_files(tmp_path, files_in(tmp_path))

    first = digest()
    assert digest() == first
    (tmp_path / "README.md").write_text("a card")
    assert digest() == first
    (tmp_path / "a").write_bytes(b"2")
    second = digest()
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, digest()}) == 3


def test_a_pipeline_that_starts_from_an_image_is_refused_before_it_loads(
    tiny: Path, tmp_path: Path
) -> None:
    for kind in ("StableDiffusionImg2ImgPipeline", "StableDiffusionUpscalePipeline"):
        folder = tmp_path / kind
        folder.mkdir()
        index = (tiny / "model_index.json").read_text()
        (folder / "model_index.json").write_text(index.replace("StableDiffusionPipeline", kind, 1))
        with pytest.raises(GeneratorConfigError, match=rf"a {kind}, which generates no images"):
            check_generator({"kind": "diffusers", "model": str(folder)})
    check_generator({"kind": "diffusers", "model": str(tiny)})
