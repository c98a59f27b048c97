"""One Optuna study per class: the record on disk, and what to try next.

The study in the run's storage is a record for people (optuna-dashboard opens it), filled from the
journal, so that no fault of it holds a run up. Proposals come from a study in memory that holds
the history with the values as they are now, because a Frank-Wolfe score changes whenever the
mixture does; those of inactive atoms are as they were computed last.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState

from gapclose.loop.errors import UnwritableError
from gapclose.loop.search.space import Params, Space, space_digest
from gapclose.loop.search.study_storage import (
    FAULTS,
    Storage,
    is_locked,
    of_sqlite,
    open_study_file,
    refused,
    set_aside,
    written,
)

optuna.logging.set_verbosity(optuna.logging.ERROR)  # what it cannot read is said in our words

log = logging.getLogger(__name__)

TOLD: Final = 500  # trials that TPE is told of, at most
BEST: Final = 25  # ... of which so many are the best: TPE's own number


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
    told = _told(past)
    study = optuna.create_study(sampler=sampler, storage=_History(distributions, told))
    return dict(study.ask(dict(distributions)).params)


def _told(past: Sequence[Observation]) -> Sequence[Observation]:
    """Return the trials that TPE is told of, in their order: an ask takes time in proportion.

    Of more than 240 it holds the 25 best against all others, which count the less the older they
    are (Bergstra et al. 2013; Optuna's `default_gamma` and `default_weights`). The best are always
    told, and beyond `TOLD` the oldest of the others are not.
    """
    if len(past) <= TOLD:
        return past
    best = {*sorted(range(len(past)), key=lambda i: past[i].value)[:BEST]}
    latest = len(past) - (TOLD - BEST)
    return [trial for i, trial in enumerate(past) if i >= latest or i in best]


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
        name = f"{space.cls}-{space_digest(space)}-{run}"
        with written(storage):
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
        with written(self._storage):
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
        cls,
        storage: Storage | None,
        spaces: Mapping[str, Space],
        *,
        path: Path,
        run: str,
        rows: Sequence[Mapping[str, Any]] = (),
    ) -> StudyRecords:
        """Open the studies of a run, or make them, and add what they lack.

        Args:
            storage: Where they lie; None for a file of the run's own, which is made anew if it
                cannot be used, and left alone if another process has it locked.
            spaces: By class.
            path: Of that file.
            run: The run's id.
            rows: The finished trials of all classes.

        Raises:
            ConfigError: The storage that was given cannot be used.
            UnwritableError: The system does not let the file be written.
        """

        def records(storage: Storage) -> StudyRecords:
            return cls({n: OptunaRecord(storage, space, run=run) for n, space in spaces.items()})

        if storage is not None:
            try:
                found = records(storage)
            except FAULTS as error:
                raise refused(getattr(storage, "url", "the storage"), error) from None
            found.repair(rows)
            return found
        try:
            found = records(open_study_file(path))
            found._repair(rows)
            return found
        except UnwritableError:
            raise
        except Exception as error:  # noqa: BLE001 - SQLite's, or of an Optuna with other tables
            if is_locked(error):
                log.warning(
                    "%s: another process has it locked; this session's trials are added by the "
                    "next one",
                    path,
                )
                return cls({})
            set_aside(path, f"cannot be used ({' '.join(str(error).split())[:100]})")
        found = records(open_study_file(path))
        found._repair(rows)
        return found

    def repair(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Have each study hold each finished trial of its class once, now or in a later session.

        Raises:
            UnwritableError: The system does not let the storage be written.
        """
        try:
            self._repair(rows)
        except UnwritableError:
            raise
        except Exception as error:  # noqa: BLE001 - as in `_add`
            self._put_off("trials of earlier sessions are", error)

    def _repair(self, rows: Iterable[Mapping[str, Any]]) -> None:
        of: dict[str, list[Mapping[str, Any]]] = {name: [] for name in self._records}
        for row in rows:
            of.get(row["class"], []).append(row)
        for name, own in of.items():
            self._records[name].repair(own)

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
        said = " ".join(str(of_sqlite(error) or error).split())[:100]
        log.warning(
            "%s not in the study yet (%s); the next session adds what it lacks", what, said
        )
