"""Licences: what their names, as model cards write them, say of images as training data."""

from __future__ import annotations

import pytest

from gapclose.generators.licenses import MODELS, terms_of


@pytest.mark.parametrize(
    ("name", "training"),
    [
        ("apache-2.0", "free"),
        ("MIT", "free"),
        ("creativeml-openrail-m", "limited"),
        ("openrail++", "limited"),
        ("flux-1-dev-non-commercial-license", "barred"),
        ("flux-dev", "barred"),
        ("stabilityai-ai-community", "limited"),
        ("cc-by-nc-4.0", "barred"),
        ("some-non-commercial-license", "barred"),
        ("cc-by-4.0", None),
        ("apache-2.0-but-not-quite", None),
        ("", None),
        (None, None),
    ],
)
def test_what_a_name_says(name: str | None, training: str | None) -> None:
    found = terms_of(name)
    assert (None if found is None else found.training) == training


def test_models_that_are_named_have_terms() -> None:
    assert all(terms_of(licence) is not None for _, licence in MODELS)
