"""The suite that ships for embedders: every promise has an embedder that breaks it."""

from __future__ import annotations

import broken_embedders
import pytest
from suites import failures, promises, uncaught, without_pytest

from gapclose.analysis.testing import EmbedderContract


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    return failures(broken_embedders, tmp_path_factory.mktemp("suite"))


@pytest.mark.parametrize("name", ["TestSound", "TestNoText"])
def test_an_embedder_that_keeps_every_promise_passes(
    name: str, found: dict[str, set[str]]
) -> None:
    assert found[name] == set()


def test_a_broken_promise_fails_its_test(found: dict[str, set[str]]) -> None:
    assert uncaught(broken_embedders, found) == {}


def test_every_promise_is_broken_by_one_of_them(found: dict[str, set[str]]) -> None:
    """So that no test of the suite passes whatever an embedder does."""
    broken = set().union(*(getattr(broken_embedders, name).breaks for name in found))
    assert broken == promises(EmbedderContract)


def test_without_pytest_it_says_what_to_install() -> None:
    said = without_pytest("gapclose.analysis.testing")
    assert said.startswith("ImportError: ")
    assert "pip install pytest" in said


def test_a_suite_without_an_embedder_says_what_to_override() -> None:
    with pytest.raises(NotImplementedError, match="override the fixture `make`"):
        EmbedderContract.make.__wrapped__(EmbedderContract())  # type: ignore[attr-defined]
