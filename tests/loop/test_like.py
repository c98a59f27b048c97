"""`tune --like`: a run that begins with what another ended with, through the real command line."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import modes
import numpy as np
import pytest
from rig import command, finished, here, quick, written

from gapclose.generators.pond.renderer import write_real
from gapclose.loop.config.reading import load_config
from gapclose.loop.photos import Photos
from gapclose.loop.progress.narration import narrate
from gapclose.loop.report.run_view import Run
from gapclose.loop.report.status import read_status
from gapclose.loop.run.events import Event, MixturesGiven, TrialProposed
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import read_journal
from gapclose.loop.run.notices import Notice
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.run.state import RunState
from gapclose.loop.session import warn_of_left_out
from gapclose.loop.tuning import _warn_of_searched, tune
from gapclose.loop.work.real_data import open_real_data

SEED = {"budget": None, "trials": 7, "images_per_trial": 8, "seed": 1}


@pytest.fixture(scope="module")
def first(photos: Path) -> RunDir:
    """A run of frogs and ships."""
    config = written(photos.parent / "first.yaml", photos)
    code, err = here("tune", config, "--out", photos.parent / "first")
    assert code == 0, err
    return RunDir.open(photos.parent / "first")


@pytest.fixture(scope="module")
def config(photos: Path) -> Path:
    """Another seed and other photos of frogs; no run that the first knows has cats."""
    folder = photos.parent / "others"
    write_real(folder, per_class=60, classes=("frog", "cat"), seed=1)
    return written(photos.parent / "second.yaml", folder, classes=["frog", "cat"], tune=SEED)


@pytest.fixture(scope="module")
def mixtures(first: RunDir) -> Path:
    out = first.path.parent / "mixtures.yaml"
    code, err = here("export", first.path, out)
    assert code == 0, err
    return out


class Listener(SilentReporter):
    """Keeps what a person would read."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def follow(self, event: Event, state: RunState) -> None:
        self.said += narrate(event, state)

    def tell(self, notice: Notice) -> None:
        self.said += narrate(notice)


@pytest.fixture(scope="module")
def second(config: Path, mixtures: Path) -> tuple[RunDir, list[str]]:
    """A run that nothing disturbed, and what it said."""
    listener = Listener()
    with quick():
        run = tune(
            load_config(config), out=config.parent / "second", like=mixtures, reporter=listener
        )
    return RunDir.open(run.path), listener.said


def test_its_first_trials_are_of_the_mixture_that_was_given(
    first: RunDir, second: tuple[RunDir, list[str]]
) -> None:
    run, said = second
    assert "frog begins with the mixture of first" in said
    assert "warning: first has mixtures of classes that this run does not have: ship" in said
    stages = {
        name: [row["stage"] for row in Run.open(run.path).trials if row["class"] == name]
        for name in ("frog", "cat")
    }
    assert stages["frog"][:2] == ["baseline", "given"]
    assert "settings" not in stages["frog"]
    assert "given" not in stages["cat"], "a class without a mixture starts cold"
    won = {
        part["recipe"]["draw"]["prompt"]
        for part in first.read_json("mixtures.json")["classes"]["frog"]["recipes"]
    }
    tried = [row for row in Run.open(run.path).trials if row["stage"] == "given"]
    assert {job["recipe"]["draw"]["prompt"] for row in tried for job in row["jobs"]} <= won
    events = [*read_journal(run.journal_path)]
    (given,) = [number for number, e in enumerate(events) if isinstance(e, MixturesGiven)]
    assert given < min(n for n, e in enumerate(events) if isinstance(e, TrialProposed))
    assert read_status(run.path).to_json()["given"] == "first"
    assert "the mixtures of first" in (run.path / "report.html").read_text()
    assert "given" not in read_status(first.path).to_json()
    assert "like" not in run.config_path.read_text()


@pytest.mark.slow
def test_killed_it_goes_on_as_it_would_have_with_and_without_being_told_again(
    first: RunDir, config: Path, mixtures: Path, second: tuple[RunDir, list[str]]
) -> None:
    out = config.parent / "like-killed"
    for death, words in (
        ("gapclose.loop.run.journal:Journal.append:before:4", ["--like", mixtures]),
        ("gapclose.loop.run.journal:Journal.append:after:9", ["--like", first.path]),
        ("gapclose.loop.work.synthesis:Synthesis.embed:before:2", []),
    ):
        process = command("tune", config, "--out", out, *words, KILL_AT=death)
        code, err = finished(process)
        assert code == -signal.SIGKILL, (death, err)
    code, err = here("tune", config, "--out", out, "--like", first.path)
    assert code == 0, err
    ours, theirs = Run.open(out).trials, Run.open(second[0].path).trials
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        timeless = set(mine) - {"seconds"}
        assert {k: mine[k] for k in timeless} == {k: other[k] for k in timeless}
    assert (out / "mixtures.json").read_bytes() == (second[0].path / "mixtures.json").read_bytes()


