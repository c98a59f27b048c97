"""What a proposed trial brings: evidence on disk, an event, and a search that has followed it."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import modes
import numpy as np
import pytest
import torch
from histories import as_read, evaluated, stopped
from workshop import Workshop, open_workshop

from gapclose.analysis.errors import EmbedderError
from gapclose.generators.errors import GenerationError, GeneratorConfigError, MemoryOutError
from gapclose.generators.recipe import Recipe
from gapclose.loop.errors import MachineError, RunDamagedError, UnwritableError
from gapclose.loop.run.class_state import FAILURES
from gapclose.loop.run.events import (
    Event,
    StopReason,
    TrialFailed,
    TrialFinished,
    TrialProposed,
)
from gapclose.loop.run.faults import machines_fault
from gapclose.loop.run.state import RunState, apply, fold
from gapclose.loop.schedule.actions import ChooseCamera, ProposeTrial
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.phases import Ask
from gapclose.loop.search.score import Score
from gapclose.loop.work.real_data import ClassReference
from gapclose.loop.work.trials import HINTS, PROBED, by_gap, gap_unit


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return open_workshop(tmp_path)


def proposed(shop: Workshop, cls: str = "frog", **facts: Any) -> TrialProposed:
    event = as_read(shop.trials.propose(ProposeTrial(cls=cls, settings_trials=4, **facts)))
    assert isinstance(event, TrialProposed)
    return event


def ran(shop: Workshop, cls: str = "frog", **facts: Any) -> tuple[TrialProposed, Event]:
    """The next trial, as the journal has it."""
    event = proposed(shop, cls, **facts)
    return event, as_read(run(shop, event))


def run(shop: Workshop, event: TrialProposed) -> TrialFinished | TrialFailed:
    """Run a trial that has just been appended to the journal."""
    shop.searches.apply(event)
    return shop.trials.run(event)


def asked(shop: Workshop) -> list[tuple[str, tuple[int, ...]]]:
    return [(draw.fingerprint(), seeds) for draw, seeds in shop.generator.asked]


def jobs_of(event: TrialProposed) -> list[tuple[str, tuple[int, ...]]]:
    return [(Recipe.from_json(job.recipe).draw.fingerprint(), job.seeds) for job in event.jobs]


# ------------------------------------------------------------------------------------- proposing


def test_what_is_proposed_is_what_is_run(shop: Workshop) -> None:
    for number in range(6):
        event = proposed(shop)
        assert (event.cls, event.number) == ("frog", number)
        shop.generator.asked.clear()
        run(shop, event)
        assert asked(shop) == jobs_of(event)
        kept = shop.evidence.trial("frog", number)
        assert kept.seeds == tuple(seed for job in event.jobs for seed in job.seeds)


def test_a_proposal_of_an_earlier_session_is_run_as_it_was_made(shop: Workshop) -> None:
    ran(shop)
    made = proposed(shop)
    # In the meantime a person has put other prompts first: this trial is what it was.
    shop.searches["frog"].prioritize([{"color": "blue"}])
    assert jobs_of(proposed(shop)) != jobs_of(made)
    shop.generator.asked.clear()
    event = run(shop, made)
    assert isinstance(event, TrialFinished)
    assert asked(shop) == jobs_of(made)


def test_to_propose_changes_nothing(shop: Workshop) -> None:
    ran(shop)
    before = shop.searches["frog"].progress()
    assert proposed(shop) == proposed(shop)
    assert shop.searches["frog"].progress() == before
    assert len(shop.generator.asked) == 1


def test_a_baseline_has_the_images_that_it_is_given(shop: Workshop) -> None:
    few, whole = proposed(shop, baseline_images=24), proposed(shop)
    assert [len(job.seeds) for job in few.jobs] == [24]
    assert [len(job.seeds) for job in whole.jobs] == [100]
    event = run(shop, few)  # however many the next would have had
    assert isinstance(event, TrialFinished)
    assert event.images == 24
    assert shop.searches["frog"].state.baseline_images == 24
    assert len(shop.searches["frog"].state.baseline_seeds()) == 24


def test_of_other_classes_settings_the_first_that_are_not_the_baselines_are_hints(
    tmp_path: Path,
) -> None:
    shop = open_workshop(tmp_path, guidance_scale=[1.0, 9.0])
    search = shop.searches["frog"]
    given: list[dict[str, object]] = [{"guidance_scale": g} for g in (5.0, 2.0, 5.0, 7.0, 8.0)]
    assert search.space.baseline_settings() == {"guidance_scale": 5.0}
    with patch.object(
        type(search), "propose", autospec=True, side_effect=type(search).propose
    ) as p:
        proposed(shop, hints=tuple(given), batch=9)
    (_, ask), _ = p.call_args
    assert ask == Ask(
        settings_trials=4, hints=[{"guidance_scale": 2.0}, {"guidance_scale": 7.0}], batch=9
    )
    assert HINTS == 2


# --------------------------------------------------------------------------------------- running


def test_a_finished_trial_is_on_disk_read_back_and_told(shop: Workshop) -> None:
    images = 0
    for number in range(5):
        made, event = ran(shop)
        assert isinstance(event, TrialFinished)
        assert (event.number, event.invalid) == (number, 0)
        assert event.images == sum(len(job.seeds) for job in made.jobs)
        assert event.progress == shop.searches["frog"].progress()
        assert event.mixture_gap == event.progress.gap
        assert event.seconds > 0.0
        images += event.images
        kept = shop.evidence.trial("frog", number)
        fresh = shop.synthesis.generate(
            "frog", [(Recipe.from_json(job.recipe), job.seeds) for job in made.jobs]
        )
        assert fresh.generated == 0
        assert fresh.embeddings.tobytes() == kept.embeddings.tobytes()
        if number == 0:
            assert event.gap == event.value == event.progress.baseline_gap
    assert images == 100 + sum(len(shop.evidence.trial("frog", n).seeds) for n in range(1, 5))


def test_the_machine_is_probed_now_and_then(shop: Workshop) -> None:
    told = [ran(shop)[1] for _ in range(PROBED + 2)]
    probed = [event.number for event in told if event.probe is not None]  # type: ignore[union-attr]
    assert probed == [0, PROBED]


@pytest.mark.parametrize("stage", ["baseline", "joint"])
def test_a_trial_that_fails_is_told_and_the_run_goes_on(shop: Workshop, stage: str) -> None:
    if stage == "joint":
        ran(shop)
    search, before = shop.searches["frog"], len(shop.generator.asked)
    shop.generator.fails = lambda _: GenerationError("no frog today")
    made, event = ran(shop)
    assert made.stage == stage
    assert isinstance(event, TrialFailed)
    assert event.error == "GenerationError: no frog today"
    assert (event.invalid, event.images, event.number) == (0, 0, made.number)
    assert event.progress == search.progress()
    assert search.number == made.number + 1
    assert "no frog today" in (shop.rundir.path / "errors.log").read_text()
    with pytest.raises(RunDamagedError):
        shop.evidence.trial("frog", made.number)
    assert len(shop.generator.asked) > before
    shop.generator.fails = lambda _: None
    again, event = ran(shop)
    assert isinstance(event, TrialFinished)
    assert again.number == made.number + 1
    assert {*jobs_of(again)[0][1]}.isdisjoint(jobs_of(made)[0][1]) == (stage == "joint")


def test_a_fault_of_the_embedder_fails_the_trial_too(shop: Workshop) -> None:
    ran(shop)
    with patch.object(type(shop.synthesis), "embed", side_effect=RuntimeError("memory is out")):
        _, event = ran(shop)
    assert isinstance(event, TrialFailed)
    assert event.error == "RuntimeError: memory is out"
    assert isinstance(ran(shop)[1], TrialFinished)


def test_a_fault_of_the_search_itself_fails_no_trial(shop: Workshop) -> None:
    """It may have left half a trial in the bank: the session ends, and the journal is replayed."""
    ran(shop)
    event = proposed(shop)
    with (
        patch.object(AtomBank, "fit", side_effect=MemoryError("no room")),
        pytest.raises(MemoryError),
    ):
        run(shop, event)


def test_three_failures_stop_the_class_and_no_other(tmp_path: Path) -> None:
    shop = open_workshop(tmp_path, classes=("frog", "toad"))
    shop.generator.fails = lambda draw: (
        GenerationError("no frog today") if "frog" in draw.prompt else None
    )
    state = RunState()
    for _ in range(FAILURES):
        assert stopped(state.of("frog")) is None
        state = fold(ran(shop), state)
    assert stopped(state.of("frog")) is StopReason.FAILURES
    state = fold(ran(shop, "toad"), state)
    assert (state.of("toad").trials, stopped(state.of("toad"))) == (1, None)


def test_what_the_generator_refuses_is_the_configs_fault_only_as_the_baseline(
    shop: Workshop,
) -> None:
    shop.generator.fails = lambda _: GeneratorConfigError("scheduler: one does not fit")
    made = proposed(shop)
    with pytest.raises(GeneratorConfigError, match="one does not fit"):
        run(shop, made)
    assert not shop.searches["frog"].has_baseline
    shop.generator.fails = lambda _: None
    ran(shop)
    shop.generator.fails = lambda _: GeneratorConfigError("scheduler: one does not fit")
    _, event = ran(shop)
    assert isinstance(event, TrialFailed)
    assert event.error == "GeneratorConfigError: scheduler: one does not fit"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EFBIG])
def test_a_full_disk_fails_no_trial_and_the_same_trial_is_run_again(
    tmp_path: Path, error: int
) -> None:
    shop, other = open_workshop(tmp_path / "a"), open_workshop(tmp_path / "b")
    for each in (shop, other):
        ran(each)
    made, before = proposed(shop), shop.searches["frog"].progress()
    shop.searches.apply(made)
    for target in (
        "gapclose.loop.run.images.write_pngs",
        "gapclose.loop.run.folder.write_bytes",
    ):
        with (
            patch(target, side_effect=OSError(error, "the disk says no")),
            pytest.raises(OSError, match="the disk says no") as told,
        ):
            shop.trials.run(made)
        assert told.value.errno == error
        if "png" in target:
            assert isinstance(told.value, UnwritableError)
            assert shop.searches["frog"].progress() == before
            assert shop.searches["frog"].number == 2
            assert not (shop.rundir.path / "errors.log").exists()
    # Whoever starts the run again finds the trial in flight.
    shop.reopen()
    journal = [*first_of(shop), made]
    shop.trials.replay(journal)
    event, expected = shop.trials.run(made), run(other, proposed(other))
    assert timeless(event) == timeless(expected)


def first_of(shop: Workshop) -> list[Event]:
    """Trial 0 of a class as the journal has it, for a search that has not begun."""
    made = proposed(shop)
    kept = shop.evidence.trial("frog", 0)
    finished = TrialFinished(
        cls="frog",
        number=0,
        gap=0.0,
        value=0.0,
        mixture_gap=0.0,
        invalid=0,
        images=len(kept.seeds),
        seconds=1.0,
        progress=shop.searches["frog"].progress(),
    )
    return [made, finished]


def timeless(event: Event) -> dict[str, Any]:
    return json.loads(event.model_dump_json(exclude={"seconds", "probe", "at", "used"}))  # type: ignore[no-any-return]


def test_a_few_invalid_images_are_counted_and_the_others_scored(shop: Workshop) -> None:
    shop.generator.spoils = lambda _, seed: seed % 8 == 0
    _, first = ran(shop)
    assert isinstance(first, TrialFinished)
    assert (first.invalid, first.images) == (13, 100)
    made, event = ran(shop)
    assert isinstance(event, TrialFinished)
    assert (event.invalid, event.images) == (3, 24)
    assert event.gap is not None
    kept = shop.evidence.trial("frog", 1)
    assert kept.seeds == tuple(seed for seed in made.jobs[0].seeds if seed % 8)
    # An invalid image leaves no file: asked for again, it is drawn again.
    recipe = Recipe.from_json(made.jobs[0].recipe)
    assert shop.synthesis.generate("frog", [(recipe, made.jobs[0].seeds)]).generated == 3


@pytest.mark.parametrize(
    ("images", "valid", "finished"),
    [(100, 2, True), (100, 1, False), (24, 20, True), (24, 19, False)],
)
def test_a_baseline_needs_a_few_valid_images_and_a_small_one_all_that_a_gap_needs(
    shop: Workshop, images: int, valid: int, finished: bool
) -> None:
    shop.generator.spoils = lambda _, seed: seed % 1_000 >= valid
    _, event = ran(shop, baseline_images=images)
    assert isinstance(event, TrialFinished if finished else TrialFailed)
    assert (event.invalid, event.images) == (images - valid, images)
    if isinstance(event, TrialFailed):
        why = f"{images - valid} of its images are invalid ({images - valid} not a number)"
        assert event.error == f"GenerationError: {why}"


def test_by_the_clock_the_models_are_loaded_before_an_image_is_timed(tmp_path: Path) -> None:
    shop = open_workshop(tmp_path, by_clock=True, classes=("frog", "toad"))
    made, event = ran(shop)
    assert isinstance(event, TrialFinished)
    ((draw, seeds),) = jobs_of(made)
    assert asked(shop) == [(draw, seeds[:1]), (draw, seeds)]
    assert event.images == 1 + len(seeds)
    shop.generator.asked.clear()
    toad, _ = ran(shop, "toad")
    assert asked(shop) == jobs_of(toad)  # they are loaded


# ---------------------------------------------------------------------------------- going on


def test_a_session_that_resumes_draws_nothing_anew(shop: Workshop) -> None:
    events: list[Event] = []
    shop.generator.fails = lambda draw: (
        GenerationError("no gray today") if "gray" in draw.prompt.split() else None
    )
    for _ in range(6):
        events += ran(shop)
    assert any(isinstance(event, TrialFailed) for event in events)
    drawn = ("draw", 15_000_000, 3)
    judged = evaluated(drawn=(drawn,), images=3, seconds=1.0)
    before, following = shop.searches["frog"].progress(), proposed(shop)
    shop.reopen()
    shop.generator.asked.clear()
    shop.trials.replay([*events, judged])
    assert shop.searches["frog"].progress() == before
    assert proposed(shop) == following
    assert asked(shop) == []
    for event in events:
        if isinstance(event, TrialFinished):
            made = next(e for e in events if isinstance(e, TrialProposed)
                        and e.number == event.number)  # fmt: skip
            for job in made.jobs:
                draw = Recipe.from_json(job.recipe).draw.fingerprint()
                assert {("frog", draw, seed) for seed in job.seeds} <= shop.synthesis._shelf.keys()
    assert {("frog", "draw", 15_000_000 + i) for i in range(3)} <= shop.synthesis._shelf.keys()
    assert ("frog", "draw", 15_000_003) not in shop.synthesis._shelf


def test_what_a_trial_that_was_cut_off_drew_is_drawn_again(shop: Workshop) -> None:
    events: list[Event] = [*ran(shop)]
    made = proposed(shop)
    whole = run(shop, made)  # whose event never came to be written
    shop.reopen()
    shop.generator.asked.clear()
    shop.trials.replay([*events, made])
    assert timeless(run(shop, made)) == timeless(whole)
    # As many images of the baseline come first, of which none is kept: it may lose the device.
    images = sum(len(job.seeds) for job in made.jobs)
    seeds = tuple(shop.searches["frog"].state.baseline_seeds()[:images])
    baseline = shop.searches["frog"].space.baseline.draw.fingerprint()
    assert asked(shop) == [(baseline, seeds), *jobs_of(made)]


# ------------------------------------------------------------------------------------- the camera


def with_camera(tmp_path: Path) -> Workshop:
    shop = open_workshop(tmp_path, classes=("frog", "toad"), camera={"noise": [0.0, 0.1]})
    for real in shop.real.values():  # what sensor noise of 0.05 makes of a row
        for part in (real.tune, *real.folds):
            part.rows[:, -1] += 5.0 * 0.05 * np.sqrt(2 / np.pi)
            part.rows[:] /= np.linalg.norm(part.rows, axis=1, keepdims=True)
    return shop


def test_the_camera_is_chosen_on_images_that_exist_and_all_classes_take_it_over(
    tmp_path: Path,
) -> None:
    shop = with_camera(tmp_path)
    for cls in ("frog", "frog", "toad", "frog"):
        ran(shop, cls)
    state = fold([])
    drawn = {name: search.drawn() for name, search in shop.searches.items()}
    shop.generator.asked.clear()
    event = as_read(shop.trials.choose_camera(ChooseCamera(turn="frog")))
    assert asked(shop) == []
    state = apply(state, event)
    assert isinstance(state, RunState)
    assert state.turn == "frog"
    chosen = state.camera
    assert chosen is not None
    assert 0.02 < chosen.camera["noise"] < 0.08
    for name, search in shop.searches.items():
        assert search.imaged
        assert search.space.camera.to_json() == chosen.camera
        assert chosen.progress[name] == search.progress()
        kept = shop.evidence.camera(name)
        assert kept.seeds == tuple(seed for _, seeds in drawn[name] for seed in seeds)
        # The baseline's gap, as it is told before and after, is under its own camera.
        assert modes.word_of(search.plain) == "plain"
        assert search.plain.camera.to_json() == chosen.camera


def test_before_anything_else_a_class_without_a_baseline_takes_the_camera_over(
    tmp_path: Path,
) -> None:
    shop = with_camera(tmp_path)
    for _ in range(3):
        ran(shop)
    event = shop.trials.choose_camera(ChooseCamera(turn="frog"))
    toad = shop.searches["toad"]
    assert toad.space.camera.to_json() == event.camera
    assert event.progress["toad"] == toad.progress()
    assert shop.evidence.camera("toad").seeds == ()
    assert isinstance(ran(shop, "toad")[1], TrialFinished)


# ------------------------------------------------------------------------- the score's unit


def a_hundredfold(real: ClassReference, seed: int) -> tuple[Score, Callable[[int], float]]:
    """The gap in a unit a hundred times smaller, as its floor says."""
    score, floor_at = by_gap(real, seed)
    return score, lambda n: 100.0 * floor_at(n)


def test_a_gap_is_a_gap_in_units_of_a_score_whose_floor_is_another(shop: Workshop) -> None:
    real, config = shop.real["frog"], shop.config
    assert gap_unit(real, shop.searches["frog"], config, scored_by=by_gap) == 1.0
    _, floor_at = by_gap(real, config.tune.seed)
    assert shop.searches["frog"].floor == floor_at(config.confirm.images)
    shop.scored_by = a_hundredfold
    shop.reopen()
    search = shop.searches["frog"]
    assert gap_unit(real, search, config, scored_by=a_hundredfold) == pytest.approx(100.0)


# ------------------------------------------------------------------------------ whose fault it is


def plain_of(shop: Workshop) -> str:
    """The prompt of the baseline."""
    return shop.searches["frog"].space.baseline.draw.prompt


def fails_for(
    shop: Workshop, error: Callable[[], Exception], *, times: int = 1000, plain: bool = False
) -> None:
    """Have the generator fail for a while: for all but the baseline's prompt, or for that too."""
    left, baseline = [None] * times, plain_of(shop)

    def fails(draw: Any) -> Exception | None:
        if left and (plain or draw.prompt != baseline):
            left.pop()
            return error()
        return None

    shop.generator.fails = fails


