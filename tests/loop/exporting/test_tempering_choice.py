"""The choice of a tempering: what is trained on what, that it goes on, and what it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_run import Renderer, make_run
from numpy.typing import NDArray

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.embedding import make_embedder
from gapclose.analysis.image_folder import digest, split
from gapclose.generators.conditioning import FromPhotos
from gapclose.generators.images import SAFETY, ImageBatch
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.errors import ConfigError, RunBusyError
from gapclose.loop.exporting import tempering_choice
from gapclose.loop.exporting.plan import class_plans
from gapclose.loop.exporting.real_photos import read_real
from gapclose.loop.exporting.tempering import TEMPERING, Tempering
from gapclose.loop.exporting.tempering_choice import choose_tempering, smallest_as_good
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.lock import lock
from gapclose.loop.run.notices import Notice, Task, TaskStarted
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.validation import classifiers
from gapclose.loop.work.sides import photo_id

CLASSES = ("frog", "truck")
IMAGES = 20  # of a class that networks are trained on
NOUNS = {"frog": ["frog", "truck"]}  # half of the frogs' prompts make trucks


class Network:
    """A classifier that remembers what it was trained on, and knows the truth of no photo."""

    id = "cnn"
    seeded = True

    def __init__(self) -> None:
        self.fits: list[tuple[int, ...]] = []
        self.tested: set[int] = set()
        self.stops_after = 1_000

    def prepare(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
        """A number that tells an image from others."""
        return np.array([hash(image.tobytes()) for image in images])

    def fit(
        self, x: NDArray[Any], labels: NDArray[Any], *, classes: int, seed: int
    ) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
        if len(self.fits) >= self.stops_after:
            raise KeyboardInterrupt
        self.fits.append(tuple(map(int, x)))
        assert np.bincount(labels).tolist() == [IMAGES] * classes

        def predict(rows: NDArray[Any]) -> NDArray[np.float32]:
            self.tested = {int(row) for row in rows}
            right = np.repeat(np.arange(classes), len(rows) // classes + 1)[: len(rows)]
            return np.eye(classes, dtype=np.float32)[right]

        return predict


class Flagging(Renderer):
    """Its safety checker flags whatever is blue."""

    id = "flagging"

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        batch = super().generate(draw, seeds)
        return replace(batch, invalid=(SAFETY,) * len(seeds)) if "blue" in draw.prompt else batch


class Listening(SilentReporter):
    """A reporter that remembers the tasks that it was told of, in their order."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def tell(self, notice: Notice) -> None:
        if isinstance(notice, TaskStarted) and notice.task not in self.tasks:
            self.tasks.append(notice.task)


def made_run(path: Path, *colors: str, **space: Any) -> RunDir:
    config = {
        "generator": {"kind": "make_run:Renderer"},
        "space": {
            "prompt": "a photo of a {color} {class}",
            "slots": {"color": ["", *colors]},
            **space,
        },
    }
    return make_run(path, classes=CLASSES, per_class=80, config=config)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return made_run(tmp_path_factory.mktemp("choice") / "run", "green", "brown", nouns=NOUNS)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network()


def choose(run: RunDir, generator: Renderer | None = None, **how: Any) -> Tempering:
    plans = class_plans(run, only_confirmed=False)
    how = {"per_class": IMAGES, "reporter": SilentReporter()} | how
    return choose_tempering(run, plans, generator or Renderer(), **how)


