"""Export: the data set it leaves on disk, what it refuses, and that seeds are fresh."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import TRIAL
from make_run import Renderer, make_run, mixture_of
from PIL import Image

from gapclose.generators.camera import apply_camera
from gapclose.generators.errors import GenerationError
from gapclose.generators.recipe import Recipe
from gapclose.loop.errors import ConfigError
from gapclose.loop.export import drop_outdated, export
from gapclose.loop.exporting.data_set import unused_seeds, used_seeds
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.tags import write_tags

CODE = {"kind": "make_run:Renderer"}


def metadata(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A tuned run whose generator is the renderer; frog is confirmed, truck is not."""
    path = tmp_path_factory.mktemp("export") / "run"
    return make_run(path, classes=("frog", "truck"), per_class=10, config={"generator": CODE})


@pytest.fixture(scope="module")
def out(run: RunDir) -> Path:
    return export(run.path, run.path.parent / "out", per_class=25, trust=True)


def test_every_class_gets_its_images_by_largest_remainder(out: Path) -> None:
    rows = metadata(out)
    assert [len(list((out / cls).glob("*.png"))) for cls in ("frog", "truck")] == [25, 25]
    counts = {
        recipe.fingerprint(): sum(
            row["recipe_fingerprint"] == recipe.fingerprint() for row in rows
        )
        for recipe, _ in mixture_of("frog")
    }
    # 25 x (.35 .25 .2 .12 .08) = 8.75 6.25 5 3 2
    assert list(counts.values()) == [9, 6, 5, 3, 2]
    assert all((out / row["file_name"]).is_file() for row in rows)


def test_any_image_can_be_made_again_from_its_row(out: Path) -> None:
    generator = Renderer()
    for row in metadata(out)[::7]:
        recipe = Recipe.from_json(row["recipe"])
        assert recipe.fingerprint() == row["recipe_fingerprint"]
        assert (row["generator"], row["generator_revision"]) == (generator.id, "1")
        drawn = generator.generate(recipe.draw, [row["seed"]]).images[0]
        with Image.open(out / row["file_name"]) as image:
            made = apply_camera(recipe.camera, drawn, seed=row["seed"])
            assert np.array_equal(np.asarray(image), made)


def test_seeds_are_distinct_and_none_of_a_trial(run: RunDir, out: Path) -> None:
    used = {seed for trial in run.trials() for seed in trial["seeds"]}
    for cls in ("frog", "truck"):
        seeds = [row["seed"] for row in metadata(out) if row["label"] == cls]
        assert len(set(seeds)) == 25
        assert not used & set(seeds)


def identities(out: Path) -> dict[str, tuple[str, int]]:
    """File name -> what makes an image that image."""
    return {row["file_name"]: (row["recipe_fingerprint"], row["seed"]) for row in metadata(out)}


def test_the_images_that_confirmed_a_class_come_first(run: RunDir, out: Path) -> None:
    shown = {
        (row["recipe"], row["seed"]): run.resolve(row["path"])
        for row in run.samples()
        if row["stage"] == "tuned"
    }
    exported = identities(out)
    assert set(shown.values()) == {*run.path.glob("images/*/confirm-*/tuned/*.png")}
    again = {name: who for name, who in exported.items() if who in shown}
    assert len(again) == 20  # ten of each class
    for name, who in again.items():
        with Image.open(out / name) as image, Image.open(shown[who]) as original:
            assert np.array_equal(np.asarray(image), np.asarray(original))


def test_what_is_tagged_reject_is_left_out_and_made_up_for(
    run: RunDir, out: Path, tmp_path: Path
) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    copy = RunDir.open(tmp_path / "run")
    tuned = [row for row in copy.samples() if row["stage"] == "tuned"]
    rejected = tuned[2:5] + tuned[-2:]
    write_tags(copy, {row["path"]: ["reject", "ugly"] for row in rejected} | {"x": ["keep"]})
    before = identities(out)
    after = identities(export(copy.path, tmp_path / "out", per_class=25, trust=True))
    assert before.keys() == after.keys()
    gone = {(row["recipe"], row["seed"]) for row in rejected}
    changed = {name for name in before if before[name] != after[name]}
    assert {before[name] for name in changed} == gone  # exactly those, each in its own place
    assert not {after[name] for name in changed} & {*before.values()}
    assert [before[name][0] for name in changed] == [after[name][0] for name in changed]


@pytest.mark.parametrize("way", ["absolute", "upwards", "link", "torn"])
def test_no_file_but_the_runs_own_images_is_exported(
    run: RunDir, tmp_path: Path, way: str
) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    secret = tmp_path / "secret.png"
    Image.new("RGB", (32, 32), (1, 2, 3)).save(secret)
    (tmp_path / "run/images/link.png").symlink_to(secret)
    (tmp_path / "run/images/torn.png").write_bytes(secret.read_bytes()[:40])
    name = {
        "absolute": str(secret),
        "upwards": "images/../../secret.png",
        "link": "images/link.png",
        "torn": "images/torn.png",
    }[way]
    rows = [row | ({"path": name} if row["stage"] == "tuned" else {}) for row in run.samples()]
    RunDir.open(tmp_path / "run").write_samples(rows)
    out = export(tmp_path / "run", tmp_path / "out", per_class=5, trust=True)
    for path in out.rglob("*.png"):
        with Image.open(path) as image:
            assert len(image.getcolors() or range(9)) > 1