OUT = pytest.mark.parametrize(
    "error",
    [
        MemoryError,
        lambda: MemoryOutError("memory is out at one image a time"),
        lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
        lambda: RuntimeError("CUDA error: out of memory"),
        torch.OutOfMemoryError,
    ],
    ids=["python", "at one image", "system", "driver", "torch"],
)


def at_other_words(shop: Workshop) -> TrialProposed:
    """The next trial whose prompts are not the baseline's."""
    while True:
        event = proposed(shop)
        draws = [Recipe.from_json(job.recipe).draw for job in event.jobs]
        if all(draw.prompt != plain_of(shop) for draw in draws):
            return event
        run(shop, event)


@OUT
def test_memory_that_is_out_for_a_moment_costs_no_trial(
    tmp_path: Path, error: Callable[[], Exception]
) -> None:
    shop, other = open_workshop(tmp_path / "a"), open_workshop(tmp_path / "b")
    for each in (shop, other):
        ran(each)
    made, same = at_other_words(shop), at_other_words(other)
    assert made == same
    fails_for(shop, error, times=1)
    event, expected = run(shop, made), run(other, same)
    assert isinstance(event, TrialFinished)
    assert timeless(event) == timeless(expected)


@OUT
def test_memory_that_is_out_for_a_recipe_alone_is_the_recipes(
    shop: Workshop, error: Callable[[], Exception]
) -> None:
    ran(shop)
    made = at_other_words(shop)
    fails_for(shop, error)
    event = run(shop, made)
    assert isinstance(event, TrialFailed)
    assert shop.synthesis.generated > 0
    _, event = ran(shop)  # and the run goes on
    assert event.number == made.number + 1


