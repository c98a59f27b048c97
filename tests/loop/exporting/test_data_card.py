"""The data card: a head that is valid YAML for any class, and a table that holds."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st
from painter import Painter

from gapclose.loop.config.reading import parse_config
from gapclose.loop.exporting.class_folders import class_folders
from gapclose.loop.exporting.data_card import CardClass, data_card

CONFIG = parse_config(
    {"real": {"path": "x"}, "generator": {"kind": "painter:Painter"}, "embedder": "pond",
     "space": {"prompt": "{class}"}}
)  # fmt: skip


def card_of(
    names: list[str], *examples: dict[str, Any], licence: str | None = "apache-2.0"
) -> str:
    rows = [
        CardClass(name=name, folder=folder, images=5, recipes=2, ratio=0.5, confirmed=True)
        for name, folder in class_folders(names).items()
    ]
    return data_card(rows, examples or [{"seed": 1}], generator=Painter(licence), config=CONFIG)


def features_of(card: str) -> dict[str, dict[str, Any]]:
    """Columns by name, as the head has them."""
    (config,) = yaml.safe_load(card.split("---\n")[1])["configs"]
    return {feature.pop("name"): feature for feature in config["features"]}


@given(st.lists(st.text(min_size=1), min_size=1, max_size=6, unique=True))
def test_the_head_names_every_class_exactly(names: list[str]) -> None:
    card = card_of(names, {"file_name": "x", "label": "y", "seed": 1})
    read = DatasetCard(card).data.to_dict()
    assert read["license"] == "apache-2.0"
    assert read["tags"] == ["synthetic"]
    folders = class_folders(names)
    (config,) = read["configs"]
    image, label, seed = config["features"]
    found = label["dtype"]["class_label"]["names"]
    assert found == {str(i): name for i, name in enumerate(sorted(names, key=folders.__getitem__))}
    assert (image, seed) == (
        {"name": "image", "dtype": "image"},
        {"name": "seed", "dtype": "int64"},
    )
    lines = card.splitlines()
    assert lines.count("---") == 2
    assert sum(line.startswith("| ") for line in lines) == 1 + len(names)


def test_a_class_is_quoted_for_readers_of_yaml_1_2() -> None:
    card = card_of(["0o17", "1e3", "on"])
    assert all(f'"{name}"\n' in card for name in ("0o17", "1e3", "on"))


@pytest.mark.parametrize("licence", [None, "Proprietary", "see LICENSE", "flux-1-dev"])
def test_a_licence_that_is_no_identifier_is_told_in_words_only(licence: str | None) -> None:
    card = card_of(["frog"], licence=licence)
    assert "license" not in yaml.safe_load(card.split("---\n")[1])
    assert f"* The generator's licence: {licence or 'unknown'}" in card


def test_the_table_names_folders_where_a_class_is_not_its_own() -> None:
    assert "| class | images |" in card_of(["frog"])
    card = card_of(["frog", "tr|ain"])
    assert "| frog | frog | 5 | 2 | 0.50 | yes |" in card
    assert "| tr\\|ain | tr%7Cain | 5 | 2 | 0.50 | yes |" in card


def test_a_column_has_the_type_that_all_its_values_fit() -> None:
    examples: list[dict[str, Any]] = [
        {"a": 1, "b": None, "c": {"x": None, "y": [1]}, "d": True, "e": 1, "f": None},
        {"a": 2.5, "b": "word", "c": {"x": 3, "z": "w"}, "d": False, "e": "word", "f": None},
    ]
    found = features_of(card_of(["frog"], *examples))
    assert {name: found[name] for name in "abcdef"} == {
        "a": {"dtype": "float64"},
        "b": {"dtype": "string"},
        "c": {
            "struct": [
                {"name": "x", "dtype": "int64"},
                {"name": "y", "list": {"dtype": "int64"}},
                {"name": "z", "dtype": "string"},
            ]
        },
        "d": {"dtype": "bool"},
        "e": {"dtype": "string"},
        "f": {"dtype": "null"},
    }
