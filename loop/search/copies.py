"""Copies: at which strengths images that are made from pictures copy them.

`absorbing` notes what every trial showed, the settings stage and the fit ask. A picture that is
replaced less is copied more, so copies at one strength speak against all lower ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binom
from sklearn.isotonic import IsotonicRegression

from gapclose.analysis.criteria import COPIES
from gapclose.analysis.significance import LEVEL
from gapclose.loop.search.trial import Images, Mixture, Proposal


@dataclass(slots=True)
class Copies:
    """What trials of one class have shown of copies."""

    _seen: dict[float, tuple[int, int]] = field(default_factory=dict)  # strength: images, copies
    _highest: float | None = None  # strength at which there are too many; 0 of none

    def note(self, proposal: Proposal, images: Images) -> None:
        """Take in what a trial brought."""
        for job, (recipe, _) in enumerate(proposal.jobs):
            strength = recipe.draw.strength
            mine = images.of_job(job).seeds
            if strength is None or not mine:
                continue
            n, copied = self._seen.get(strength, (0, 0))
            found = sum(seed in images.copied for seed in mine)
            self._seen[strength] = n + len(mine), copied + found
            self._highest = None

    def at(self, strength: float | None) -> bool:
        """Return whether more images than a confirmation allows are copies at a strength.

        Args:
            strength: None of images that are made without a picture.
        """
        if strength is None or not any(copied for _, copied in self._seen.values()):
            return False
        if self._highest is None:
            self._highest = _highest(self._seen)
        return strength <= self._highest

    def in_mixture(self, mixture: Mixture | None) -> bool:
        """Return whether a mixture has a recipe at whose strength there are too many copies."""
        recipes = () if mixture is None else mixture.recipes
        return any(self.at(recipe.draw.strength) for recipe in recipes)

    def least(self) -> float:
        """Return the lowest strength tried that is no copying; 1 if there is none."""
        return min((strength for strength in self._seen if not self.at(strength)), default=1.0)


def _highest(seen: dict[float, tuple[int, int]]) -> float:
    """Return the highest strength at which copies are too many, 0 if there is none.

    Their share falls where the strength rises (isotonic regression, by images), and that it is
    above what is allowed has to be more than chance (an exact binomial test, of the images at
    this strength, or together with those at the next higher ones, which copy less).
    """
    strengths = sorted(seen)
    sizes, copies = np.array([seen[strength] for strength in strengths]).T
    fitted = IsotonicRegression(increasing=False)
    shares = fitted.fit_transform(strengths, copies / sizes, sample_weight=sizes)
    for at in reversed(range(len(strengths))):
        n, copied = np.cumsum(sizes[at:]), np.cumsum(copies[at:])
        if shares[at] > COPIES and (binom.sf(copied - 1, n, COPIES) <= LEVEL).any():
            return strengths[at]
    return 0.0
