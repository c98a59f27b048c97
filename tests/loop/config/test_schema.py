from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gapclose.generators import registry
from gapclose.loop.config import schema as module
from gapclose.loop.config.schema import (
    ConfigError,
    RunConfig,
    changed_keys,
    expanded,
    load_config,
    packaged_config,
    parse_config,
    parse_seconds,
    template_slots,
)

BASE: dict[str, Any] = {
    "real": {"kind": "pond"},
    "generator": {"kind": "diffusers", "model": "pond"},
    "embedder": "pond",
}


def make(**changes: Any) -> RunConfig:
    return parse_config({**BASE, **changes})


def said(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("config: ")


@pytest.mark.parametrize("name", ["pond", "cifar10-sd14"])
def test_shipped_configs_load(name: str) -> None:
    path = packaged_config(name)
    assert path is not None
    assert load_config(path) == load_config(name)


def test_every_shipped_file_is_tested(root: Path) -> None:
    assert {p.stem for p in (root / "configs").glob("*.yaml")} == {"pond", "cifar10-sd14"}


def test_the_design_example_loads(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        """
        real: {path: data/train, confirm_share: 0.5}
        classes: [frog, ship]
        generator: {kind: diffusers, model: CompVis/stable-diffusion-v1-4, revision: abc,
                    dtype: auto, device: auto, size: 512, batch_size: auto, safety_checker: off}
        embedder: open_clip:ViT-B-32/laion2b_s34b_b79k
        judge: transformers:facebook/dinov2-base
        space:
          prompt: "a photo of a {color} {class}{place}"
          slots: {color: ["", green, brown], place: ["", " on a leaf", " on mud"]}
          nouns: {frog: [frog, toad]}
          negative_prompt: ["", "drawing, cartoon"]
          guidance_scale: [1.0, 10.0]
          num_inference_steps: [15, 40]
          scheduler: [ddim, dpmsolver++, euler]
          camera: {resize: 32, kernel: [area, lanczos], jpeg_quality: [70, 100], noise: [0, 0.03]}
        baseline: {prompt: "a photo of a {class}", guidance_scale: 7.5}
        tune: {budget: 8h, trials: null, images: null, images_per_trial: 8, seed: 0}
        confirm: {images: 200}
        storage: null
        """
    )
    config = load_config(file)
    assert config.tune.budget == 8 * 3600
    assert config.generator.as_spec()["safety_checker"] == "off"  # YAML 1.1 would read false
    assert config.space.guidance_scale == (1.0, 10.0)
    assert config.space.camera.jpeg_quality == (70, 100)
    assert config.real.path == str(Path.cwd() / "data" / "train")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"space": {"guidence_scale": 3}}, ["space.guidence_scale is no key", "guidance_scale?"]),
        ({"reel": 1}, ["reel is no key", "did you mean real?"]),
        ({"space": {"camera": {"jpeg": 90}}}, ["space.camera.jpeg is no key", "jpeg_quality"]),
        ({"generator": {"kind": "diffusers", "modle": "x"}}, ["generator.modle", "model?"]),
        ({"generator": {"kind": "difusers"}}, ["generator.kind", "did you mean diffusers?"]),
        ({"generator": {"kind": "diffusers"}}, ["generator.model is missing"]),
        ({"generator": 3}, ["generator: got 3, expected keys and values"]),
        ({"real": {"pth": "x"}}, ["real.pth is no key", "did you mean path?"]),
        ({"real": {"path": "x", "confirm_share": 1.0}}, ["real.confirm_share", "less than 1"]),
        ({"real": {"kind": "pond", "per_class": 10}}, ["real.per_class: got 10", "40"]),
        ({"tune": {"images_per_trial": "eight"}}, ['got "eight", expected a whole number']),
        ({"tune": {"images_per_trial": True}}, ["got true, expected a whole number"]),
        ({"tune": {"budget": "8x"}}, ["tune.budget", '"8x"', "8h, 5m"]),
        ({"tune": {"budget": None}}, ["tune: nothing ends the search", "trials"]),
        ({"space": {"guidance_scale": [1, "x"]}}, ["space.guidance_scale[1]", "a number"]),
        ({"space": {"guidance_scale": [7, 2]}}, ["[7.0, 2.0]", "lower number first"]),
        ({"space": {"num_inference_steps": [0, 5]}}, ["num_inference_steps", "at least 1"]),
        ({"space": {"camera": {"noise": [-1.0]}}}, ["camera.noise", "at least 0"]),
        ({"space": {"camera": {"jpeg_quality": [70, 101]}}}, ["jpeg_quality", "1 to 100"]),
        ({"space": {"camera": {"kernel": "lancos"}}}, ["kernel", "did you mean lanczos?"]),
        ({"space": {"scheduler": ["eulr"]}}, ["space.scheduler", "eulr", "euler"]),
        ({"baseline": {"scheduler": "ddm"}}, ["baseline.scheduler", "ddm", "ddim"]),
        ({"space": {"slots": {"color": [1, 2]}}}, ["space.slots.color[0]", "quotes"]),
        ({"space": {"slots": {"color": []}}}, ["space.slots", "color has no words"]),
        ({"space": {"slots": {"color": ["a", "a"]}}}, ['"a" twice']),
        (
            {"space": {"prompt": "a {colr} {class}", "slots": {"color": ["a"]}}},
            ["{colr}", "did you mean color?"],
        ),
        ({"space": {"prompt": "a {class"}}, ["space.prompt", "is no template"]),
        ({"space": {"prompt": "a {class!r}"}}, ["{class!r} is no slot"]),
        ({"space": {"prompt": "a photo"}}, ["space.prompt", "no template slot for the class"]),
        ({"baseline": {"prompt": "a photo"}}, ["baseline.prompt", "no template slot"]),
        ({"baseline": {"prompt": "a {color} {class}"}}, ["{color}", "only {class}"]),
        ({"classes": []}, ["classes: got []", "expected all"]),
        ({"classes": ["frog", "frog"]}, ["each class once"]),
        ({"confirm": {"images": 3}}, ["confirm.images: got 3"]),
        ({"embedder": 3}, ["embedder: got 3, expected text"]),
        ({"judge": BASE["embedder"]}, ["judge:", "cannot confirm itself"]),
        ({"attributes": {"color": ["green"]}}, ["attributes", "color", "two different words"]),
        ({"space": {"camera": {"noise": [0, 12]}}}, ["camera.noise", "at most 1"]),
        ({"baseline": {"camera": {"noise": 3}}}, ["baseline.camera.noise: got 3"]),
        ({"baseline": {"guidance_scale": float("inf")}}, ["got Infinity, expected a number"]),
        ({"device": "gpu"}, ["device", "gpu", "cuda:1"]),
        ({"generator": {"kind": "diffusers", "model": "pond", "device": "0"}}, ["expected auto"]),
        ({"space": {"scheduler": ["DDIM"]}}, ["did you mean 'ddim'?"]),
        ({"space": {"scheduler": ["EulerDiscreteScheduler"]}}, ["did you mean 'euler'?"]),
    ],
)
def test_a_mistake_is_one_line_with_key_and_remedy(
    changes: dict[str, Any], parts: list[str]
) -> None:
    line = said(**changes)
    for part in parts:
        assert part in line


