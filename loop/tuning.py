"""Tuning: what is checked before a run may go on, and its session.

`tune` is what the command line and notebooks call. Whatever a person can have got wrong is
reported here, before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gapclose.analysis.class_gap import MIN_CLOSED
from gapclose.analysis.criteria import CRITERIA, Criterion
from gapclose.analysis.embedding import Embedder
from gapclose.analysis.image_folder import ImageSet
from gapclose.loop.config.identity import fingerprint
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.errors import ConfigError
from gapclose.loop.exporting.mixtures import (
    check_given,
    check_usable,
    read_given,
    searched_photos,
)
from gapclose.loop.photos import Photos
from gapclose.loop.report.findings import left_out as left_out_text
from gapclose.loop.report.run_view import Run
from gapclose.loop.report.text import named
from gapclose.loop.run.class_state import ClassState
from gapclose.loop.run.events import MixturesGiven, PhotosListed
from gapclose.loop.run.faults import machines_fault_raised
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import check_config, check_version, joined_run
from gapclose.loop.run.journal import Journal, fold_run
from gapclose.loop.run.notices import WarningRaised
from gapclose.loop.run.reporter import Reporter, SilentReporter
from gapclose.loop.run.state import RunState
from gapclose.loop.run.trust import check_trust
from gapclose.loop.schedule.objective import Objective
from gapclose.loop.schedule.objectives import OBJECTIVES
from gapclose.loop.search.study_storage import open_storage
from gapclose.loop.session import Stopwatch, open_session
from gapclose.loop.work.real_data import ClassReference, compare_photos, open_real_data
from gapclose.loop.work.run_generators import with_taken_settings
from gapclose.loop.work.sides import left_out
from gapclose.loop.work.trials import ScoredBy, by_gap

__all__ = ["tune"]


def tune(
    config: RunConfig,
    *,
    out: Path | None = None,
    like: Path | None = None,
    trust: bool = False,
    reporter: Reporter | None = None,
    objective: Objective | None = None,
    scored_by: ScoredBy = by_gap,
    criteria: Sequence[Criterion] = CRITERIA,
) -> Run:
    """Tune every class until its gap is closed, the budget is out, or nothing gains any more.

    Started again on the same folder it resumes.

    Args:
        config: What to tune.
        out: The run folder; by default one under runs/ that the config's fingerprint names.
        like: A run folder that was tuned, or the YAML of its mixtures that `export` wrote: its
            classes' mixtures are tried after the baselines, as they are. The run keeps them; given
            again they must be the same.
        trust: Let a run folder that was made elsewhere import the code its config names.
        reporter: Receives what happens.
        objective: What the classes are searched for; what the config says by default.
        scored_by: What trials are scored by, in units of its own; a fold's squared MMD is
            compared with it in floors.
        criteria: What a class must meet to be confirmed. The run folder keeps none of these
            three: give the same ones to resume.

    Raises:
        ConfigError, RealDataError, EmbedderError, GeneratorConfigError: The user's input is
            wrong; nothing has been written.
        RunBusyError, RunMismatchError: The folder is in use, or is another config's.
        UnwritableError, MachineError: The disk is full, or the machine fails otherwise; what is
            done is kept, and the same call goes on.
    """
    reporter = reporter or SilentReporter()
    out = Path("runs") / f"tune-{fingerprint(config)[:8]}" if out is None else Path(out)
    given = None if like is None else read_given(Path(like))
    config, photos = _checked(config, RunDir(out), given, trust=trust, reporter=reporter)
    objective = objective or _named_objective(config, photos)
    # The last that can be wrong, for it may make a database.
    storage = None if config.storage is None else open_storage(config.storage)
    with machines_fault_raised(), joined_run(out, config) as rundir:
        state = fold_run(rundir)
        # Rendering and embedding the real images is part of what a night has time for.
        watch = Stopwatch(used_before=state.used)
        loaded: dict[str, Embedder] = {}
        images = photos.ready(config, rundir, reporter)
        real, listed = _open(photos.classes, images, config, rundir, state, reporter, loaded)
        if like is not None:
            _warn_of_searched(Path(like), real, reporter)
        # A trial's matrices are small: threads that wait for each other cost more than they gain.
        with threadpool_limits(1, user_api="blas"):
            session = open_session(
                config,
                rundir,
                Journal(rundir.journal_path),
                state,
                real,
                images,
                loaded=loaded,
                given=given,
                watch=watch,
                reporter=reporter,
                objective=objective,
                scored_by=scored_by,
                criteria=criteria,
            )
            with closing(session):
                session.begin(listed, storage)
                session.run()
    return Run(rundir.path)


def _checked(
    config: RunConfig,
    before: RunDir,
    given: MixturesGiven | None,
    *,
    trust: bool,
    reporter: Reporter,
) -> tuple[RunConfig, Photos]:
    """Check what a config names, and whether a run that is there can go on with it.

    Returns:
        The config as its generator takes it, and the photos.
    """
    check_trust(before, config, trust=trust, writes_storage=True)
    check_version(before)
    config = with_taken_settings(config)
    photos = Photos.check(config, before, reporter)
    if before.config_path.is_file():
        check_config(before, config)
        _check_classes(before, photos.classes)
        if given is not None:
            check_given(before, given)
    if given is not None and (strange := check_usable(given, config, photos.classes)):
        said = f"{given.source} has mixtures of classes that this run does not have: "
        reporter.tell(WarningRaised(message=said + named(strange)))
    return config, photos


def _named_objective(config: RunConfig, photos: Photos) -> Objective:
    """Return the objective that a config names, if its classes suffice for it."""
    if config.tune.objective == "worth" and len(photos.classes) < 2:
        raise ConfigError(
            "tune.objective: worth asks how well classes are told apart, and the run has one "
            "class; set it to gap, or name more classes",
            where="config",
        )
    return OBJECTIVES[config.tune.objective]


def _open(
    classes: Sequence[str],
    images: ImageSet,
    config: RunConfig,
    rundir: RunDir,
    state: RunState,
    reporter: Reporter,
    loaded: dict[str, Embedder],
) -> tuple[dict[str, ClassReference], PhotosListed]:
    """Split and embed the photos, and say what of them is left out or has changed."""
    real, side, cuts = open_real_data(
        images,
        classes,
        config=config,
        reporter=reporter,
        loaded=loaded,
        pinned={name: _pinned(cls) for name, cls in state.classes.items()},
        cuts=state.cuts,
        tuned=state.photos,
    )
    missing = left_out([side], relative=rundir.relative)
    opened = {name: cls.opened for name, cls in state.classes.items() if cls.opened is not None}
    for said in [*left_out_text(missing), *compare_photos(real, state.photos, opened)]:
        reporter.tell(WarningRaised(message=said))
    listed = PhotosListed(
        tune={name: reference.tune.photos for name, reference in real.items()},
        cuts=cuts,
        left_out=missing,
    )
    return real, listed


def _warn_of_searched(like: Path, real: Mapping[str, ClassReference], reporter: Reporter) -> None:
    """Say which classes would be confirmed on photos that their given mixture knows."""
    searched = searched_photos(like)
    for name, reference in real.items():
        unseen = {photo for fold in reference.folds for photo in fold.photos}
        if seen := unseen & searched.get(name, frozenset()):
            said = (
                f"{name}: {len(seen)} of the {len(unseen)} photos that are to confirm it are "
                f"among those that {like.name} searched or was judged with: what they say of its "
                "mixture is not new; give other photos"
            )
            reporter.tell(WarningRaised(message=said))


def _pinned(cls: ClassState) -> tuple[tuple[str, ...], ...]:
    """Return the photos of a class's folds that are not cut anew, from fold 0 on.

    A fold that was opened is evaluated, and its report made, on the photos that the event names,
    spent or not. One that is not spent and has too few to close a class is cut anew once it is
    evaluated: more photos may have come because of that.
    """
    opened = cls.opened
    if opened is None and cls.evaluation is not None:
        judged = cls.evaluation.opened
        opened = judged if len(judged.photos) >= MIN_CLOSED else None
    if opened is None or opened.photos in cls.spent_folds:
        return cls.spent_folds
    return (*cls.spent_folds, opened.photos)


def _check_classes(rundir: RunDir, classes: tuple[str, ...]) -> None:
    """Refuse to resume a run without the images of a class that it has tried.

    Raises:
        ConfigError: A class is gone.
    """
    state = fold_run(rundir)
    tried = {name for name, cls in state.classes.items() if cls.proposed}
    if gone := sorted(tried - {*classes}):
        raise ConfigError(
            f"the run has tried class {gone[0]}, which has no images now: put its "
            "folder back, or start a new run with --out",
            where=rundir.path,
        )
