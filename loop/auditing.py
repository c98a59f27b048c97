"""The audit: a per-class gap report of images that exist, or of a config's baseline. No tuning.

The command line and notebooks call it. It fits nothing to the images it scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gapclose.analysis.embedding import Embedder, check_embedders, make_embedders
from gapclose.loop.config.reading import parse_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.sources import FolderSpec, RealFolder
from gapclose.loop.errors import ConfigError
from gapclose.loop.photos import Photos
from gapclose.loop.report.page import write_report
from gapclose.loop.report.run_view import Run
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import joined_run
from gapclose.loop.run.notices import ReportWritten, Task, TaskStarted, WarningRaised
from gapclose.loop.run.reporter import Reporter, SilentReporter
from gapclose.loop.search.seeds import SeedBlocks
from gapclose.loop.search.space import Space
from gapclose.loop.work.audit_scores import AuditMaterial, AuditScores
from gapclose.loop.work.audit_state import AuditState
from gapclose.loop.work.baselines import Baselines
from gapclose.loop.work.folder_pair import FolderPair
from gapclose.loop.work.judge_notes import judge_notes, tune_rows
from gapclose.loop.work.real_data import open_real_data
from gapclose.loop.work.run_generators import make_generators, with_taken_settings
from gapclose.loop.work.synthesis import Synthesis

__all__ = ["EMBEDDER", "audit", "audit_config", "audit_folders", "folders_config"]

EMBEDDER: Final = "open_clip:ViT-B-32/laion2b_s34b_b79k"
"""The default embedder of an audit of two folders."""


def audit(
    config: RunConfig | None = None,
    *,
    out: Path,
    real: Path | None = None,
    synthetic: Path | None = None,
    embedder: str | None = None,
    judge: str | Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Audit two folders, or a config's baseline: `audit_folders` or `audit_config`.

    Args:
        config: What to generate and score; beside two folders, only how to score them.
        out: The run folder.
        real: A folder of images.
        synthetic: A folder of images.
        embedder: In place of the config's, or of `EMBEDDER`.
        judge: In place of the config's: one, or several.
        reporter: Receives what happens.

    Raises:
        ConfigError: Neither a config nor both folders are given.
    """
    if config is not None:
        named = {"embedder": embedder, "judge": judge}
        config = _with(config, **{key: name for key, name in named.items() if name})
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


def audit_folders(
    *,
    real: Path,
    synthetic: Path,
    embedder: str,
    judge: str | Sequence[str] | None = None,
    out: Path,
    reporter: Reporter | None = None,
    config: RunConfig | None = None,
) -> Run:
    """Score two folders of images against each other, class by class.

    Args:
        real: Class folders, one flat folder, or CIFAKE's real side.
        synthetic: Likewise.
        embedder: Scores the gap; see `gapclose.analysis.embedding.make_embedder`.
        judge: A second opinion, several, or None.
        out: The run folder, written whole.
        reporter: Receives what happens.
        config: Its attribute words and nouns are used; a plain one by default.

    Raises:
        RealDataError: A folder is missing or empty, or no class is on both sides with >= 20
            readable images.
        EmbedderError: An embedder's name is wrong.
        ConfigError: A judge is the embedder, or is named twice.
    """
    real, synthetic = Path(real), Path(synthetic)
    reporter = reporter or SilentReporter()
    reporter.tell(TaskStarted(task=Task.COMPARING_FOLDERS))
    if config is None:
        config = folders_config(real, synthetic, embedder, judge)
    else:
        config = _with(config, embedder=embedder, judge=judge)
    check_embedders(*config.encoders)
    pair = FolderPair.scan(real=real, synthetic=synthetic)
    with joined_run(out, config) as rundir:
        state = AuditState(rundir)
        loaded: dict[str, Embedder] = {}
        read = pair.read(config, reporter, loaded)
        notes = judge_notes(config, read.real_rows(config.embedder))
        _warn(notes, reporter)
        (model,) = make_embedders(config.embedder, loaded=loaded, device=config.device).values()
        if pair.storage:
            reporter.tell(TaskStarted(task=Task.STORAGE))
        material = read.material(rundir, config, model, notes=notes)
        _finish(material, state, config=config, embedder=model, reporter=reporter)
    return Run(rundir.path)


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
        raise ConfigError("holds a tuning run, with its own before; name another --out", where=out)
    config.admit_code()
    config = with_taken_settings(config)
    photos = Photos.check(config, before, reporter)
    with joined_run(out, config) as rundir:
        state = AuditState.resume(rundir)
        images = photos.ready(config, rundir, reporter)
        loaded: dict[str, Embedder] = {}
        real, side, _ = open_real_data(
            images, photos.classes, config=config, reporter=reporter, loaded=loaded
        )
        notes = judge_notes(config, tune_rows(config, real))
        _warn(notes, reporter)
        judges = make_embedders(*config.encoders, loaded=loaded, device=config.device)
        embedder = judges.pop(config.embedder)
        generator = make_generators(config, rundir)
        synthesis = Synthesis(generator=generator, embedder=embedder, rundir=rundir)
        baselines = Baselines.generate(
            synthesis,
            real=real,
            spaces={name: Space.of(config, name) for name in photos.classes},
            seeds=SeedBlocks(seed=config.tune.seed).fold(0, config.confirm.images),
            judges=judges,
            state=state,
            reporter=reporter,
        )
        reporter.tell(TaskStarted(task=Task.STORAGE))
        material = baselines.material(side, embedder=config.embedder, notes=notes)
        _finish(material, state, config=config, embedder=embedder, reporter=reporter)
    return Run(rundir.path)


def folders_config(
    real: Path, synthetic: Path, embedder: str, judge: str | Sequence[str] | None
) -> RunConfig:
    """Return what RUN/config.yaml holds for an audit of folders: nothing is generated.

    Raises:
        ConfigError: As `audit_folders`.
    """
    return parse_config(
        {
            "real": {"path": str(real)},
            "generator": {"kind": "folder", "path": str(synthetic)},
            "embedder": embedder,
            "judge": judge,
        },
        where="audit",
    )


def _with(config: RunConfig, **changes: Any) -> RunConfig:
    """Return a config with other embedders, checked as one that is read."""
    return parse_config(config.to_dict() | changes, where="audit")


def _warn(notes: Sequence[str], reporter: Reporter) -> None:
    for said in notes:
        reporter.tell(WarningRaised(message=said))


def _finish(
    material: AuditMaterial,
    state: AuditState,
    *,
    config: RunConfig,
    embedder: Embedder,
    reporter: Reporter,
) -> None:
    """Score; write gap.json, the map, the state and the report."""
    scores = AuditScores.of(material, config=config, embedder=embedder, reporter=reporter)
    scores.write(state.rundir)
    reporter.tell(TaskStarted(task=Task.REPORTING))
    state.write("report", scores.saved())
    page = write_report(state.rundir.path)
    state.write("done", scores.saved())  # "done" promises the page
    reporter.tell(ReportWritten(path=str(page)))
