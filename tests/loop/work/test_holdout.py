"""Fresh images of a mixture as they are kept: drawn, scored by nobody yet, and read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from workshop import SpellingReader, Workshop, open_workshop, spelt

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.gap import mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.generators.camera import apply_camera
from gapclose.generators.errors import GenerationError
from gapclose.generators.images import Pixels, write_png
from gapclose.generators.recipe import Camera
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.photo_groups import PhotoGroup
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.sources import Sources
from gapclose.loop.search.trial import Mixture
from gapclose.loop.work.holdout import Holdout, evaluate_holdout, read_holdout, sample_row


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return open_workshop(tmp_path)


def mixture_of(shop: Workshop, **camera: Any) -> Mixture:
    """Brown and gray, two to one."""
    space = shop.searches["frog"].space
    recipes = [space.recipe({"color": color}) for color in ("brown", "gray")]
    return Mixture(
        recipes=tuple(replace(recipe, camera=Camera(**camera)) for recipe in recipes),
        weights=(2 / 3, 1 / 3),
        gap_tune=0.5,
    )


def evaluate(shop: Workshop, mixture: Mixture, *, n: int = 40, **options: Any) -> Holdout:
    shown: dict[str, Any] = {"stage": "tuned", "fold": 1, "judges": {}}
    return evaluate_holdout(
        shop.synthesis,
        real=shop.real["frog"],
        mixture=mixture,
        seeds=range(15_100_000, 15_100_000 + n),
        **shown | options,
    )


def test_the_gap_to_the_tune_split_leaves_out_what_an_image_was_made_from(shop: Workshop) -> None:
    mixture, real = mixture_of(shop), shop.real["frog"]
    everything = PhotoGroup(
        cls="frog", name="all", captions=dict.fromkeys(real.tune.photos, "brown")
    )
    draw = replace(mixture.recipes[0].draw, photos=everything.digest)
    mixture = replace(
        mixture, recipes=(replace(mixture.recipes[0], draw=draw), mixture.recipes[1])
    )
    sources = Sources(
        groups={everything.digest: everything},
        rows={photo: row for row, photo in enumerate(real.tune.photos)},
    )
    holdout = evaluate(shop, mixture, sources=sources)
    images = holdout.images
    assert {source < 0 for source in images.sources} == {True, False}
    bank = AtomBank(kernel=real.kernel, real=real.tune.rows)
    wanted = bank.gap_of(images.embeddings, sources=images.sources)
    assert holdout.mixture.gap_tune == pytest.approx(wanted, abs=1e-6)
    assert wanted != pytest.approx(bank.gap_of(images.embeddings), abs=1e-6)


def test_each_image_is_known_by_its_recipe_and_kept_as_a_person_sees_it(shop: Workshop) -> None:
    mixture = mixture_of(shop, noise=0.02)
    holdout = evaluate(shop, mixture)
    jobs = mixture.jobs(range(15_100_000, 15_100_040))
    by_seed = {seed: recipe for recipe, seeds in jobs for seed in seeds}
    assert holdout.images.seeds == tuple(by_seed)
    assert {*holdout.images.recipes} == {0, 1}
    rows = holdout.rows(shop.rundir)
    assert [row["seed"] for row in rows] == [*by_seed]
    for row, path in zip(rows, holdout.paths(shop.rundir), strict=True):
        recipe = by_seed[row["seed"]]
        assert row["recipe"] == recipe.fingerprint()
        assert row["prompt"] == recipe.draw.prompt
        assert row["camera"] == recipe.camera.to_json()
        assert (row["class"], row["side"], row["stage"]) == ("frog", "synthetic", "tuned")
        assert shop.rundir.resolve(row["path"]) == path
        drawn = shop.generator.generate(recipe.draw, [row["seed"]]).images[0]
        np.testing.assert_array_equal(
            read_rgb(path), apply_camera(recipe.camera, drawn, seed=row["seed"])
        )
    wanted = mmd2(
        real=shop.real["frog"].tune.rows,
        synthetic=holdout.images.embeddings,
        kernel=shop.real["frog"].kernel,
    )
    assert holdout.mixture == replace(mixture, gap_tune=wanted)
    assert holdout.gap() == mmd2(
        real=shop.real["frog"].folds[1].rows,
        synthetic=holdout.images.embeddings,
        kernel=shop.real["frog"].kernel,
    )


def test_it_is_held_against_its_fold_and_no_other(shop: Workshop) -> None:
    for number, fold in enumerate(shop.real["frog"].folds):
        holdout = evaluate(shop, mixture_of(shop), fold=number)
        e = holdout.input("brown", shop.rundir)
        assert (e.cls, e.noun, e.invalid) == ("frog", "brown", 0)
        np.testing.assert_array_equal(e.real, fold.rows)
        assert e.real_paths == tuple(map(str, fold.paths))
        np.testing.assert_array_equal(e.synthetic, holdout.images.embeddings)
        assert e.synthetic_paths == tuple(row["path"] for row in holdout.rows(shop.rundir))
        assert all(f"confirm-{number}/tuned" in path for path in e.synthetic_paths)
        assert e.judges == {}


def test_what_was_evaluated_is_read_back_without_drawing(shop: Workshop) -> None:
    holdout = evaluate(shop, mixture_of(shop))
    options: dict[str, Any] = {
        "real": shop.real["frog"],
        "mixture": holdout.mixture,
        "stage": "tuned",
        "fold": 1,
    }
    with pytest.raises(RunDamagedError, match="frog-confirm-1-tuned"):
        read_holdout(shop.evidence, **options)
    shop.evidence.keep_fold("frog", 1, "tuned", holdout.images)
    shop.generator.asked.clear()
    again = read_holdout(shop.evidence, **options)
    assert shop.generator.asked == []
    assert again.rows(shop.rundir) == holdout.rows(shop.rundir)
    assert again.gap() == holdout.gap()
    assert again.spectra is None
    assert again.judge_rows == {}


class Doubting(SpellingReader):
    """A judge that has no finite row of some images."""

    id = "doubting"

    def embed(self, images: Any) -> Any:
        rows = super().embed(images)
        rows[:3] = np.nan
        return rows


def test_what_the_judge_cannot_see_counts_as_invalid_on_both_sides(shop: Workshop) -> None:
    holdout = evaluate(shop, mixture_of(shop), judges={"doubting": Doubting()})
    assert holdout.invalid == 3
    assert len(holdout.images.seeds) == len(holdout.images.embeddings) == 37
    rows = holdout.judge_rows["doubting"]
    assert np.isfinite(rows).all()
    # Row by row the two encoders have seen the same images: here they are the same encoder.
    np.testing.assert_array_equal(rows, holdout.images.embeddings)
    assert holdout.spectra is not None
    assert len(holdout.spectra) == 37
    assert len(list(holdout.paths(shop.rundir)[0].parent.iterdir())) == 37
    with pytest.raises(GenerationError, match=r"19 of 22 images are valid \(3 without finite"):
        evaluate(shop, mixture_of(shop), n=22, judges={"doubting": Doubting()})


def test_each_judge_of_several_sees_the_images_that_all_can_see(shop: Workshop) -> None:
    real = shop.real["frog"]
    rows = {"eye": real.folds[1].rows, "doubting": real.folds[1].rows[:, ::-1].copy()}
    folds = tuple(replace(fold, judge_rows=rows) for fold in real.folds)
    kernels = {"eye": real.kernel, "doubting": Kernel.fit(rows["doubting"])}
    shop.real["frog"] = replace(real, folds=folds, judge_kernels=kernels)
    judges = {"eye": SpellingReader(), "doubting": Doubting()}
    holdout = evaluate(shop, mixture_of(shop), judges=judges)
    assert holdout.invalid == 3
    assert [*holdout.judge_rows] == ["eye", "doubting"]
    for seen in holdout.judge_rows.values():
        np.testing.assert_array_equal(seen, holdout.images.embeddings)
    e = holdout.input("brown", shop.rundir)
    assert [*e.judges] == ["eye", "doubting"]
    for name, its in e.judges.items():
        assert its.real is rows[name]
        assert its.synthetic is holdout.judge_rows[name]
        assert its.kernel is kernels[name]


def test_the_embeddings_of_each_judge_are_kept_in_order(shop: Workshop) -> None:
    images = evaluate(shop, mixture_of(shop)).images
    n = len(images.seeds)
    rows = [np.full((n, 2), number, dtype=np.float32) for number in range(3)]
    for kept in ([], rows[:1], rows):
        shop.evidence.keep_fold("frog", 1, "tuned", images, kept)
        found = shop.evidence.judge_rows("frog", 1, "tuned")
        assert len(found) == len(kept)
        assert all((a == b).all() for a, b in zip(found, kept, strict=True))
    # The first is called as the only one was.
    shop.evidence.keep_fold("frog", 1, "tuned", images, rows[:1])
    arrays = load_file(shop.rundir.embeddings_path("frog-confirm-1-tuned"))
    assert {*arrays} == {"embeddings", "recipes", "seeds", "drawn", "shown", "judge"}
    assert shop.evidence.judge_rows("frog", 2, "tuned") == ()


def test_frequencies_are_compared_between_images_of_one_size_alone(shop: Workshop) -> None:
    assert evaluate(shop, mixture_of(shop)).spectra is not None
    larger: Pixels = np.kron(spelt((1, 3)), np.ones((2, 2, 1), dtype=np.uint8))
    write_png(shop.real["frog"].folds[1].paths[3], larger, source_type="digitalCreation")
    assert evaluate(shop, mixture_of(shop)).spectra is None
    assert evaluate(shop, mixture_of(shop), fold=0).spectra is not None


def test_a_photo_has_no_recipe_in_its_row(shop: Workshop) -> None:
    path = shop.real["frog"].folds[0].paths[0]
    assert sample_row(shop.rundir, path, "frog", "real", None, None) == {
        "path": str(path),
        "class": "frog",
        "side": "real",
        "stage": "real",
        "split": "confirm",
        "recipe": None,
        "seed": None,
    }
