"""What README shows of configs is read as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gapclose.loop.config.reading import parse_config

README = Path(__file__).parents[3] / "README.md"
BLOCKS = [
    data
    for block in re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    if {"generator", "generators"} & {*(data := yaml.safe_load(block))}
]


def test_there_are_some() -> None:
    assert len(BLOCKS) >= 5
    assert any("generators" in block for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_generators_section_is_one(block: dict[str, Any]) -> None:
    config = parse_config({"real": {"path": "photos"}, "embedder": "pond", **block})
    assert parse_config(config.to_dict()) == config
    for name in config.drawn_by:
        assert config.alone(name).generator is not None
