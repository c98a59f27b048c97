"""The smallest config that there is: the pond on both sides, for tests that change a key."""

from __future__ import annotations

from typing import Any

from gapclose.loop.config.reading import parse_config
from gapclose.loop.config.schema import RunConfig

POND: dict[str, Any] = {
    "real": {"kind": "pond"},
    "generator": {"kind": "diffusers", "model": "pond"},
    "embedder": "pond",
}


def pond_config(**changes: Any) -> RunConfig:
    """The config with other values for some of its keys."""
    return parse_config({**POND, **changes})
