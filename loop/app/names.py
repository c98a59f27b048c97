"""Names: what a run's dataset is called, and how words become part of an address.

The viewer and `refresh` ask it; it imports nothing of FiftyOne's.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path

__all__ = ["dataset_name", "slugify"]


def slugify(name: str) -> str:
    """Reduce a name to ASCII letters, digits and dashes; empty if it has none."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def dataset_name(run: Path) -> str:
    """Name the dataset of a run: its folder's name in ASCII, and six digits of its whole path."""
    path = Path(os.path.abspath(run))  # noqa: PTH100 - keeps symbolic links, as RunDir does
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:6]
    slug = slugify(path.name)
    return f"gapclose-{slug}-{digest}" if slug else f"gapclose-{digest}"
