"""What one fold says of a class, on embeddings whose truth is known, and what is made of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import modes
import numpy as np
import pytest
from modes import Blind, Reader

from gapclose.analysis.class_gap import ClassGap, jointly
from gapclose.analysis.criteria import confirmed
from gapclose.analysis.kernel import Kernel
from gapclose.generators.base import GeneratorConfigError
from gapclose.loop.config.schema import parse_config
from gapclose.loop.run.events import ConfirmationFailed, FoldOpened
from gapclose.loop.run.files import UnwritableError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.search.trial import Images, Mixture
from gapclose.loop.work.confirmation import Confirmation
from gapclose.loop.work.evaluation import label_agreement_of
from gapclose.loop.work.holdout import Holdout
from gapclose.loop.work.real_data import ClassReference, Fold

TRUTH = {"brown": 0.6, "gray": 0.4}
NOUNS = {"frog": "brown", "toad": "gray"}  # nouns that Reader knows
GROUPS = {"color": ["brown", "gray", "red"]}
CONFIG = parse_config(
    {"real": {"path": "nowhere"}, "generator": {"kind": "modes:Modes"}, "embedder": "pond"}
)


def fold_of(rows: Any, judge_rows: Any = None) -> Fold:
    names = [f"{i}.png" for i in range(len(rows))]
    return Fold(
        paths=tuple(map(Path, names)), photos=tuple(names), rows=rows, judge_rows=judge_rows
    )


def holdout(
    shares: dict[str, float], *, judge: dict[str, float] | None = None, invalid: int = 0
) -> Holdout:
    rng, n = np.random.default_rng(0), 150
    rows = modes.mixed(TRUTH, n, rng)
    synthetic = modes.mixed(shares, n, rng)
    judge_real = None if judge is None else modes.mixed(TRUTH, n, rng)
    fold = fold_of(rows, judge_real)
    real = ClassReference(
        name="frog",
        tune=fold,
        folds=(fold,),
        kernel=Kernel.fit(rows),
        judge_kernel=None if judge_real is None else Kernel.fit(judge_real),
    )
    return Holdout(
        real=real,
        fold=0,
        stage="tuned",
        mixture=Mixture(recipes=(modes.make_space().baseline,), weights=(1.0,), gap_tune=0.0),
        images=Images(embeddings=synthetic, recipes=(0,) * n, seeds=tuple(range(n))),
        invalid=invalid,
        judge_rows=None if judge is None else modes.mixed(judge, n, rng),
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
        judge=None,
        nouns=nouns or {"frog": "frog"},
        groups=GROUPS,
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
        assert verdict(replace(seen, real=real, images=images)) == (True, expected)


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


def opened(real: ClassReference) -> FoldOpened:
    mixture = Mixture(recipes=(modes.make_space().baseline,), weights=(1.0,), gap_tune=0.0)
    return FoldOpened(
        cls="frog",
        fold=0,
        photos=real.folds[0].photos,
        mixture=mixture.to_json(),
        trials=3,
        evidence=2,
        spends=True,
    )


def test_what_cannot_be_evaluated_is_told_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = holdout(TRUTH).real
    executor = confirmation(real)
    executor.synthesis.rundir = RunDir(tmp_path)
    search = modes.make_search(real.tune.rows)
    module = "gapclose.loop.work.confirmation.evaluate_holdout"

    def failing(error: Exception) -> Any:
        def fails(*_: Any, **__: Any) -> Any:
            raise error

        monkeypatch.setattr(module, fails)
        return executor.evaluate(opened(real), search)

    event = failing(RuntimeError("memory is out"))
    assert event == ConfirmationFailed(cls="frog", fold=0, error="memory is out")
    assert "memory is out" in (tmp_path / "errors.log").read_text()
    with pytest.raises(UnwritableError):  # a full disk says nothing of a mixture
        failing(UnwritableError(28, "No space left on device", "x.png"))
    with pytest.raises(GeneratorConfigError):
        failing(GeneratorConfigError("scheduler: one does not fit"))
