"""A config is immutable, and says which classes and which code it names."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pond_config import POND, pond_config

from gapclose.generators import registry
from gapclose.loop.config.reading import load_config, parse_config
from gapclose.loop.config.sources import GENERATOR_KINDS
from gapclose.loop.errors import ConfigError
from gapclose.loop.search.seeds import FOLD, TRIAL


def test_classes_are_chosen_in_the_configs_order() -> None:
    config = pond_config(classes=["ship", "frog"])
    assert config.select_classes(["cat", "frog", "ship"]) == ("ship", "frog")
    with pytest.raises(ConfigError, match=r'"ship" is no class.*did you mean ships'):
        config.select_classes(["frog", "ships"])
    with pytest.raises(ConfigError, match=r"space\.nouns: \"automobil\".*automobile"):
        pond_config(space={"nouns": {"automobil": ["car"]}}).select_classes(["automobile"])


def test_one_class_needs_no_slot_and_several_do() -> None:
    plain = {"prompt": "a photo of a face"}
    config = pond_config(real={"path": "faces"}, space=plain, baseline=plain)
    assert config.select_classes(["all"]) == ("all",)
    with pytest.raises(ConfigError, match="no template slot for the class"):
        config.select_classes(["cat", "dog"])


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        pond_config().tune.seed = 3  # type: ignore[misc]


def test_config_and_registry_name_the_same_kinds() -> None:
    assert set(GENERATOR_KINDS) == set(registry.KINDS)


def test_an_adapter_is_strict_and_its_folder_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def adapter(**keys: object) -> object:
        given = {"model": "h94/IP-Adapter", "weight_name": "a.safetensors", **keys}
        config = pond_config(generator={"kind": "diffusers", "model": "pond", "ip_adapter": given})
        return config.generator.as_spec()["ip_adapter"]

    assert pond_config().generator.as_spec()["ip_adapter"] is None
    assert adapter(image_encoder=None) == {
        "model": "h94/IP-Adapter",
        "subfolder": "",
        "weight_name": "a.safetensors",
        "image_encoder": None,
    }
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert adapter(model="mine") == adapter(model=str(tmp_path / "mine"))
    for keys, says in (
        ({"weight_name": "a.bin"}, r'generator\.ip_adapter\.weight_name: got "a\.bin", which may'),
        ({"sub_folder": "x"}, r"generator\.ip_adapter\.sub_folder is no key.*mean subfolder"),
    ):
        with pytest.raises(ConfigError, match=says):
            adapter(**keys)


def test_a_proposer_of_the_users_own_is_code_and_a_model_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llama").mkdir()
    for given, kept, is_code in (
        ("attributes", "attributes", False),
        ("transformers:llama", f"transformers:{tmp_path / 'llama'}", False),
        ("transformers:some/llama@main", "transformers:some/llama@main", False),
        ("own.prompts:propose", "own.prompts:propose", True),
        ("./own.py:propose", f"{tmp_path / 'own.py'}:propose", True),
    ):
        config = pond_config(space={"proposer": given})
        assert config.space.proposer == kept
        assert config.names_code() == ((kept,) if is_code else ())


def test_code_is_named() -> None:
    assert pond_config().names_code() == ()
    custom = pond_config(generator={"kind": "my.mod:Gen", "path": "x"}, embedder="my.mod:Emb")
    assert custom.names_code() == ("my.mod:Gen", "my.mod:Emb")
    assert custom.generator.as_spec() == {"kind": "my.mod:Gen", "path": "x"}


def test_the_folder_of_code_shadows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    pond_config().admit_code()
    assert str(tmp_path) not in sys.path
    config = pond_config(code_folder=str(tmp_path), generator={"kind": "mine.nets:Painter"})
    config.admit_code()
    config.admit_code()
    assert sys.path.count(str(tmp_path)) == 1
    assert sys.path[-1] == str(tmp_path)


def test_no_more_images_may_be_asked_for_than_their_block_has_seeds() -> None:
    """The config is below the search, and cannot import its constants."""
    for section, key, seeds in (("tune", "images_per_trial", TRIAL), ("confirm", "images", FOLD)):
        assert pond_config(**{section: {key: seeds}})
        with pytest.raises(ConfigError, match=key):
            pond_config(**{section: {key: seeds + 1}})


@pytest.mark.parametrize("number", [10**400, 10**20, 2**31])
@pytest.mark.parametrize(
    "key",
    [
        "tune.trials",
        "tune.images",
        "tune.seed",
        "tune.images_per_trial",
        "confirm.images",
        "real.per_class",
        "generator.batch_size",
        "generator.size",
        "space.num_inference_steps",
        "space.camera.resize",
        "baseline.num_inference_steps",
    ],
)
def test_numbers_have_bounds(key: str, number: int) -> None:
    *sections, last = key.split(".")
    config: dict[str, Any] = copy.deepcopy(POND)
    section = config
    for name in sections:
        section = section.setdefault(name, {})
    section[last] = number
    with pytest.raises(ConfigError) as told:
        parse_config(config)
    assert key in str(told.value)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize("key", ["space.negative_prompt", "space.prompt", "baseline.prompt"])
def test_what_cannot_be_seen_is_no_part_of_a_prompt(key: str) -> None:
    section, name = key.split(".")
    with pytest.raises(ConfigError, match=r"cannot be seen \(U\+202E\)"):
        pond_config(**{section: {name: "a \u202e{class}"}})


def test_code_is_looked_for_in_folders_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would read a device to its end, for it may be an archive of modules."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    os.mkfifo(tmp_path / "pipe")
    for folder in ("/dev/zero", str(tmp_path / "pipe"), str(tmp_path / "gone")):
        named = pond_config(code_folder=folder, generator={"kind": "mine.nets:Painter"})
        named.admit_code()
        assert folder not in sys.path


def test_the_folder_of_code_is_looked_in_only_for_code_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whatever a library misses would be taken from it, and nobody was asked to trust it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    pond_config(code_folder=str(tmp_path)).admit_code()
    assert str(tmp_path) not in sys.path


def test_a_program_lies_beside_its_config(tmp_path: Path) -> None:
    (tmp_path / "scene.py").write_text("")
    (tmp_path / "c.yaml").write_text(
        "real: {path: photos}\nembedder: pond\n"
        "generator: {kind: command, run: [blender, -b, -P, scene.py, --, none.py], timeout: 2m,"
        " files: [wood.png], folder: .}\n"
    )
    config = load_config(tmp_path / "c.yaml")
    spec = config.generator.as_spec()
    assert spec["run"] == ["blender", "-b", "-P", str(tmp_path / "scene.py"), "--", "none.py"]
    assert spec["files"] == [str(tmp_path / "wood.png")]
    assert (spec["folder"], spec["timeout"]) == (str(tmp_path), 120.0)
    assert config.runs_program() == f"blender -b -P {tmp_path / 'scene.py'} -- none.py"
    assert config.names_code() == ()


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("run: []", "generator.run"),
        ("run: ['']", "generator.run: got no program"),
        ("run: blender", "generator.run"),
        ("run: [a], timeout: null", "generator.timeout: got null"),
        ("run: [a], dtype: float32", "generator.dtype is no key here"),
        ("run: [1]", "generator.run[0]"),
    ],
)
def test_what_is_no_program_is_one_line(said: str, says: str, tmp_path: Path) -> None:
    text = f"real: {{path: p}}\nembedder: pond\ngenerator: {{kind: command, {said}}}\n"
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as told:
        load_config(tmp_path / "c.yaml")
    assert says in str(told.value)
