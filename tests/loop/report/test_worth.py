"""Worth: whether validation.json can be believed, and what is looked up in it."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import gap_file, mixture
from hypothesis import given, settings
from hypothesis import strategies as st
from make_validation import CLASSES, RECALLS, make_validation
from pydantic import ValidationError

from gapclose.analysis.shortcuts import ShortcutProbe
from gapclose.loop.report.contents import GAP, MIXTURES, VALIDATION, mixtures_key
from gapclose.loop.report.projections import read_verdicts
from gapclose.loop.report.validation_file import ValidationFile
from gapclose.loop.report.worth import Problem, Worth, read_worth
from gapclose.loop.report.worth_advice import next_steps
from gapclose.loop.report.worth_section import worth_section
from gapclose.loop.report.worth_text import accuracy_lines, worth_sentence
from gapclose.loop.run.folder import RunDir
from gapclose.loop.validation.results import Said, results
from gapclose.loop.validation.test_photos import TestPhotos
from gapclose.loop.validation.trainings import Outcome

GOLDEN = Path(__file__).parents[2] / "golden"
FULL = make_validation(
    {**RECALLS, "mixed": (0.8, 0.5, 0.7), "few": (0.5, 0.4, 0.3), "few+tuned": (0.9, 0.8, 0.9)},
    classifiers=("linear:pond-judge", "cnn", "timm:resnet18"),
    recovered={"cnn": 0.88},
    too_easy=["timm:resnet18"],
    reverse=[{"classifier": "cnn", "arm": "tuned", "accuracy": 0.9, "recall": {"cat": None}}],
    shortcuts=[{"feature": "noise", "real": 0.3, "synthetic": 0.9, "by_real_rule": 0.5,
                "p_value": 0.001, "differs": [], "objection": "noise tells"}],
)  # fmt: skip


def worth_of(validation: dict[str, Any]) -> Worth:
    return Worth.of(ValidationFile.model_validate(validation))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    run.write_json(GAP, gap_file(CLASSES))
    return run


def test_nobody_has_validated(run: RunDir) -> None:
    assert read_worth(run) == (None, None)


def test_a_file_of_this_run_is_believed(run: RunDir) -> None:
    run.write_json(VALIDATION, FULL)
    worth, problem = read_worth(run)
    assert problem is None
    assert worth is not None
    assert [one.id for one in worth.classifiers] == ["linear:pond-judge", "cnn", "timm:resnet18"]
    assert worth.headline.id == "cnn"
    arms = ["baseline", "tuned", "mixed", "even", "real", "few", "few+tuned"]
    assert [*worth.headline.scores] == arms


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"arms": 3}', '{"classes": null}', "\udcff"])
def test_a_damaged_file_is_left_out(run: RunDir, text: str) -> None:
    (run.path / VALIDATION).write_bytes(text.encode(errors="surrogateescape"))
    assert read_worth(run) == (None, Problem.DAMAGED)


IMPOSSIBLE = [
    *(("arms", "accuracy", value) for value in ("NaN", "Infinity", "1e308", "-0.1", "1.01")),
    *(("arms", "low", value) for value in ("-Infinity", "-0.1")),
    *(("arms", "recall", value) for value in ('{"cat": NaN}', '{"cat": 7}')),
    *(("arms", "n_per_class", value) for value in ("-1", "1e308", "NaN", "1000000001")),
    ("arms", "confusion", "[[-1, 0, 0]]"),
    *(("differences", "value", value) for value in ("NaN", "-1.01", "1e308")),
    ("differences", "high", "Infinity"),
    *(("shortfalls", "shortfall", value) for value in ("NaN", "1.01")),
    ("shortfalls", "adjusted_p_value", "-1"),
    ("groups", "n", "-3"),
    ("reverse", "accuracy", "2"),
    ("shortcuts", "synthetic", "Infinity"),
    *((None, "recovered", value) for value in ('{"cnn": NaN}', '{"cnn": Infinity}')),
    *((None, key, value) for key in ("seeds", "draws") for value in ("0", "10001", "NaN")),
    *((None, "n_test", value) for value in ("-1", "1e308", "9" * 5000)),
]


@pytest.mark.parametrize(("part", "key", "value"), IMPOSSIBLE)
def test_a_figure_that_cannot_be_is_damage(
    run: RunDir, part: str | None, key: str, value: str
) -> None:
    made = copy.deepcopy(FULL)
    (made if part is None else made[part][0])[key] = "HERE"
    (run.path / VALIDATION).write_text(json.dumps(made).replace('"HERE"', value))
    assert read_worth(run) == (None, Problem.DAMAGED)


def test_a_figure_at_its_end_is_no_damage(run: RunDir) -> None:
    made = copy.deepcopy(FULL)
    made["arms"][0] |= {"accuracy": 1, "low": 0}
    made["arms"][0]["recall"]["cat"] = 1.0000000000000002
    made["differences"][0] |= {"value": -1, "low": -1.05}  # resamples may leave the range
    run.write_json(VALIDATION, made | {"recovered": {"cnn": -7.5}, "seeds": 1, "draws": 1})
    assert read_worth(run)[1] is None


@pytest.mark.parametrize(
    ("measured", "skipped", "problem"),
    [
        (CLASSES, (), None),
        (CLASSES[:2], CLASSES[2:], None),
        (CLASSES[:2], (), Problem.OTHER_CLASSES),
        ((*CLASSES, "ship"), (), Problem.OTHER_CLASSES),
        (("ship", "truck", "deer"), (), Problem.OTHER_CLASSES),
        ((), (), None),
    ],
)
def test_a_file_of_other_classes_is_left_out(
    run: RunDir, measured: tuple[str, ...], skipped: tuple[str, ...], problem: Problem | None
) -> None:
    run.write_json(GAP, gap_file(measured, skipped=skipped))
    run.write_json(VALIDATION, FULL)
    worth, found = read_worth(run)
    assert found is problem
    assert (worth is None) == (problem is not None)


def test_mixtures_that_changed_since_are_noticed(run: RunDir) -> None:
    mixtures = {"frog": mixture("a") | {"effective": 1.5}, "cat": mixture("b")}
    run.write_json(MIXTURES, {"schema": 1, "classes": mixtures})
    turned = {name: mixtures[name] for name in reversed(mixtures)}
    for of in (mixtures, turned):  # an order is no change
        run.write_json(VALIDATION, FULL | {"mixtures": mixtures_key(of)})
        assert read_worth(run)[1] is None
    run.write_json(VALIDATION, FULL | {"mixtures": mixtures_key(mixtures | {"cat": {}})})
    worth, problem = read_worth(run)
    assert problem is Problem.OUTDATED
    assert worth is not None


def test_an_audit_that_was_tuned_since_it_was_validated_is_outdated(run: RunDir) -> None:
    run.write_json(VALIDATION, FULL | {"mixtures": None})
    assert read_worth(run)[1] is None
    run.write_json(MIXTURES, {"schema": 1, "classes": {"frog": mixture("a")}})
    worth, problem = read_worth(run)
    assert problem is Problem.OUTDATED
    assert worth is not None


def test_verdicts_are_what_the_journal_says(tmp_path: Path) -> None:
    with zipfile.ZipFile(GOLDEN / "run-with-journal.zip") as packed:
        packed.extractall(tmp_path / "run")
    run = RunDir(tmp_path / "run")
    mixtures = read_verdicts(run).mixtures["classes"]
    made = make_validation({"tuned": (0.7,)}, classes=["frog"], groups=[])
    run.write_json(VALIDATION, made | {"mixtures": mixtures_key(mixtures)})
    stored = run.read_json(MIXTURES)
    stored["classes"]["frog"]["recipes"] = stored["classes"]["frog"]["recipes"][:1]
    run.write_json(MIXTURES, stored)  # as after a kill between the journal and this file
    assert mixtures_key(stored["classes"]) != mixtures_key(mixtures)
    assert read_worth(run)[1] is None


def test_what_the_file_calls_primary_is_it() -> None:
    plain = make_validation({arm: RECALLS[arm] for arm in ("baseline", "real")})
    assert plain["primary"] == "baseline"
    assert worth_of(plain).headline.primary == "baseline"
    both = make_validation({arm: RECALLS[arm] for arm in ("baseline", "even")})
    row = both["differences"][0] | {"arm": "even", "against": "baseline"}
    said = worth_of(both | {"primary": "even", "differences": [row]}).headline
    assert said.primary == "even"
    assert [*said.differences] == ["baseline"]


@pytest.mark.parametrize(
    ("photos", "as_many"), [({"real": 200}, True), ({"real": 150}, False), ({}, False)]
)
def test_real_photos_are_as_many_only_where_there_are(
    photos: dict[str, int], as_many: bool
) -> None:
    made = make_validation({arm: RECALLS[arm] for arm in ("baseline", "tuned", *photos)}, n=200)
    for row in made["arms"]:
        row["n_per_class"] = photos.get(row["arm"], 200)
    assert worth_of(made).headline.has_as_many_real is as_many


def test_the_worst_group_is_not_the_class_itself() -> None:
    whole = {
        "classifier": "cnn",
        "class": "frog",
        "name": "frog",
        "n": 200,
        "recall": dict.fromkeys(RECALLS, 0),
    }
    validation = make_validation()
    validation["groups"].append(whole)
    said = worth_of(validation).headline
    worst = said.worst_group("tuned")
    assert worst is not None
    assert worst.name == "black dog"
    assert said.worst_group("tuned", "frog") is None


def keys(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where every key of an object is, at any depth."""
    if isinstance(value, dict):
        below = [found for key in value for found in keys(value[key], (*path, key))]
        return [*((*path, key) for key in value), *below]
    if isinstance(value, list):
        return [found for i, item in enumerate(value) for found in keys(item, (*path, i))]
    return []


