"""Text files: what a person names on the command line, read whole; a config or mixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gapclose.loop.errors import ConfigError

__all__ = ["read_text"]

_LARGEST: Final = 2**25  # bytes: mixtures of ten thousand classes take a third of it


def read_text(file: Path) -> str:
    """Read a file of UTF-8 text that a person writes.

    Raises:
        ConfigError: It cannot be read, is no such text, or far too large for one.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        if len(data) <= _LARGEST:
            return data.decode()
        why = f"it is larger than {_LARGEST >> 20} MiB"
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError:
        why = "it is not UTF-8 text"
    raise ConfigError(f"cannot be read: {why}", where=file)
