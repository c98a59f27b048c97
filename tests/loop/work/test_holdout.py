"""Confirmation and the appraisal under it, on embeddings whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import modes
import numpy as np
import pytest
from modes import Blind, Reader
from PIL import Image

from gapclose.analysis.confounds import describe_confounds
from gapclose.analysis.kernel import Kernel
from gapclose.loop.search.class_search import Mixture
from gapclose.loop.work.evaluation import EvaluationInput, evaluate, label_agreement_of
from gapclose.loop.work.holdout import Look, evaluation_seeds, judged, score_evaluations, stored_of
from gapclose.loop.work.real_data import ClassReference, Part
from gapclose.loop.work.stored_formats import compare_storage
from gapclose.loop.work.synthesis import SampleBatch

TRUTH = {"brown": 0.6, "gray": 0.4}
NOUNS = {"frog": "brown", "toad": "gray"}  # nouns that Reader knows
GROUPS = {"color": ["brown", "gray", "red"]}


def evidence(shares: dict[str, float], *, seed: int = 0, judge: Any = None, n: int = 150) -> Any:
    rng = np.random.default_rng(seed)
    real = modes.mixed(TRUTH, n, rng)
    sides: dict[str, Any] = {"real": real, "synthetic": modes.mixed(shares, n, rng)}
    if judge is not None:
        judge_real = modes.mixed(TRUTH, n, rng)
        sides |= {"judge_real": judge_real, "judge_kernel": Kernel.fit(judge_real)}
        sides["judge_synthetic"] = modes.mixed(judge, n, rng)
    return EvaluationInput(cls="frog", noun="frog", kernel=Kernel.fit(real), **sides)


def test_classes_are_scored_in_their_order_and_named() -> None:
    good, bad = evidence(TRUTH), replace(evidence({"red": 1.0}, seed=1), cls="toad")
    gaps = evaluate([good, bad], embedder=Reader(), groups=GROUPS, nouns=NOUNS)
    assert [g.name for g in gaps] == ["frog", "toad"]
    assert [g.closed for g in gaps] == [True, False]
    assert gaps[1].effect > 10 * abs(gaps[0].effect)
    red = next(w for w in gaps[1].attributes if w.word == "red")
    assert red.synthetic > 0.9 > 0.1 > red.real
    assert all(g.judge is None for g in gaps)


def test_without_a_text_side_there_are_no_words() -> None:
    (gap,) = evaluate([evidence(TRUTH)], embedder=Blind(), groups=GROUPS, nouns=NOUNS)
    assert gap.attributes is None
    assert gap.label_agreement is None


def test_label_agreement_needs_something_to_agree_about() -> None:
    rng = np.random.default_rng(0)
    rows = modes.mixed({"brown": 0.75, "gray": 0.25}, 100, rng)
    options: dict[str, Any] = {"cls": "frog", "embedder": Reader()}
    assert label_agreement_of(rows, nouns=NOUNS, **options) == pytest.approx(0.75)
    assert label_agreement_of(rows, nouns={"frog": "brown"}, **options) is None


def look(shares: dict[str, float], *, judge: dict[str, float] | None = None, **shot: Any) -> Look:
    e = evidence(shares, judge=judge)
    n = len(e.synthetic)
    part = Part(
        paths=tuple(Path(f"{i}.png") for i in range(n)), rows=e.real, judge_rows=e.judge_real
    )
    real = ClassReference(
        name="frog", tune=part, parts=(part,), kernel=e.kernel, judge_kernel=e.judge_kernel
    )
    baseline = modes.make_space().baseline
    made = SampleBatch(
        images=(),
        embeddings=e.synthetic,
        recipes=(0,) * n,
        seeds=tuple(range(n)),
        invalid=shot.get("invalid", 0),
        generated=n,
    )
    return Look(
        real=real,
        part=0,
        mixture=Mixture(recipes=(baseline,), weights=(1.0,), gap_tune=0.0),
        shot=made,
        judge_rows=e.judge_synthetic,
        spectra=None,
        rows=[],
        real_paths=(),
    )


def confirmed(seen: Look) -> tuple[bool | None, bool | None]:
    options: dict[str, Any] = {"embedder": Blind(), "nouns": {"frog": "frog"}}
    (gap,) = score_evaluations([seen], groups=GROUPS, seed=0, **options)
    done = judged(gap, seen, **options)
    return done.closed, done.confirmed


def test_confirmed_is_closed_and_the_judge_agrees() -> None:
    assert confirmed(look(TRUTH)) == (True, True)
    assert confirmed(look(TRUTH, judge=TRUTH)) == (True, True)


def test_the_judge_can_refuse() -> None:
    seen = look(TRUTH, judge={"red": 1.0})
    assert confirmed(seen) == (True, False)
    options: dict[str, Any] = {"embedder": Blind(), "nouns": {"frog": "frog"}}
    (gap,) = score_evaluations([seen], groups=GROUPS, seed=0, **options)
    (told,) = judged(gap, seen, **options).objections
    assert told.startswith("the judge still sees a gap (q")


def test_what_is_not_closed_is_not_confirmed() -> None:
    assert confirmed(look({"brown": 1.0}, judge=TRUTH)) == (False, False)


def stored_look(tmp_path: Path, size: int, jpeg: int | None) -> Look:
    """Photos of 32 pixels as JPEGs of quality 80, and images of a size and a camera."""
    rng = np.random.default_rng(size)
    paths = tuple(tmp_path / f"{i}.jpg" for i in range(40))
    for path in paths:
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, quality=80)
    seen = look(TRUTH)
    part = replace(seen.real.parts[0], paths=paths)
    images = tuple(rng.integers(0, 255, (size, size, 3), dtype=np.uint8) for _ in range(40))
    rows = [{"camera": {"jpeg_quality": jpeg}} for _ in images]
    real, shot = replace(seen.real, parts=(part,)), replace(seen.shot, images=images)
    return replace(seen, real=real, shot=shot, rows=rows)


@pytest.mark.parametrize(
    ("size", "jpeg", "differs"),
    [(64, None, ("codec", "size")), (32, None, ("codec",)), (32, 80, ()), (32, 40, ("quality",))],
)
def test_photos_and_images_that_are_stored_differently_are_named(
    tmp_path: Path, size: int, jpeg: int | None, differs: tuple[str, ...]
) -> None:
    stored = stored_of([stored_look(tmp_path, size, jpeg)])
    found = compare_storage(*stored)
    assert [kept.differs for kept in found.values()] == ([differs] if differs else [])
    said = {64: "png 64x64", 32: "png 32x32" if jpeg is None else f"jpeg quality {jpeg} 32x32"}
    real = "jpeg quality 80 32x32" if differs == ("quality",) else "jpeg 32x32"
    lines = [f"synthetic: {said[size]}, real: {real}"] if differs else []
    assert describe_confounds(*stored) == lines


def test_no_looks_are_stored_alike() -> None:
    assert stored_of([]) == ({}, {})
    assert describe_confounds({}, {}) == []


def test_too_many_invalid_images_refuse() -> None:
    assert confirmed(look(TRUTH, invalid=7)) == (True, True)  # 7 of 157 are below 5 %
    assert confirmed(look(TRUTH, invalid=9)) == (True, False)


def test_collapse_onto_real_images_is_refused_by_the_guards() -> None:
    # The right shares, but of each mode one image over and over.
    seen = look(TRUTH)
    rows = seen.shot.embeddings
    centres = np.repeat(np.stack([rows[:90].mean(0), rows[90:].mean(0)]), (90, 60), axis=0).astype(
        np.float32
    )
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    assert confirmed(replace(seen, shot=replace(seen.shot, embeddings=centres)))[1] is False


def test_copies_of_photos_that_the_search_saw_are_refused() -> None:
    # Of 60 modes each image of a side is one: copies are near, others are not.
    rng = np.random.default_rng(1)

    def side() -> Any:
        rows = rng.normal(size=(150, 12)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    seen, tune, part, fresh = look(TRUTH), side(), side(), side()
    paths = seen.real.tune.paths
    real = replace(
        seen.real,
        tune=Part(paths=paths, rows=tune, judge_rows=None),
        parts=(Part(paths=paths, rows=part, judge_rows=None),),
        kernel=Kernel.fit(tune),
    )
    for made, verdict in ((fresh, True), (tune, False), (part, False)):
        shot = replace(seen.shot, embeddings=made)
        assert confirmed(replace(seen, real=real, shot=shot)) == (True, verdict)


def test_images_that_are_read_as_another_class_are_refused() -> None:
    # The synthetic frogs are as the real ones but for a fifth that is read as toads.
    seen = look({"brown": 0.4, "gray": 0.6})
    options: dict[str, Any] = {"embedder": Reader(), "nouns": NOUNS}
    (gap,) = score_evaluations([seen], groups=GROUPS, seed=0, **options)
    closed = replace(gap, closed=True)
    refused = judged(closed, seen, **options)
    assert (refused.confirmed, refused.to_json()["objections"]) == (
        False,
        ["40% are read as frog, of real images 60%"],
    )
    agreeing = replace(closed, label_agreement=0.56)  # real: 0.6
    assert judged(agreeing, seen, **options).objections == ()
    assert judged(agreeing, seen, **options).confirmed is True


def test_each_look_and_run_has_seeds_of_its_own() -> None:
    looks = [set(evaluation_seeds(part, 200, seed=seed)) for part in range(3) for seed in (0, 1)]
    assert all(len(seeds) == 200 for seeds in looks)
    assert len(set().union(*looks)) == 6 * 200
    search = modes.make_search(modes.mixed(TRUTH, 40, np.random.default_rng(0)))
    proposal = search.propose(settings_trials=4)
    assert not looks[0] & {s for _, seeds in proposal.jobs for s in seeds}