def test_an_unknown_key_is_told_before_what_follows_from_it() -> None:
    line = said(generator={"kind": "diffusers", "modle": "x", "size": "big"})
    assert line.startswith("generator.modle")


def test_the_file_and_line_of_broken_yaml_are_named(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("real: {path: a}\nembedder: [\n")
    with pytest.raises(ConfigError, match=r"c\.yaml, line 3: this is no YAML"):
        load_config(file)
    file.write_text("embedder: pond\nembedder: other\n")
    with pytest.raises(ConfigError, match=r"line 2.*embedder stands here twice"):
        load_config(file)
    file.write_text("- pond\n")
    with pytest.raises(ConfigError, match="expected keys"):
        load_config(file)
    with pytest.raises(ConfigError, match=r"no such file.*gapclose init"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder; give the YAML file"):
        load_config(tmp_path)
    file.write_text("? [a, b]\n: 1\n")
    with pytest.raises(ConfigError, match=r"line 1: .*a key must be one word"):
        load_config(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(file)


def test_overrides_are_yaml_and_the_last_wins(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(BASE))
    changes = ["tune.seed=3", "tune.seed=4", "classes=[frog, ship]", "tune.budget=1h30m"]
    config = load_config(file, [*changes, "space.slots.color=['', red]", "judge=null"])
    assert config.tune.seed == 4
    assert config.classes == ("frog", "ship")
    assert config.tune.budget == 5400
    assert config.space.slots == {"color": ("", "red")}
    assert config.judge is None
    assert load_config(file, ["tune.seed=08"]).tune.seed == 8  # no octal
    for bad in ("tune.seed", "=3", "embedder.x=1", "tune..seed=1", f"tune.seed={'9' * 5000}"):
        with pytest.raises(ConfigError, match="--set"):
            load_config(file, [bad])
    with pytest.raises(ConfigError, match=r"tune.sed is no key here; did you mean seed"):
        load_config(file, ["tune.sed=3"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 28800), ("5m", 300), ("90s", 90), ("1h30m", 5400), ("1.5h", 5400), (60, 60), ("7", 7)],
)
def test_seconds(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "8x", "-5m", 0, -1, True, "1:30", float("inf"), []])
def test_no_seconds(text: object) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        parse_seconds(text)


def test_template_slots() -> None:
    assert template_slots("a {b} {class} {b} {{c}}") == ("b", "class")
    assert template_slots("plain") == ()
    for bad in ("{", "{}", "{0}", "{a.b}", "{a[0]}", "{a:3}"):
        with pytest.raises(ValueError, match=r"no template|no slot"):
            template_slots(bad)


def test_classes_are_chosen_in_the_configs_order() -> None:
    config = make(classes=["ship", "frog"])
    assert config.select_classes(["cat", "frog", "ship"]) == ("ship", "frog")
    with pytest.raises(ConfigError, match=r'"ship" is no class.*did you mean ships'):
        config.select_classes(["frog", "ships"])
    with pytest.raises(ConfigError, match=r"space\.nouns: \"automobil\".*automobile"):
        make(space={"nouns": {"automobil": ["car"]}}).select_classes(["automobile"])


def test_one_class_needs_no_slot_and_several_do() -> None:
    plain = {"prompt": "a photo of a face"}
    config = make(real={"path": "faces"}, space=plain, baseline=plain)
    assert config.select_classes(["all"]) == ("all",)
    with pytest.raises(ConfigError, match="no template slot for the class"):
        config.select_classes(["cat", "dog"])


def test_a_resumed_run_may_change_limits_and_machine_only() -> None:
    old = make()
    free = make(
        tune={"budget": "1h", "trials": 5, "images": 7},
        device="cpu",
        storage="sqlite:///other.db",
        generator={"kind": "diffusers", "model": "pond", "device": "cuda", "batch_size": 4},
    )
    assert changed_keys(old, free) == ()
    assert old.fingerprint() == free.fingerprint()
    other = make(
        tune={"seed": 1},
        judge="pond-judge",
        space={"slots": {"color": ["red"]}},
        generator={"kind": "diffusers", "model": "pond", "dtype": "float16"},
    )
    assert changed_keys(old, other) == (
        "generator.dtype",
        "judge",
        "space.slots",
        "space.slots.color",
        "tune.seed",
    )
    assert old.fingerprint() != other.fingerprint()


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
plain_word = st.one_of(words, st.sampled_from(["off", "no", "1e3", "1:30", "007", "~", "0x1f"]))
word_lists = st.lists(plain_word, min_size=1, max_size=3, unique=True)
numbers = st.lists(st.floats(0, 50), min_size=1, max_size=4, unique=True).map(sorted)


@given(
    slots=st.dictionaries(plain_word.filter(lambda w: w != "class"), word_lists, max_size=3),
    guidance=numbers,
    noise=st.lists(st.floats(0, 1), min_size=1, max_size=3, unique=True).map(sorted),
    revision=plain_word,
    seconds=st.one_of(st.none(), st.floats(1, 1e6)),
)
def test_what_is_written_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    slots: dict[str, list[str]],
    guidance: list[float],
    noise: list[float],
    revision: str,
    seconds: float | None,
) -> None:
    config = make(
        space={"slots": slots, "guidance_scale": guidance, "camera": {"noise": noise}},
        generator={"kind": "diffusers", "model": "pond", "revision": revision},
        tune={"budget": seconds, "trials": 3},
    )
    file = tmp_path_factory.getbasetemp() / "round.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    again = load_config(file)
    assert again == config
    assert again.fingerprint() == config.fingerprint()
    assert changed_keys(config, again) == ()


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make().tune.seed = 3  # type: ignore[misc]


