from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import as_read
from PIL import Image
from safetensors.numpy import load_file
from workshop import Speller, SpellingReader, Workshop, open_workshop

from gapclose.generators.errors import GenerationError
from gapclose.generators.images import ImageBatch, write_png
from gapclose.generators.recipe import Draw, Recipe
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.exporting.shown import ShownImages
from gapclose.loop.run.events import (
    CameraChosen,
    Event,
    FoldEvaluated,
    TrialFinished,
    TrialProposed,
)
from gapclose.loop.run.journal import Journal
from gapclose.loop.run.state import fold
from gapclose.loop.schedule.actions import ChooseCamera, EvaluateFold, ProposeTrial
from gapclose.loop.search.trial import Mixture
from gapclose.loop.work.holdout import HoldoutStage
from gapclose.loop.work.kept_images import KeptImages, fold_jobs
from gapclose.loop.work.synthesis import read_image


def told(shop: Workshop, n: int = 3) -> list[Event]:
    """The events of a class's first trials."""
    events: list[Event] = []
    for _ in range(n):
        made = as_read(shop.trials.propose(ProposeTrial(cls="frog", settings_trials=4)))
        assert isinstance(made, TrialProposed)
        shop.searches.apply(made)
        events += [made, as_read(shop.trials.run(made))]
    return events


def image_of(shop: Workshop, event: Event, number: int = 0) -> Path:
    """The file of one of a trial's images."""
    assert isinstance(event, TrialProposed)
    job = event.jobs[0]
    draw = Recipe.from_json(job.recipe).draw.fingerprint()
    return shop.rundir.image_path("frog", draw, job.seeds[number])


def repaint(path: Path) -> None:
    """Change a pixel in a whole file, as a flipped bit does that no reader of PNG notices."""
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[3, 4, 1] ^= 1
    write_png(path, pixels)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4  # of the embeddings
    path.write_bytes(data)


def standing(shop: Workshop) -> tuple[Any, ...]:
    """What a search has become, and what it does next."""
    search = shop.searches["frog"]
    following = shop.trials.propose(ProposeTrial(cls="frog", settings_trials=4))
    return search.progress(), search.mixture(), following.model_dump(exclude={"at"})


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return open_workshop(tmp_path)


@pytest.mark.parametrize("harm", [Path.unlink, truncate, flip], ids=["gone", "cut", "flipped"])
@pytest.mark.parametrize("image", [None, Path.unlink, truncate, repaint],
                         ids=["whole", "gone", "cut", "repainted"])  # fmt: skip
def test_a_trials_evidence_is_made_again_to_the_bit(
    shop: Workshop,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path], None],
    image: Callable[[Path], None] | None,
) -> None:
    events = told(shop)
    before = standing(shop)
    file, picture = shop.rundir.embeddings_path("frog-00002"), image_of(shop, events[4])
    whole, pixels = file.read_bytes(), read_image(picture)
    harm(file)
    if image is not None:
        image(picture)
    shop.reopen()
    shop.generator.asked.clear()
    with caplog.at_level(logging.WARNING):
        shop.trials.replay(events)
    assert standing(shop) == before
    asked = [seed for _, seeds in shop.generator.asked for seed in seeds]
    own = [seed for job in events[4].jobs for seed in job.seeds]  # type: ignore[union-attr]
    # Without the digests of its images nothing says which of them is another; and where one is
    # gone, all of its job come from one call, as they did before.
    job = [*events[4].jobs[0].seeds]  # type: ignore[union-attr]
    assert asked == {None: [], repaint: own}.get(image, job)
    said = [record.message for record in caplog.records]
    assert said == [f"{file}: was gone or damaged, and is made again from its images"]
    assert file.read_bytes() == whole
    np.testing.assert_array_equal(read_image(picture), pixels)  # type: ignore[arg-type]


