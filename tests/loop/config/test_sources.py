"""Sources: what of a diffusers pipeline a config names is kept absolute, or stays a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pond_config import pond_config

from gapclose.loop.config.identity import changed_keys, fingerprint
from gapclose.loop.config.sources import DiffusersSpec
from gapclose.loop.errors import ConfigError


def spec(**own: Any) -> Any:
    found = pond_config(generator={"kind": "diffusers", "model": "pond", **own}).generator
    assert isinstance(found, DiffusersSpec)
    return found


def test_files_and_folders_are_absolute_and_hub_ids_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "sd").mkdir(parents=True)
    found = spec(
        model="models/frogs.safetensors",  # of the form of a hub id
        config="models/sd",
        components={"vae": "models/sd", "text_encoder": "owner/name", "image_encoder": None},
        embeddings=[{"path": "words/frog.safetensors"}, {"path": "owner/name", "token": "<x>"}],
    )
    assert found.model == str(tmp_path / "models" / "frogs.safetensors")
    assert found.config == str(tmp_path / "models" / "sd")
    assert found.components == {
        "vae": str(tmp_path / "models" / "sd"),
        "text_encoder": "owner/name",
        "image_encoder": None,
    }
    assert found.embeddings[0].path == str(tmp_path / "words" / "frog.safetensors")
    assert found.embeddings[1].path == "owner/name"
    assert spec(model="old.ckpt").model == str(tmp_path / "old.ckpt"), "it is refused by its name"


def test_they_are_part_of_the_identity() -> None:
    def config(**own: Any) -> Any:
        return pond_config(generator={"kind": "diffusers", "model": "pond", **own})

    plain = config()
    others = [
        config(config="x/y"),
        config(components={"vae": "x/y"}),
        config(components={"text_encoder_3": None}),
        config(embeddings=[{"path": "x/y"}]),
    ]
    assert len({fingerprint(one) for one in (plain, *others)}) == 5
    assert "generator.components.vae" in changed_keys(plain, others[1])


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"embeddings": [{"path": "x/y", "tokn": "a"}]}, "did you mean token"),
        ({"embeddings": [{"token": "a"}]}, r"generator\.embeddings\[0\]\.path is missing"),
        ({"components": {"vae": 3}}, r"generator\.components\.vae: got 3, expected text"),
        ({"components": ["vae"]}, r"generator\.components: got .*expected keys and values"),
    ],
)
def test_a_wrong_key_is_named(own: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        spec(**own)
