"""One Optuna study per class: the record on disk, and what to try next.

The study in the run's storage is a record for people (optuna-dashboard opens it), filled from the
journal, so that no fault of it holds a run up. Proposals come from a study in memory that holds
the history with the values as they stand now, because a Frank-Wolfe score changes whenever the
mixture does.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import itertools
import logging
import math
import os
import sqlite3
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from gapclose.loop.config.storage_url import masked
from gapclose.loop.errors import ConfigError, UnwritableError
from gapclose.loop.run.files import kept
from gapclose.loop.search.space import Params, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)

log = logging.getLogger(__name__)

Storage = optuna.storages.BaseStorage

# What of SQLite's errors is the disk's fault, in the system's own numbers.
_DISK: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_IOERR: errno.EIO,
}
_LOCKED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# Of what is missing, wrong or not reachable; a RuntimeError is Optuna's of another schema.
_FAULTS: Final = (ImportError, RuntimeError, SQLAlchemyError, StorageInternalError)
# To wait for another process that writes: a trial takes 20 ms, and Optuna tries five times.
_SECONDS: Final = 1.0
_BESIDE: Final = ("-journal", "-wal", "-shm")  # what SQLite would take for a new file's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A finished trial as the sampler sees it: lower values are better."""

    params: Params
    value: float

    def __post_init__(self) -> None:
        """Refuse what would upset the order that TPE goes by.

        Raises:
            ValueError: The value is not finite.
        """
        if not math.isfinite(self.value):
            raise ValueError(f"a finished trial needs a finite value, not {self.value}")


def derive_seed(*parts: object) -> int:
    """Derive a 31-bit seed from anything printable, the same in every process."""
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def propose(
    distributions: Mapping[str, BaseDistribution],
    past: Sequence[Observation],
    *,
    seed: int,
    fixed: Params | None = None,
    startup: int = 8,
) -> Params:
    """Ask Optuna's TPE for parameters, given the history as it stands now.

    Independent TPE (`multivariate=False`) recombines words into new recipes; the multivariate
    one clones atoms that already carry weight.

    Args:
        distributions: What may be chosen.
        past: Finished trials with current values.
        seed: Of this proposal; Optuna's storage does not restore a sampler.
        fixed: Parameters to hold.
        startup: Trials that are sampled at random before TPE starts.
    """
    sampler: optuna.samplers.BaseSampler = optuna.samplers.TPESampler(
        multivariate=False, constant_liar=False, n_startup_trials=startup, seed=seed
    )
    if fixed:
        sampler = _holding(fixed, sampler)
    study = optuna.create_study(sampler=sampler, storage=_History(distributions, past))
    return dict(study.ask(dict(distributions)).params)


def chosen_of(params: Params, distributions: Mapping[str, BaseDistribution]) -> Params:
    """Return the parameters that may be chosen: a prompt that somebody proposed may not."""

    def holds(distribution: BaseDistribution, value: Any) -> bool:
        if isinstance(distribution, CategoricalDistribution):
            return value in distribution.choices
        low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
        return isinstance(value, int | float) and low <= value <= high

    return {
        name: value
        for name, value in params.items()
        if name in distributions and holds(distributions[name], value)
    }


class _History(optuna.storages.InMemoryStorage):
    """A storage that begins with finished trials.

    `Study.add_trial` checks and deep-copies each: of 500 trials that takes most of an ask.
    """

    def __init__(
        self, distributions: Mapping[str, BaseDistribution], past: Sequence[Observation]
    ) -> None:
        super().__init__()
        # Numbered up to -1, as the trial that will be asked is number 0: TPE goes by their order.
        self._finished = [
            optuna.trial.FrozenTrial(
                number=i - len(past),
                trial_id=i - len(past),
                state=TrialState.COMPLETE,
                value=trial.value,
                params=(chosen := chosen_of(trial.params, distributions)),
                distributions={k: distributions[k] for k in chosen},
                user_attrs={},
                system_attrs={},
                intermediate_values={},
                datetime_start=None,
                datetime_complete=None,
            )
            for i, trial in enumerate(past)
        ]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[optuna.trial.FrozenTrial]:
        asked = super().get_all_trials(study_id, deepcopy=deepcopy, states=states)
        if states is not None and TrialState.COMPLETE not in states:
            return asked
        return [*(copy.deepcopy(self._finished) if deepcopy else self._finished), *asked]


