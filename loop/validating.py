"""Validate: what images are worth, told by classifiers that are trained on them.

The command line and notebooks call it: of a run, or of folders that exist. It tunes nothing, and
generates only what it trains on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gapclose.analysis.downstream.classifier import check_classifier
from gapclose.analysis.embedding import Embedder, check_embedders, make_embedder
from gapclose.analysis.image_folder import ImageSet, scan
from gapclose.loop.auditing import EMBEDDER, audit_folders
from gapclose.loop.config.paths import resolved
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.sources import PondReal
from gapclose.loop.errors import ConfigError
from gapclose.loop.report.contents import MIXTURES, VALIDATION, mixtures_key
from gapclose.loop.report.findings import left_out as left_out_text
from gapclose.loop.report.page import write_report
from gapclose.loop.report.projections import open_run, read_verdicts
from gapclose.loop.report.run_view import Run
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import fold_run
from gapclose.loop.run.lock import lock
from gapclose.loop.run.notices import ReportWritten, Task, TaskStarted, WarningRaised
from gapclose.loop.run.reporter import Reporter, SilentReporter
from gapclose.loop.run.trust import check_trust
from gapclose.loop.search.seeds import POOLS, SeedBlocks
from gapclose.loop.search.trial import Mixture
from gapclose.loop.validation.arms import arms_of
from gapclose.loop.validation.classifiers import LINEAR, make_classifiers
from gapclose.loop.validation.folder import check_folder, sweep_folder
from gapclose.loop.validation.photos import Photos, rendered_test
from gapclose.loop.validation.pools import make_ready
from gapclose.loop.validation.subject import Subject
from gapclose.loop.validation.test_photos import TestPhotos
from gapclose.loop.validation.trainings import Trainings
from gapclose.loop.validation.validation import Validation
from gapclose.loop.validation.word_groups import word_groups
from gapclose.loop.work.sides import left_out

__all__ = ["CLASSIFIERS", "DRAWS", "PER_CLASS", "SEEDS", "validate_folders", "validate_run"]

CLASSIFIERS: Final = ("linear", "cnn")
PER_CLASS: Final = 200
SEEDS: Final = 3
DRAWS: Final = 2
_MOST: Final = 100  # seeds, and draws: intervals have long stopped to narrow


def validate_run(
    run: Path | str,
    *,
    test: Path | str | None = None,
    classifiers: Sequence[str] = CLASSIFIERS,
    per_class: int = PER_CLASS,
    seeds: int = SEEDS,
    draws: int = DRAWS,
    budget: float | None = None,
    trust: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """Train classifiers on a run's images, before and after, and test them on real photos.

    Beside the baseline's and the tuned images stand what a careful person would do by hand (every
    prompt evenly) and real photos at the same number; of an audit, its images and real photos.
    RUN/validation.json and the report say what came of it. What was trained before is read back.

    Args:
        run: A run folder in which classes were judged, or an audit's.
        test: A folder of photos that the run has not seen, in class folders; none is needed where
            `real.test_share` keeps some apart, or where the real side is the pond.
        classifiers: As `make_classifier` has them; `linear` sees through the first judge.
        per_class: Training images of a class, >= 2.
        seeds: Trainings of each draw, 1 to 100.
        draws: Draws of images, >= 1; of generated ones 10 at most, else 100.
        budget: Seconds for images and trainings; as long as they take by default.
        trust: Allow a config that names code to import it.
        reporter: Receives the progress.

    Raises:
        ConfigError: There is no such run, nothing to validate in it, an argument is wrong, or the
            folder cannot be written.
        ClassifierError: There is no such classifier.
        RealDataError: There are too few test photos.
        RunBusyError: Another process is writing the run.
        GenerationError: The generator failed.
    """
    reporter = reporter or SilentReporter()
    names = tuple(dict.fromkeys(classifiers))
    _check(names, per_class=per_class, seeds=seeds, draws=draws)
    subject = _opened(run)
    config, rundir = subject.config, subject.rundir
    check_trust(rundir, config, trust=trust)
    check_embedders(*config.encoders)
    if subject.synthetic is None:  # too many are told before anything is read
        pools = POOLS + len(subject.alone)
        blocks = SeedBlocks(seed=config.tune.seed)
        blocks.validation(pools - 1, draws - 1, per_class, pools=pools)
    check_folder(rundir)
    reporter.tell(TaskStarted(task=Task.READING_PHOTOS))
    real, given = subject.real_images(), _given(subject, test)
    with lock(rundir):
        sweep_folder(rundir)
        begun = time.monotonic()  # photos are read, models loaded and images generated first
        validation = _validation(
            subject,
            (real, given),
            names,
            per_class=per_class,
            seeds=seeds,
            draws=draws,
            reporter=reporter,
        )
        found = validation.run(budget=budget, spent=time.monotonic() - begun)
        _write(subject, found, reporter)
    return Run(rundir.path)


def validate_folders(
    *,
    real: Path,
    synthetic: Path,
    test: Path,
    out: Path,
    embedder: str = EMBEDDER,
    judge: str | Sequence[str] | None = None,
    classifiers: Sequence[str] = CLASSIFIERS,
    reporter: Reporter | None = None,
    **how: Any,
) -> Run:
    """Audit two folders of images, and validate the audit.

    It is audited each time, for the images may be others now; what was embedded before is not
    embedded again.

    Args:
        real: Class folders of real photos.
        synthetic: Class folders of synthetic images.
        test: Class folders of other real photos.
        out: The audit's run folder.
        embedder: As in `audit_folders`.
        judge: Likewise.
        classifiers: As in `validate_run`, which takes what else is given.
        reporter: Receives the progress.
        how: `per_class`, `seeds`, `draws`, `budget`.

    Raises:
        ConfigError, RealDataError, EmbedderError, ClassifierError: As those two.
    """
    defaults = {"per_class": PER_CLASS, "seeds": SEEDS, "draws": DRAWS}
    _check(classifiers, **{name: how.get(name, usual) for name, usual in defaults.items()})
    run = RunDir(out)
    _check_apart(Path(test), run, real=real, synthetic=synthetic)
    scan(Path(test))
    if run.path.is_dir():
        check_folder(run)
    audit_folders(
        real=real, synthetic=synthetic, embedder=embedder, judge=judge, out=out, reporter=reporter
    )
    return validate_run(out, test=test, classifiers=classifiers, reporter=reporter, **how)


def _check(names: Sequence[str], *, per_class: int, seeds: int, draws: int) -> None:
    """Refuse arguments before anything is read.

    Raises:
        ConfigError: A number is too small or too large, or there is no classifier.
        ClassifierError: There is no such classifier.
    """
    allowed = {
        "--per-class": (per_class, 2, math.inf),
        "--seeds": (seeds, 1, _MOST),
        "--draws": (draws, 1, _MOST),
    }
    for option, (given, fewest, most) in allowed.items():
        if given < fewest:
            raise ConfigError(f"got {given}, expected at least {fewest}", where=option)
        if given > most:
            raise ConfigError(f"got {given}, expected at most {most}", where=option)
    if not names:
        raise ConfigError("name at least one, such as cnn", where="--classifier")
    for name in names:
        check_classifier(name)


def _opened(run: Path | str) -> Subject:
    """Open a run that can be validated.

    Raises:
        ConfigError: There is none, nothing was measured in it yet, or it has one class.
    """
    rundir = open_run(run)
    verdicts, tuned = read_verdicts(rundir), None
    state = fold_run(rundir)
    if state.names or MIXTURES in verdicts.files:
        tuned = verdicts.mixtures["classes"]
    classes = state.names or tuple(sorted(row["name"] for row in verdicts.gap["classes"]))
    if len(classes) < 2:
        only = f" ({classes[0]})" if classes else ""
        raise ConfigError(
            f"has {len(classes)} class{only}: a classifier has nothing to tell apart",
            where=rundir.path,
        )
    seen = {photo for photos in state.photos.values() for photo in photos}
    for cls in state.classes.values():
        seen |= {photo for fold in cls.spent_folds for photo in fold}
    return Subject(
        rundir=rundir,
        config=rundir.config(),
        classes=classes,
        tuned=tuned,
        shortcuts=verdicts.gap.get("shortcuts") or (),
        seen=frozenset(seen),
        alone=_alone(rundir.config(), verdicts.gap["classes"]),
    )


def _alone(config: RunConfig, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Mixture]]:
    """Return what each of several generators comes to by itself, by class; nothing of one."""
    found: dict[str, dict[str, Mixture]] = {
        name: {} for name in config.drawn_by if name is not None
    }
    for row in rows:
        for its in (row.get("generators") or {}).get("alone", ()):
            if its["name"] in found and its.get("mixture") is not None:
                found[its["name"]][row["name"]] = Mixture.from_json(its["mixture"])
    return {name: its for name, its in found.items() if its}


def _given(subject: Subject, test: Path | str | None) -> ImageSet | None:
    """Scan the test photos, where they are given.

    Raises:
        ConfigError: They are needed and not given, or are what the run was made of.
        RealDataError: There are none in the folder.
    """
    real = subject.config.real
    if test is None:
        if not subject.rendered and not real.test_share:
            raise ConfigError(
                "validate needs photos that the run has not seen; give their folder with --test",
                where=subject.rundir.path,
            )
        return None
    own = {"real": getattr(real, "path", None), "synthetic": subject.synthetic}
    _check_apart(Path(test), subject.rundir, **own)
    return scan(Path(test))


def _check_apart(test: Path, run: RunDir, **own: Path | str | None) -> None:
    """Refuse the folder of either side as test photos, and all that lies in the run folder.

    Raises:
        ConfigError: It is one of them.
    """
    if resolved(test).is_relative_to(resolved(run.path)):
        raise ConfigError(
            "lies in the run folder; give photos that nothing has seen",
            where=test,
        )
    for side, path in own.items():
        if path is not None and resolved(test) == resolved(Path(path)):
            raise ConfigError(
                f"is the folder of the {side} images; give photos that nothing has seen",
                where=test,
            )


def _validation(
    subject: Subject,
    images: tuple[ImageSet, ImageSet | None],
    names: Sequence[str],
    *,
    per_class: int,
    seeds: int,
    draws: int,
    reporter: Reporter,
) -> Validation:
    """Read the photos, real ones and given ones, and put all together; the lock is held."""
    config = subject.config
    seen_through = [config.embedder, *(config.judge[:1] if LINEAR in names else ())]
    loaded = {name: make_embedder(name, device=config.device) for name in seen_through}
    photos, tested = _read(subject, *images, loaded, reporter)
    pools = subject.pools(photos, loaded[config.embedder], reporter=reporter)
    wanted = [(name, per_class) for name in pools]
    begun = time.monotonic()
    make_ready(pools, wanted, subject.classes, draw=0, reporter=reporter)
    generated = time.monotonic() - begun
    classifiers, versions = make_classifiers(
        names, pools, tested, per_class=per_class, config=config, loaded=loaded
    )
    trainings = Trainings(
        rundir=subject.rundir, pools=pools, test=tested, versions=versions, per_class=per_class
    )
    return Validation(
        trainings=trainings,
        classifiers=classifiers,
        arms=arms_of(pools, n=per_class),
        seeds=seeds,
        draws=draws,
        generated=generated,
        reporter=reporter,
    )


def _read(
    subject: Subject,
    real: ImageSet,
    given: ImageSet | None,
    loaded: dict[str, Embedder],
    reporter: Reporter,
) -> tuple[Photos, TestPhotos]:
    """Read all photos, and say which test photos do not count."""
    config, rendered = subject.config, subject.rendered and given is None
    if rendered:
        assert isinstance(config.real, PondReal), "only a pond is rendered"
        given = rendered_test(subject.rundir, config.real, subject.classes, reporter)
    photos = Photos.read(
        real,
        given,
        subject.classes,
        config=config,
        seen=subject.seen,
        loaded=loaded,
        reporter=reporter,
        rendered=rendered,
    )
    for message in _warnings(subject, photos, given):
        reporter.tell(WarningRaised(message=message))
    tested = TestPhotos.of(
        photos.test,
        photos.side,
        embedder=loaded[config.embedder],
        groups={n: word_groups(space, config.attributes) for n, space in subject.spaces.items()},
    )
    return photos, tested


def _warnings(subject: Subject, photos: Photos, given: ImageSet | None) -> Iterator[str]:
    """Say what is not as a person may think."""
    if subject.unjudged:
        yield (
            f"no verdict on {', '.join(subject.unjudged)} yet: the baseline's images stand for "
            "the tuned ones"
        )
    if given is None:
        return
    if photos.repeated == 1:
        yield "1 test photo is left out: the run has seen it, or a photo that it repeats"
    elif photos.repeated:
        yield (
            f"{photos.repeated} test photos are left out: the run has seen them, or photos that "
            "they repeat"
        )
    if strange := [name for name in given.classes if name not in subject.classes]:
        yield f"the run has no class {', '.join(strange)}: its test photos are left out"
    yield from left_out_text(left_out([photos.tested(given)], relative=subject.rundir.relative))


def _write(subject: Subject, found: dict[str, Any], reporter: Reporter) -> None:
    """Write validation.json, with which mixtures it is of, and the report."""
    of = None if subject.tuned is None else mixtures_key(subject.tuned)
    own = {"shortcuts": [*subject.shortcuts], "mixtures": of}
    subject.rundir.write_json(VALIDATION, found | own)
    reporter.tell(TaskStarted(task=Task.REPORTING))
    page = write_report(subject.rundir.path)
    reporter.tell(ReportWritten(path=str(page)))
