"""The screen: a few images each of many prompts, where no text encoder says which matter.

`class_search` runs it before the first prompts. It chooses what is screened, and makes a prior of
the weights that fit the screened prompts to the real images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from gapclose.loop.search.optuna_record import derive_seed
from gapclose.loop.search.prior import Shares
from gapclose.loop.search.prompt_queue import PRIOR_PROMPTS, UNORDERED, Words
from gapclose.loop.search.space import Space

SCREENED: Final = 2  # images that a prompt gets
SCREEN_DOUBT: Final = 0.5  # share of a slot that is spread evenly: few images say little


@dataclass(slots=True)
class Screen:
    """The screen of one class; over from the start where there is nothing to screen.

    Attributes:
        space: Of the class.
        seed: Of the run.
        images_per_trial: Images of a trial, shared among its prompts.
        needed: Whether nothing else orders the prompts.
        over: Whether it has ended.
        done: Trials, failed ones too.
    """

    space: Space
    seed: int
    images_per_trial: int
    needed: bool
    over: bool = field(init=False)
    done: int = 0
    _prompts: list[Words] = field(init=False)

    def __post_init__(self) -> None:
        """Choose the prompts."""
        combinations = self.space.prompts({})
        self.over = not self.needed or len(combinations) <= UNORDERED
        # Words that follow each other in a config are alike: a few of all, not the first.
        order = np.random.default_rng(derive_seed(self.seed, self.space.cls, "screen"))
        drawn = order.permutation(len(combinations))[:PRIOR_PROMPTS]
        self._prompts = [] if self.over else [combinations[i] for i in drawn]

    def next(self, most: int) -> list[Words]:
        """Return the prompts of its next trial; none once there were enough.

        Args:
            most: Trials that it may have.
        """
        each = max(1, self.images_per_trial // SCREENED)
        if self.done >= min(-(-len(self._prompts) // each), most):
            return []
        return self._prompts[self.done * each : (self.done + 1) * each]

    def prior(self, weights: Mapping[str, float]) -> Shares:
        """Return the shares of the words by the weights of the prompts that hold them.

        Args:
            weights: By `Space.name_of`, of all that has images.
        """
        shares = {
            slot: dict.fromkeys(words, SCREEN_DOUBT / len(words))
            for slot, words in self.space.words.items()
        }
        known = [words for words in self.space.prompts() if self.space.name_of(words) in weights]
        ways = Counter(self.space.name_of(words) for words in known)
        for words in known:
            name = self.space.name_of(words)
            for slot, word in words.items():
                shares[slot][word] += (1 - SCREEN_DOUBT) * weights[name] / ways[name]
        return {
            slot: {word: share / sum(of.values()) for word, share in of.items()}
            for slot, of in shares.items()
        }