KEYS = keys(FULL)


def parent(value: Any, path: tuple[Any, ...]) -> Any:
    """Return what the last key of a path is of."""
    for key in path[:-1]:
        value = value[key]
    return value


def is_read(validation: dict[str, Any]) -> bool:
    try:
        ValidationFile.model_validate(validation)
    except ValidationError:
        return False
    return True


def test_what_is_always_written_is_needed() -> None:
    forgiven = set()
    for path in KEYS:
        made = copy.deepcopy(FULL)
        del parent(made, path)[path[-1]]
        if is_read(made):
            forgiven.add(".".join(key for key in path if isinstance(key, str)))
    assert forgiven == {
        # What nobody reads here,
        "schema", "worst_groups", "groups.group", "reverse.recall", "reverse.recall.cat",
        "shortcuts.differs",
        "recovered.cnn",  # and what is not asked of every classifier.
    }  # fmt: skip


MISSING = [
    ("arms", []),
    ("arms", FULL["arms"][1:]),  # a classifier without an arm
    ("arms", [*FULL["arms"], FULL["arms"][0]]),
    ("arms", [{**FULL["arms"][0], "confusion": [[1, 0, 0]]}, *FULL["arms"][1:]]),
    ("arms", [{**FULL["arms"][0], "confusion": [[1], [0], [0]]}, *FULL["arms"][1:]]),
    ("classes", []),
    ("classes", ["cat", "dog"]),
    ("primary", "synthetic"),
    ("differences", []),
    ("differences", FULL["differences"][1:]),
]