@OUT
def test_memory_that_is_out_for_the_baseline_too_is_the_machines(
    shop: Workshop, error: Callable[[], Exception]
) -> None:
    made = proposed(shop)
    fails_for(shop, error, plain=True)
    shop.searches.apply(made)
    with pytest.raises(Exception) as told:  # noqa: PT011 - of every kind of torch and Python
        shop.trials.run(made)
    assert str(machines_fault(told.value)).startswith("memory is out")
    fails_for(shop, error, times=0)
    assert isinstance(shop.trials.run(made), TrialFinished)
    made = at_other_words(shop)
    shop.searches.apply(made)
    fails_for(shop, error, plain=True)
    before = shop.searches["frog"].progress()
    with pytest.raises(Exception) as told:  # noqa: PT011
        shop.trials.run(made)
    assert isinstance(machines_fault(told.value), MachineError)
    assert shop.searches["frog"].progress() == before
    assert not (shop.rundir.path / "errors.log").exists()


@pytest.mark.parametrize(
    "error",
    [
        lambda: GenerationError("it failed"),
        lambda: OSError(errno.EMFILE, "Too many open files"),
        lambda: OSError(errno.EROFS, "Read-only file system"),
    ],
    ids=["wrapped", "files", "read-only"],
)
def test_the_systems_troubles_are_no_recipes_whatever_wraps_them(
    shop: Workshop, error: Callable[[], Exception]
) -> None:
    ran(shop)
    made = at_other_words(shop)
    shop.searches.apply(made)

    def wrapped() -> Exception:
        told = error()
        told.__cause__ = OSError(errno.ENOSPC, "No space left on device", "a.png")
        return told

    fails_for(shop, wrapped)
    with pytest.raises((GenerationError, OSError)) as told:
        shop.trials.run(made)
    fault = machines_fault(told.value)
    assert fault is not None
    assert fault.exit_code == 1
    assert str(fault).endswith(", then the same command goes on")


