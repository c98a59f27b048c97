"""What one fold says of a class, on embeddings whose truth is known, and what is made of that."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import modes
import numpy as np
import pytest
from histories import as_read
from modes import Blind, Reader
from painter import Painter
from workshop import Workshop, open_workshop

from gapclose.analysis.class_gap import ClassGap, jointly
from gapclose.analysis.criteria import confirmed
from gapclose.analysis.gap import mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.generators.base import version_of
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.recipe import Camera, Recipe
from gapclose.loop.config.reading import parse_config
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.class_state import ClassState, Evaluation
from gapclose.loop.run.events import (
    ConfirmationFailed,
    FoldEvaluated,
    FoldOpened,
    TrialFinished,
)
from gapclose.loop.run.folder import RunDir
from gapclose.loop.schedule.actions import EvaluateFold, ProposeTrial
from gapclose.loop.search.seeds import SeedBlocks
from gapclose.loop.search.trial import Images, Mixture
from gapclose.loop.work.confirmation import Confirmation
from gapclose.loop.work.evaluation import label_agreement_of
from gapclose.loop.work.holdout import Holdout
from gapclose.loop.work.real_data import ClassReference, Fold
from gapclose.loop.work.source_copies import SourceCopies

TRUTH = {"brown": 0.6, "gray": 0.4}
NOUNS = {"frog": "brown", "toad": "gray"}  # nouns that Reader knows
GROUPS = {"color": ["brown", "gray", "red"]}
CONFIG = parse_config(
    {"real": {"path": "nowhere"}, "generator": {"kind": "modes:Modes"}, "embedder": "pond"}
)


def fold_of(rows: Any, judge_rows: Any = ()) -> Fold:
    names = [f"{i}.png" for i in range(len(rows))]
    return Fold(
        paths=tuple(map(Path, names)),
        photos=tuple(names),
        rows=rows,
        judge_rows=dict(judge_rows),
    )


def holdout(shares: dict[str, float], *, invalid: int = 0, **judges: dict[str, float]) -> Holdout:
    rng, n = np.random.default_rng(0), 150
    rows = modes.mixed(TRUTH, n, rng)
    synthetic = modes.mixed(shares, n, rng)
    judge_real = {name: modes.mixed(TRUTH, n, rng) for name in judges}
    fold = fold_of(rows, judge_real)
    real = ClassReference(
        name="frog",
        tune=fold,
        folds=(fold,),
        kernel=Kernel.fit(rows),
        judge_kernels={name: Kernel.fit(its) for name, its in judge_real.items()},
    )
    return Holdout(
        real=real,
        fold=0,
        stage="tuned",
        mixture=Mixture(recipes=(modes.make_space().baseline,), weights=(1.0,), gap_tune=0.0),
        images=Images(embeddings=synthetic, recipes=(0,) * n, seeds=tuple(range(n))),
        invalid=invalid,
        judge_rows={name: modes.mixed(its, n, rng) for name, its in judges.items()},
    )


def confirmation(
    real: ClassReference, *, embedder: Any = None, nouns: dict[str, str] | None = None
) -> Confirmation:
    synthesis: Any = SimpleNamespace(
        rundir=RunDir(Path("nowhere")), embedder=embedder or Blind(), generated=0
    )
    return Confirmation(
        config=CONFIG,
        synthesis=synthesis,
        evidence=SimpleNamespace(),  # type: ignore[arg-type]
        real={"frog": real},
        judges={},
        copies=SourceCopies(generator=Painter(), real={"frog": real}),
        nouns=nouns or {"frog": "frog"},
        groups=GROUPS,
        floors={},
    )


def judged(seen: Holdout, **options: Any) -> ClassGap:
    row = confirmation(seen.real, **options).measured(seen, copies=True)
    (row,) = jointly([ClassGap.from_json(row.to_json())])
    return confirmed(row, agreement=None)


def verdict(seen: Holdout) -> tuple[bool | None, bool | None]:
    row = judged(seen)
    return row.closed, row.confirmed


def test_confirmed_is_closed_and_the_judge_agrees() -> None:
    assert verdict(holdout(TRUTH)) == (True, True)
    assert verdict(holdout(TRUTH, judge=TRUTH)) == (True, True)


def test_every_judge_of_several_has_to_agree() -> None:
    assert verdict(holdout(TRUTH, one=TRUTH, two=TRUTH, three=TRUTH)) == (True, True)
    seen = holdout(TRUTH, one=TRUTH, two={"red": 1.0}, three={"gray": 1.0})
    assert verdict(seen) == (True, False)
    row = judged(seen)
    assert [told.split(" still")[0] for told in row.objections] == [
        "the judge two",
        "the judge three",
    ]
    assert row.judges is not None
    assert [judge["name"] for judge in row.judges] == ["one", "two", "three"]
    assert row.judge is not None
    assert row.judge["name"] == "one"


def test_the_judge_can_refuse() -> None:
    seen = holdout(TRUTH, judge={"red": 1.0})
    assert verdict(seen) == (True, False)
    (told,) = judged(seen).objections
    assert told.startswith("the judge still sees a gap (q")


def test_what_is_not_closed_is_not_confirmed() -> None:
    assert verdict(holdout({"brown": 1.0}, judge=TRUTH)) == (False, False)


def test_too_many_invalid_images_refuse() -> None:
    assert verdict(holdout(TRUTH, invalid=7)) == (True, True)  # 7 of 157 are below 5 %
    assert verdict(holdout(TRUTH, invalid=9)) == (True, False)


def test_collapse_onto_real_images_is_refused_by_the_guards() -> None:
    # The right shares, but of each mode one image over and over.
    seen = holdout(TRUTH)
    rows = seen.images.embeddings
    means = np.stack([rows[:90].mean(0), rows[90:].mean(0)])
    centres = np.repeat(means, (90, 60), axis=0).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    assert verdict(replace(seen, images=replace(seen.images, embeddings=centres)))[1] is False


def test_copies_of_photos_that_the_search_saw_are_refused() -> None:
    # Of 60 modes each image of a side is one: copies are near, others are not.
    rng = np.random.default_rng(1)

    def side() -> Any:
        rows = rng.normal(size=(150, 12)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    seen, tune, part, fresh = holdout(TRUTH), side(), side(), side()
    real = replace(seen.real, tune=fold_of(tune), folds=(fold_of(part),), kernel=Kernel.fit(tune))
    for made, expected in ((fresh, True), (tune, False), (part, False)):
        images = replace(seen.images, embeddings=made)
        found = replace(seen, real=real, images=images)
        assert verdict(found) == (True, expected)
        row = judged(found)
        assert (row.copies is None) is expected
        if row.copies is not None:  # each beside the photo that it copies
            assert [Path(pair["real"]).name for pair in row.copies] == [
                f"{i}.png" for i in range(6)
            ]
            assert [Path(pair["synthetic"]).stem for pair in row.copies] == list("012345")


def test_images_that_are_read_as_another_class_are_refused() -> None:
    # The synthetic frogs are as the real ones but for a fifth that is read as toads.
    seen = holdout({"brown": 0.4, "gray": 0.6})
    row = confirmation(seen.real, embedder=Reader(), nouns=NOUNS).measured(seen)
    agreement = label_agreement_of(
        seen.real.folds[0].rows, cls="frog", embedder=Reader(), nouns=NOUNS
    )
    closed = replace(row, closed=True)
    refused = confirmed(closed, agreement=agreement)
    assert (refused.confirmed, refused.to_json()["objections"]) == (
        False,
        ["40% are read as frog, of real images 60%"],
    )
    agreeing = confirmed(replace(closed, label_agreement=0.56), agreement=agreement)  # real: 0.6
    assert (agreeing.confirmed, agreeing.objections) == (True, ())


# --------------------------------------------------------------------- a fold from end to end


def searched(path: Path, trials: int = 6, **options: Any) -> Workshop:
    """A class whose baseline is far from its photos, and that so many trials were run of."""
    shop = open_workshop(path, **options)
    for _ in range(trials):
        for name in shop.searches:
            action = ProposeTrial(cls=name, settings_trials=4, baseline_images=100)
            trial = shop.trials.propose(action)
            shop.searches.apply(trial)
            event = shop.trials.run(trial)
            assert isinstance(event, TrialFinished)
    shop.generator.asked.clear()
    return shop


def opened(shop: Workshop, *, fold: int = 0, early: bool = False, cls: str = "frog") -> FoldOpened:
    """As the journal has it."""
    search = shop.searches[cls]
    state = ClassState(trials=search.number, progress=search.progress())
    action = EvaluateFold(cls=cls, fold=fold, early=early)
    event = as_read(shop.confirmation.open(action, state, search))
    assert isinstance(event, FoldOpened)
    return event


def evaluated(shop: Workshop, event: FoldOpened) -> FoldEvaluated:
    done = as_read(shop.confirmation.evaluate(event, shop.searches[event.cls]))
    assert isinstance(done, FoldEvaluated)
    assert done.generator == version_of(shop.synthesis.generator)
    return done


def of_one(recipe: Recipe) -> dict[str, Any]:
    return Mixture(recipes=(recipe,), weights=(1.0,), gap_tune=0.0).to_json()


def recipe_of(shop: Workshop, color: str) -> Recipe:
    return shop.searches["frog"].space.recipe({"color": color})


def recipes(mixture: Mapping[str, Any]) -> list[Recipe]:
    return [Recipe.from_json(row["recipe"]) for row in mixture["recipes"]]


def asked(shop: Workshop) -> dict[str, set[int]]:
    """The seeds that were drawn anew, by prompt."""
    found: dict[str, set[int]] = {}
    for draw, seeds in shop.generator.asked:
        found.setdefault(draw.prompt, set()).update(seeds)
    return found


def figures(event: FoldEvaluated) -> dict[str, Any]:
    return json.loads(event.model_dump_json(exclude={"seconds", "probe"}))  # type: ignore[no-any-return]


def test_what_is_opened_says_which_mixture_a_fold_judges_and_what_that_rests_on(
    tmp_path: Path,
) -> None:
    shop = searched(tmp_path)
    search = shop.searches["frog"]
    event = opened(shop, fold=1, early=True)
    assert (event.cls, event.fold, event.early) == ("frog", 1, True)
    assert event.photos == shop.real["frog"].folds[1].photos
    assert event.photos != shop.real["frog"].folds[0].photos
    assert event.mixture == search.mixture().to_json()
    assert (event.trials, event.evidence) == (6, search.gains.evidence)
    assert event.spends
    assert not opened(shop).early
    assert shop.generator.asked == []


def test_the_mixture_that_a_fold_was_opened_for_is_judged_and_no_later_one(
    tmp_path: Path,
) -> None:
    shop = searched(tmp_path)
    event = opened(shop)
    pinned = recipes(event.mixture)
    # The search goes elsewhere: what the fold judges is settled.
    event = event.model_copy(update={"mixture": of_one(recipe_of(shop, "brown"))})
    done = evaluated(shop, event)
    assert recipes(done.mixture) == [recipe_of(shop, "brown")] != pinned
    assert set(asked(shop)) == {"a brown frog"}


def test_a_fold_sees_the_baselines_images_of_trial_0_and_fresh_ones_of_the_mixture(
    tmp_path: Path,
) -> None:
    shop = searched(tmp_path)
    event = opened(shop, fold=1)
    done = evaluated(shop, event)
    fresh = {*SeedBlocks(seed=0).fold(1, 100)}
    drawn = asked(shop)
    assert set().union(*drawn.values()) == fresh
    assert "a plain frog" not in drawn
    assert done.images == 100
    assert (done.cls, done.fold) == ("frog", 1)
    for stage, seeds in (("baseline", {*range(100)}), ("tuned", fresh)):
        kept = shop.evidence.fold("frog", 1, stage)
        assert {*kept.seeds} == seeds
        folder = shop.rundir.confirm_path("frog", 1, stage, 0).parent  # type: ignore[arg-type]
        assert {int(path.stem) for path in folder.iterdir()} == seeds
    before, after = ClassGap.from_json(done.before), ClassGap.from_json(done.after)
    part = shop.real["frog"].folds[1].rows
    for row, stage in ((before, "baseline"), (after, "tuned")):
        rows = shop.evidence.fold("frog", 1, stage).embeddings
        gap = mmd2(real=part, synthetic=rows, kernel=shop.real["frog"].kernel)
        assert row.gap == pytest.approx(gap, abs=1e-6)
        assert (row.n_real, row.n_synthetic) == (120, 100)
    assert before.closed is False
    assert after.closed is True
    assert done.mixture["gap_tune"] == pytest.approx(
        mmd2(
            real=shop.real["frog"].tune.rows,
            synthetic=shop.evidence.fold("frog", 1, "tuned").embeddings,
            kernel=shop.real["frog"].kernel,
        ),
        abs=1e-6,
    )


def test_a_session_that_resumes_reads_back_what_a_fold_has_drawn(tmp_path: Path) -> None:
    shop = searched(tmp_path)
    event = opened(shop)
    done = evaluated(shop, event)
    told = {(draw, seed) for draw, first, n in done.drawn for seed in range(first, first + n)}
    assert told == {(draw.fingerprint(), seed) for draw, its in shop.generator.asked
                    for seed in its}  # fmt: skip
    shop.reopen()
    shop.trials.replay([done])
    mixture = Mixture.from_json(event.mixture)
    jobs = mixture.jobs(SeedBlocks(seed=0).fold(0, 100))
    assert shop.synthesis.generate("frog", jobs).generated == 0


def test_what_was_cut_off_is_evaluated_again_to_the_same_figures(tmp_path: Path) -> None:
    shop = searched(tmp_path)
    event = opened(shop)
    first = evaluated(shop, event)
    assert figures(evaluated(shop, event)) == figures(first)


def test_where_the_mixture_does_no_better_the_baseline_is_kept(tmp_path: Path) -> None:
    shop = searched(tmp_path)
    search = shop.searches["frog"]
    event = opened(shop).model_copy(update={"mixture": of_one(recipe_of(shop, "red"))})
    done = evaluated(shop, event)
    assert recipes(done.mixture) == [search.space.baseline]
    assert Evaluation(opened=event, result=done).kept_baseline
    # It is the very baseline that it is compared with: the images of trial 0.
    assert done.after["gap"] == done.before["gap"]
    assert {*shop.evidence.fold("frog", 0, "tuned").seeds} == {*range(100)}
    # What was drawn to no avail counts, and is not lost.
    assert set(asked(shop)) == {"a red frog"}
    assert done.images == 100
    fingerprints = {
        recipe_of(shop, "red").draw.fingerprint(),
        search.space.baseline.draw.fingerprint(),
    }
    assert {draw for draw, _, _ in done.drawn} == fingerprints
    better = opened(shop)
    assert not Evaluation(opened=better, result=evaluated(shop, better)).kept_baseline


def test_a_baseline_that_nothing_was_tried_besides_costs_no_image_and_spends_no_fold(
    tmp_path: Path,
) -> None:
    shop = searched(tmp_path, trials=1)
    event = opened(shop)
    assert not event.spends
    done = evaluated(shop, event)
    assert shop.generator.asked == []
    assert done.images == 0
    assert recipes(done.mixture) == [shop.searches["frog"].space.baseline]
    assert done.after["gap"] == done.before["gap"]


def test_a_baseline_that_closed_by_its_images_is_judged_by_fresh_ones(tmp_path: Path) -> None:
    shop = searched(tmp_path, trials=1, truth={"plain": 1.0})
    search = shop.searches["frog"]
    assert search.closed_from_start
    event = opened(shop)
    assert event.spends
    done = evaluated(shop, event)
    assert asked(shop) == {"a plain frog": {*SeedBlocks(seed=0).fold(0, 100)}}
    assert recipes(done.mixture) == [search.space.baseline]
    assert done.after["closed"] is True
    assert done.after["gap"] != done.before["gap"]


def give_camera(shop: Workshop, noise: float) -> None:
    """Have the run choose a camera, as it does early in the search."""
    search, camera = shop.searches["frog"], Camera(noise=noise)
    jobs = [(replace(recipe, camera=camera), seeds) for recipe, seeds in search.drawn()]
    batch = shop.synthesis.generate("frog", jobs)
    taken = Images(embeddings=batch.embeddings, recipes=batch.recipes, seeds=batch.seeds)
    search.change_camera(camera, taken)
    assert search.plain == replace(search.space.baseline, camera=camera) != search.space.baseline
    shop.generator.asked.clear()


@pytest.mark.parametrize(
    ("noise", "floors", "kept"),
    [(0.08, (-np.inf, 0.0), True), (0.02, (0.0, 1.0), True), (0.08, (1.0, np.inf), False)],
)
def test_the_baseline_is_kept_under_the_runs_camera_unless_that_costs_it_a_floor(
    tmp_path: Path, noise: float, floors: tuple[float, float], kept: bool
) -> None:
    shop = searched(tmp_path, camera={"noise": [0.0, 0.1]})
    if floors[1] == 0.0:  # the photos have the noise of the camera
        for part in (shop.real["frog"].tune, *shop.real["frog"].folds):
            part.rows[:, -1] += 5.0 * noise * np.sqrt(2 / np.pi)
            part.rows[:] /= np.linalg.norm(part.rows, axis=1, keepdims=True)
    give_camera(shop, noise)
    search = shop.searches["frog"]
    worst = replace(recipe_of(shop, "red"), camera=Camera())
    event = opened(shop).model_copy(update={"mixture": of_one(worst)})
    done = evaluated(shop, event)
    assert recipes(done.mixture) == [search.plain if kept else search.space.baseline]
    assert Evaluation(opened=event, result=done).kept_baseline
    assert set(asked(shop)) == {"a red frog"}  # under another camera they are the same images
    own = shop.synthesis.generate(
        "frog", [(search.plain, search.state.baseline_seeds())]
    ).embeddings
    part = shop.real["frog"].folds[0].rows
    plain = mmd2(real=part, synthetic=own, kernel=shop.real["frog"].kernel)
    assert floors[0] < (plain - done.before["gap"]) / search.floor < floors[1]
    assert done.after["gap"] == pytest.approx(plain if kept else done.before["gap"], abs=1e-6)


def test_a_class_that_closed_from_the_start_has_the_runs_camera_too(tmp_path: Path) -> None:
    shop = searched(tmp_path, trials=1, truth={"plain": 1.0}, camera={"noise": [0.0, 0.1]})
    give_camera(shop, 0.006)
    event = opened(shop)
    done = evaluated(shop, event)
    assert recipes(event.mixture) == recipes(done.mixture) == [shop.searches["frog"].plain]
    assert done.after["gap"] > done.before["gap"]
    assert not Evaluation(opened=event, result=done).kept_baseline


# ----------------------------------------------------------------------------------- what fails


def test_what_cannot_be_evaluated_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    shop = searched(tmp_path)
    search = shop.searches["frog"]
    event, before = opened(shop), search.progress()
    shop.generator.fails = lambda _: GenerationError("no frog today")
    told = shop.confirmation.evaluate(event, search)
    assert told == ConfirmationFailed(cls="frog", fold=0, error="GenerationError: no frog today")
    assert "frog could not be confirmed" in (shop.rundir.path / "errors.log").read_text()
    for stage in ("baseline", "tuned"):
        with pytest.raises(RunDamagedError):
            shop.evidence.fold("frog", 0, stage)
    with patch.object(type(shop.synthesis), "embed", side_effect=RuntimeError("memory is out")):
        told = shop.confirmation.evaluate(event, search)
    assert told == ConfirmationFailed(cls="frog", fold=0, error="RuntimeError: memory is out")
    assert search.progress() == before
    shop.generator.fails = lambda _: None
    assert evaluated(shop, event).after["closed"] is True


def test_too_few_valid_images_are_no_evaluation(tmp_path: Path) -> None:
    shop = searched(tmp_path)
    search = shop.searches["frog"]
    shop.generator.spoils = lambda _, seed: seed % 100 >= 19
    told = shop.confirmation.evaluate(opened(shop), search)
    assert isinstance(told, ConfirmationFailed)
    assert told.error == (
        "GenerationError: frog: 19 of 100 images are valid (81 not a number); a gap needs 20"
    )
    shop.generator.spoils = lambda _, seed: seed % 100 >= 20
    done = evaluated(shop, opened(shop))
    assert (done.after["n_synthetic"], done.after["invalid"]) == (20, 80)


def test_faults_of_the_machine_and_of_the_config_are_raised(tmp_path: Path) -> None:
    shop = searched(tmp_path)
    event, search = opened(shop), shop.searches["frog"]
    full = OSError(errno.ENOSPC, "No space left on device")
    # While images are written, while they are kept for a person, and with the embeddings.
    for target in (
        "gapclose.loop.run.images.write_pngs",
        "gapclose.loop.work.holdout.write_drawn",
        "gapclose.loop.run.folder.write_bytes",
    ):
        with patch(target, side_effect=full), pytest.raises(OSError, match="No space left"):
            shop.confirmation.evaluate(event, search)
    shop.generator.fails = lambda _: GeneratorConfigError("scheduler: one does not fit")
    with pytest.raises(GeneratorConfigError, match="one does not fit"):
        shop.confirmation.evaluate(event, search)
    assert not (shop.rundir.path / "errors.log").exists()
    shop.generator.fails = lambda _: None
    assert evaluated(shop, event).after["closed"] is True


def test_memory_that_is_out_fails_no_confirmation(tmp_path: Path) -> None:
    shop = searched(tmp_path)
    event, search = opened(shop), shop.searches["frog"]
    shop.generator.fails = lambda _: MemoryError()
    with pytest.raises(MemoryError):
        shop.confirmation.evaluate(event, search)
    assert not (shop.rundir.path / "errors.log").exists()
    left = [MemoryError()]
    shop.generator.fails = lambda _: left.pop() if left else None  # for a moment
    assert evaluated(shop, event).after["closed"] is True
    assert not left
