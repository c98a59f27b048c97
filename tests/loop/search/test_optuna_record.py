from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from sqlalchemy import event

from gapclose.loop.config.reading import parse_config
from gapclose.loop.errors import ConfigError, UnwritableError
from gapclose.loop.search.optuna_record import (
    BEST,
    TOLD,
    Observation,
    OptunaRecord,
    StudyRecords,
    chosen_of,
    derive_seed,
    propose,
)
from gapclose.loop.search.space import Space, space_digest
from gapclose.loop.search.study_storage import open_storage, open_study_file, sqlite_url

DISTRIBUTIONS = {
    "color": CategoricalDistribution(("", "green", "brown")),
    "guidance_scale": FloatDistribution(1.0, 9.0, log=True),
    "num_inference_steps": IntDistribution(4, 20),
}


def past(n: int) -> list[Observation]:
    """A bowl: the lower the guidance, the better."""
    rows = []
    for i in range(n):
        guidance = 1.0 + 8.0 * ((i * 7) % n) / n
        params = {
            "color": ("", "green", "brown")[i % 3],
            "guidance_scale": guidance,
            "num_inference_steps": 4 + i % 17,
        }
        rows.append(Observation(params=params, value=guidance))
    return rows


def test_seeds_are_derived_from_everything_named() -> None:
    seed = derive_seed(0, "frog", 3)
    assert 0 <= seed < 2**31
    assert derive_seed(0, "frog", 3) == seed
    others = {derive_seed(1, "frog", 3), derive_seed(0, "frogs", 3), derive_seed(0, "frog", 4)}
    others |= {derive_seed(0, "fro", "g3"), derive_seed("0frog3")}
    assert seed not in others
    assert len(others) == 5


def test_an_ask_is_told_of_the_best_and_of_the_latest_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[list[float]] = []
    sample = optuna.samplers.TPESampler.sample_independent

    def noted(sampler: Any, study: optuna.Study, *rest: Any) -> Any:
        told.append([t.value for t in study.get_trials(deepcopy=False) if t.value is not None])
        return sample(sampler, study, *rest)

    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_independent", noted)
    for n in (BEST, TOLD - 3, TOLD, 3 * TOLD):
        rows, told[:] = past(n), []
        propose(DISTRIBUTIONS, rows, seed=1)
        values = [row.value for row in rows]
        assert len(told) == len(DISTRIBUTIONS)
        for its in told:
            if n <= TOLD:
                assert its == values
                continue
            best = sorted(values)[:BEST]
            assert its[BEST - TOLD :] == values[BEST - TOLD :]
            assert len(its) <= TOLD
            assert [v for v in values[: BEST - TOLD] if v in best] == its[: BEST - TOLD]


@pytest.mark.parametrize("n", [0, 3, 20])
def test_proposals_repeat_with_their_seed_and_vary_with_it(n: int) -> None:
    first = propose(DISTRIBUTIONS, past(n), seed=5)
    assert propose(DISTRIBUTIONS, past(n), seed=5) == first
    many = [propose(DISTRIBUTIONS, past(n), seed=seed) for seed in range(4)]
    assert len({tuple(p.items()) for p in many}) > 1
    for params in [first, *many]:
        assert set(params) == set(DISTRIBUTIONS)
        for name, value in params.items():
            assert DISTRIBUTIONS[name]._contains(DISTRIBUTIONS[name].to_internal_repr(value))


@pytest.mark.parametrize("n", [0, 3, 12, 60])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_proposal_is_what_a_study_of_the_same_trials_asks(n: int, seed: int) -> None:
    sampler = optuna.samplers.TPESampler(multivariate=False, n_startup_trials=8, seed=seed)
    study = optuna.create_study(sampler=sampler)
    for trial in past(n):
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.params, distributions=DISTRIBUTIONS, value=trial.value
            )
        )
    assert propose(DISTRIBUTIONS, past(n), seed=seed) == study.ask(DISTRIBUTIONS).params


def test_proposals_leave_the_global_random_state_alone() -> None:
    import numpy as np

    np.random.seed(1)  # noqa: NPY002 - the global state is what is looked at
    before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]  # noqa: NPY002
    propose(DISTRIBUTIONS, past(12), seed=5)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index, union-attr]  # noqa: NPY002


def test_held_parameters_are_held() -> None:
    for n in (0, 20):
        params = propose(
            DISTRIBUTIONS, past(n), seed=1, fixed={"color": "brown", "guidance_scale": 7.25}
        )
        assert params["color"] == "brown"
        assert params["guidance_scale"] == 7.25
        assert 4 <= params["num_inference_steps"] <= 20


def test_proposals_lean_to_what_scored_low() -> None:
    asked = [propose(DISTRIBUTIONS, past(40), seed=s)["guidance_scale"] for s in range(15)]
    assert sum(asked) / len(asked) < 4.0  # at random it would be 5


