"""Captions on disk: what one captioner wrote, as JSON lines that are only appended to.

captions.py keeps them by the content of the photo. A batch is one write at the end of the file, so
processes write and read without locks. It never trusts a line: what is torn or of something else
is passed over, and its photo captioned again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)


class CaptionCache:
    """One file of captions by the digest of their photo.

    Attributes:
        path: Where it lies; made on the first append.
    """

    def __init__(self, path: Path) -> None:
        """Only keep the path."""
        self.path = path

    def read(self) -> dict[bytes, str]:
        """Read every caption, the last of a photo's; empty if the file cannot be read."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except OSError:  # not there yet, or not readable: then nothing is cached
            return {}
        return dict(known for line in lines if (known := _parsed(line)))

    def append(self, captions: Mapping[bytes, str]) -> None:
        """Add captions; where they cannot be written, the next call only takes longer."""
        rows = [{"sha256": digest.hex(), "text": text} for digest, text in captions.items()]
        # The first break ends a line that an interrupted write has left torn.
        lines = "\n" + "".join(json.dumps(row) + "\n" for row in rows)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(handle, lines.encode("ascii"))
            finally:
                os.close(handle)
        except OSError as error:
            log.warning("%s: cannot be written (%s); no caption is cached", self.path, error)


def _parsed(line: bytes) -> tuple[bytes, str] | None:
    """Read one line; None if it is none of ours."""
    try:
        row = json.loads(line)
        digest, text = bytes.fromhex(row["sha256"]), row["text"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return (digest, text) if isinstance(text, str) else None
