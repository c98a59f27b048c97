"""Arms: which images each training set of a validation is put together from.

A set takes its images from pools (`pools`), and half of a pool's images are half of the very
images that another arm has whole: arms differ in nothing else than what their names say.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

__all__ = ["FEW", "GENERATED", "REAL", "Arm", "Part", "arms_of", "only"]

REAL: Final = "real"
"""The pool of real photos, and the arm that has as many of them as the others have images."""
GENERATED: Final = ("baseline", "tuned", "synthetic", "even")
"""The other pools, each of which is an arm by itself."""
_ONLY: Final = "only "
FEW: Final = 20
"""Photos of a class that stand for a person who has few."""


def only(generator: str) -> str:
    """Name the pool, and the arm, of one of several generators alone."""
    return _ONLY + generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some of a pool's images.

    Attributes:
        pool: Its name.
        n: Images of a class that are drawn.
        first: The first of them that is taken.
        step: From there every first, second ... is taken.
    """

    pool: str
    n: int
    first: int = 0
    step: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A kind of training set.

    Attributes:
        name: As in validation.json.
        parts: What it is put together from.
    """

    name: str
    parts: tuple[Part, ...]


def arms_of(pools: Collection[str], *, n: int, few: int = FEW) -> tuple[Arm, ...]:
    """Return the arms that some pools allow.

    Args:
        pools: Of `GENERATED` and `only`, and `REAL`.
        n: Images of a class.
        few: Photos of a class where there are few; those arms are left out if n is no more.
    """
    some = (Part(pool=REAL, n=few),)
    every: dict[str, tuple[Part, ...]] = {
        name: (Part(pool=name, n=n),) for name in (*GENERATED, REAL)
    }
    every |= {name: (Part(pool=name, n=n),) for name in pools if name.startswith(_ONLY)}
    every["mixed"] = (
        Part(pool="tuned", n=n, step=2),
        Part(pool="even", n=n, first=1, step=2),
    )
    if few < n:
        every["few"] = some
        for name in ("tuned", "synthetic"):
            every[f"few+{name}"] = (*some, Part(pool=name, n=n))
    return tuple(
        Arm(name=name, parts=parts)
        for name, parts in every.items()
        if {part.pool for part in parts} <= {*pools}
    )
