"""Mixtures between runs: a run folder and the YAML of its mixtures say the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from histories import proposed
from make_run import make_run, mixture_of
from pond_config import pond_config

from gapclose.loop.errors import ConfigError
from gapclose.loop.export import export
from gapclose.loop.exporting.mixtures import (
    check_given,
    check_usable,
    mixtures_of,
    read_given,
    write_mixtures,
)
from gapclose.loop.run.events import MixturesGiven, RunStarted
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import Journal


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A tuned run; frog is confirmed, truck is not."""
    path = tmp_path_factory.mktemp("mixtures") / "night"
    return make_run(path, classes=("frog", "truck"), per_class=10)


def test_a_run_s_mixtures_are_those_of_its_verdicts(run: RunDir) -> None:
    file = mixtures_of(run.path)
    assert (file.run, file.generator, file.embedder) == ("night", "diffusers:pond", "pond")
    assert [*file.classes] == ["frog", "truck"]
    assert [its.confirmed for its in file.classes.values()] == [True, False]
    rows = {row["name"]: row for row in run.read_json("gap.json")["classes"]}
    assert file.classes["frog"].ratio == pytest.approx(rows["frog"]["ratio"], abs=0.005)
    recipes = file.classes["frog"].recipes
    assert [(r.prompt, r.weight) for r in recipes] == [
        (recipe.draw.prompt, pytest.approx(weight, abs=1e-4))
        for recipe, weight in mixture_of("frog")
    ]


def test_the_yaml_says_what_the_run_says_and_is_written_once(run: RunDir, tmp_path: Path) -> None:
    out = tmp_path / "new" / "night.yaml"
    assert export(run.path, out) == out
    assert read_given(out) == read_given(run.path)
    assert read_given(out).source == "night"
    assert [path.name for path in out.parent.iterdir()] == ["night.yaml"]
    before = out.read_bytes()
    with pytest.raises(ConfigError, match=r"night\.yaml: exists; name a new file"):
        export(run.path, out)
    assert out.read_bytes() == before
    # Renamed and edited by hand it is another's.
    other = tmp_path / "mine.yml"
    other.write_text(out.read_text().replace("run: night\n", ""))
    assert read_given(other).source == "mine.yml"


def test_only_confirmed_classes_may_be_written(run: RunDir, tmp_path: Path) -> None:
    write_mixtures(run.path, tmp_path / "x.yaml", only_confirmed=True)
    assert [*read_given(tmp_path / "x.yaml").mixtures] == ["frog"]
    gap = run.read_json("gap.json")
    for row in gap["classes"]:
        row["confirmed"] = False
    shutil.copytree(run.path, tmp_path / "open")
    (tmp_path / "open" / "gap.json").write_text(json.dumps(gap))
    with pytest.raises(ConfigError, match="no class is confirmed"):
        write_mixtures(tmp_path / "open", tmp_path / "y.yaml", only_confirmed=True)


@pytest.mark.parametrize(
    "option",
    [
        *({"per_class": 3}, {"purpose": "scratch"}, {"balance": True}, {"per_group": 2}),
        *({"real": Path("photos")}, {"with_real": "link"}, {"image_format": "zip"}),
    ],
    ids=lambda option: next(iter(option)),
)
def test_what_says_anything_of_images_is_refused(
    run: RunDir, tmp_path: Path, option: dict[str, Any]
) -> None:
    (name,) = option
    said = {"purpose": "--for", "image_format": "--format"}.get(
        name, "--" + name.replace("_", "-")
    )
    with pytest.raises(ConfigError, match=f"^{said}: is for images"):
        export(run.path, tmp_path / "out.yaml", **option)
    assert list(tmp_path.iterdir()) == []


