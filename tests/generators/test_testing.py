"""The suite that ships for generators: every promise has a generator that breaks it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import broken_generators
import broken_sourced
import pytest
from suites import failures, promises, uncaught, without_pytest

from gapclose.generators.testing import GeneratorContract, SourcedGeneratorContract

SUITES = {broken_generators: GeneratorContract, broken_sourced: SourcedGeneratorContract}


@pytest.fixture(scope="module", params=SUITES, ids=lambda module: module.__name__)
def module(request: pytest.FixtureRequest) -> ModuleType:
    found: ModuleType = request.param
    return found


@pytest.fixture(scope="module")
def found(module: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    return failures(module, tmp_path_factory.mktemp("suite"))


def test_a_generator_that_keeps_every_promise_passes(found: dict[str, set[str]]) -> None:
    assert found["TestSound"] == set()


def test_a_broken_promise_fails_its_test(module: ModuleType, found: dict[str, set[str]]) -> None:
    assert uncaught(module, found) == {}


def test_every_promise_is_broken_by_one_of_them(
    module: ModuleType, found: dict[str, set[str]]
) -> None:
    """So that no test of a suite passes whatever a generator does."""
    broken = set().union(*(getattr(module, name).breaks for name in found))
    assert broken == promises(SUITES[module])


def test_without_pytest_it_says_what_to_install() -> None:
    said = without_pytest("gapclose.generators.testing")
    assert said.startswith("ImportError: ")
    assert "pip install pytest" in said


@pytest.mark.parametrize("suite", [*SUITES.values()])
def test_a_suite_without_a_generator_says_what_to_override(suite: Any) -> None:
    with pytest.raises(NotImplementedError, match="override the fixture `make`"):
        suite.make.__wrapped__(suite())