def test_a_run_that_has_begun_takes_no_other_mixtures(
    first: RunDir, config: Path, mixtures: Path, second: tuple[RunDir, list[str]], photos: Path
) -> None:
    def contents(run: Path) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    other = mixtures.with_name("other.yaml")
    other.write_text(mixtures.read_text().replace("frog:", "toad:", 1))
    cold = photos.parent / "first.yaml"
    for run, words, said in (
        (second[0], [config, "--like", other], "has begun with other mixtures, those of first"),
        (first, [cold, "--like", mixtures], "has begun without mixtures of another"),
    ):
        before = contents(run.path)
        code, err = here("tune", *words, "--out", run.path)
        assert code == 2, err
        (line,) = [line for line in err.splitlines() if line.startswith("error")]
        assert said in line
        assert contents(run.path) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such run folder, nor YAML file of mixtures"),
        ("real: {path: x}", "expected the YAML of mixtures"),
        ("schema: 1\nclasses: {frog: {recipes: [{wieght: 1, prompt: a}]}}", "did you mean weight"),
        (
            "schema: 1\nclasses: {forg: {recipes: [{weight: 1, prompt: a}]}}",
            "like.yaml has mixtures of forg, and none of frog, cat, the classes of this run",
        ),
    ],
)
def test_what_cannot_be_begun_with_is_one_line_before_anything_is_written(
    tmp_path: Path, config: Path, text: str | None, said: str
) -> None:
    like = tmp_path / "like.yaml"
    if text is not None:
        like.write_text(text)
    code, err = here("tune", config, "--out", tmp_path / "run", "--like", like)
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line]
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "run").exists()


def test_recipes_that_this_run_has_no_photos_for_are_said_to_be_left_out() -> None:
    rows = (
        {"weight": 0.5, "prompt": "{captions of group 1}", "photos": "group 1"},
        {"weight": 0.5, "prompt": "a gray frog"},
    )
    given = MixturesGiven(source="pond", mixtures={"frog": rows, "toad": rows[1:]})
    search = modes.make_search(modes.rows_of("gray", 40, np.random.default_rng(0)))
    listener = Listener()
    warn_of_left_out(given, {"frog": search, "toad": search, "newt": search}, listener)
    (line,) = listener.said
    assert line.startswith("warning: frog: 1 of the 2 recipes that it was given take captions")
    words = {**search.space.words, "photos": ("all photos",)}
    (part,) = search.space.parts
    parts = (replace(part, fixed={"strength": 0.8}),)
    pictures = replace(search.space, groups={"all photos": "0a"}, words=words, parts=parts)
    search.state.space = pictures  # which takes photos, but no captions
    warn_of_left_out(given, {"frog": search}, listener)
    assert listener.said == [line, line]
    captions = replace(pictures, words={**words, "prompt": ("{caption}",)})
    search.state.space = captions
    warn_of_left_out(given, {"frog": search}, listener)
    assert listener.said == [line, line]


def test_photos_that_the_other_run_has_searched_with_are_said_to_confirm_nothing(
    first: RunDir, tmp_path: Path
) -> None:
    config = load_config(first.config_path)
    for seed in (0, 1):  # on the folds that judged it, and on others
        other = config.model_copy(update={"tune": config.tune.model_copy(update={"seed": seed})})
        photos = Photos.check(other, RunDir(tmp_path), SilentReporter())
        images = photos.ready(other, RunDir(tmp_path), SilentReporter())
        real, _, _ = open_real_data(
            images, photos.classes, config=other, reporter=SilentReporter(), loaded={}
        )
        listener = Listener()
        _warn_of_searched(first.path, real, listener)
        assert len(listener.said) == 2
        assert all("that first searched or was judged with" in line for line in listener.said)
    listener = Listener()
    _warn_of_searched(first.config_path, real, listener)  # a file says nothing of photos
    assert listener.said == []