def _holding(fixed: Params, sampler: optuna.samplers.BaseSampler) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.PartialFixedSampler(fixed, sampler)


class OptunaRecord:
    """The class's study in the run's storage."""

    def __init__(self, storage: Storage, space: Space, *, run: str) -> None:
        """Open the study of the space's class in a run, or make it; runs may share a storage."""
        self._space = space
        self._storage = storage
        name = f"{space.cls}-{space.digest()}-{run}"
        with _written(storage):
            self._study = optuna.create_study(
                storage=storage, study_name=name, load_if_exists=True
            )

    def repair(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Make the study hold each finished trial of the journal once.

        A study can only lack trials: a trial is added after its event is appended.

        Returns:
            How many it lacked.
        """
        # Trials are never asked from this study, so none can stay RUNNING (optuna#485).
        recorded = {t.user_attrs.get("number") for t in self._study.get_trials(deepcopy=False)}
        missing = [row for row in rows if row["number"] not in recorded]
        for row in missing:
            self.tell(row)
        return len(missing)

    def tell(self, row: Mapping[str, Any]) -> None:
        """Add a finished trial."""
        distributions = self._space.distributions
        params = chosen_of(row.get("params") or {}, distributions)
        value = row.get("value")
        if row["state"] != "complete" or (value is not None and not math.isfinite(value)):
            value = None
        trial = optuna.trial.create_trial(
            state=TrialState.FAIL if value is None else TrialState.COMPLETE,
            params=params,
            distributions={k: distributions[k] for k in params},
            value=None if value is None else float(value),
            user_attrs={
                "number": row["number"],
                "stage": row["stage"],
                "gap": row.get("gap"),
                "mixture_gap": row.get("mixture_gap"),
                "fingerprint": row.get("fingerprint"),
            },
        )
        with _written(self._storage):
            self._study.add_trial(trial)


class StudyRecords:
    """The studies of all classes; trials are added while the next ones are generated.

    Where a storage is locked or full, one line says so, and the trials from there on are added
    when the session ends, or else by the next one.
    """

    def __init__(self, records: Mapping[str, OptunaRecord]) -> None:
        """Take the record of each class; of none if another process has their storage."""
        self._records = dict(records)
        self._writer = ThreadPoolExecutor(1)
        self._added: Future[None] = self._writer.submit(lambda: None)  # the last trial
        self._late: list[Mapping[str, Any]] = []  # trials that are yet to be added
        self._waits = not records
        self._said = False

    @classmethod
    def open(
        cls, storage: Storage | None, spaces: Mapping[str, Space], *, path: Path, run: str
    ) -> StudyRecords:
        """Open the studies of a run, or make them.

        Args:
            storage: Where they lie; None for a file of the run's own, which is made anew if it
                cannot be used, and left alone if another process has it locked.
            spaces: By class.
            path: Of that file.
            run: The run's id.

        Raises:
            ConfigError: The storage that was given cannot be used.
            UnwritableError: The system does not let the file be written.
        """

        def records(storage: Storage) -> StudyRecords:
            return cls({n: OptunaRecord(storage, space, run=run) for n, space in spaces.items()})

        if storage is not None:
            try:
                return records(storage)
            except _FAULTS as error:
                raise _refused(getattr(storage, "url", "the storage"), error) from None
        try:
            return records(open_study_file(path))
        except UnwritableError:
            raise
        except Exception as error:  # noqa: BLE001 - SQLite's, or of an Optuna with other tables
            if _is_locked(error):
                log.warning(
                    "%s: another process has it locked; this session's trials are added by the "
                    "next one",
                    path,
                )
                return cls({})
            set_aside(path, f"cannot be used ({' '.join(str(error).split())[:100]})")
        return records(open_study_file(path))

    def repair(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Have each study hold each finished trial of its class once."""
        of: dict[str, list[Mapping[str, Any]]] = {name: [] for name in self._records}
        for row in rows:
            of.get(row["class"], []).append(row)
        try:
            for name, own in of.items():
                self._records[name].repair(own)
        except (SQLAlchemyError, StorageInternalError) as error:
            if not _is_locked(error):
                raise
            self._put_off("trials of earlier sessions are", error)

    def tell(self, row: Mapping[str, Any]) -> None:
        """Have a trial added to its class's study: 20 ms in a database, which nobody waits for."""
        self._late.append(row)
        self._added = self._writer.submit(self._add)

    def close(self) -> None:
        """Wait for the last trial to be added, and try those again that could not be."""
        self._added.result()
        self._waits = not self._records
        self._writer.submit(self._add).result()
        self._writer.shutdown()

    def _add(self) -> None:
        while self._late and not self._waits:
            row = self._late[0]
            try:
                self._records[row["class"]].tell(row)
            except Exception as error:  # noqa: BLE001 - a locked or full storage, or one that is gone
                self._put_off(f"trial {row['number']} of {row['class']} is", error)
            else:
                del self._late[0]

    def _put_off(self, what: str, error: Exception) -> None:
        self._waits = True
        if self._said:
            return
        self._said = True
        said = " ".join(str(_of_sqlite(error) or error).split())[:100]
        log.warning(
            "%s not in the study yet (%s); the next session adds what it lacks", what, said
        )


def open_study_file(path: Path) -> Storage:
    """Open a run's own storage; a damaged one is set aside, and filled anew.

    Raises:
        UnwritableError: The system does not let it be written.
        Exception: Of SQLite, SQLAlchemy or Optuna: it is locked, or of another schema.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        set_aside(path, "is no file")
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_SECONDS)) as database:
            whole = database.execute("pragma quick_check").fetchone() == ("ok",)
    except sqlite3.OperationalError as error:
        if _is_locked(error):
            raise
        whole = True  # not to be written: raised when it is opened
    except sqlite3.DatabaseError:
        whole = False
    if not whole:
        set_aside(path, "is damaged")
    return _opened(sqlite_url(path))


def set_aside(path: Path, why: str) -> None:
    """Move a run's own storage aside, with what SQLite keeps beside it, and say why.

    Raises:
        UnwritableError: The system does not let it be moved.
    """
    names = (f"{path.name}.damaged{number or ''}" for number in itertools.count())
    aside = next(
        place
        for place in (path.with_name(name) for name in names)
        if not (place.exists() or place.is_symlink())
    )
    log.warning("%s: %s; kept as %s, and made anew", path, why, aside.name)
    with kept(path):
        for suffix in ("", *_BESIDE):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))


def sqlite_url(path: Path) -> URL:
    """Return the URL of a SQLite file, whatever characters its path has."""
    return URL.create("sqlite", database=str(path))


def open_storage(url: str | URL) -> Storage:
    """Open an Optuna storage; SQLite waits for a lock rather than failing at once.

    Raises:
        ConfigError: It cannot be opened.
        UnwritableError: It is a SQLite file, and the disk is full or does not let itself be
            written.
    """
    try:
        return _opened(make_url(url))
    except _FAULTS as error:
        raise _refused(url, error) from None


def _refused(url: str | URL, error: Exception) -> ConfigError:
    named = f"storage: {masked(str(url))}"
    if _is_locked(error):
        return ConfigError(f"{named} is locked by another process; end it, or write null")
    why = " ".join(str(error).split())[:200]
    return ConfigError(
        f"{named} cannot be opened ({why}); give an SQLAlchemy URL whose driver is installed, or "
        "null"
    )


def _opened(url: URL) -> Storage:
    sqlite = url.get_backend_name() == "sqlite"
    options = {"connect_args": {"timeout": _SECONDS}} if sqlite else {}
    # Quoted: Optuna takes a brace for a slot of a template, and a ? ends a path.
    text = url.render_as_string(hide_password=False)
    with _written(url):
        return optuna.storages.RDBStorage(text, engine_kwargs=options)


def _of_sqlite(error: BaseException) -> sqlite3.Error | None:
    """Return SQLite's own error, whatever wraps it; None if it is none of its."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, sqlite3.Error):
        cause = getattr(cause, "orig", None) or cause.__cause__
    return cause


def _code(error: BaseException) -> int:
    """Return SQLite's primary error code; 0 if there is none."""
    return (getattr(_of_sqlite(error), "sqlite_errorcode", None) or 0) & 0xFF


def _is_locked(error: BaseException) -> bool:
    return _code(error) in _LOCKED


@contextlib.contextmanager
def _written(storage: Storage | URL) -> Iterator[None]:
    """Raise UnwritableError where it is the disk of a SQLite file that refuses."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        number = _DISK.get(_code(error))
        if number is None:
            raise
        url = (
            storage if isinstance(storage, URL) else make_url(getattr(storage, "url", "sqlite://"))
        )
        raise UnwritableError(number, os.strerror(number), url.database) from error
