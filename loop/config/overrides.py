"""Overrides: `--set a.b=value` changes one key of what a file says."""

from __future__ import annotations

from typing import Any

from gapclose.loop.config.plain_yaml import parse_yaml
from gapclose.loop.errors import ConfigError

__all__ = ["override"]


def override(data: dict[str, Any], text: str) -> None:
    """Change one key in place; sections that it lies in are made.

    Args:
        data: The keys of a config.
        text: `a.b=value`, the value being YAML.

    Raises:
        ConfigError: It is nothing of the kind, or a key on the way holds a value.
    """
    where = f"--set {text}"
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError("expected key=value, such as tune.seed=1", where=where)
    target = data
    for depth, part in enumerate(parts[:-1]):
        below = target.get(part)
        if below is None:
            below = target[part] = {}
        if not isinstance(below, dict):
            blocked = ".".join(parts[: depth + 1])
            raise ConfigError(f"{blocked} holds no further keys", where=where, key=blocked)
        target = below
    target[parts[-1]] = parse_yaml(value, where=where)