@pytest.mark.parametrize(("key", "value"), MISSING)
def test_rows_that_are_always_written_are_needed(run: RunDir, key: str, value: Any) -> None:
    run.write_json(VALIDATION, FULL | {key: value})
    assert read_worth(run) == (None, Problem.DAMAGED)


def test_what_a_validation_writes_is_read() -> None:
    test = TestPhotos(
        classes=("frog", "ship"),
        paths=tuple(Path(f"{i}.png") for i in range(80)),
        labels=np.repeat([0, 1], 40),
        groups={"color": ("brown frog",) * 40 + (None,) * 40, "place": (None,) * 80},
        key="k",
    )
    told = {"baseline": 10, "tuned": 30, "real": 40}
    outcomes = {
        arm: Outcome(
            predicted=np.array([0] * right + [1] * (80 - right)),
            trained_on=np.array((50, 40)),
            reverse={"baseline": np.array([[5, 10], [10, 10]])} if arm == "real" else {},
        )
        for arm, right in told.items()
    }
    probe = ShortcutProbe(
        feature="noise", real=0.5, synthetic=0.9, by_real_rule=0.6, p_value=0.01, n_classes=2
    )
    for arms in (["baseline", "tuned", "real"], ["tuned"], ["baseline", "real"]):
        cells = {arm: [[outcomes[arm]] * 2] for arm in arms}
        found = results([Said(classifier="cnn", outcomes=cells)], test)
        of_the_run = {"shortcuts": [probe.to_json()], "mixtures": None}
        worth = worth_of(json.loads(json.dumps(found | of_the_run)))
        assert worth.headline.accuracy("tuned") == (0.875 if "tuned" in arms else None)
        assert worth_section(worth)["n_classes"] == 2


HOSTILE = st.sampled_from(
    [None, math.nan, math.inf, -1, 0, 1, 1e308, 10**30, "", "x", "NaN", [], {}, [{}], [[1]]]
)


@settings(max_examples=300, deadline=None)
@given(forged=st.lists(st.tuples(st.sampled_from(KEYS), HOSTILE), min_size=1, max_size=3))
def test_a_file_is_damaged_or_all_is_said_of_it(forged: list[tuple[tuple[Any, ...], Any]]) -> None:
    made = copy.deepcopy(FULL)
    for path, value in forged:
        with contextlib.suppress(KeyError, IndexError, TypeError):  # it is replaced already
            parent(made, path)[path[-1]] = value
    if not is_read(made):
        return
    worth = worth_of(made)
    said = [worth_sentence(worth), *next_steps(worth), *accuracy_lines(worth.accuracies)]
    said += [line for block in worth_section(worth)["blocks"] for line in block["said"]]
    assert not any("None" in line or "nan" in line for line in said)


def test_unknown_keys_are_skipped() -> None:
    known = worth_of(FULL)
    more = json.loads(json.dumps(FULL)) | {"schema": 2, "later": [1]}
    more["arms"][0]["later"] = {}
    assert worth_of(more) == known