@pytest.fixture(scope="module")
def chosen(run: RunDir, network: Network) -> Tempering:
    """Chosen after an interruption."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "make_classifier", lambda *_, **__: network)
        network.stops_after = 7
        with pytest.raises(KeyboardInterrupt):
            choose(run)
        assert not run.has(TEMPERING)
        network.stops_after = 1_000
        return choose(run)


def test_a_choice_that_was_interrupted_trains_nothing_twice(
    chosen: Tempering, network: Network
) -> None:
    assert len(network.fits) == 15  # five shares, three seeds
    assert [*chosen.accuracies] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert chosen.images == IMAGES


def test_blends_are_quarters_of_the_same_images(chosen: Tempering, network: Network) -> None:
    tuned, *blends, even = [{*images} for images in network.fits[:5]]
    assert not tuned & even
    for quarters, blend in enumerate(blends, start=1):
        assert blend <= tuned | even
        assert len(blend & even) == quarters * len(even) // 4


def test_photos_are_those_of_the_tune_split(
    chosen: Tempering, run: RunDir, network: Network
) -> None:
    real = run.path.parent / "run-real"
    tune = [
        path
        for cls in CLASSES
        for path in split(sorted((real / cls).glob("*.png")), confirm_share=0.5, seed=0)[0]
    ]
    assert 0 < chosen.photos <= len(tune)
    assert len(network.tested) == chosen.photos
    assert network.tested <= {int(row) for row in network.prepare([*map(read_rgb, tune)])}


class Photos:
    """A group of the first photos of a class, by name; each seed is given one of them."""

    def __init__(self, run: RunDir, n: int) -> None:
        paths = sorted((run.path.parent / "run-real" / "frog").glob("*.png"))
        tune = split(paths, confirm_share=0.5, seed=0)[0]
        self.names = [photo_id(bytes.fromhex(digest(path))) for path in tune[:n]]
        self.used = tune[:n]

    def pick(self, group: str, seed: int) -> str:
        return self.names[seed % len(self.names)]

    def caption(self, group: str, photo: str) -> str:
        return "brown"

    def pixels(self, group: str, photo: str) -> NDArray[np.uint8]:
        raise AssertionError("captions need no picture")


@pytest.mark.parametrize("n", [8, 25])
def test_photos_that_images_owe_their_captions_to_are_not_tested_on(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    run = made_run(tmp_path / "run", "green")
    photos = Photos(run, n)
    plans = class_plans(run, only_confirmed=False)
    captioned = Draw(prompt="a {caption} frog", photos="abcdef")
    recipes = (Recipe(draw=captioned, camera=Camera()),)
    plans = [
        replace(plan, recipes=recipes, weights=(1.0,)) if plan.name == "frog" else plan
        for plan in plans
    ]
    monkeypatch.setattr(classifiers, "make_classifier", lambda *_, **__: network)

    def choose() -> Tempering:
        generator = FromPhotos(Renderer(), photos)
        return choose_tempering(run, plans, generator, per_class=IMAGES, reporter=SilentReporter())

    if n == 25:  # most of them are used, and too few others are left
        monkeypatch.setattr(tempering_choice, "FEWEST_TO_TEST", 30)
        assert choose().photos == 2 * 45
        return
    chosen = choose()
    used = {int(row) for row in network.prepare([*map(read_rgb, photos.used)])}
    assert not network.tested & used
    assert len(network.tested) == chosen.photos == 2 * 45 - 8


def test_prompts_that_show_another_class_are_left_out(chosen: Tempering) -> None:
    assert set(chosen.lost) == {"frog"}
    assert sorted(chosen.lost["frog"]) == [
        f"a photo of a {color}truck" for color in ("brown ", "green ", "")
    ]


def test_prompts_whose_every_image_is_invalid_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export would look for a valid one in vain; the network sees that no image is missing."""
    run, listening = made_run(tmp_path / "run", "green", "blue"), Listening()
    monkeypatch.setattr(classifiers, "make_classifier", lambda *_, **__: Network())
    chosen = choose(run, Flagging(), reporter=listening)
    assert chosen.lost == {cls: (f"a photo of a blue {cls}",) for cls in CLASSES}
    *_, labels, images, training = listening.tasks
    assert (labels, images, training) == (Task.LABELS, Task.TRAINING_IMAGES, Task.TRAINING)


@pytest.mark.usefixtures("chosen")
def test_photos_and_embedder_that_are_there_already_are_not_read_again(
    run: RunDir, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = make_embedder("pond")
    side = read_real(run, CLASSES, embedder=embedder, reporter=SilentReporter())

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("read twice")

    monkeypatch.setattr(classifiers, "make_classifier", lambda *_, **__: network)
    for name in ("make_embedder", "read_real"):
        monkeypatch.setattr(tempering_choice, name, refuse)
    kept = run.path / TEMPERING
    before = kept.read_bytes()
    kept.unlink()
    with pytest.raises(AssertionError, match="read twice"):
        choose(run)
    choose(run, embedder=embedder, side=side)
    assert kept.read_bytes() == before


def test_what_no_share_is_better_at_keeps_the_mixture(chosen: Tempering) -> None:
    assert chosen.share == 0.0  # the network says the same whatever it was trained on


@pytest.mark.usefixtures("chosen")
def test_a_choice_that_was_made_is_read_back(run: RunDir) -> None:
    with lock(run):  # nothing is written
        assert choose(run).share == 0.0
        (run.path / TEMPERING).rename(run.path / "away.json")
        with pytest.raises(RunBusyError):
            choose(run)
        (run.path / "away.json").rename(run.path / TEMPERING)


def test_one_class_is_refused(tmp_path: Path) -> None:
    config = {"generator": {"kind": "make_run:Renderer"}}
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2, config=config)
    with pytest.raises(ConfigError, match="--for: scratch needs two classes"):
        choose(run)


def test_the_smallest_share_that_is_as_good_but_for_noise() -> None:
    shares = (0.0, 0.5, 1.0)
    assert smallest_as_good(shares, (0.991, 0.998, 0.996), (0.002, 0.0, 0.001)) == 0.5
    assert smallest_as_good(shares, (0.598, 0.576, 0.569), (0.0, 0.01, 0.01)) == 0.0
    assert smallest_as_good(shares, (0.991, 0.992, 0.992), (0.002, 0.001, 0.0)) == 0.0
    assert smallest_as_good(shares, (0.5, 0.5, 0.9), (0.1, 0.1, 0.0)) == 1.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.1)), min_size=1, max_size=5))
def test_what_is_taken_is_within_noise_of_the_best(rows: list[tuple[float, float]]) -> None:
    shares = [i / 4 for i in range(len(rows))]
    accuracies, errors = [a for a, _ in rows], [e for _, e in rows]
    taken = shares.index(smallest_as_good(shares, accuracies, errors))
    assert max(accuracies) - accuracies[taken] <= errors[taken]
    assert all(max(accuracies) - accuracies[i] > errors[i] for i in range(taken))