def test_history_of_a_wider_space_is_of_use_in_a_narrower_one() -> None:
    rows = [Observation(params=p.params | {"gone": 1.0}, value=p.value) for p in past(12)]
    narrow = {"guidance_scale": DISTRIBUTIONS["guidance_scale"]}
    assert set(propose(narrow, rows, seed=0)) == {"guidance_scale"}


# ---------------------------------------------------------------------------------- record


@pytest.fixture
def space() -> Space:
    return Space.of(
        parse_config(
            {
                "real": {"kind": "pond"},
                "generator": {"kind": "diffusers", "model": "pond"},
                "embedder": "pond",
                "space": {"guidance_scale": [1.0, 9.0], "num_inference_steps": [4, 20]},
            }
        ),
        "frog",
    )


def row(number: int, **changes: Any) -> dict[str, Any]:
    params = {"guidance_scale": 1.0 + number, "num_inference_steps": 8} if number else {}
    value = {
        "class": "frog",
        "number": number,
        "state": "complete",
        "stage": "settings" if number else "baseline",
        "params": params,
        "value": 0.5 / (number + 1),
        "gap": 0.5,
        "mixture_gap": 0.4,
        "fingerprint": f"{number:064x}",
    }
    return value | changes


def stored(path: Path, space: Space) -> list[optuna.trial.FrozenTrial]:
    name = f"frog-{space_digest(space)}-r"
    return optuna.load_study(storage=f"sqlite:///{path}", study_name=name).trials


def test_what_is_none_of_the_choices_is_left_out_of_the_history() -> None:
    """A prompt that somebody proposed, settings of a space that was wider."""
    odd = [
        Observation(params={"color": "mauve", "guidance_scale": 1.5}, value=-9.0),
        Observation(params={"color": "green", "guidance_scale": 90.0}, value=-9.0),
        Observation(params={"color": "green", "unknown": 3, "guidance_scale": "2"}, value=-9.0),
    ]
    for seed in range(5):
        proposed = propose(DISTRIBUTIONS, [*past(20), *odd], seed=seed)
        assert proposed["color"] in ("", "green", "brown")
        assert 1.0 <= proposed["guidance_scale"] <= 9.0
    assert chosen_of(odd[0].params, DISTRIBUTIONS) == {"guidance_scale": 1.5}
    assert chosen_of(odd[1].params, DISTRIBUTIONS) == {"color": "green"}
    assert chosen_of(odd[2].params, DISTRIBUTIONS) == {"color": "green"}


def test_a_record_is_repaired_exactly_once(tmp_path: Path, space: Space) -> None:
    path = tmp_path / "study.db"
    rows = [row(0), row(1), row(2, state="fail", value=None, gap=None), row(3)]
    record = OptunaRecord(open_storage(f"sqlite:///{path}"), space, run="r")
    record.tell(rows[0])
    record.tell(rows[2])
    # Another session: two trials were written but never told.
    again = OptunaRecord(open_storage(f"sqlite:///{path}"), space, run="r")
    assert again.repair(rows) == 2
    assert again.repair(rows) == 0
    assert OptunaRecord(open_storage(f"sqlite:///{path}"), space, run="r").repair(rows) == 0
    trials = {t.user_attrs["number"]: t for t in stored(path, space)}
    assert sorted(trials) == [0, 1, 2, 3]
    assert len(stored(path, space)) == 4
    assert trials[1].params == rows[1]["params"]
    assert trials[1].value == rows[1]["value"]
    assert trials[1].user_attrs["fingerprint"] == rows[1]["fingerprint"]
    assert trials[2].state is TrialState.FAIL
    assert trials[3].state is TrialState.COMPLETE


def test_a_value_that_is_no_number_never_completes(tmp_path: Path, space: Space) -> None:
    path = tmp_path / "study.db"
    record = OptunaRecord(open_storage(f"sqlite:///{path}"), space, run="r")
    record.tell(row(0, value=None))
    record.tell(row(1, state="fail", value=0.3))
    record.tell(row(2, value=float("nan")))
    assert [t.state for t in stored(path, space)] == [TrialState.FAIL] * 3
    with pytest.raises(ValueError, match="finite"):
        Observation(params={}, value=float("nan"))


def test_classes_share_a_storage_without_meeting(tmp_path: Path, space: Space) -> None:
    path = tmp_path / "study.db"
    storage = open_storage(f"sqlite:///{path}")
    config = parse_config(
        {
            "real": {"kind": "pond"},
            "generator": {"kind": "diffusers", "model": "pond"},
            "embedder": "pond",
            "space": {"guidance_scale": [1.0, 9.0], "num_inference_steps": [4, 20]},
        }
    )
    frogs, ships = (
        OptunaRecord(storage, space, run="r"),
        OptunaRecord(storage, Space.of(config, "ship"), run="r"),
    )
    frogs.tell(row(0))
    assert ships.repair([row(0), row(1)]) == 2
    assert len(stored(path, space)) == 1


