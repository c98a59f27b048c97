"""The audit: a per-class gap report of images that exist, or of a config's baseline. No tuning.

The command line and notebooks call it. It fits nothing to the images it scores.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.attributes import DEFAULT_WORDS
from gapclose.analysis.confounds import describe_confounds, read_confounds
from gapclose.analysis.embedding import Embedder, check_embedders, make_embedder
from gapclose.analysis.gap import MIN_IMAGES
from gapclose.analysis.image_folder import ImageSet, RealDataError, is_split, scan_sides
from gapclose.analysis.kernel import Kernel
from gapclose.generators.base import GenerationError
from gapclose.generators.registry import make_generator
from gapclose.loop.config.schema import ConfigError, FolderSpec, PondReal, RealFolder, RunConfig
from gapclose.loop.report.page import write_report
from gapclose.loop.report.run_view import Run
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.reporter import Reporter, SilentReporter
from gapclose.loop.search.seeds import SeedBlocks
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Mixture
from gapclose.loop.work.cluster_report import find_groups
from gapclose.loop.work.embedding_map import write_map
from gapclose.loop.work.evaluation import EvaluationInput, evaluate, notes_of, witness_scores
from gapclose.loop.work.holdout import Holdout, evaluate_holdout, sample_row
from gapclose.loop.work.real_data import (
    check_device,
    check_drawn,
    check_real,
    open_real_data,
    rendered_pond,
)
from gapclose.loop.work.sides import Side, left_out, read_side
from gapclose.loop.work.stored_formats import (
    compare_storage,
    describe_storage,
    embed_sample,
    sampled,
    storage_of,
)
from gapclose.loop.work.synthesis import Synthesis

log = logging.getLogger(__name__)

SAVED: Final = ("gap", "ratio", "floor_p95", "effect", "closed")  # of a class, for `status`
SHOWN: Final = 200  # images per class and side on the map
EMBEDDER: Final = "open_clip:ViT-B-32/laion2b_s34b_b79k"
"""What an audit of two folders is scored with where nobody says otherwise."""

Rows = NDArray[np.float32]


def audit_folders(
    *,
    real: Path,
    synthetic: Path,
    embedder: str,
    judge: str | None = None,
    out: Path,
    reporter: Reporter | None = None,
    config: RunConfig | None = None,
) -> Run:
    """Score two folders of images against each other, class by class.

    Args:
        real: Class folders, one flat folder, or CIFAKE's real side.
        synthetic: Likewise.
        embedder: Scores the gap; see `gapclose.analysis.embedding.make_embedder`.
        judge: A second opinion, or None.
        out: The run folder, written whole.
        reporter: Told what happens.
        config: Its attribute words and nouns are used; a plain one by default.

    Raises:
        RealDataError: A folder is missing or empty, or no class is on both sides with >= 20
            readable images.
        EmbedderError: An embedder's name is wrong.
    """
    real, synthetic = Path(real), Path(synthetic)
    reporter = reporter or SilentReporter()
    check_embedders(embedder, judge)
    sides = _sides(real=real, synthetic=synthetic)
    shared = [c for c in sides["real"].classes if c in sides["synthetic"].classes]
    skipped = [
        {"class": cls, "why": f"only on the {side} side"}
        for side in sides
        for cls in sides[side].classes
        if cls not in shared
    ]
    if not shared:
        raise RealDataError(
            f"{real} and {synthetic} share no class: {', '.join(sides['real'].classes)} against "
            f"{', '.join(sides['synthetic'].classes)}; give class folders the same names"
        )
    if all(min(len(side.of(cls)) for side in sides.values()) < MIN_IMAGES for cls in shared):
        raise RealDataError(
            f"{synthetic}: no class has {MIN_IMAGES} images on both sides; add images"
        )
    stored = {side: {cls: read_confounds(sides[side].of(cls)) for cls in shared} for side in sides}
    storage = compare_storage(stored["real"], stored["synthetic"])
    forms = {cls: kept.form for cls, kept in storage.items()}
    config = config or _audit_config(real, synthetic, embedder, judge)
    config = config.model_copy(update={"embedder": embedder, "judge": judge})
    rundir = RunDir.create(out, config)
    with rundir.writing():
        started = time.monotonic()
        reporter.event("stage", name="embed")
        loaded: dict[str, Embedder] = {}
        read = {
            side: read_side(
                images,
                shared,
                name=side,
                config=config,
                reporter=reporter,
                loaded=loaded,
                forms=forms,
            )
            for side, images in sides.items()
        }
        model = loaded.get(embedder) or make_embedder(embedder, device=config.device)
        kept, few = _scored_classes(read, shared)
        skipped += few
        if not kept:
            raise RealDataError(
                f"{synthetic}: no class has {MIN_IMAGES} readable images on both sides "
                f"({few[0]['class']}: {few[0]['why']}); add images"
            )
        nouns = {cls: config.space.nouns.get(cls, (cls.replace("_", " "),))[0] for cls in shared}
        inputs = [_input(rundir, cls, nouns[cls], read) for cls in kept]
        reporter.event("stage", name="score")
        # Every image might be shown; `_finish` chooses.
        rows, embeddings = [], []
        for cls in kept:
            for side, stage in (("real", "real"), ("synthetic", "baseline")):
                for path in read[side].paths[cls]:
                    rows.append(sample_row(rundir, path, cls, stage, None, None) | {"split": None})
                    embeddings.append(read[side].rows[path])
        told = {
            cls: describe_storage(
                storage[cls],
                as_stored=_both(
                    embed_sample(side.paths[cls], model, embedder, form=None)
                    for side in read.values()
                ),
                in_one_form=_both(
                    np.stack([side.rows[path] for path in sampled(side.paths[cls])])
                    for side in read.values()
                ),
            )
            for cls in kept
            if cls in storage
        }
        _finish(
            rundir,
            inputs,
            rows,
            embeddings,
            config=config,
            embedder=model,
            nouns=nouns,
            stored=told,
            extra={
                "confounds": describe_confounds(stored["real"], stored["synthetic"]),
                "equalized": True,
                "skipped": skipped,
                "notes": _splits_of_one(real, synthetic),
                **left_out(list(read.values()), relative=rundir.relative),
            },
            started=started,
            reporter=reporter,
        )
    return Run(rundir.path)


def _both(sides: Iterable[Rows]) -> tuple[Rows, Rows]:
    real, synthetic = sides
    return real, synthetic


def _splits_of_one(real: Path, synthetic: Path) -> list[str]:
    """A word where both sides are splits of one data set, by their names."""
    ours, theirs = (path.expanduser().resolve() for path in (real, synthetic))
    if ours.parent != theirs.parent or not (is_split(ours.name) and is_split(theirs.name)):
        return []
    return [
        f"{ours.name} and {theirs.name} look like two splits of one data set: an embedder that "
        "was trained on one of them sees a small gap in every class"
    ]


def _sides(*, real: Path, synthetic: Path) -> dict[str, ImageSet]:
    if real.expanduser().resolve() == synthetic.expanduser().resolve():
        raise RealDataError(f"{synthetic}: is the folder of the real images; give the other side")
    both = scan_sides(real=real, synthetic=synthetic)
    return dict(zip(("real", "synthetic"), both, strict=True))


def audit(
    config: RunConfig | None = None,
    *,
    out: Path,
    real: Path | None = None,
    synthetic: Path | None = None,
    embedder: str | None = None,
    judge: str | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Audit two folders, or a config's baseline: `audit_folders` or `audit_config`.

    Args:
        config: What to draw and score; beside two folders, only how to score them.
        out: The run folder.
        real: A folder of images.
        synthetic: A folder of images.
        embedder: In place of the config's, or of `EMBEDDER`.
        judge: In place of the config's.
        reporter: Told what happens.

    Raises:
        ConfigError: Neither a config nor both folders are given.
    """
    if config is not None:
        named = {"embedder": embedder, "judge": judge}
        config = config.model_copy(update={key: name for key, name in named.items() if name})
    if config is not None and real is None and synthetic is None:
        return audit_config(config, out=out, reporter=reporter)
    if real is None or synthetic is None:
        raise ConfigError("audit needs a config, or two folders: real and synthetic")
    return audit_folders(
        real=real,
        synthetic=synthetic,
        embedder=config.embedder if config else embedder or EMBEDDER,
        judge=config.judge if config else judge,
        out=out,
        reporter=reporter,
        config=config,
    )