def test_seeds_step_over_what_any_shape_of_trial_used(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2)

    def first(n: int) -> list[int]:
        seeds = unused_seeds("frog", run_seed=run.config().tune.seed, used=used_seeds(run))
        return [*itertools.islice(seeds, n)]

    plain = first(6)
    jobs = [{"recipe": {"draw": {"prompt": "x"}}, "seeds": plain[1:3]}]
    run.append_line("trials.jsonl", {**TRIAL, "jobs": jobs})
    run.append_line("trials.jsonl", {**TRIAL, "class": "cat", "seeds": plain[:1]})
    stray = run.image_path("frog", "ab", plain[4])
    stray.parent.mkdir(parents=True)
    stray.touch()
    assert first(2) == [plain[3], plain[5]]


def test_images_carry_where_they_come_from(out: Path) -> None:
    for row in metadata(out)[::10]:
        with Image.open(out / row["file_name"]) as image:
            assert "digitalsourcetype/digitalCreation" in str(image.info["XML:com.adobe.xmp"])
    card = (out / "README.md").read_text()
    assert "licence: apache-2.0" in card
    assert "| frog | 25 | 5 |" in card


def test_classes_that_are_not_confirmed_say_so(
    run: RunDir, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        out = export(run.path, tmp_path / "out", per_class=2, trust=True)
    said = ["exported with confirmed: false: truck: open"]
    assert [r.message for r in caplog.records] == said
    assert {row["label"]: row["confirmed"] for row in metadata(out)} == {
        "frog": True,
        "truck": False,
    }
    only = export(run.path, tmp_path / "only", per_class=2, only_confirmed=True, trust=True)
    assert {row["label"] for row in metadata(only)} == {"frog"}


def test_what_another_generator_confirmed_is_not_confirmed(
    run: RunDir, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gap = run.read_json("gap.json")
    shown = {row["seed"] for row in run.samples() if row["stage"] == "tuned"}
    for before, confirmed in (
        ("pond-renderer (1)", True),
        ("pond-renderer (2)", False),
        ("another (1)", False),
    ):
        rows = [row | {"generator": before} for row in gap["classes"]]
        run.write_json("gap.json", gap | {"classes": rows})
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            made = metadata(export(run.path, tmp_path / before, per_class=6, trust=True))
        frogs = [row for row in made if row["label"] == "frog"]
        assert {row["confirmed"] for row in frogs} == {confirmed}
        assert bool({row["seed"] for row in frogs} & shown) == confirmed
        assert ("is another generator" in caplog.text) != confirmed
    with pytest.raises(ConfigError, match="no class is confirmed with this generator"):
        export(run.path, tmp_path / "none", per_class=1, only_confirmed=True, trust=True)
    run.write_json("gap.json", gap)


def test_a_shortcut_between_the_classes_is_said_once_more(
    run: RunDir, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    figures = {"real": 0.3, "synthetic": 0.9, "by_real_rule": 0.5}
    objection = "noise tells the classes; frog is noisier"
    found = {"feature": "noise", "objection": objection, **figures}
    run.write_json("gap.json", run.read_json("gap.json") | {"shortcuts": [found]})
    with caplog.at_level(logging.WARNING):
        export(run.path, tmp_path / "out", per_class=2, trust=True)
    said = [r.message for r in caplog.records]
    assert any(m.startswith("Noise tells the classes; frog is noisier. ") for m in said), said


def test_what_confirmed_a_class_that_nothing_was_tried_for_is_drawn_anew(
    run: RunDir, tmp_path: Path
) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    copy = RunDir.open(tmp_path / "run")
    tuned = [row["seed"] for row in copy.samples() if row["stage"] == "tuned"]
    for cls in ("frog", "truck"):
        copy.append_line("trials.jsonl", {**TRIAL, "class": cls, "seeds": tuned})
    rows = metadata(export(copy.path, tmp_path / "out", per_class=10, trust=True))
    assert not {row["seed"] for row in rows} & {*tuned}


def test_without_a_mixture_the_baseline_is_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2, config={"generator": CODE})
    (run.path / "mixtures.json").unlink()
    rows = metadata(export(run.path, tmp_path / "a", per_class=3, trust=True))
    assert {row["recipe"]["draw"]["prompt"] for row in rows} == {"a photo of a frog"}
    (run.path / "trials.jsonl").unlink()
    rows = metadata(export(run.path, tmp_path / "b", per_class=3, trust=True))
    assert {row["recipe"]["draw"]["prompt"] for row in rows} == {"a photo of a frog"}


def test_invalid_images_make_way_for_other_seeds(tmp_path: Path) -> None:
    config = {"generator": CODE | {"spoil": 3}}
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2, config=config)
    out = export(run.path, tmp_path / "out", per_class=20, trust=True)
    seeds = [row["seed"] for row in metadata(out)]
    assert len(seeds) == 20
    assert all(seed % 3 for seed in seeds)


def test_a_generator_that_gives_nothing_usable_ends_it_with_nothing_written(
    tmp_path: Path,
) -> None:
    config = {"generator": CODE | {"spoil": 1}}
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2, config=config)
    with pytest.raises(GenerationError, match="cannot be used"):
        export(run.path, tmp_path / "out", per_class=5, trust=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-real"]


def test_the_same_export_twice_is_the_same(run: RunDir, out: Path, tmp_path: Path) -> None:
    again = export(run.path, tmp_path / "again", per_class=25, trust=True)
    names = [path.relative_to(out) for path in sorted(out.rglob("*")) if path.is_file()]
    assert len(names) == 52
    assert all((out / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_code_of_a_run_made_elsewhere_is_not_imported_without_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"generator": {"kind": "no_such_module:Thing"}}
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2, config=config)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another user's"))
    with pytest.raises(ConfigError, match=r"no_such_module:Thing.*--trust"):
        export(run.path, tmp_path / "out", per_class=1)


def test_a_folder_with_something_in_it_is_left_alone(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(ConfigError, match="not empty"):
        export(run.path, tmp_path / "out", per_class=1, trust=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert export(run.path, tmp_path / "empty", per_class=1, trust=True).is_dir()


def test_where_an_export_goes(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    out = export(run.path, tmp_path / "link", per_class=1, trust=True)
    assert (tmp_path / "link").is_symlink()
    assert (out, (tmp_path / "disk" / "metadata.jsonl").is_file()) == (tmp_path / "disk", True)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ConfigError, match="name a new folder in it"):
        export(run.path, Path(), per_class=1, trust=True)


@pytest.mark.parametrize(
    "where", ["images", "images/frog/x", "real", "validation/x", "embeddings"]
)
def test_an_export_among_a_runs_own_files_is_refused(
    run: RunDir, tmp_path: Path, where: str
) -> None:
    before = sorted(run.path.rglob("*"))
    (tmp_path / "link").symlink_to(run.path)
    for out in (run.path / where, tmp_path / "link" / where, run.path / "export" / ".." / where):
        with pytest.raises(ConfigError, match="lies among the run's own files; name another"):
            export(run.path, out, per_class=1, trust=True)
    assert sorted(run.path.rglob("*")) == before


def test_an_export_goes_once_the_run_has_other_mixtures(run: RunDir, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    made, out = tmp_path / "run" / "mixtures.json", tmp_path / "run" / "export"
    (tmp_path / "disk").mkdir()
    out.symlink_to(tmp_path / "disk")
    drop_outdated(made.parent, out)  # there is none yet
    export(run.path, out, per_class=1, trust=True)
    os.utime(made, (1.0, 1.0))
    drop_outdated(made.parent, out)
    assert (out / "metadata.jsonl").is_file()
    os.utime(made)
    os.utime(out / "README.md", (1.0, 1.0))
    (out / "metadata.jsonl").rename(out / "mine.txt")
    drop_outdated(made.parent, out)
    assert (out / "mine.txt").is_file()
    (out / "mine.txt").rename(out / "metadata.jsonl")
    drop_outdated(made.parent, out)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert out.is_symlink()


def test_a_link_in_a_run_from_elsewhere_leads_to_no_export_that_goes(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    for name in ("README.md", "metadata.jsonl"):
        (precious / name).touch()
        os.utime(precious / name, (1.0, 1.0))
    (tmp_path / "link").symlink_to(precious)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another user's"))
    drop_outdated(run.path, tmp_path / "link")
    assert len([*precious.iterdir()]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"per_class": 0}, "per-class: got 0"),
        ({"image_format": "imagefoldr"}, "did you mean imagefolder"),
    ],
)
def test_wrong_arguments(
    run: RunDir, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"per_class": 1, "trust": True} | change
    with pytest.raises(ConfigError, match=message):
        export(run.path, tmp_path / "out", **arguments)


def test_a_class_that_would_leave_the_folder_stays_in_it(run: RunDir, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    gap = json.loads((run.path / "gap.json").read_text())
    gap["classes"][0]["name"] = "../frog"
    (tmp_path / "run" / "gap.json").write_text(json.dumps(gap))
    out = export(tmp_path / "run", tmp_path / "a" / "out", per_class=1, trust=True)
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    made = {row["label"]: row["file_name"] for row in metadata(out)}
    assert made["../frog"] == "%2E.%2Ffrog/00000.png"
    assert {str(path.relative_to(out)) for path in out.glob("*/*")} == {*made.values()}


def test_nothing_confirmed_is_nothing_to_export(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", classes=("truck",), per_class=2, config={"generator": CODE})
    with pytest.raises(ConfigError, match="without --only-confirmed"):
        export(run.path, tmp_path / "out", per_class=1, only_confirmed=True, trust=True)
