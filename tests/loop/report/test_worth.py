"""Worth: whether validation.json can be believed, and what it says where it lacks something."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_validation import CLASSES, RECALLS, make_validation

from gapclose.loop.report.contents import GAP, MIXTURES, VALIDATION, mixtures_key
from gapclose.loop.report.validation_file import ValidationFile
from gapclose.loop.report.worth import Problem, Worth, read_worth
from gapclose.loop.report.worth_advice import next_steps
from gapclose.loop.report.worth_section import worth_section
from gapclose.loop.report.worth_text import accuracy_lines, worth_sentence
from gapclose.loop.run.folder import RunDir

FULL = make_validation(
    {**RECALLS, "mixed": (0.8, 0.5, 0.7), "few": (0.5, 0.4, 0.3), "few+tuned": (0.9, 0.8, 0.9)},
    classifiers=("linear:pond-judge", "cnn", "timm:resnet18"),
    recovered={"cnn": 0.88},
    too_easy=["timm:resnet18"],
    reverse=[{"classifier": "cnn", "arm": "tuned", "accuracy": 0.9, "recall": {"cat": None}}],
    shortcuts=[{"feature": "noise", "real": 0.3, "synthetic": 0.9, "objection": "noise tells"}],
)


def worth_of(validation: dict[str, Any]) -> Worth:
    return Worth.of(ValidationFile.model_validate(validation))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    run.write_json(GAP, {"classes": [{"name": name} for name in CLASSES], "skipped": []})
    return run


def test_nobody_has_validated(run: RunDir) -> None:
    assert read_worth(run) == (None, None)


def test_a_file_of_this_run_is_believed(run: RunDir) -> None:
    run.write_json(VALIDATION, FULL)
    worth, problem = read_worth(run)
    assert problem is None
    assert worth is not None
    assert [one.id for one in worth.classifiers] == ["linear:pond-judge", "cnn", "timm:resnet18"]
    assert worth.headline is not None
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
    made["arms"][0] |= {"accuracy": 1, "low": 0, "recall": {"cat": 1.0000000000000002}}
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
    left = [{"class": name, "why": "too few"} for name in skipped]
    run.write_json(GAP, {"classes": [{"name": name} for name in measured], "skipped": left})
    run.write_json(VALIDATION, FULL)
    worth, found = read_worth(run)
    assert found is problem
    assert (worth is None) == (problem is not None)


def test_mixtures_that_changed_since_are_noticed(run: RunDir) -> None:
    mixtures = {"frog": {"recipes": [], "effective": 1.5}, "cat": {"recipes": []}}
    run.write_json(MIXTURES, {"schema": 1, "classes": mixtures})
    turned = {name: mixtures[name] for name in reversed(mixtures)}
    for of in (mixtures, turned):  # an order is no change
        run.write_json(VALIDATION, FULL | {"mixtures": mixtures_key(of)})
        assert read_worth(run)[1] is None
    run.write_json(VALIDATION, FULL | {"mixtures": mixtures_key(mixtures | {"cat": {}})})
    worth, problem = read_worth(run)
    assert problem is Problem.OUTDATED
    assert worth is not None
    assert worth.outdated
    for unknown in (FULL, FULL | {"mixtures": None}):  # an older file, and folders
        run.write_json(VALIDATION, unknown)
        assert read_worth(run)[1] is None


def test_what_the_file_calls_primary_is_it() -> None:
    plain = make_validation({arm: RECALLS[arm] for arm in ("baseline", "real")})
    assert plain["primary"] == "baseline"
    said = worth_of(plain).headline
    assert said is not None
    assert said.primary == "baseline"
    del plain["primary"]
    older = worth_of(plain).headline
    assert older is not None
    assert older.primary == "baseline"


def test_the_worst_group_is_not_the_class_itself() -> None:
    whole = {
        "classifier": "cnn",
        "class": "frog",
        "name": "frog",
        "n": 200,
        "recall": {"tuned": 0},
    }
    validation = make_validation()
    validation["groups"].append(whole)
    said = worth_of(validation).headline
    assert said is not None
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


@settings(max_examples=150, deadline=None)
@given(dropped=st.lists(st.sampled_from(KEYS), max_size=30, unique=True))
def test_nothing_needs_any_key(dropped: list[tuple[Any, ...]]) -> None:
    validation = copy.deepcopy(FULL)
    for path in sorted(dropped, key=len, reverse=True):
        where = validation
        for key in path[:-1]:
            where = where[key]
        where.pop(path[-1], None)
    worth = worth_of(validation)
    said = [worth_sentence(worth) or "", *next_steps(worth), *accuracy_lines(worth.accuracies)]
    section = worth_section(worth)
    said += [line for block in (section or {"blocks": []})["blocks"] for line in block["said"]]
    assert not any("None" in line or "nan" in line for line in said)


@pytest.mark.parametrize("key", [*FULL])
def test_nothing_needs_a_key_of_the_file(key: str) -> None:
    worth = worth_of({name: value for name, value in FULL.items() if name != key})
    assert (worth_section(worth) is None) == (key == "arms")


def test_unknown_keys_are_skipped() -> None:
    known = worth_of(FULL)
    more = json.loads(json.dumps(FULL)) | {"schema": 2, "later": [1]}
    more["arms"][0]["later"] = {}
    assert worth_of(more) == known
