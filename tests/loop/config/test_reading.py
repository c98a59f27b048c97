"""Files, what ships, overrides, and what is written back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pond_config import POND, pond_config

from gapclose.loop.config.identity import changed_keys, fingerprint
from gapclose.loop.config.reading import load_config, packaged_config
from gapclose.loop.errors import ConfigError


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


def test_the_file_and_line_of_broken_yaml_are_named(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("real: {path: a}\nembedder: [\n")
    with pytest.raises(ConfigError, match=r"c\.yaml, line 3: this is no YAML"):
        load_config(file)
    file.write_text("embedder: pond\nembedder: other\n")
    with pytest.raises(ConfigError, match=r"line 2.*embedder stands here twice"):
        load_config(file)
    for text in ('real:\n  path: "a\\udcff"\n', 'real: {}\n"\\ude00\\ud83d": 1\n'):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"line 2: .*an escape of half a character"):
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
    file.write_text(yaml.safe_dump(POND))
    changes = ["tune.seed=3", "tune.seed=4", "classes=[frog, ship]", "tune.budget=1h30m"]
    config = load_config(file, [*changes, "space.slots.color=['', red]", "judge=null"])
    assert config.tune.seed == 4
    assert config.classes == ("frog", "ship")
    assert config.tune.budget == 5400
    assert config.space.slots == {"color": ("", "red")}
    assert config.judge == ()
    assert load_config(file, ["tune.seed=08"]).tune.seed == 8  # no octal
    for bad in ("tune.seed", "=3", "embedder.x=1", "tune..seed=1", f"tune.seed={'9' * 5000}"):
        with pytest.raises(ConfigError, match="--set"):
            load_config(file, [bad])
    with pytest.raises(ConfigError, match=r"tune.sed is no key here; did you mean seed"):
        load_config(file, ["tune.sed=3"])


def test_a_mistake_is_placed_where_it_was_made(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(POND | {"tune": {"sed": 1}}))
    with pytest.raises(ConfigError, match=rf"^{file}: tune.sed is no key"):
        load_config(file, ["judge=null"])
    file.write_text(yaml.safe_dump(POND))
    for change in ("tune.sed=3", "tune={sed: 3}", "space.guidance_scale=[a, 1]"):
        with pytest.raises(ConfigError) as error:
            load_config(file, ["tune.seed=1", change])
        assert str(error.value).startswith(f"--set {change}: ")


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
    config = pond_config(
        space={"slots": slots, "guidance_scale": guidance, "camera": {"noise": noise}},
        generator={"kind": "diffusers", "model": "pond", "revision": revision},
        tune={"budget": seconds, "trials": 3},
    )
    file = tmp_path_factory.getbasetemp() / "round.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    again = load_config(file)
    assert again == config
    assert fingerprint(again) == fingerprint(config)
    assert changed_keys(config, again) == ()


def test_reading_a_config_imports_nothing_heavy() -> None:
    code = (
        "import sys; from gapclose.loop.config.reading import load_config; load_config('pond');"
        "print([m for m in ('torch','diffusers','optuna','open_clip','transformers','fiftyone',"
        "'umap','sklearn','onnxruntime','plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
    assert fingerprint(config) != fingerprint(moved)
    file.write_text(CODE.format(kind="installed.render:Renderer", embedder="pond-judge"))
    assert load_config(file).code_folder is None


def test_where_a_mistake_stands_is_evidence(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("embedder: pond\nembedder: other\n")
    with pytest.raises(ConfigError) as told:
        load_config(file)
    assert (told.value.where, told.value.line) == (str(file), 2)
    file.write_text("embedder: pond\n")
    with pytest.raises(ConfigError) as told:
        load_config(file, ["embedder.x=1"])
    assert (told.value.where, told.value.key) == ("--set embedder.x=1", "embedder")
