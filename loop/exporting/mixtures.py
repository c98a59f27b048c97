"""Mixtures between runs: what `export RUN OUT.yaml` writes, and what `tune --like` begins with.

A run folder and the YAML of its mixtures say the same. It reads the run folder only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gapclose.analysis.unseen import one_line
from gapclose.generators.errors import GeneratorConfigError
from gapclose.loop.config.diffusion import DIFFUSION, check_diffusion
from gapclose.loop.config.mixtures import ClassMixture, MixturesFile
from gapclose.loop.config.paths import without_folders
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.sources import DiffusersSpec
from gapclose.loop.errors import ConfigError, unwritable
from gapclose.loop.report.contents import GAP
from gapclose.loop.report.projections import open_run, read_verdicts
from gapclose.loop.report.text import named
from gapclose.loop.run.events import MixturesGiven
from gapclose.loop.run.files import write_text
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import fold_run
from gapclose.loop.work.run_generators import check_drawn

__all__ = [
    "check_given",
    "check_usable",
    "mixtures_of",
    "read_given",
    "searched_photos",
    "write_mixtures",
]


def mixtures_of(path: Path, *, only_confirmed: bool = False) -> MixturesFile:
    """Return what the classes of a run ended with.

    Args:
        path: The run folder.
        only_confirmed: Leave out the classes that are not confirmed.

    Raises:
        ConfigError: There is no run, it was not tuned, or it has no mixtures that another run can
            be given.
        RunDamagedError: It cannot be read.
    """
    run = open_run(path, verdicts=False)
    if not run.holds_tuning:
        said = "was audited, not tuned: it has no mixtures; name a run that `gapclose tune` made"
        raise ConfigError(said, where=run.path)
    verdicts = read_verdicts(run)
    found = verdicts.mixtures["classes"]
    rows = {row["name"]: row for row in verdicts.files.get(GAP, {}).get("classes", ())}
    groups = fold_run(run).groups
    photos = {cls: {digest: name for name, digest in its.items()} for cls, its in groups.items()}
    try:
        classes = {
            name: ClassMixture.of(mixture, rows.get(name, {}), photos=photos.get(name))
            for name, mixture in found.items()
            if not only_confirmed or rows.get(name, {}).get("confirmed") is True
        }
    except ValidationError as error:  # a prompt may hold what no such file may
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"has a mixture that no other run can be given: {why}", where=run.path
        ) from None
    if not classes:
        said = "no class is confirmed; export without --only-confirmed"
        raise ConfigError(said if found else "has no mixtures yet; tune", where=run.path)
    config = run.config()
    return MixturesFile(
        schema=1,
        run=one_line(run.path.name),
        generator=_generator_name(config),
        embedder=without_folders(config.embedder),
        classes=classes,
    )


def write_mixtures(path: Path, out: Path, *, only_confirmed: bool = False) -> None:
    """Write the mixtures of a run into a new YAML file, whole or not at all.

    Raises:
        ConfigError: As `mixtures_of`, or the file exists, or cannot be written.
    """
    if out.exists():
        raise ConfigError("exists; name a new file", where=out)
    text = mixtures_of(path, only_confirmed=only_confirmed).to_yaml()
    try:
        write_text(out, text)
    except OSError as error:
        raise unwritable(out, error, "name another file") from None


def read_given(path: Path) -> MixturesGiven:
    """Read what a run is to begin with.

    Args:
        path: A run folder that was tuned, or a YAML file of mixtures.

    Raises:
        ConfigError: It is neither.
        RunDamagedError: The run cannot be read.
    """
    if path.is_dir():
        file = mixtures_of(path)
    elif path.is_file():
        file = MixturesFile.read(path)
    else:
        raise ConfigError(
            "no such run folder, nor YAML file of mixtures; `gapclose export RUN OUT.yaml` "
            "writes one",
            where=path,
        )
    return MixturesGiven(source=file.run or path.name, mixtures=file.rows())


def searched_photos(path: Path) -> dict[str, frozenset[str]]:
    """Return the photos that a given run has searched or been judged with, by class and content.

    A YAML file says nothing of photos.
    """
    if path.is_file():
        return {}
    state = fold_run(RunDir(path))
    found = {name: {*photos} for name, photos in state.photos.items()}
    for name, cls in state.classes.items():
        folds = [*cls.spent_folds]
        if cls.evaluation is not None:
            folds.append(cls.evaluation.opened.photos)
        found.setdefault(name, set()).update(photo for fold in folds for photo in fold)
    return {name: frozenset(photos) for name, photos in found.items()}


def check_given(run: RunDir, given: MixturesGiven) -> None:
    """Refuse to give a run that goes on what it has not begun with.

    Raises:
        ConfigError: It has begun with other mixtures, or without any.
    """
    state = fold_run(run)
    if state.given is not None:
        if state.given.mixtures != given.mixtures:
            raise ConfigError(
                f"--like: the run has begun with other mixtures, those of {state.given.source}; "
                "leave --like out to go on, or start a new run with --out",
                where=run.path,
            )
    elif any(cls.proposed for cls in state.classes.values()):
        raise ConfigError(
            "--like: the run has begun without mixtures of another; leave --like out to go on, "
            "or start a new run with --out",
            where=run.path,
        )


def check_usable(
    given: MixturesGiven, config: RunConfig, classes: Sequence[str]
) -> tuple[str, ...]:
    """Refuse mixtures that a run could do nothing with: once they are tried it is bound to them.

    Args:
        given: What it is to begin with.
        config: Of the run.
        classes: Of the run.

    Returns:
        The classes that have a mixture and are none of the run's.

    Raises:
        ConfigError: They are of other classes alone, or have settings that the generator refuses.
    """
    strange = tuple(sorted({*given.mixtures} - {*classes}))
    if len(strange) == len(given.mixtures):
        raise ConfigError(
            f"--like: {given.source} has mixtures of {named(strange)}, and none of "
            f"{named(classes)}, the classes of this run"
        )
    rows = [
        (f"classes.{name}.recipes[{number}]", row)
        for name in given.mixtures
        if name in classes
        for number, row in enumerate(given.mixtures[name])
    ]
    try:
        first = next(iter(config.drawn_by))
        for key, row in rows:
            spec = config.drawn_by.get(row.get("generator", first))
            if spec is not None and spec.shares_parameters:
                _check_shared(row, key=key)
            if isinstance(spec, DiffusersSpec):
                for name in DIFFUSION:
                    check_diffusion(name, row.get(name), key=f"{key}.{name}")
        if any(row.get("scheduler") or row.get("parameters") for _, row in rows):
            check_drawn(config, given=[row for _, row in rows])
    except (ValueError, GeneratorConfigError) as error:
        raise ConfigError(f"--like: {given.source}: {error}") from None
    return strange


def _generator_name(config: RunConfig) -> str:
    return ", ".join(_named(spec.as_spec(), name) for name, spec in config.drawn_by.items())


def _check_shared(row: Mapping[str, Any], *, key: str) -> None:
    """Refuse distributions of what images of a batch share.

    Raises:
        ValueError: One line with the key.
    """
    for name, value in (row.get("parameters") or {}).items():
        if isinstance(value, Mapping):
            raise ValueError(
                f"{key}.parameters.{name}: images of a batch have one value of it; give one"
            )


def _named(spec: Mapping[str, Any], name: str | None) -> str:
    model = spec.get("model")
    said = without_folders(f"{spec['kind']}:{model}" if model else str(spec["kind"]))
    return said if name is None else f"{name} {said}"