def test_no_place_on_this_machine_is_in_it(tmp_path: Path) -> None:
    model, weights = tmp_path / "models" / "sd", tmp_path / "weights" / "clip.onnx"
    model.mkdir(parents=True)
    config = {
        "generator": {"kind": "diffusers", "model": str(model)},
        "embedder": f"onnx:{weights}",
    }
    run = make_run(tmp_path / "run", classes=("frog",), per_class=4, config=config)
    file = mixtures_of(run.path)
    assert (file.generator, file.embedder) == ("diffusers:sd", "onnx:clip.onnx")
    assert str(tmp_path) not in file.to_yaml()


def test_what_is_neither_a_tuned_run_nor_its_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such run folder, nor YAML"):
        read_given(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"is no run \(no config.yaml\)"):
        read_given(tmp_path)
    audit = make_run(tmp_path / "audit", classes=("frog",), per_class=4, tuned=False)
    with pytest.raises(ConfigError, match="was audited, not tuned"):
        read_given(audit.path)
    begun = RunDir(tmp_path / "begun")
    shutil.copytree(audit.path, begun.path)
    Journal(begun.journal_path).append(RunStarted(run="a"), used=0.0)
    with pytest.raises(ConfigError, match=r"nothing was measured yet \(no mixtures.json\)"):
        read_given(begun.path)


ROWS = ({"weight": 0.1 + 0.2, "prompt": "a frog", "camera": {"noise": 1 / 3}},)
GIVEN = MixturesGiven(source="pond", mixtures={"frog": ROWS})


def test_a_run_goes_on_with_what_it_has_begun_with_alone(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    check_given(run, GIVEN)  # nothing has begun
    journal = Journal(run.journal_path)
    journal.append(RunStarted(run="a"), used=0.0)
    check_given(run, GIVEN)
    journal.append(GIVEN, used=0.0)
    journal.append(proposed(number=0, stage="baseline"), used=0.0)
    # From a file of another name, but with the same in it.
    check_given(run, GIVEN.model_copy(update={"source": "pond.yaml"}))
    other = GIVEN.model_copy(update={"mixtures": {"frog": ({"weight": 1.0, "prompt": "a"},)}})
    with pytest.raises(ConfigError, match=r"has begun with other mixtures, those of pond; leave"):
        check_given(run, other)
    cold = RunDir(tmp_path / "cold")
    cold.path.mkdir()
    Journal(cold.journal_path).append(proposed(number=0, stage="baseline"), used=0.0)
    with pytest.raises(ConfigError, match="has begun without mixtures of another; leave --like"):
        check_given(cold, GIVEN)


def given_of(**schedulers: str | None) -> MixturesGiven:
    return MixturesGiven(
        source="night",
        mixtures={
            cls: ({"weight": 1.0, "prompt": f"a {cls}", "scheduler": scheduler},)
            for cls, scheduler in schedulers.items()
        },
    )


def test_mixtures_that_a_run_could_not_use_are_refused() -> None:
    config, given = pond_config(), given_of(frog="ddim", ship=None, truck="euler")
    assert check_usable(given, config, ["cat", "frog"]) == ("ship", "truck")
    with pytest.raises(ConfigError, match=r"night has mixtures of frog, ship, truck, and none of"):
        check_usable(given, config, ["cat", "dog"])
    for scheduler, said in (
        (
            "ddimm",
            r"--like: night: classes\.frog\.recipes\[0\]\.scheduler: .*did you mean",
        ),
        ("flow_euler", r"--like: night: .*flow_euler"),  # which the pond's pipeline cannot use
    ):
        with pytest.raises(ConfigError, match=said):
            check_usable(given_of(frog=scheduler), config, ["frog"])
        assert check_usable(given_of(frog="ddim", ship=scheduler), config, ["frog"]) == ("ship",)
    slow = given_of(frog=None)
    slow.mixtures["frog"][0]["num_inference_steps"] = 10**5
    with pytest.raises(ConfigError, match=r"recipes\[0\]\.num_inference_steps: got 1"):
        check_usable(slow, config, ["frog"])
    # A generator of one's own has names of its own.
    own = pond_config(generator={"kind": "painter:Painter"})
    assert check_usable(given_of(frog="ddimm"), own, ["frog"]) == ()
    assert check_usable(slow, own, ["frog"]) == ()
