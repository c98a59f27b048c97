"""Worth arms: the kinds of training images, in the order and by the names that are shown."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

__all__ = ["ARMS", "ShownArm", "in_order"]


@dataclass(frozen=True, slots=True)
class ShownArm:
    """How an arm is shown.

    Attributes:
        title: Its name in a table.
        what: What its images are, in a few words.
        mark: The page's sign for it; each is drawn in report.html.
    """

    title: str
    what: str
    mark: str


ARMS: Final = {
    "baseline": ShownArm("plain", "the untouched baseline prompt", "baseline"),
    "synthetic": ShownArm("synthetic", "the images as they are", "baseline"),
    "tuned": ShownArm("tuned", "the mixtures, in their shares", "tuned"),
    "mixed": ShownArm("half and half", "half tuned, half every prompt evenly", "other"),
    "even": ShownArm("every prompt evenly", "as one would do by hand", "other"),
    "real": ShownArm("real photos", "what there is to reach", "real"),
    "few": ShownArm("few real photos", "of somebody who has no more", "real hollow"),
    "few+synthetic": ShownArm(
        "few real and synthetic", "the same few, and the images", "baseline"
    ),
    "few+tuned": ShownArm(
        "few real and tuned", "the same few, and the tuned images", "tuned hollow"
    ),
}
"""By arm, as validation.json names it, in the order in which they are shown."""


def in_order(arms: Collection[str]) -> list[str]:
    """Sort arms as they are shown; those of a later version come last, as they come."""
    return [*(arm for arm in ARMS if arm in arms), *(arm for arm in arms if arm not in ARMS)]