LOST = "CUDA error: an illegal memory access was encountered"


def loses_the_device(shop: Workshop, prompt: str) -> None:
    """Have the device be lost to a prompt, and serve nothing afterwards."""
    lost = False

    def fails(draw: Any) -> Exception | None:
        nonlocal lost
        lost |= draw.prompt == prompt
        return RuntimeError(LOST) if lost else None

    shop.generator.fails = fails


def cut_off(shop: Workshop, under_way: TrialProposed) -> None:
    """As a session opens the run whose last one ended in a trial."""
    shop.trials.unfinished.add((under_way.cls, under_way.number))


def test_a_recipe_that_loses_the_device_ends_the_session_but_not_every_session(
    shop: Workshop,
) -> None:
    ran(shop)
    made = at_other_words(shop)
    shop.searches.apply(made)
    (prompt, *_) = {Recipe.from_json(job.recipe).draw.prompt for job in made.jobs}
    loses_the_device(shop, prompt)
    before = shop.searches["frog"].progress()
    with pytest.raises(GenerationError, match=LOST) as told:
        shop.trials.run(made)
    assert str(machines_fault(told.value)).startswith("a device is lost (")
    assert shop.searches["frog"].progress() == before
    # The next session begins with that trial; the baseline works before it, and it does not.
    cut_off(shop, made)
    loses_the_device(shop, prompt)
    event = shop.trials.run(made)
    assert isinstance(event, TrialFailed)
    assert event.error is not None
    assert LOST in event.error


