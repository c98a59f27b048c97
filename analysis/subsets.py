"""Subsets: a few of many, where all cannot be read or must not vote.

Whatever measures images of a class asks it. It looks at no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["spread", "spread_indices"]

Item = TypeVar("Item")


def spread(items: Sequence[Item], n: int) -> list[Item]:
    """Take n of them evenly, for files are often sorted by something; all if there are fewer."""
    return [items[i] for i in spread_indices(len(items), n)]


def spread_indices(total: int, n: int) -> list[int]:
    """Return the indices, rising, of n of so many; of all if there are fewer."""
    n = min(n, total)
    return [i * total // n for i in range(n)]