def audit_config(config: RunConfig, *, out: Path, reporter: Reporter | None = None) -> Run:
    """Score a config's baseline recipe: fresh images against the real ones, no tuning.

    A generator that is a folder of images is scored as it is.

    Raises:
        ConfigError, RealDataError, EmbedderError, GeneratorConfigError: The user's input is
            wrong; nothing has been written.
    """
    reporter = reporter or SilentReporter()
    if isinstance(config.generator, FolderSpec) and isinstance(config.real, RealFolder):
        return audit_folders(
            real=Path(config.real.path),
            synthetic=Path(config.generator.path),
            embedder=config.embedder,
            judge=config.judge,
            out=out,
            reporter=reporter,
            config=config,
        )
    before = RunDir(out)
    if before.holds_tuning:
        raise ConfigError(f"{out}: holds a tuning run, with its own before; name another --out")
    config.admit_code()
    reporter.event("stage", name="reading the photo folder")
    images, classes = check_real(config)
    reporter.event("stage", name="checking encoders and generator")
    check_embedders(config.embedder, config.judge)
    check_device(config)
    check_drawn(config, () if before.holds_images else classes)
    rundir = RunDir.create(out, config)
    with rundir.writing():
        started = time.monotonic()
        if images is None:
            assert isinstance(config.real, PondReal)
            images = rendered_pond(rundir, config.real, classes)
        reporter.event("stage", name="embed")
        real_data, side, _ = open_real_data(images, classes, config=config, reporter=reporter)
        embedder = make_embedder(config.embedder, device=config.device)
        judge = None if config.judge is None else make_embedder(config.judge, device=config.device)
        synthesis = Synthesis(
            generator=make_generator(config.generator.as_spec()), embedder=embedder, rundir=rundir
        )
        spaces = {name: Space.of(config, name) for name in classes}
        nouns = {name: space.words["noun"][0] for name, space in spaces.items()}
        reporter.event("stage", name="baseline")
        holdouts, inputs, rows, embeddings, skipped = [], [], [], [], []
        seeds = SeedBlocks(seed=config.tune.seed).fold(0, config.confirm.images)
        drawn = _drawn_before(rundir, synthesis, spaces, seeds)
        for done, (name, real) in enumerate(real_data.items()):
            try:
                holdout = evaluate_holdout(
                    synthesis,
                    real=real,
                    mixture=Mixture(
                        recipes=(spaces[name].baseline,), weights=(1.0,), gap_tune=float("nan")
                    ),
                    stage="baseline",
                    fold=0,
                    seeds=seeds,
                    judge=judge,
                )
            except GenerationError as error:
                log.error("%s could not be audited: %s", name, error)
                skipped.append({"class": name, "why": str(error)})
                continue
            holdouts.append(holdout)
            drawn |= {name}
            rundir.write_json("state.json", _state(started, stage="baseline", drawn=drawn))
            inputs.append(_against_all(holdout, nouns[name], rundir))
            for split, seen in (("tune", real.tune), *(("confirm", p) for p in real.folds)):
                for path, row in zip(seen.paths, seen.rows, strict=True):
                    shown = sample_row(rundir, path, name, "real", None, None)
                    rows.append(shown | {"split": split})
                    embeddings.append(row)
            rows.extend(holdout.rows(rundir))
            embeddings.extend(holdout.images.embeddings)
            reporter.event("progress", done=done + 1, total=len(real_data), what="baseline images")
        if not inputs:
            raise GenerationError(skipped[0]["why"])
        confounds, told = storage_of(holdouts, synthesis, config.embedder)
        _finish(
            rundir,
            inputs,
            rows,
            embeddings,
            config=config,
            embedder=embedder,
            nouns=nouns,
            extra={
                "confounds": confounds,
                "equalized": False,
                "skipped": skipped,
                **left_out([side], relative=rundir.relative),
            },
            stored=told,
            started=started,
            reporter=reporter,
            drawn=drawn,
        )
    return Run(rundir.path)


