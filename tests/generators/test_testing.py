"""The suite that ships for generators: every promise has a generator that breaks it."""

from __future__ import annotations

import broken_generators
import pytest
from suites import failures, promises, uncaught, without_pytest

from gapclose.generators.testing import GeneratorContract


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    return failures(broken_generators, tmp_path_factory.mktemp("suite"))


def test_a_generator_that_keeps_every_promise_passes(found: dict[str, set[str]]) -> None:
    assert found["TestSound"] == set()


def test_a_broken_promise_fails_its_test(found: dict[str, set[str]]) -> None:
    assert uncaught(broken_generators, found) == {}


def test_every_promise_is_broken_by_one_of_them(
    found: dict[str, set[str]],
) -> None:
    """So that no test of the suite passes whatever a generator does."""
    broken = set().union(*(getattr(broken_generators, name).breaks for name in found))
    assert broken == promises(GeneratorContract)


def test_without_pytest_it_says_what_to_install() -> None:
    said = without_pytest("gapclose.generators.testing")
    assert said.startswith("ImportError: ")
    assert "pip install pytest" in said


def test_a_suite_without_a_generator_says_what_to_override() -> None:
    with pytest.raises(NotImplementedError, match="override the fixture `make`"):
        GeneratorContract.make.__wrapped__(GeneratorContract())  # type: ignore[attr-defined]
