"""A rationed file: an image's bytes, for a decoder that may ask for them only so often.

Pillow reads the parts of a file one by one in Python, and a file of 100 MB can have ten million
empty ones: comments, chunks, segments, fill bytes. What they cost is not bytes but reads, so
these are what is counted.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Final

__all__ = ["RationedFile"]

_READS: Final = 400_000  # before an image's size is known, and for what lies between its pixels
_PART: Final = 1 << 16  # bytes: what is smaller may be a part, which is put to others of its kind
_SHARE: Final = 64  # bytes of a part that cost what a read costs
_HEADER: Final = 1 << 20  # bytes
_TOO_MANY: Final = "too many parts for an image of its size"


class RationedFile(io.BufferedReader):
    """A regular file, open for reading; whoever reads it too often gets a ValueError."""

    def __init__(self, path: Path, *, most: int) -> None:
        """Open it, without waiting for a pipe.

        Raises:
            OSError: It cannot be opened.
            ValueError: It is no regular file, or has more bytes than `most`.
        """
        super().__init__(io.FileIO(path, opener=_without_waiting))
        self._left = _READS
        kept = os.fstat(self.fileno())
        self._bytes = kept.st_size
        if not stat.S_ISREG(kept.st_mode):
            self.close()
            raise ValueError("no regular file")
        if kept.st_size > most:
            self.close()
            raise ValueError(f"more than {most >> 20:,} MiB")

    def allow(self, reads: int) -> None:
        """Let it be read so many times more."""
        self._left += reads

    def allow_all(self, *, most: int) -> None:
        """Stop counting, for a decoder that reads pixel by pixel.

        Raises:
            ValueError: The file has more bytes than `most`, beside a header.
        """
        if self._bytes > most + _HEADER:
            raise ValueError(_TOO_MANY)
        self.read = super().read  # type: ignore[method-assign]

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most so many bytes; the rest, if none are named, or if they are below 0."""
        small = size is not None and 0 < size < _PART
        self._left -= 1 + (size // _SHARE if small and size else 0)
        if self._left < 0:
            raise ValueError(_TOO_MANY)
        return super().read(size)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