def test_config_and_registry_name_the_same_kinds() -> None:
    assert set(module.GENERATOR_KINDS) == set(registry.KINDS)


def test_code_is_named() -> None:
    assert make().names_code() == ()
    custom = make(generator={"kind": "my.mod:Gen", "path": "x"}, embedder="my.mod:Emb")
    assert custom.names_code() == ("my.mod:Gen", "my.mod:Emb")
    assert custom.generator.as_spec() == {"kind": "my.mod:Gen", "path": "x"}


def test_reading_a_config_imports_nothing_heavy() -> None:
    code = (
        "import sys; from gapclose.loop.config.schema import load_config; load_config('pond');"
        "print([m for m in ('torch','diffusers','optuna','open_clip','transformers','fiftyone',"
        "'umap','sklearn','onnxruntime','plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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


CODE = """
real: {{path: photos}}
generator: {{kind: "{kind}"}}
embedder: "{embedder}"
judge: pond
space: {{prompt: "a {{class}}"}}
"""


def test_code_lies_beside_its_config_wherever_a_command_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    (folder / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    file = folder / "c.yaml"
    monkeypatch.chdir(elsewhere)
    file.write_text(CODE.format(kind="./world.py:Renderer", embedder="../nets.py:Encoder"))
    config = load_config(file)
    assert config.generator.kind == f"{folder}/world.py:Renderer"
    assert config.embedder == f"{tmp_path}/nets.py:Encoder"
    assert config.names_code() == (config.generator.kind, config.embedder)
    assert config.code_folder is None  # a file needs no folder to be found in

    (folder / "world").mkdir()
    file.write_text(CODE.format(kind="world.render:Renderer", embedder="pond-judge"))
    config = load_config(file)
    assert config.code_folder == str(folder)
    assert load_config(file, ["code_folder=null"]).code_folder is None
    assert load_config(file, ["code_folder=sub"]).code_folder == str(folder / "sub")
    # What the run keeps says where, and not that it lies in the run.
    kept = elsewhere / "config.yaml"
    kept.write_text(config.to_yaml())
    assert load_config(kept) == config
    # Another folder is other code.
    moved = load_config(file, ["code_folder=sub"])
    assert changed_keys(config, moved) == ("code_folder",)
    assert config.fingerprint() != moved.fingerprint()
    file.write_text(CODE.format(kind="installed.render:Renderer", embedder="pond-judge"))
    assert load_config(file).code_folder is None


def test_the_folder_of_code_shadows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    make().admit_code()
    assert str(tmp_path) not in sys.path
    config = make(code_folder=str(tmp_path))
    config.admit_code()
    config.admit_code()
    assert sys.path.count(str(tmp_path)) == 1
    assert sys.path[-1] == str(tmp_path)


def test_a_config_without_code_is_what_it_was() -> None:
    """Runs of before there was a `code_folder` go on."""
    assert "code_folder" in make().to_dict()
    flat = {k: v for k, v in module._flat(make().to_dict()).items() if k not in module.FREE_KEYS}
    del flat["code_folder"]
    text = json.dumps(flat, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert make().fingerprint() == hashlib.sha256(text.encode()).hexdigest()