def test_runs_that_share_a_storage_keep_studies_of_their_own(tmp_path: Path, space: Space) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    OptunaRecord(storage, space, run="r").tell(row(0))
    assert OptunaRecord(storage, space, run="r").repair([row(0)]) == 0
    assert OptunaRecord(storage, space, run="s").repair([row(0)]) == 1


def test_a_changed_space_opens_another_study(tmp_path: Path, space: Space) -> None:
    # Optuna refuses a categorical parameter whose choices changed (optuna#2199).
    config = parse_config(
        {
            "real": {"kind": "pond"},
            "generator": {"kind": "diffusers", "model": "pond"},
            "embedder": "pond",
            "space": {"guidance_scale": [1.0, 2.0, 3.0]},
        }
    )
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    OptunaRecord(storage, space, run="r").tell(row(1))
    other = OptunaRecord(storage, Space.of(config, "frog"), run="r")
    assert other.repair([row(1, params={"guidance_scale": 2.0})]) == 1


def test_sqlite_waits_for_a_writer(tmp_path: Path, space: Space) -> None:
    import sqlite3

    path = tmp_path / "study.db"
    record = OptunaRecord(open_storage(f"sqlite:///{path}"), space, run="r")
    other = sqlite3.connect(path, check_same_thread=False)
    other.execute("begin exclusive")
    release = threading.Timer(0.5, other.commit)
    release.start()
    record.tell(row(0))
    release.join()
    other.close()
    assert len(stored(path, space)) == 1


