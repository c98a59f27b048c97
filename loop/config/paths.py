"""Paths: what a person writes for a file, a folder, code or an embedder, made absolute.

A run may be resumed from any folder, so nothing in its config may depend on the current one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from gapclose.loop.errors import ConfigError

__all__ = [
    "CODE_FILE",
    "absolute_code",
    "absolute_path",
    "expanded",
    "is_embedder_code",
    "local_embedder",
]

CODE_FILE: Final = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")
"""`./file.py:Class`."""

_VARIABLE: Final = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")


def expanded(path: str) -> str:
    """Read a path as a shell would: `~`, `$NAME` and `${NAME}` are filled in.

    Shells leave `~` in `--out=~/x` alone, and a config is read by none.

    Raises:
        ConfigError: A variable is not set, and there is nothing of that very name.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name in os.environ:
            return os.environ[name]
        if Path(path).exists():  # a $ in the name of a folder
            return match[0]
        raise ConfigError(
            f"the environment variable {name} is not set; set it, or write the path out",
            where=path,
        )

    return os.path.expanduser(_VARIABLE.sub(value, path))  # noqa: PTH111 - keeps a hub id's text


def absolute_path(path: str, *, base: Path | None = None) -> str:
    """Make a path absolute, symbolic links kept.

    Args:
        path: As it was written.
        base: What a relative one is taken from; the current folder by default.

    Raises:
        ValueError: It is empty.
        ConfigError: As `expanded`.
    """
    if not path.strip():
        raise ValueError("got an empty path, expected a folder")
    return os.path.abspath((base or Path()) / expanded(path))  # noqa: PTH100 - keeps links


def absolute_code(name: str, *, base: Path | None = None) -> str:
    """Name `./file.py:Class` by the file's absolute path; `pkg.mod:Class` stays as it is."""
    match = CODE_FILE.fullmatch(name)
    if match is None:
        return name
    return f"{absolute_path(match['file'], base=base)}:{match['name']}"


def is_embedder_code(name: str) -> bool:
    """Return whether the name of an embedder is that of a class of the user's own."""
    from gapclose.analysis.embedding import is_code

    return is_code(name)


def local_embedder(name: str, *, base: Path | None = None) -> str:
    """Name an embedder that lies in a file or folder by its absolute path.

    Args:
        name: As `make_embedder` takes it.
        base: Which code with a relative path lies in; the current folder by default.
    """
    if is_embedder_code(name):
        return absolute_code(name, base=base)
    kind, _, target = name.rpartition(":")
    if kind not in ("onnx", "transformers", "open_clip:local-dir"):
        return name
    path = expanded(target)
    local = path != target or Path(path).exists()
    return f"{kind}:{absolute_path(path)}" if local else name