@pytest.mark.parametrize("harm", [Path.unlink, truncate, repaint], ids=["gone", "cut", "changed"])
def test_an_image_that_is_not_the_one_is_generated_again(
    shop: Workshop, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    events = told(shop)
    picture = image_of(shop, events[2], 1)
    pixels = read_image(picture)
    harm(picture)
    shop.reopen()
    shop.trials.replay(events)
    shop.generator.asked.clear()
    job = events[2].jobs[0]  # type: ignore[union-attr]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            batch = shop.synthesis.generate("frog", [(Recipe.from_json(job.recipe), job.seeds)])
    assert [seeds for _, seeds in shop.generator.asked] == [(int(picture.stem),)]
    assert batch.generated == 0
    np.testing.assert_array_equal(read_image(picture), pixels)  # type: ignore[arg-type]
    (record,) = caplog.records
    assert record.message.startswith("frog: 1 of its images are gone or damaged; generated again")


def test_within_a_session_too(shop: Workshop) -> None:
    events = told(shop)
    picture = image_of(shop, events[2])
    repaint(picture)
    shop.generator.asked.clear()
    job = events[2].jobs[0]  # type: ignore[union-attr]
    shop.synthesis.generate("frog", [(Recipe.from_json(job.recipe), job.seeds)])
    assert [seeds for _, seeds in shop.generator.asked] == [(int(picture.stem),)]


def test_what_can_be_had_neither_way_is_one_line_that_says_what_to_do(shop: Workshop) -> None:
    events = told(shop)
    shop.rundir.embeddings_path("frog-00001").unlink()
    image_of(shop, events[2]).unlink()
    before = {path: path.read_bytes() for path in shop.rundir.path.rglob("*") if path.is_file()}
    shop.reopen()
    shop.generator.fails = lambda _: GenerationError("no model here")
    with pytest.raises(RunDamagedError) as raised:
        shop.trials.replay(events)
    said = str(raised.value)
    assert "frog-00001.safetensors: is gone or damaged, and its images cannot be gener" in said
    assert said.endswith("restore the file from a copy, or start anew with --out")
    assert "\n" not in said
    assert raised.value.exit_code == 2
    assert all(path.read_bytes() == data for path, data in before.items())
    shop.generator.fails = lambda _: None
    shop.reopen()
    shop.trials.replay(events)


def test_a_generator_that_gives_other_images_is_told_of_and_the_run_goes_on(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    events = told(shop)
    shop.rundir.embeddings_path("frog-00001").unlink()
    number, picture = 1, image_of(shop, events[2])
    picture.unlink()
    shop.generator.spoils = lambda _, seed: seed == int(picture.stem)
    shop.reopen()
    with caplog.at_level(logging.WARNING):
        shop.trials.replay(events)
    (record,) = caplog.records
    assert record.message.endswith("; they are not to the bit those that the journal names")
    assert int(picture.stem) not in shop.evidence.trial("frog", number).seeds


class Batching(Speller):
    """The last bit of its images depends on how many come from one call."""

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        batch = super().generate(draw, seeds)
        return replace(batch, images=tuple(image ^ (len(seeds) & 1) for image in batch.images))


def test_one_that_is_gone_is_generated_with_those_that_it_came_with(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.generator = Batching()
    shop.reopen()
    events = told(shop, 4)
    before = standing(shop)
    images = {path: path.read_bytes() for path in shop.rundir.folder("images").rglob("*.png")}
    proposed = events[6]
    assert isinstance(proposed, TrialProposed)
    assert len(proposed.jobs) > 1
    shop.rundir.embeddings_path("frog-00003").unlink()
    image_of(shop, proposed).unlink()
    shop.reopen()
    shop.generator.asked.clear()
    with caplog.at_level(logging.WARNING):
        shop.trials.replay(events)
    assert [seeds for _, seeds in shop.generator.asked] == [proposed.jobs[0].seeds]
    assert standing(shop) == before
    assert {path: path.read_bytes() for path in images} == images
    (record,) = caplog.records
    assert record.message.endswith("is made again from its images")


def test_a_prompt_that_failed_then_brings_no_images_now(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    events = told(shop, 3)
    failed: list[Draw] = []

    def fails(draw: Draw) -> Exception | None:
        if not failed or draw == failed[0]:
            failed[:] = [draw]
            return GenerationError("not now")
        return None

    shop.generator.fails = fails
    events += told(shop, 1)
    assert failed
    finished = events[7]
    assert isinstance(finished, TrialFinished)
    assert finished.invalid > 0
    shop.generator.fails = lambda _: None
    before = standing(shop)
    shop.rundir.embeddings_path("frog-00003").unlink()
    shop.reopen()
    shop.generator.asked.clear()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        shop.trials.replay(events)
    assert shop.generator.asked == []
    assert standing(shop) == before
    (record,) = caplog.records
    assert record.message.endswith("is made again from its images")


def test_a_link_in_the_place_of_embeddings_is_replaced_by_what_is_made_again(
    shop: Workshop, tmp_path: Path
) -> None:
    events = told(shop)
    before, file = standing(shop), shop.rundir.embeddings_path("frog-00002")
    whole = file.read_bytes()
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    shop.reopen()
    shop.trials.replay(events)
    assert standing(shop) == before
    assert not file.is_symlink()
    assert file.read_bytes() == whole == (tmp_path / "elsewhere").read_bytes()


def test_a_journal_without_digests_is_believed_and_what_is_gone_is_made_again(
    shop: Workshop,
) -> None:
    events = [
        event.model_copy(update={"digests": None}) if isinstance(event, TrialFinished) else event
        for event in told(shop)
    ]
    before = standing(shop)
    shop.rundir.embeddings_path("frog-00002").unlink()
    shop.reopen()
    shop.generator.asked.clear()
    shop.trials.replay(events)
    assert standing(shop) == before
    assert shop.generator.asked == []


@pytest.mark.parametrize("harm", [Path.unlink, flip], ids=["gone", "flipped"])
def test_a_cameras_evidence_is_made_again(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    shop = open_workshop(tmp_path, camera={"noise": [0.0, 0.1]})
    events = told(shop)
    chosen = as_read(shop.trials.choose_camera(ChooseCamera(turn="frog")))
    assert isinstance(chosen, CameraChosen)
    before, file = standing(shop), shop.rundir.embeddings_path("frog-camera")
    whole = file.read_bytes()
    harm(file)
    shop.reopen()
    shop.generator.asked.clear()
    shop.trials.replay([*events, chosen])
    assert standing(shop) == before
    assert shop.generator.asked == []
    assert file.read_bytes() == whole


# -------------------------------------------------------------------------------------- folds


def evaluated(shop: Workshop) -> FoldEvaluated:
    told(shop, 5)
    search = shop.searches["frog"]
    state = fold([]).of("frog")
    opened = shop.confirmation.open(EvaluateFold(cls="frog", fold=1, early=False), state, search)
    event = as_read(shop.confirmation.evaluate(opened, search))
    assert isinstance(event, FoldEvaluated)
    return event


def restore(shop: Workshop, event: FoldEvaluated, stage: HoldoutStage) -> None:
    kept = KeptImages(synthesis=shop.synthesis, evidence=shop.evidence)
    search = shop.searches["frog"]
    if stage == "tuned":
        kept.restore_fold(event, stage, *fold_jobs(event))
        return
    baseline = Mixture(recipes=(search.space.baseline,), weights=(1.0,), gap_tune=0.0)
    jobs = [(search.space.baseline, search.state.baseline_seeds())]
    kept.restore_fold(event, stage, baseline, jobs)


def export_vouches(shop: Workshop, event: FoldEvaluated) -> None:
    """Assert that an export takes the fold's images as they lie."""
    Journal(shop.rundir.journal_path).append(event, used=0.0)
    shown = ShownImages.of(shop.rundir)
    seeds = shop.evidence.fold("frog", 1, "tuned").seeds
    paths = [shop.rundir.confirm_path("frog", 1, "tuned", seed) for seed in seeds]
    assert all(shown.read(path) is not None for path in paths)
    repaint(paths[0])
    assert shown.read(paths[0]) is None


def test_a_fold_that_judges_saw_is_made_again_once_and_an_export_believes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = open_workshop(tmp_path, judges={"eye": SpellingReader()})
    event = evaluated(shop)
    shop.trials.kept.remember_fold(event)
    digests = event.digests["tuned"]
    assert len(shop.evidence.judge_rows("frog", 1, "tuned", digests)) == 1
    file = shop.rundir.embeddings_path("frog-confirm-1-tuned")
    whole = load_file(file)
    flip(file)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            restore(shop, event, "tuned")
    (record,) = caplog.records
    said = "is made again from its images; the judges' embeddings of them are lost"
    assert record.message.endswith(said)
    again = load_file(file)
    assert {*whole} - {*again} == {"judge"}
    assert all(again[name].tobytes() == whole[name].tobytes() for name in again)
    export_vouches(shop, event)


@pytest.mark.parametrize("stage", ["baseline", "tuned"])
@pytest.mark.parametrize("harm", [Path.unlink, flip], ids=["gone", "flipped"])
def test_a_folds_evidence_and_what_a_person_sees_of_it_are_made_again(
    shop: Workshop, stage: HoldoutStage, harm: Callable[[Path], None]
) -> None:
    event = evaluated(shop)
    shop.trials.kept.remember_fold(event)
    file = shop.rundir.embeddings_path(f"frog-confirm-1-{stage}")
    shown = shop.rundir.confirm_path("frog", 1, stage, 0).parent
    whole = {path: path.read_bytes() for path in (file, *shown.iterdir())}
    assert len(whole) == 101
    shop.generator.asked.clear()
    for harmed in ([], [file], [next(shown.iterdir())], [file, *list(shown.iterdir())[:2]]):
        for path in harmed:
            repaint(path) if path.suffix == ".png" and harm is flip else harm(path)
        restore(shop, event, stage)
        assert {path: path.read_bytes() for path in (file, *shown.iterdir())} == whole
    assert shop.generator.asked == []


def test_a_resumed_session_knows_the_images_of_a_fold_by_their_digests(shop: Workshop) -> None:
    event = evaluated(shop)
    shop.reopen()
    shop.trials.kept.remember_fold(event)
    _, jobs = fold_jobs(event)
    recipe, seeds = jobs[0]
    picture = shop.rundir.image_path("frog", recipe.draw.fingerprint(), seeds[0])
    repaint(picture)
    shop.generator.asked.clear()
    shop.synthesis.generate("frog", jobs)
    assert [its for _, its in shop.generator.asked] == [(seeds[0],)]