def test_a_device_that_stays_lost_costs_no_trial_in_any_session(shop: Workshop) -> None:
    ran(shop)
    made = at_other_words(shop)
    shop.searches.apply(made)
    before = shop.searches["frog"].progress()
    loses_the_device(shop, plain_of(shop))
    cut_off(shop, made)
    for _ in range(4):
        with pytest.raises(GenerationError, match=LOST):
            shop.trials.run(made)
    assert shop.searches["frog"].progress() == before
    assert not (shop.rundir.path / "errors.log").exists()
    shop.generator.fails = lambda _: None  # somebody saw to it
    assert isinstance(shop.trials.run(made), TrialFinished)


def test_what_the_device_refuses_while_it_works_is_the_recipes(shop: Workshop) -> None:
    ran(shop)
    made = at_other_words(shop)
    fails_for(shop, lambda: RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"))
    event = run(shop, made)
    assert isinstance(event, TrialFailed)
    assert event.error is not None
    assert "NOT_SUPPORTED" in event.error


def test_the_first_trial_in_flight_is_the_one_that_a_session_ended_with(shop: Workshop) -> None:
    ran(shop)
    under_way = at_other_words(shop)
    shop.searches.apply(under_way)
    assert shop.trials.unfinished == set()
    shop.reopen()
    ahead = under_way.model_copy(update={"number": under_way.number + 1})
    shop.trials._remembering([under_way, ahead]).close()
    assert [*shop.trials._remembering([under_way, ahead])] == [under_way, ahead]
    assert shop.trials.unfinished == {("frog", under_way.number)}
    failed = TrialFailed(
        cls="frog",
        number=under_way.number,
        error="x",
        invalid=0,
        images=0,
        seconds=1.0,
        progress=shop.searches["frog"].progress(),
    )
    shop.reopen()
    assert len([*shop.trials._remembering([under_way, failed])]) == 2
    assert shop.trials.unfinished == set()


def test_an_embedder_that_breaks_its_contract_is_no_recipes_fault(shop: Workshop) -> None:
    ran(shop)
    made = proposed(shop)
    shop.searches.apply(made)
    fault = EmbedderError("returned 3 rows for 4 images", name="own:Embedder")
    with (
        patch.object(type(shop.synthesis.embedder), "embed", side_effect=fault),
        pytest.raises(EmbedderError),
    ):
        shop.trials.run(made)


def test_images_that_an_embedder_cannot_embed_are_the_recipes(shop: Workshop) -> None:
    """Or every session would end with the same trial."""
    ran(shop)
    made, embed = at_other_words(shop), shop.synthesis.embedder.embed
    calls: list[int] = []

    def fails_once(images: Any) -> Any:
        calls.append(len(images))
        if len(calls) == 1:
            raise EmbedderError("embed raised ValueError: too small", name="own:Embedder")
        return embed(images)

    with patch.object(shop.synthesis.embedder, "embed", fails_once):
        event = run(shop, made)
    assert isinstance(event, TrialFailed)
    assert (
        event.error == "EmbedderError: embedder 'own:Embedder': embed raised ValueError: too small"
    )
    assert len(calls) == 2


def test_an_error_that_cannot_be_shown_fails_its_trial(shop: Workshop) -> None:
    class UnspeakableError(GenerationError):
        def __str__(self) -> str:
            raise RuntimeError("there is nothing to say")

    ran(shop)
    made = at_other_words(shop)
    fails_for(shop, UnspeakableError)
    event = run(shop, made)
    assert isinstance(event, TrialFailed)
    assert event.error == "UnspeakableError"
