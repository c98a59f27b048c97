"""Copies: at which strengths images that are made from pictures copy them.

`absorbing` notes what every trial showed, the settings stage and the fit ask. A picture that is
replaced less is copied more, so copies at one strength speak against all lower ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from sklearn.isotonic import IsotonicRegression

from gapclose.analysis.criteria import COPIES
from gapclose.loop.search.trial import Images, Mixture, Proposal


@dataclass(slots=True)
class Copies:
    """What trials of one class have shown of copies."""

    _seen: dict[float, tuple[int, int]] = field(default_factory=dict)  # strength: images, copies
    _share: Callable[[float], float] | None = None

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
            self._share = None

    def at(self, strength: float | None) -> bool:
        """Return whether more images than a confirmation allows are copies at a strength.

        Their share falls where the strength rises: isotonic regression, by images.

        Args:
            strength: None of images that are made without a picture.
        """
        if strength is None or not any(copied for _, copied in self._seen.values()):
            return False
        if self._share is None:
            self._share = _falling(self._seen)
        return self._share(strength) > COPIES

    def in_mixture(self, mixture: Mixture | None) -> bool:
        """Return whether a mixture has a recipe at whose strength there are too many copies."""
        recipes = () if mixture is None else mixture.recipes
        return any(self.at(recipe.draw.strength) for recipe in recipes)

    def least(self) -> float:
        """Return the lowest strength tried that is no copying; 1 if there is none."""
        return min((strength for strength in self._seen if not self.at(strength)), default=1.0)


def _falling(seen: dict[float, tuple[int, int]]) -> Callable[[float], float]:
    strengths = [*seen]
    sizes = [n for n, _ in seen.values()]
    shares = [copied / n for n, copied in seen.values()]
    fitted = IsotonicRegression(increasing=False, out_of_bounds="clip")
    fitted.fit(strengths, shares, sample_weight=sizes)
    return lambda strength: float(np.asarray(fitted.predict([strength]))[0])
