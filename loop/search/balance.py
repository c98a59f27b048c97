"""The balance between new recipes and more images of the mixture.

`phases` asks it once the first prompts and the settings are tried; `absorbing` tells it what each
trial cost and what it promises.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from gapclose.loop.search.atoms import Atoms

FEWEST_PROMISED: Final = 4  # images of a recipe that can promise anything: two halves of two
REMEMBERED: Final = 8  # recipes that what a new one promises is read from
LEAST_SHARE: Final = 0.1  # of the images goes to new recipes, whatever they promise
LEAST_UNTRIED: Final = 0.4  # ... while prompts of the prior have not been tried
MOST_SHARE: Final = 0.3  # beyond the least


@dataclass(slots=True)
class Balance:
    """What new recipes have gained so far, and what both have cost."""

    _explored: int = 0  # images of new recipes
    _exploited: int = 0  # images of the mixture
    _promises: list[float] = field(default_factory=list)

    def note_recipe(self, images: int, promise: float | None) -> None:
        """Count a new recipe, and what its images promise if there are enough."""
        self._explored += images
        if promise is not None:
            self._promises.append(promise)

    def note_mixture(self, images: int) -> None:
        """Count images of the mixture."""
        self._exploited += images

    @property
    def leans_to_mixture(self) -> bool:
        """Whether the mixture has had more of the images so far."""
        return self._exploited > self._explored

    def explores(self, atoms: Atoms, gap: float, images_per_trial: int, *, untried: bool) -> bool:
        """Return whether a new recipe comes next, rather than more images of the mixture.

        Whichever has gained more an image. More images take away what the weights flatter
        themselves by, in proportion to how many there are already.

        Args:
            atoms: Of the class.
            gap: Of the mixture, on images that it was not fitted to.
            images_per_trial: Of a new recipe.
            untried: Whether prompts of the prior have not been tried.
        """
        if not self._explored or not self._exploited:
            return self._exploited > 0
        share = self._explored / (self._explored + self._exploited)
        least = LEAST_UNTRIED if untried else LEAST_SHARE
        if not least <= share <= least + MOST_SHARE:
            return share < least
        flattered = max(gap - atoms.gap(), 0.0)
        held = float(atoms.bank.sizes[atoms.weights > 0].sum())
        promised = float(np.mean(self._promises[-REMEMBERED:] or [0.0]))
        return promised / images_per_trial > flattered / held