def _drawn_before(
    rundir: RunDir, synthesis: Synthesis, spaces: Mapping[str, Space], seeds: Iterable[int]
) -> set[str]:
    """The classes whose images an audit here has drawn: from now on they are read, not drawn.

    None of an audit that is whole: whoever repeats it has changed what draws.
    """
    state = rundir.read_json("state.json") if rundir.has("state.json") else {}
    if state.get("stage") == "done" and rundir.has("gap.json"):
        return set()
    drawn = spaces.keys() & set(state.get("drawn", ()))
    for name in drawn:
        synthesis.remember(name, spaces[name].baseline.draw.fingerprint(), seeds)
    return drawn


def _state(started: float, *, stage: str, drawn: Collection[str]) -> dict[str, Any]:
    """What `status` shows of an audit, and what one that was interrupted goes on with."""
    return {
        "kind": "audit",
        "stage": stage,
        "seconds_used": time.monotonic() - started,
        "budget_seconds": None,
        "classes": {},
        "drawn": sorted(drawn),
    }


def _shown(rows: Sequence[Mapping[str, Any]], examples: set[str], seed: int) -> list[int]:
    """Which rows the map shows: SHOWN of every class and side, at random, and the examples."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault((row["class"], row["stage"]), []).append(i)
    chosen = {i for i, row in enumerate(rows) if row["path"] in examples}
    for key, members in groups.items():
        chosen.update(random.Random(f"{seed}/{key}").sample(members, min(SHOWN, len(members))))
    return sorted(chosen)


def _audit_config(real: Path, synthetic: Path, embedder: str, judge: str | None) -> RunConfig:
    """What RUN/config.yaml says of an audit of folders: nothing of it is generated."""
    return RunConfig.model_validate(
        {
            "real": {"path": str(real)},
            "generator": {"kind": "folder", "path": str(synthetic)},
            "embedder": embedder,
            "judge": judge,
        }
    )


def _scored_classes(
    read: Mapping[str, Side], shared: Sequence[str]
) -> tuple[list[str], list[dict[str, str]]]:
    kept, few = [], []
    for cls in shared:
        counts = {name: len(side.paths[cls]) for name, side in read.items()}
        if min(counts.values()) >= MIN_IMAGES:
            kept.append(cls)
            continue
        said = " and ".join(f"{n} {name}" for name, n in counts.items())
        why = f"too few: {said} images, {MIN_IMAGES} needed"
        if any(side.n_repeats(cls) for side in read.values()):
            again = [f"{n} {name}" for name, s in read.items() if (n := s.n_repeats(cls))]
            why += f"; {' and '.join(again)} images repeat others and are not counted"
        few.append({"class": cls, "why": why})
    return kept, few


def _input(rundir: RunDir, cls: str, noun: str, read: Mapping[str, Side]) -> EvaluationInput:
    real, synthetic = read["real"], read["synthetic"]

    def rows(side: Side, of: Mapping[Path, Rows]) -> Rows:
        return np.stack([of[path] for path in side.paths[cls]])

    own = rows(real, real.rows)
    judged = None if real.judge_rows is None else rows(real, real.judge_rows)
    return EvaluationInput(
        cls=cls,
        noun=noun,
        real=own,
        synthetic=rows(synthetic, synthetic.rows),
        kernel=Kernel.fit(own),
        judge_real=judged,
        judge_synthetic=(
            None if synthetic.judge_rows is None else rows(synthetic, synthetic.judge_rows)
        ),
        judge_kernel=None if judged is None else Kernel.fit(judged),
        invalid=synthetic.n_invalid(cls),
        invalid_real=real.n_invalid(cls),
        repeats={name: side.n_repeats(cls) for name, side in read.items()},
        real_spectra=rows(real, real.spectra),
        synthetic_spectra=rows(synthetic, synthetic.spectra),
        real_paths=tuple(map(rundir.relative, real.paths[cls])),
        synthetic_paths=tuple(map(rundir.relative, synthetic.paths[cls])),
    )


def _against_all(holdout: Holdout, noun: str, rundir: RunDir) -> EvaluationInput:
    """Fresh images against every real one: nothing was fitted, so no split is kept apart."""
    everything = [holdout.real.tune, *holdout.real.folds]
    return replace(
        holdout.input(noun, rundir),
        real=np.concatenate([p.rows for p in everything]),
        judge_real=_joined([p.judge_rows for p in everything]),
        real_spectra=_joined([p.spectra for p in everything]),
        real_paths=tuple(rundir.relative(path) for part in everything for path in part.paths),
    )


def _joined(parts: Sequence[Rows | None]) -> Rows | None:
    rows = [p for p in parts if p is not None]
    return np.concatenate(rows) if rows else None


def _finish(
    rundir: RunDir,
    inputs: Sequence[EvaluationInput],
    rows: Sequence[dict[str, Any]],
    embeddings: Sequence[NDArray[np.float32]],
    *,
    config: RunConfig,
    embedder: Embedder,
    nouns: Mapping[str, str],
    extra: Mapping[str, Any],
    stored: Mapping[str, dict[str, Any]],
    started: float,
    reporter: Reporter,
    drawn: Collection[str] = (),
) -> None:
    """Score; write gap.json, the map, the state and the report.

    `stored` has the classes whose sides are stored differently.
    """
    seed, groups = config.tune.seed, config.attributes or DEFAULT_WORDS
    gaps = evaluate(inputs, embedder=embedder, groups=groups, nouns=nouns, seed=seed)
    gaps = [replace(gap, stored=stored.get(gap.name)) for gap in gaps]
    clusters, members = find_groups(
        inputs, stage="baseline", embedder=embedder, groups=groups, seed=seed
    )
    reporter.event("stage", name="report")
    ordered = sorted(gaps, key=lambda gap: -(gap.effect or 0.0))
    rundir.write_json(
        "gap.json",
        {
            "schema": 1,
            "embedder": config.embedder,
            "judge": config.judge,
            "classes": [gap.to_json() for gap in ordered],
            "clusters": clusters,
            **extra,
            "notes": [*extra.get("notes", ()), *notes_of(gaps)],
        },
    )
    scores = witness_scores(inputs)
    examples = {path for cluster in clusters for path in cluster["samples"]}
    examples |= {path for gap in gaps for side in (gap.witness or {}).values() for path in side}
    chosen = _shown(rows, examples, seed)
    shown = [
        rows[i] | {"clusters": members.get(path, []), "witness": scores.get(path)}
        for i in chosen
        for path in (rows[i]["path"],)
    ]
    picked = np.stack([embeddings[i] for i in chosen])
    write_map(rundir, shown, picked, embedder=embedder, nouns=nouns, seed=seed)
    state = _state(started, stage="report", drawn=drawn)
    state["classes"] = {g.name: {key: getattr(g, key) for key in SAVED} for g in ordered}
    rundir.write_json("state.json", state)
    page = write_report(rundir.path)
    rundir.write_json("state.json", state | {"stage": "done"})
    reporter.event("done", message=str(page))