@pytest.mark.parametrize(
    "name",
    ["what?x=1", "a#b", "50% of it", "%41", "me@home", "frösche 蛙", "{x}", "a&b=c:d", "'q'"],
)
def test_any_path_holds_one_study(tmp_path: Path, space: Space, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    path = folder / "study.db"
    OptunaRecord(open_study_file(path), space, run="r").tell(row(0))
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert [p.name for p in folder.iterdir()] == ["study.db"]
    again = OptunaRecord(open_study_file(path), space, run="r")
    assert again.repair([row(0), row(1)]) == 1
    # A person's own URL is one of SQLAlchemy's, and as good.
    url = sqlite_url(path).render_as_string()
    assert OptunaRecord(open_storage(url), space, run="r").repair([row(0), row(1)]) == 0


def test_a_database_that_cannot_be_written_is_no_fault_of_the_config(
    tmp_path: Path, space: Space
) -> None:
    path = tmp_path / "study.db"
    storage: Any = open_study_file(path)
    record = OptunaRecord(storage, space, run="r")
    with contextlib.closing(sqlite3.connect(path)) as database:
        pages = database.execute("pragma page_count").fetchone()[0]

    # As a full disk does: not one page more.
    @event.listens_for(storage.engine, "connect")
    def full(connection: Any, _: Any) -> None:
        connection.execute(f"pragma max_page_count = {pages}")

    storage.engine.dispose()
    with pytest.raises(UnwritableError) as told:
        record.repair([row(number, params={}) for number in range(1000)])
    assert str(told.value).startswith(f"{path}: cannot be written: No space left on device; free")
    assert "\n" not in str(told.value)
    assert told.value.exit_code == 1


# ---------------------------------------------------------------- a study that cannot be used


def opened(path: Path, space: Space) -> StudyRecords:
    """The studies in a run's own file, which has one trial so far."""
    return StudyRecords.open(None, {"frog": space}, path=path, run="r", rows=[of_frogs(0)])


def of_frogs(number: int) -> dict[str, Any]:
    return {**row(number), "class": "frog"}


def of_another_version(path: Path) -> None:
    storage: Any = open_study_file(path)
    storage.engine.dispose()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("update alembic_version set version_num = 'v9.9.9.a'")
        database.execute("update version_info set library_version = '9.9.9', schema_version = 99")
        database.commit()


def of_another_program(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("create table studies (color text)")
        database.execute("create table trials (fish text)")
        database.commit()


def of_other_values(path: Path) -> None:
    """It says that it is Optuna's, and is opened, but no trial can be read or written."""
    storage: Any = open_study_file(path)
    storage.engine.dispose()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("drop table trial_values")
        database.execute("create table trial_values (fish text)")
        database.commit()


def torn(path: Path) -> None:
    OptunaRecord(open_study_file(path), SPACES[0], run="r")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def of_ones(path: Path) -> None:
    path.write_bytes(b"\xff" * 9000)


def link(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to(path.parent / "elsewhere" / "study.db")


SPACES: list[Space] = []
UNUSABLE: dict[str, Any] = {
    "of another version": of_another_version,
    "of another program": of_another_program,
    "of other values": of_other_values,
    "torn": torn,
    "of ones": of_ones,
    "a link": link,
    "a folder": Path.mkdir,
    "a pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("spoil", UNUSABLE.values(), ids=UNUSABLE)
def test_a_study_that_cannot_be_used_is_set_aside_and_made_anew(
    spoil: Any, tmp_path: Path, space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    SPACES[:] = [space]
    for number in range(2):  # what was set aside before stays
        path = tmp_path / "study.db"
        if path.is_file():
            path.unlink()
        if spoil is link and number:
            (tmp_path / "elsewhere").rmdir()
        spoil(path)
        caplog.clear()
        records = opened(path, space)
        records.tell(of_frogs(1))
        records.close()
        assert len(stored(path, space)) == 2
        (said,) = caplog.messages
        assert said.startswith(f"{path}: ")
        assert len(said.splitlines()) == 1
        assert os.path.lexists(tmp_path / f"study.db.damaged{number or ''}")
        assert not [*(tmp_path / "elsewhere").glob("*")]


def test_what_sqlite_keeps_beside_a_study_goes_with_it(tmp_path: Path, space: Space) -> None:
    """Else it would be played back into the new one."""
    path = tmp_path / "study.db"
    path.mkdir()
    (tmp_path / "study.db-journal").write_text("old")
    opened(path, space).close()
    assert (tmp_path / "study.db.damaged-journal").read_text() == "old"
    assert not (tmp_path / "study.db-journal").exists()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """As another process has it that writes for hours."""
    with contextlib.closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute("begin exclusive")
        yield


def test_a_study_that_is_locked_costs_a_few_seconds_and_is_caught_up(
    tmp_path: Path, space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "study.db"
    opened(path, space).close()
    start = time.monotonic()
    with locked(path):
        records = opened(path, space)
        for number in range(1, 4):
            records.tell(of_frogs(number))
        records.close()
    assert time.monotonic() - start < 10
    (said,) = caplog.messages
    assert said == (
        f"{path}: another process has it locked; this session's trials are added by the next one"
    )
    records = opened(path, space)
    records.repair([of_frogs(number) for number in range(4)])
    records.close()
    assert len(stored(path, space)) == 4
    assert [file.name for file in tmp_path.iterdir()] == ["study.db"]


def test_a_study_that_is_locked_later_holds_no_trial_up(
    tmp_path: Path, space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "study.db"
    records = opened(path, space)
    records._added.result()
    start = time.monotonic()
    with locked(path):
        for number in range(1, 5):
            records.tell(of_frogs(number))
        assert time.monotonic() - start < 1
        records._added.result()  # Optuna tries five times, up to two seconds apart
        assert time.monotonic() - start < 30
    (said,) = caplog.messages
    assert said == (
        "trial 1 of frog is not in the study yet (database is locked); the next session adds what "
        "it lacks"
    )
    records.close()  # it is free again
    assert len(stored(path, space)) == 5
    assert len(caplog.messages) == 1


def test_a_study_that_is_locked_between_opening_and_repairing(
    tmp_path: Path, space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "study.db"
    records = opened(path, space)
    with locked(path):
        records.repair([of_frogs(0), of_frogs(1)])
    (said,) = caplog.messages
    assert said.startswith("trials of earlier sessions are not in the study yet (")
    records.close()


def test_trials_that_a_storage_of_ones_own_does_not_take_are_put_off(
    tmp_path: Path, space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.db"
    OptunaRecord(open_study_file(path), space, run="r").tell(row(0))
    of_other_values(path)
    records = StudyRecords.open(
        open_storage(f"sqlite:///{path}"),
        {"frog": space},
        path=tmp_path / "s",
        run="r",
        rows=[of_frogs(0)],
    )
    records.close()
    (said,) = caplog.messages
    assert said.startswith("trials of earlier sessions are not in the study yet (")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.db"]


@pytest.mark.parametrize("fault", [of_another_version, of_another_program, locked])
def test_a_storage_of_ones_own_that_cannot_be_used_is_one_line(
    fault: Any, tmp_path: Path, space: Space
) -> None:
    path = tmp_path / "mine.db"
    with contextlib.ExitStack() as stack:
        if fault is locked:
            stack.enter_context(locked(path))
        else:
            fault(path)
        before = path.read_bytes()
        with pytest.raises(ConfigError, match=r"^storage: sqlite:///") as told:
            StudyRecords.open(
                open_storage(f"sqlite:///{path}"), {"frog": space}, path=tmp_path / "s", run="r"
            )
        assert len(str(told.value).splitlines()) == 1
        if fault is not of_another_program:  # Optuna has put its tables beside the others
            assert path.read_bytes() == before
