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
    "check_path",
    "expanded",
    "is_embedder_code",
    "local_embedder",
    "resolved",
    "without_folders",
]

CODE_FILE: Final = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")
"""`./file.py:Class`."""

_LONGEST_NAME: Final = 255  # bytes
_LONGEST_PATH: Final = 4095  # bytes
_SHOWN: Final = 80  # characters of one that is longer

_VARIABLE: Final = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")


def expanded(path: str) -> str:
    """Read a path as a shell would: `~`, `$NAME` and `${NAME}` are filled in.

    Shells leave `~` in `--out=~/x` alone, and a config is read by none.

    Raises:
        ConfigError: A variable is not set, or there is no such user, and nothing of that very
            name; or no file can be called so.
    """
    check_path(path)

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

    filled = os.path.expanduser(_VARIABLE.sub(value, path))  # noqa: PTH111 - keeps a hub id's text
    check_path(filled)
    if filled.startswith("~") and not Path(filled).exists():
        raise ConfigError(f"there is no user {filled.partition('/')[0]}", where=path)
    return filled


def check_path(path: str) -> None:
    """Refuse what Linux, macOS and Windows call no file, before the system does at some place.

    Raises:
        ConfigError: It names what is too long, or the character.
    """
    if "\0" in path:
        raise ConfigError("holds a NUL character, which no path may; take it out", where=path)
    longest = max((os.fsencode(name) for name in Path(path).parts), key=len, default=b"")
    if len(longest) > _LONGEST_NAME or len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(
            f"is too long: a name has at most {_LONGEST_NAME} bytes and a path {_LONGEST_PATH:,}; "
            "give a shorter one",
            where=f"{path[:_SHOWN]}...",
        )


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


def resolved(path: Path) -> Path:
    """Follow the links in a path; one that leads back to itself stays as it is.

    `Path.resolve` raises RuntimeError there.
    """
    return Path(os.path.realpath(path.expanduser()))


def without_folders(name: str) -> str:
    """Name what lies on a machine by its last part alone, as `onnx:net.onnx`."""
    parts = name.split(":")
    return ":".join(Path(part).name if Path(part).is_absolute() else part for part in parts)


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
