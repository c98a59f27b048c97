"""The queue of a class's prompts: which of them no trial has tried, and which comes next.

`phases` asks it, `absorbing` tells it what was tried and what failed, and `class_search` what is
prioritized, by a person or for photos that are told wrong. It knows words and what became of them,
and nothing of images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gapclose.loop.search.prior import Shares
from gapclose.loop.search.space import GENERATOR, Params, Space, shares_product

Words = dict[str, str]
"""A prompt as its slots and their words."""

PRIOR_COVERAGE: Final = 0.85  # prompts of the prior come first until they cover this share
PRIOR_PROMPTS: Final = 40  # ... and at most so many
UNORDERED: Final = 16  # prompts: so few are tried as they come where nothing orders them
FIRST_PROMPTS: Final = 8  # before the settings, which are held against what these lack
CHANCES: Final = 2  # of a prompt that fails: the first time may have been an accident


@dataclass(slots=True)
class PromptQueue:
    """The prompts of one class, in the order that they are tried.

    Attributes:
        space: Of the class; its words and templates, whatever the camera.
        prior: Shares of the words, which order the prompts.
        prioritized: Prompts that come before all others.
        resting: Generators that have failed too often: their prompts wait.
    """

    space: Space
    prior: Shares
    prioritized: tuple[Words, ...] = ()
    resting: frozenset[str] = frozenset()
    _likely: list[Words] = field(init=False)
    _unlikely: list[Words] = field(init=False)  # beyond the coverage
    _tried: set[str] = field(default_factory=set)
    _failed: Counter[str] = field(default_factory=Counter)
    _under_way: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Order the prompts."""
        self.order(self.prior)

    def order(self, prior: Shares) -> None:
        """Order all prompts anew, by their shares of a prior."""
        self.prior = prior
        combinations = self.space.prompts(prior)
        shares = shares_product(prior, combinations)
        order = sorted(range(len(shares)), key=lambda i: (-shares[i], i))
        covered, most = 0.0, 0
        while most < min(PRIOR_PROMPTS, len(order)) and covered < PRIOR_COVERAGE:
            covered += shares[order[most]]
            most += 1
        if not prior and len(order) <= UNORDERED:
            most = len(order)  # nothing says which could be left out
        self._likely = [combinations[i] for i in order[:most]]
        self._unlikely = [combinations[i] for i in order[most:]]

    def first(self, prompts: Iterable[Words]) -> Words | None:
        """Return the first of some prompts that no trial has tried, or is trying.

        What failed comes after all others, once: three failures in a row stop the class.
        """
        failed = [(self._failed[text], words) for words in prompts
                  if words.get(GENERATOR) not in self.resting
                  and (text := self.space.name_of(words)) not in self._tried
                  and self._under_way[text] <= 0]  # fmt: skip
        for times in range(CHANCES):
            for failures, words in failed:
                if failures == times:
                    return words
        return None

    def holds_untried(self, prompts: Iterable[Words]) -> bool:
        """Return whether one of some prompts is still to be tried, or is being tried."""
        return any(
            text not in self._tried and self._failed[text] < CHANCES
            for text in map(self.space.name_of, prompts)
        )

    @property
    def urgent(self) -> Words | None:
        """The next of the prioritized prompts."""
        return self.first(self.prioritized)

    @property
    def opening(self) -> Words | None:
        """The next of the prompts that are tried before the settings."""
        return self.first(self._likely[:FIRST_PROMPTS])

    @property
    def likely(self) -> Words | None:
        """The next of the prompts that the prior is followed for."""
        return self.first(self._likely)

    def unlikely(self, tried: Iterable[Params]) -> Words | None:
        """Return the likeliest of the others that has a word which no trial has tried.

        None once as many prompts were tried as the prior is followed for: words may be hundreds.

        Args:
            tried: Parameters of the recipes that have images.
        """
        if len(self._tried) >= PRIOR_PROMPTS:
            return None
        known = {word for params in tried for word in params.items()}
        return self.first(words for words in self._unlikely if not words.items() <= known)

    def is_prioritized(self, params: Params) -> bool:
        """Return whether parameters make one of the prioritized prompts."""
        return self.space.name_of(params) in map(self.space.name_of, self.prioritized)

    def has_chances(self, params: Params) -> bool:
        """Return whether the prompt of some parameters has not failed too often."""
        return self._failed[self.space.name_of(params)] < CHANCES

    def begin(self, params: Params) -> None:
        """Note that a trial of a prompt is under way."""
        self._under_way[self.space.name_of(params)] += 1

    def note_tried(self, params: Params) -> None:
        """Count a prompt whose trial was under way as tried."""
        self._under_way[self.space.name_of(params)] -= 1
        self._tried.add(self.space.name_of(params))

    def note_known(self, names: Iterable[str]) -> None:
        """Count prompts as tried that no trial here has proposed, by their `Space.name_of`."""
        self._tried.update(names)

    def note_failed(self, params: Params) -> None:
        """Count a failure of a prompt whose trial was under way."""
        self._under_way[self.space.name_of(params)] -= 1
        self._failed[self.space.name_of(params)] += 1

    def forget_failures(self) -> None:
        """Give every prompt all its chances again."""
        self._failed.clear()

    def prioritize(self, prompts: Sequence[Words]) -> None:
        """Have these come before all others, in the place of those that did so far."""
        self.prioritized = tuple(prompts)
